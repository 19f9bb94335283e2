-- Readings recorded in a range of moments, by meter and slot of {slot_hours} hours: what is to be rolled up.
SELECT meter, intDiv(hour - positiveModulo(hour, {slot_hours}), {slot_hours}) AS slot, count()
FROM
(
    SELECT meter, {hour} AS hour
    FROM readings
    WHERE meter IN {meters:Array(UInt32)}
        AND recorded_at > fromUnixTimestamp64Micro({after_us:Int64}, 'UTC')
        AND recorded_at <= fromUnixTimestamp64Micro({through_us:Int64}, 'UTC')
)
GROUP BY meter, slot
ORDER BY slot, meter
