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
    Column("progressive", Integer, nullable=False, server_default="0"),
    UniqueConstraint("tenant", "id"),
    UniqueConstraint("tenant", "key"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "customer"),
    Index(None, "due_us"),
    Index(None, "progressive", "due_us"),
    sqlite_autoincrement=True,
)
"""`content`: the whole subscription as JSON, its past included. `closed_us`: invoices are made up to this moment;
`due_us`: when it is to be looked at next, null for never; `progressive`: it has thresholds within periods."""

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
    Column("kind", Text, nullable=False, server_default="period"),
    Column("waits_for", UserText),
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
the subscription, for what is billed in advance then), or the moment it was cut at. `subscription` of a one-off invoice is
its own id: it has none."""

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

billing_items = Table(
    "billing_items",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("id", Text, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("currency", Text, nullable=False),
    Column("content", UserText, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("removed_at_us", BigInteger),
    Column("invoice", Text),
    UniqueConstraint("tenant", "id"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "customer", "number"),
    sqlite_autoincrement=True,
)
"""What is billed once. `invoice`: the finalized one it stands on; null while it waits."""

credit_notes = Table(
    "credit_notes",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("id", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("invoice", Text, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("document", UserText, nullable=False),
    Column("basis", UserText, nullable=False),
    Column("grant", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("voided_at_us", BigInteger),
    UniqueConstraint("tenant", "id"),
    UniqueConstraint("tenant", "sequence"),
    ForeignKeyConstraint(["tenant", "invoice"], ["invoices.tenant", "invoices.id"]),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "customer"),
    Index(None, "tenant", "invoice"),
    sqlite_autoincrement=True,
)
"""Frozen as invoices are. `sequence` numbers a tenant's notes from 1 without gaps; `grant`: the credits it gave."""

late_notes = Table(
    "late_notes",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("subscription", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("of_invoice", Text, nullable=False),
    Column("of_line", Text, nullable=False),
    Column("amount", Text, nullable=False),
    ForeignKeyConstraint(["tenant", "note"], ["credit_notes.tenant", "credit_notes.id"]),
    Index(None, "tenant", "subscription"),
    sqlite_autoincrement=True,
)
"""What credit notes gave back (below zero, before discount and tax) because lines of finalized invoices had changed."""

payments = Table(
    "payments",
    metadata,
    Column("tenant", UserText, nullable=False),
    Column("invoice", Text, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("status", Text, nullable=False),
    Column("amount", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_us", BigInteger),
    Column("external_id", UserText),
    Column("url", UserText),
    Column("detail", UserText),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "invoice"),
    ForeignKeyConstraint(["tenant", "invoice"], ["invoices.tenant", "invoices.id"]),
    Index(None, "next_us"),
)
"""Collecting what credits left of an invoice, made in the transaction that finalized it. `next_us`: when something is to
be done about it, null for nothing any more."""
