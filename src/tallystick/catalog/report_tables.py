"""The tables of saved views and scheduled reports. A part of tables.metadata."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from tallystick.catalog.tables import UserText, metadata, row_number

views = Table(
    "views",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("content", UserText, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("owner", UserText, nullable=False),
    Column("owner_name", UserText, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    Column("archived_at_us", BigInteger),
    UniqueConstraint("tenant", "key"),
    sqlite_autoincrement=True,
)
"""`content`: the view as JSON (reporting/view.py). `owner`: `key/<id>` of an API key, `person/<name>` of who has logged in."""

reports = Table(
    "reports",
    metadata,
    row_number(),
    Column("id", Text, nullable=False),
    Column("tenant", UserText, nullable=False),
    Column("key", UserText, nullable=False),
    Column("view_key", UserText, nullable=False),
    Column("content", UserText, nullable=False),
    Column("next_due_us", BigInteger),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    Column("archived_at_us", BigInteger),
    UniqueConstraint("id"),
    UniqueConstraint("tenant", "key"),
    ForeignKeyConstraint(["tenant", "view_key"], ["views.tenant", "views.key"]),
    Index(None, "next_due_us"),
    Index(None, "tenant", "view_key"),
    sqlite_autoincrement=True,
)
"""`content`: the report as JSON (reporting/report.py). `next_due_us`: null while it is not sent by itself. It is what a run is
fenced by: whoever writes down a due run moves it on, in the same transaction."""

report_runs = Table(
    "report_runs",
    metadata,
    row_number(),
    Column("id", Text, nullable=False),
    Column("tenant", UserText, nullable=False),
    Column("report_id", Text, ForeignKey("reports.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("due_at_us", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("delivery", Text),
    Column("error", Text),
    Column("detail", UserText),
    Column("from_us", BigInteger),
    Column("to_us", BigInteger),
    Column("file_name", UserText),
    Column("media_type", Text),
    Column("file_bytes", Integer),
    Column("digest", Text),
    Column("file", LargeBinary),
    UniqueConstraint("id"),
    Index(None, "report_id", "number"),
    sqlite_autoincrement=True,
)
"""`missed`: due moments before this one that nobody was there for. `file`: null once newer runs have taken its place."""
