"""The tables of billing: plans, subscriptions, invoices. A part of tables.metadata; nothing of metering reads them."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from tallystick.catalog.tables import UserText, metadata, row_number

plan_versions = Table(
    "plan_versions",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("content", UserText, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("published_at_us", BigInteger),
    Column("archived_at_us", BigInteger),
    UniqueConstraint("tenant", "key", "version"),
    sqlite_autoincrement=True,
)
"""`content` is the plan as JSON. Once published it never changes: old invoices are made again from it."""

subscriptions = Table(
    "subscriptions",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("id", Text, nullable=False),
    Column("key", UserText),
    Column("customer", UserText, nullable=False),
    Column("plan", UserText, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("content", UserText, nullable=False),
    Column("include_children", Integer, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Column("due_us", BigInteger),
    UniqueConstraint("tenant", "id"),
    UniqueConstraint("tenant", "key"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "customer"),
    Index(None, "due_us"),
    sqlite_autoincrement=True,
)
"""`content`: the whole subscription as JSON, its past included. `closed_us`: invoices are made up to this moment;
`due_us`: when the next one is to be made, null for never."""

invoices = Table(
    "invoices",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("id", Text, nullable=False),
    Column("sequence", BigInteger),
    Column("customer", UserText, nullable=False),
    Column("subscription", Text, nullable=False),
    Column("boundary_us", BigInteger, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("to_us", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("grace_until_us", BigInteger, nullable=False),
    Column("document", UserText, nullable=False),
    Column("basis", UserText, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("finalized_at_us", BigInteger),
    Column("voided_at_us", BigInteger),
    UniqueConstraint("tenant", "id"),
    UniqueConstraint("tenant", "sequence"),
    UniqueConstraint("tenant", "subscription", "boundary_us"),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "customer"),
    Index(None, "status", "grace_until_us"),
    sqlite_autoincrement=True,
)
"""`document`: lines and sums, byte for byte as they were computed; `basis`: what they were computed from. `sequence`
numbers a tenant's finalized invoices from 1 without gaps. `boundary_us`: the end of the period it closes (or the start of
the subscription, for what is billed in advance then)."""

invoice_counters = Table(
    "invoice_counters",
    metadata,
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("last", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant"),
)

late_lines = Table(
    "late_lines",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("subscription", Text, nullable=False),
    Column("invoice", Text, nullable=False),
    Column("line", Text, nullable=False),
    Column("of_invoice", Text, nullable=False),
    Column("of_line", Text, nullable=False),
    Column("amount", Text, nullable=False),
    ForeignKeyConstraint(["tenant", "invoice"], ["invoices.tenant", "invoices.id"]),
    ForeignKeyConstraint(["tenant", "of_invoice"], ["invoices.tenant", "invoices.id"]),
    Index(None, "tenant", "subscription"),
    Index(None, "tenant", "number"),
    sqlite_autoincrement=True,
)
"""What finalized invoices billed for lines of earlier finalized ones, which had changed."""

billing_terms = Table(
    "billing_terms",
    metadata,
    Column("tenant", UserText, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("content", UserText, nullable=False),
    PrimaryKeyConstraint("tenant", "customer"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
)
"""Taxes and discount of a customer, as JSON."""
