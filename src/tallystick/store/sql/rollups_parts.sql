-- The parts of the roll-ups that hold anything, by shard.
SELECT {shard}, name, hash_of_all_files
FROM {parts}
WHERE database = {database:String} AND table = {table:String} AND active AND rows > 0
