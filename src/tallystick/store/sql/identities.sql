-- What the identity index is rebuilt from.
SELECT tenant, source, id, type, subject, data, position
FROM events
WHERE position > {after:UInt64} AND position <= {through:UInt64} AND {within}
