-- How many events are staged for a backfill.
SELECT count()
FROM staged
WHERE tenant = {tenant:String} AND backfill = {backfill:String} AND {within}
