"""Backfills and how far each is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "backfills",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("reason", _text(), nullable=False),
        sa.Column("author", _text(), nullable=False),
        sa.Column("replace_from_us", sa.BigInteger()),
        sa.Column("replace_to_us", sa.BigInteger()),
        sa.Column("replace_type", _text()),
        sa.Column("replace_customer", _text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), nullable=False),
        sa.Column("closed_at_us", sa.BigInteger()),
        sa.Column("reverted_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_backfills"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_backfills_tenant"),
        sa.UniqueConstraint("tenant", "key", name="uq_backfills_tenant_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_backfills_tenant_number", "backfills", ["tenant", "number"])
