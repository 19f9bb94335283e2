-- Facts lie in the order of their positions, and in one partition: an insert is then one part, all of it or nothing,
-- whatever times its events bear. Fewer, wider merges (merge_selector_base): at full load merging took a third of all
-- processor time. Event time, moment of recording and subject have skip indexes; ids a Bloom filter.
CREATE TABLE IF NOT EXISTS events
(
    tenant LowCardinality(String),
    source LowCardinality(String),
    id String CODEC(ZSTD(1)),
    type LowCardinality(String),
    subject LowCardinality(String),
    customer LowCardinality(String),
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    time_given Bool,
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    position UInt64 CODEC(Delta, ZSTD(1)),
    data String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    INDEX id_bloom id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX subject_bloom subject TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX time_minmax time TYPE minmax GRANULARITY 1,
    INDEX recorded_at_minmax recorded_at TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY position
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, merge_selector_base = 10;

CREATE TABLE IF NOT EXISTS duplicates
(
    tenant LowCardinality(String),
    source LowCardinality(String),
    id String CODEC(ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    position UInt64 CODEC(Delta, ZSTD(1)),
    original UInt64 CODEC(Delta, ZSTD(1)),
    INDEX id_bloom id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY position
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS conflicts
(
    tenant LowCardinality(String),
    source LowCardinality(String),
    id String CODEC(ZSTD(1)),
    type LowCardinality(String),
    subject LowCardinality(String),
    customer LowCardinality(String),
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    time_given Bool,
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    position UInt64 CODEC(Delta, ZSTD(1)),
    original UInt64 CODEC(Delta, ZSTD(1)),
    data String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    INDEX id_bloom id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX subject_bloom subject TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY position
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;
