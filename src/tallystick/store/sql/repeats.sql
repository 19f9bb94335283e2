-- The latest duplicates of one identity, and how many there are in all.
SELECT position, toUnixTimestamp64Micro(received_at), toUnixTimestamp64Micro(recorded_at), count() OVER ()
FROM duplicates
WHERE tenant = {tenant:String} AND source = {source:String} AND id = {id:String}
ORDER BY position DESC
LIMIT {limit:UInt64}
