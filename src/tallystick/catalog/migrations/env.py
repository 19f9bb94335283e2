"""Alembic runs this file; the connection, inside an open transaction, comes from `database.migrate`."""

from alembic import context

from tallystick.catalog import cluster_tables

context.configure(connection=context.config.attributes["connection"], target_metadata=cluster_tables.metadata)
context.run_migrations()
