"""Limits: what one is, what stands against it, and the life of a reservation. Pure: `now` is an argument."""
