"""The tables of sources: definitions, how each stands, how far it is, and dead letters. A part of tables.metadata."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from tallystick.catalog.tables import UserText, metadata, row_number

sources = Table(
    "sources",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("content", UserText, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    Column("archived_at_us", BigInteger),
    UniqueConstraint("tenant", "key"),
    sqlite_autoincrement=True,
)
"""`content`: the definition as JSON (sources/source.py), without secrets: it names where they are."""

source_states = Table(
    "source_states",
    metadata,
    Column("source_number", BigInteger, ForeignKey("sources.number"), nullable=False),
    Column("status", Text, nullable=False),
    Column("fault", UserText),
    Column("lag", BigInteger),
    Column("taken", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("last_error", UserText),
    Column("last_error_at_us", BigInteger),
    Column("taken_at_us", BigInteger),
    Column("changed_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("source_number"),
)

source_progress = Table(
    "source_progress",
    metadata,
    Column("source_number", BigInteger, ForeignKey("sources.number"), nullable=False),
    Column("part", UserText, nullable=False),
    Column("state", LargeBinary, nullable=False),
    PrimaryKeyConstraint("source_number", "part"),
)
"""`state`: whatever the source wants to find again. Written under the lease of the source alone."""

dead_letters = Table(
    "dead_letters",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("source_number", BigInteger, ForeignKey("sources.number"), nullable=False),
    Column("source", UserText, nullable=False),
    Column("digest", Text, nullable=False),
    Column("place", UserText, nullable=False),
    Column("form", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("edited", Boolean, nullable=False),
    Column("code", Text, nullable=False),
    Column("detail", UserText, nullable=False),
    Column("identity", UserText, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("event_source", UserText),
    Column("event_id", UserText),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    UniqueConstraint("source_number", "digest"),
    Index(None, "tenant", "number"),
    Index(None, "source_number", "status", "number"),
    sqlite_autoincrement=True,
)
"""`digest`: of place and content as it came in, by which the same letter is known again."""
