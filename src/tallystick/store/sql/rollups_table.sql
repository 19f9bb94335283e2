-- Readings summed per hour (counted from 1970, in UTC) or day (by its first hour), meter, customer and dimensions. Derived: not synced, made again
-- when its layout changes. Rows of one group are united by merges, so that only sums over them mean anything:
-- `readings` is how many rows of readings went in, `counted` their signs, `taken_back` how many of them have sign -1.
-- A view that is not divided by customer has the customer empty, one not divided by dimensions has these missing.
-- `total` is kept for meters that sum, `minimum` and `maximum` for those that compare, and hold only while nothing is
-- taken back. Partitions are quarters of a year from 2015 on and one for all before.
CREATE TABLE IF NOT EXISTS `{table}`
(
    tenant LowCardinality(String),
    meter UInt32,
    customer LowCardinality(String),
    hour Int32 CODEC(Delta, ZSTD(1)),
    {slots},
    readings SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    counted SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    taken_back SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    total SimpleAggregateFunction(sum, Decimal(76, 18)) CODEC(ZSTD(1)),
    minimum SimpleAggregateFunction(min, Decimal(38, 18)) CODEC(ZSTD(1)),
    maximum SimpleAggregateFunction(max, Decimal(38, 18)) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY intDiv(greatest(hour, 394464), 2190)
PRIMARY KEY (tenant, meter, customer, hour)
ORDER BY (tenant, meter, customer, hour, {slot_names})
SETTINGS
    allow_nullable_key = 1,
    non_replicated_deduplication_window = 1000,
    min_age_to_force_merge_seconds = 600,
    min_age_to_force_merge_on_partition_only = 1
COMMENT '{layout}'
