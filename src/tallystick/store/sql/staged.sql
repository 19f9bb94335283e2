-- One block of what is staged for a backfill, by position.
SELECT {columns}
FROM staged
WHERE tenant = {tenant:String} AND backfill = {backfill:String} AND position > {after:UInt64}
ORDER BY position
LIMIT {limit:UInt64}
