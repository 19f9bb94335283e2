"""What customers owe: plans, subscriptions, invoices. One file a path. Metering knows nothing of this package."""
