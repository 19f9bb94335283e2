"""Limits, raises of them, and reservations."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "limits",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_limits"),
        sa.UniqueConstraint("tenant", "key", name="uq_limits_tenant_key"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_limits_tenant"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "limit_raises",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("limit_key", _text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_limit_raises"),
        sa.ForeignKeyConstraint(
            ["tenant", "limit_key"], ["limits.tenant", "limits.key"], name="fk_limit_raises_tenant_limit_key"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_limit_raises_tenant_limit_key_number", "limit_raises", ["tenant", "limit_key", "number"]
    )
    op.create_table(
        "reservations",
        _number(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("closed_us", sa.BigInteger()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_reservations"),
        sa.UniqueConstraint("id", name="uq_reservations_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reservations_tenant_number", "reservations", ["tenant", "number"])
    op.create_index("ix_reservations_is_open_number", "reservations", ["is_open", "number"])
    op.create_index("ix_reservations_closed_us", "reservations", ["closed_us"])
