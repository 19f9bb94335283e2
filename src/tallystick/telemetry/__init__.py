"""What OpenTelemetry and Prometheus send, as events: pure. Increments are counted once (increment.py)."""
