-- What some parts of the roll-ups are made of, by shard, part and meter.
SELECT {shard} AS shard, _part, meter, sum(readings), sum(taken_back)
FROM {table}
WHERE _part IN {parts:Array(String)}
GROUP BY shard, _part, meter
