"""Continuous exports."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("state", _text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("due_at_us", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_exports"),
        sa.UniqueConstraint("tenant", "key", name="uq_exports_tenant_key"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_exports_tenant"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_exports_due_at_us", "exports", ["due_at_us"])
