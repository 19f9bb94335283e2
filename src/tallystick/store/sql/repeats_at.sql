-- Which positions are duplicates (0) and which conflicts (1).
SELECT 0, position FROM duplicates WHERE position IN {positions:Array(UInt64)}
UNION ALL
SELECT 1, position FROM conflicts WHERE position IN {positions:Array(UInt64)}
