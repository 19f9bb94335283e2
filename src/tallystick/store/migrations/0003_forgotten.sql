-- Identities of events that retention has deleted: a retry of one is still a duplicate. `type` says by which limit it
-- went; `content` is the half of the fingerprint that the identity index keeps.
CREATE TABLE IF NOT EXISTS forgotten
(
    tenant LowCardinality(String),
    type LowCardinality(String),
    identity FixedString(16),
    content UInt32,
    position UInt64 CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY position
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
