"""Where events come from without being sent: folders, buckets, queues, tables, logs. One file a kind, one interface."""
