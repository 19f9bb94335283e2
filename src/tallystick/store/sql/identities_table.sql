-- What the identity index of each partition holds, sorted as it sorts, so that another node reads it straight into a run.
-- Derived: not synced. `part` is the partition, `rest` the half of the digest's lower half that is kept; `through` says
-- which copy the row came with (flows/index_copy.py).
CREATE TABLE IF NOT EXISTS identities
(
    part UInt8,
    key UInt64 CODEC(Delta, LZ4),
    rest UInt32 CODEC(NONE),
    content UInt32 CODEC(LZ4),
    position UInt64 CODEC(T64, LZ4),
    through UInt64 CODEC(T64, LZ4)
)
ENGINE = MergeTree
ORDER BY (part, key)
SETTINGS non_replicated_deduplication_window = 1000
