"""Saved views and scheduled reports (pure): what a view asks, over which range, and when a report is due."""
