"""Periods, plans, subscriptions and what they make due. Pure: moments and ids are arguments."""
