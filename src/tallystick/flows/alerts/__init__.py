"""Alerts: how they are set, kept up with what is recorded, and tried on the past."""
