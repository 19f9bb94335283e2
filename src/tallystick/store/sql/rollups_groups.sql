-- How many groups an hour's readings of a meter fall into, in all (to about one in a hundred; in bounded memory).
SELECT meter, uniqCombined(sipHash64(customer, hour, {slots}))
FROM {table}
WHERE meter IN {meters:Array(UInt32)}
GROUP BY meter
