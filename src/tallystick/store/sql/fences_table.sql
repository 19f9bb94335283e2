-- Who may write for a partition: the recorder that took it over last (highest epoch).
CREATE TABLE IF NOT EXISTS fences
(
    partition UInt32,
    epoch UInt64,
    taken_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree
ORDER BY (partition, epoch)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
