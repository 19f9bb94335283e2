-- Rows of the tables, from the metadata of their parts.
SELECT name, toUInt64(ifNull(total_rows, 0))
FROM system.tables
WHERE database = currentDatabase()
    AND name IN ('events', 'duplicates', 'conflicts', 'corrections', 'staged', 'forgotten', 'readings', 'rollups')
