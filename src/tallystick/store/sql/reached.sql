-- The highest position among the facts, and the latest moment: events of a backfill are recorded late, under the
-- positions they were given when they were staged. Versions a revert restored are named by the position they had and
-- a multiple of 2^56.
SELECT max(position), toUnixTimestamp64Micro(max(at))
FROM
(
    SELECT max(position) AS position, max(recorded_at) AS at FROM events
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM duplicates
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM conflicts
    UNION ALL
    SELECT max(position % 72057594037927936) AS position, max(recorded_at) AS at FROM corrections
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM staged
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM forgotten
)
