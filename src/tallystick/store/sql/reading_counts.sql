-- Rows of readings up to a position, by meter; those of restored versions (see within.py) by the position they had.
SELECT meter, count()
FROM readings
WHERE bitAnd(position, 288230376151711743) <= {through:UInt64} AND {within}
GROUP BY meter
