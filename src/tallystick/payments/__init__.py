"""Finalized invoices to payment and accounting systems."""
