"""The tables, as the newest migration leaves them (a test holds the two together)."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine


class UserText(TypeDecorator[str]):
    """Any UTF-8 text. PostgreSQL has no U+0000 in text, and one such subject would otherwise stop the recorder for
    ever: there it is written as backslash and 0 (a backslash as two). Ordered by code point on both databases."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # Not through type_descriptor, which would make VARCHAR of it in PostgreSQL.
        return Text(collation="C") if dialect.name == "postgresql" else Text()

    # Only PostgreSQL needs the two below; elsewhere a call a value would double the time of a large read.
    def bind_processor(self, dialect: Dialect) -> Any:
        return super().bind_processor(dialect) if dialect.name == "postgresql" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else None

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.replace("\\", "\\\\").replace("\0", "\\0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or "\\" not in value:
            return value
        # Split at escaped backslashes first, so that what is left of a backslash can only be the escape of U+0000.
        return "\\".join(part.replace("\\0", "\0") for part in value.split("\\\\"))


def row_number() -> Column[int]:
    """Grows with every row and is never used again, also not after deletions."""
    return Column(
        "number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

revisions = Table(
    "revisions",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
"""One row a topic. The row "all" is also the lock that every change takes first."""

tenants = Table(
    "tenants",
    metadata,
    Column("key", UserText, primary_key=True),
    Column("name", UserText, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("deleted_at_us", BigInteger),
    Column("environment", Text, nullable=False, server_default="live"),
    Column("suspended_at_us", BigInteger),
    Column("erased_at_us", BigInteger),
    Column("export", UserText),
)
"""`erased_at_us`: its facts are gone. `export`: where they were written to before."""

api_keys = Table(
    "api_keys",
    metadata,
    row_number(),
    Column("id", Text, nullable=False),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("name", UserText, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("configured", Boolean, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    Column("previous_digest", LargeBinary),
    Column("previous_until_us", BigInteger),
    Column("last_used_at_us", BigInteger),
    UniqueConstraint("id"),
    UniqueConstraint("digest"),
    Index(None, "tenant", "number"),
    Index(None, "previous_digest", unique=True),
    sqlite_autoincrement=True,
)
"""`previous_digest`: the secret before the last rotation, which is good until `previous_until_us`."""

tokens = Table(
    "tokens",
    metadata,
    row_number(),
    Column("id", Text, nullable=False),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", UserText, nullable=False),
    Column("customer", UserText),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("issued_by", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
    Column("last_used_at_us", BigInteger),
    UniqueConstraint("id"),
    UniqueConstraint("digest"),
    Index(None, "tenant", "number"),
    Index(None, "expires_at_us"),
    sqlite_autoincrement=True,
)
"""`kind`: "portal", of a customer; "session", of a person who has logged in. `issued_by`: the API key it hangs on."""

meters = Table(
    "meters",
    metadata,
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", UserText, nullable=False),
    Column("unit", UserText),
    Column("description", UserText),
    Column("archived_at_us", BigInteger),
    PrimaryKeyConstraint("tenant", "key"),
)
"""What all versions of a meter share; `version` is the newest."""

meter_versions = Table(
    "meter_versions",
    metadata,
    row_number(),
    Column("tenant", UserText, nullable=False),
    Column("key", UserText, nullable=False),
    Column("version", Integer, nullable=False),
    Column("definition", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant", "key"], ["meters.tenant", "meters.key"]),
    UniqueConstraint("tenant", "key", "version"),
    sqlite_autoincrement=True,
)
"""`number` is Meter.id."""

customers = Table(
    "customers",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("name", UserText, nullable=False),
    Column("parent", UserText),
    Column("currency", Text),
    Column("timezone", Text, nullable=False),
    Column("email", UserText),
    Column("external_ids", Text, nullable=False),
    Column("traits", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("archived_at_us", BigInteger),
    Column("stage", Text, nullable=False, server_default="active"),
    Column("merged_into", UserText),
    UniqueConstraint("tenant", "key"),
    ForeignKeyConstraint(["tenant", "parent"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "parent"),
    sqlite_autoincrement=True,
)

external_ids = Table(
    "external_ids",
    metadata,
    Column("tenant", UserText, nullable=False),
    Column("system", UserText, nullable=False),
    Column("external_id", UserText, nullable=False),
    Column("customer", UserText, nullable=False),
    PrimaryKeyConstraint("tenant", "system", "external_id"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "customer"),
)
"""What keeps external ids unique in each system, archived customers' too; what a customer shows stands in its row."""

subjects = Table(
    "subjects",
    metadata,
    Column("tenant", UserText, nullable=False),
    Column("subject", UserText, nullable=False),
    Column("customer", UserText),
    Column("declared", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "subject"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "revision"),
    Index(None, "tenant", "customer"),
    sqlite_with_rowid=False,
)
"""The whole of "which subject belongs to whom", so that resolving is one look-up and nothing else.

Every customer's key has a row: `declared` false where the customer owns it only because of its key. A subject that was
given up keeps a row without customer: `subject_changes` must be able to tell it. `revision` is that of the last change.
"""

backfills = Table(
    "backfills",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("reason", UserText, nullable=False),
    Column("author", UserText, nullable=False),
    Column("replace_from_us", BigInteger),
    Column("replace_to_us", BigInteger),
    Column("replace_type", UserText),
    Column("replace_customer", UserText),
    Column("state", Text, nullable=False),
    Column("counts", Text, nullable=False),
    Column("opened_at_us", BigInteger, nullable=False),
    Column("closed_at_us", BigInteger),
    Column("reverted_at_us", BigInteger),
    UniqueConstraint("tenant", "key"),
    Index(None, "tenant", "number"),
    sqlite_autoincrement=True,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", UserText, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("route", UserText, nullable=False),
    Column("key", UserText, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("taken_at_us", BigInteger, nullable=False),
    Column("status", Integer),
    Column("headers", Text),
    Column("body", LargeBinary),
    PrimaryKeyConstraint("tenant", "key_id", "route", "key"),
    Index(None, "taken_at_us"),
)
"""`status` is null while the first request runs."""

audit = Table(
    "audit",
    metadata,
    row_number(),
    Column("at_us", BigInteger, nullable=False),
    Column("tenant", UserText, nullable=False),
    Column("actor", UserText, nullable=False),
    Column("key_id", Text),
    Column("action", Text, nullable=False),
    Column("resource", UserText, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("request_id", UserText),
    Column("address", Text),
    Index(None, "tenant", "number"),
    sqlite_autoincrement=True,
)
"""Append-only: triggers refuse changes and deletions."""

retention = Table(
    "retention",
    metadata,
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("type", UserText, nullable=False),
    Column("keep_days", Integer),
    Column("forgotten_before_us", BigInteger),
    PrimaryKeyConstraint("tenant", "type"),
)
"""`keep_days` null: for ever from now on. `forgotten_before_us` stays: what is deleted does not come back."""
