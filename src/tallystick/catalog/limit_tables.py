"""The tables of limits, and of reservations. A part of tables.metadata; nothing of metering reads them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from tallystick.catalog.tables import UserText, metadata, row_number

limits = Table(
    "limits",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("content", UserText, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    UniqueConstraint("tenant", "key"),
    sqlite_autoincrement=True,
)
"""`content`: the limit as JSON (limits/limit.py)."""

limit_raises = Table(
    "limit_raises",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("limit_key", UserText, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("amount", Text, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant", "limit_key"], ["limits.tenant", "limits.key"]),
    Index(None, "tenant", "limit_key", "number"),
    sqlite_autoincrement=True,
)
"""What one customer may use more of a limit, up to a moment."""

reservations = Table(
    "reservations",
    metadata,
    row_number(),
    Column("id", Text, nullable=False),
    Column("tenant", UserText, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("closed_us", BigInteger),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("id"),
    Index(None, "tenant", "number"),
    Index(None, "is_open", "number"),
    Index(None, "closed_us"),
    sqlite_autoincrement=True,
)
"""The gate's ledger (flows/limits). `body`: the whole reservation (limits/reservation.py), MessagePack. In the catalog's
database where several processes share it; in a file of its own in a data directory."""
