-- The parts of the roll-ups that hold anything.
SELECT name, hash_of_all_files
FROM system.parts
WHERE database = currentDatabase() AND table = 'rollups' AND active AND rows > 0
