-- Readings recorded between two moments, by meter and customer.
SELECT
    tenant,
    meter,
    customer,
    toUnixTimestamp64Micro(min(time)),
    toUnixTimestamp64Micro(max(time)),
    count(),
    sum(CAST(value, 'Decimal(76, 18)') * sign)
FROM readings
WHERE recorded_at > fromUnixTimestamp64Micro({after_us:Int64}, 'UTC')
    AND recorded_at <= fromUnixTimestamp64Micro({until_us:Int64}, 'UTC')
    AND {among}
GROUP BY tenant, meter, customer
ORDER BY tenant, meter, customer
LIMIT {limit:UInt64}
