"""Saved views and scheduled reports: what is asked, the files made of it, and when they are sent."""
