"""The tables of credits. A part of tables.metadata; nothing of metering reads them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from tallystick.catalog.tables import UserText, metadata, row_number

credit_grants = Table(
    "credit_grants",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("id", Text, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("unit", UserText, nullable=False),
    Column("terms", UserText, nullable=False),
    Column("topped_up", Boolean, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("voided_us", BigInteger),
    Column("settled_us", BigInteger),
    Column("ended", Boolean, nullable=False),
    Column("granted", Text, nullable=False),
    Column("consumed", Text, nullable=False),
    Column("expired", Text, nullable=False),
    Column("voided", Text, nullable=False),
    UniqueConstraint("tenant", "id"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "customer", "number"),
    sqlite_autoincrement=True,
)
"""`terms`: the grant as JSON; `unit`: a currency, or meter:key. The sums are exact decimals as text, those of its
entries; what is left is granted less the other three. `settled_us`, `ended`: billing/credit.Holding."""

credit_entries = Table(
    "credit_entries",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("unit", UserText, nullable=False),
    Column("grant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("recorded_at_us", BigInteger, nullable=False),
    Column("amount", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("reference", UserText),
    Column("line", UserText),
    ForeignKeyConstraint(["tenant", "grant"], ["credit_grants.tenant", "credit_grants.id"]),
    Index(None, "tenant", "customer", "number"),
    Index(None, "tenant", "reference"),
    sqlite_autoincrement=True,
)
"""The ledger. A row takes its amount from one account and gives it to another, so no row can be out of balance. Rows are
only added."""

credit_top_ups = Table(
    "credit_top_ups",
    metadata,
    Column("tenant", UserText, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("unit", UserText, nullable=False),
    Column("content", UserText, nullable=False),
    PrimaryKeyConstraint("tenant", "customer", "unit"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
)
"""Rules of automatic top-up, as JSON."""

credit_purchases = Table(
    "credit_purchases",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("id", Text, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("unit", UserText, nullable=False),
    Column("amount", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("expires_after", Text),
    Column("grant", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("ordered_at_us", BigInteger, nullable=False),
    UniqueConstraint("tenant", "id"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "customer"),
    Index(None, "state"),
    sqlite_autoincrement=True,
)
"""What rules of top-up have ordered (catalog/top_ups.py). `id`: that of its invoice; `grant`: of the grant it becomes."""
