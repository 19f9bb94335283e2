-- When what lies at some positions was recorded.
SELECT position, toUnixTimestamp64Micro(recorded_at) FROM events WHERE position IN {positions:Array(UInt64)}
UNION ALL
SELECT position, toUnixTimestamp64Micro(recorded_at) FROM duplicates WHERE position IN {positions:Array(UInt64)}
UNION ALL
SELECT position, toUnixTimestamp64Micro(recorded_at) FROM conflicts WHERE position IN {positions:Array(UInt64)}
