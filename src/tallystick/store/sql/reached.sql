-- The highest position among the facts, and the latest moment: events of a backfill are recorded late, under the
-- positions they were given when they were staged. Versions a revert restored are named by the position they had and
-- a multiple of 2^58.
SELECT max(reached), toUnixTimestamp64Micro(max(at))
FROM
(
    SELECT max(position) AS reached, max(recorded_at) AS at FROM events WHERE {events}
    UNION ALL
    SELECT max(position) AS reached, max(recorded_at) AS at FROM duplicates WHERE {duplicates}
    UNION ALL
    SELECT max(position) AS reached, max(recorded_at) AS at FROM conflicts WHERE {conflicts}
    UNION ALL
    SELECT max(position % 288230376151711744) AS reached, max(recorded_at) AS at FROM corrections WHERE {corrections}
    UNION ALL
    SELECT max(position) AS reached, max(recorded_at) AS at FROM staged WHERE {staged}
    UNION ALL
    SELECT max(position) AS reached, max(recorded_at) AS at FROM forgotten WHERE {forgotten}
)
