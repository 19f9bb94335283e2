-- One block of what is staged for a backfill, by position.
SELECT {columns}
FROM staged
WHERE tenant = {tenant:String} AND backfill = {backfill:String} AND position > {after:UInt64} AND {within}
ORDER BY position
LIMIT {limit:UInt64}
