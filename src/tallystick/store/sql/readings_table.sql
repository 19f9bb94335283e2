-- The table of readings, and of scratches like it. Derived: not synced, and made again when its layout changes.
-- Small granules: a question about one customer reads few rows of each month.
-- A month that rests becomes one part: a customer's year is then read from twelve places.
-- Codecs: decision 0052. Quantities share their 10^18 or so (GCD); times and positions rise by jittered steps.
-- Partitions are months from 2015 on and one for all before: hostile times cannot make more than 12 a year.
CREATE TABLE IF NOT EXISTS `{table}`
(
    tenant LowCardinality(String) CODEC(ZSTD(1)),
    meter UInt32 CODEC(ZSTD(1)),
    customer LowCardinality(String) CODEC(ZSTD(1)),
    subject LowCardinality(String) CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') CODEC(GCD, Delta, T64('bit'), ZSTD(1)),
    value Decimal(38, 18) CODEC(GCD, ZSTD(1)),
    text String CODEC(ZSTD(1)),
    {slots},
    position UInt64 CODEC(Delta, T64('bit'), ZSTD(1)),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    sign Int8,
    INDEX position_minmax position TYPE minmax GRANULARITY 1,
    INDEX recorded_at_minmax recorded_at TYPE minmax GRANULARITY 1,
    INDEX sign_minmax sign TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY multiIf(time < toDateTime64('2015-01-01 00:00:00', 6, 'UTC'), 0, toYYYYMM(time))
ORDER BY (tenant, meter, customer, time)
SETTINGS
    index_granularity = 2048,
    non_replicated_deduplication_window = 1000,
    merge_selector_base = 10,
    min_age_to_force_merge_seconds = 3600,
    min_age_to_force_merge_on_partition_only = 1
COMMENT '{layout}'
