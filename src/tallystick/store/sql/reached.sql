-- The highest position among the facts, and its moment of recording (which grows with the position).
SELECT position, at
FROM
(
    SELECT * FROM (SELECT position, toUnixTimestamp64Micro(recorded_at) AS at FROM events ORDER BY position DESC LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT position, toUnixTimestamp64Micro(recorded_at) AS at FROM duplicates ORDER BY position DESC LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT position, toUnixTimestamp64Micro(recorded_at) AS at FROM conflicts ORDER BY position DESC LIMIT 1)
)
ORDER BY position DESC
LIMIT 1
