-- How many conflicts of one identity there are.
SELECT count()
FROM conflicts
WHERE tenant = {tenant:String} AND source = {source:String} AND id = {id:String}
