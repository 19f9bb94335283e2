"""What an invoice is taxed with, where a service of somebody else says so."""
