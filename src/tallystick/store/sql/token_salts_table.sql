-- How often the tokens of one partition's inserts into a table were forgotten: part of those that come after.
CREATE TABLE IF NOT EXISTS token_salts
(
    partition UInt32,
    table String,
    salt UInt64
)
ENGINE = MergeTree
ORDER BY (partition, table, salt)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
