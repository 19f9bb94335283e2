"""Sources, how they stand and how far they are, and dead letters."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "sources",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("archived_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_sources"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_sources_tenant"),
        sa.UniqueConstraint("tenant", "key", name="uq_sources_tenant_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "source_states",
        sa.Column("source_number", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("fault", _text()),
        sa.Column("lag", sa.BigInteger()),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("last_error", _text()),
        sa.Column("last_error_at_us", sa.BigInteger()),
        sa.Column("taken_at_us", sa.BigInteger()),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source_number", name="pk_source_states"),
        sa.ForeignKeyConstraint(["source_number"], ["sources.number"], name="fk_source_states_source_number"),
    )
    op.create_table(
        "source_progress",
        sa.Column("source_number", sa.BigInteger(), nullable=False),
        sa.Column("part", _text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("source_number", "part", name="pk_source_progress"),
        sa.ForeignKeyConstraint(
            ["source_number"], ["sources.number"], name="fk_source_progress_source_number"
        ),
    )
    op.create_table(
        "dead_letters",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("source_number", sa.BigInteger(), nullable=False),
        sa.Column("source", _text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("place", _text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("edited", sa.Boolean(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", _text(), nullable=False),
        sa.Column("identity", _text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("event_source", _text()),
        sa.Column("event_id", _text()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_dead_letters"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_dead_letters_tenant"),
        sa.ForeignKeyConstraint(["source_number"], ["sources.number"], name="fk_dead_letters_source_number"),
        sa.UniqueConstraint("source_number", "digest", name="uq_dead_letters_source_number_digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dead_letters_tenant_number", "dead_letters", ["tenant", "number"])
    op.create_index(
        "ix_dead_letters_source_number_status_number", "dead_letters", ["source_number", "status", "number"]
    )
