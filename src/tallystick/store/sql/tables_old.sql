-- The tables made so many seconds ago, or earlier.
SELECT name
FROM system.tables
WHERE database = currentDatabase() AND metadata_modification_time <= now() - {age_s:UInt32}
