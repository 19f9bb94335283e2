-- The content of the recorded events at some positions.
SELECT position, type, subject, data
FROM events
WHERE position IN {positions:Array(UInt64)}
