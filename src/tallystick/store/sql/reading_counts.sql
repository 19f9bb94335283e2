-- Rows of readings up to a position, by meter.
SELECT meter, count()
FROM readings
WHERE position <= {through:UInt64} AND {within}
GROUP BY meter
