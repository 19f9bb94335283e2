-- What some parts of the roll-ups are made of, by part and meter.
SELECT _part, meter, sum(readings), sum(taken_back)
FROM rollups
WHERE _part IN {parts:Array(String)}
GROUP BY _part, meter
