"""The table of continuous exports. A part of tables.metadata."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from tallystick.catalog.tables import UserText, metadata, row_number

exports = Table(
    "exports",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("id", Text, nullable=False),
    Column("content", UserText, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("state", UserText, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("due_at_us", BigInteger, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    UniqueConstraint("tenant", "key"),
    Index(None, "due_at_us"),
    sqlite_autoincrement=True,
)
"""`content`: what a person set, `state`: how far it is, both as JSON (catalog/exporting.py). `version` is the fence: whoever
writes a state names the one it read."""
