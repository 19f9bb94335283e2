"""Tallystick: usage-based metering. Every event counted once, for ever, with exact figures you can check."""

__version__ = "0.1.0"
