"""Alembic's versions of the tables; `database.migrate` runs them."""
