-- The highest position among the facts, and the latest moment: events of a backfill are recorded late, under the
-- positions they were given when they were staged.
SELECT max(position), toUnixTimestamp64Micro(max(at))
FROM
(
    SELECT max(position) AS position, max(recorded_at) AS at FROM events
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM duplicates
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM conflicts
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM corrections
    UNION ALL
    SELECT max(position) AS position, max(recorded_at) AS at FROM staged
)
