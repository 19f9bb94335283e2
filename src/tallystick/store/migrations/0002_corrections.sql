-- An event's content lives in versions: the one it was recorded with, and those of `replace` corrections. `superseded` is
-- the position of the version a correction ends (0: none, the event was retracted). In order of the events they cite,
-- so that all corrections of one event lie together; in one partition, so that an insert is one part.
CREATE TABLE IF NOT EXISTS corrections
(
    position UInt64 CODEC(Delta, ZSTD(1)),
    original UInt64 CODEC(Delta, ZSTD(1)),
    superseded UInt64 CODEC(Delta, ZSTD(1)),
    tenant LowCardinality(String),
    source LowCardinality(String),
    id String CODEC(ZSTD(1)),
    action LowCardinality(String),
    reason LowCardinality(String),
    author LowCardinality(String),
    backfill LowCardinality(String),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    type LowCardinality(String),
    subject LowCardinality(String),
    customer LowCardinality(String),
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    time_given Bool,
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    data String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    INDEX position_minmax position TYPE minmax GRANULARITY 1,
    INDEX superseded_minmax superseded TYPE minmax GRANULARITY 1,
    INDEX recorded_at_minmax recorded_at TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (original, position)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Events of open backfills: no facts that count. Gone once the backfill is closed or discarded.
CREATE TABLE IF NOT EXISTS staged
(
    tenant LowCardinality(String),
    backfill String,
    position UInt64 CODEC(Delta, ZSTD(1)),
    source LowCardinality(String),
    id String CODEC(ZSTD(1)),
    type LowCardinality(String),
    subject LowCardinality(String),
    customer LowCardinality(String),
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    time_given Bool,
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    data String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    identity FixedString(16),
    content UInt64,
    action LowCardinality(String),
    note String CODEC(ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant, backfill, position)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE events ADD COLUMN IF NOT EXISTS backfill LowCardinality(String) DEFAULT '';

ALTER TABLE events ADD INDEX IF NOT EXISTS backfill_set backfill TYPE set(8) GRANULARITY 1
