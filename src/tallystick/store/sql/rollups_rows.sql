-- How many rows the roll-ups of some meters have now.
SELECT meter, count()
FROM {table}
WHERE meter IN {meters:Array(UInt32)}
GROUP BY meter
