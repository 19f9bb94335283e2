-- The tables there are, with their comments (a derived table's comment is its layout).
SELECT name, comment
FROM system.tables
WHERE database = currentDatabase()
