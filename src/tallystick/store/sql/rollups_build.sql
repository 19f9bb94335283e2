-- Roll up the readings of some meters, recorded in a range of moments, that happened in a range of hours.
INSERT INTO {table}
    (tenant, meter, customer, hour{slots}, readings, counted, taken_back, total, minimum, maximum)
SELECT
    tenant,
    meter,
    {customer},
    {hour} AS hour{slots},
    count(),
    sum(sign),
    countIf(sign = -1),
    {total},
    {minimum},
    {maximum}
FROM readings
WHERE tenant IN {tenants:Array(String)}
    AND meter IN {meters:Array(UInt32)}
    AND time >= fromUnixTimestamp64Micro({from_us:Int64}, 'UTC')
    AND time < fromUnixTimestamp64Micro({to_us:Int64}, 'UTC')
    AND recorded_at > fromUnixTimestamp64Micro({after_us:Int64}, 'UTC')
    AND recorded_at <= fromUnixTimestamp64Micro({through_us:Int64}, 'UTC')
GROUP BY tenant, meter{by_customer}, hour{slots}
