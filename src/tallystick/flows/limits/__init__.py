"""The gate: what may still be used, decided against the same numbers that are billed."""
