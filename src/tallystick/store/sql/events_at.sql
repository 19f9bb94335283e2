-- The content and the customer of the recorded events at some positions.
SELECT position, type, subject, data, customer
FROM events
WHERE position IN {positions:Array(UInt64)}
