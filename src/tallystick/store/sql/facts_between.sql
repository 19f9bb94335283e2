-- New events recorded between two moments, by type; those of nobody also by subject.
SELECT
    tenant,
    type,
    if(customer = '', subject, NULL) AS of_nobody,
    count(),
    toUnixTimestamp64Micro(min(time)),
    toUnixTimestamp64Micro(max(time))
FROM events
WHERE recorded_at > fromUnixTimestamp64Micro({after_us:Int64}, 'UTC')
    AND recorded_at <= fromUnixTimestamp64Micro({until_us:Int64}, 'UTC')
GROUP BY tenant, type, of_nobody
ORDER BY tenant, type, of_nobody
LIMIT {limit:UInt64}
