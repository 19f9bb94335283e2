"""Credits: grants, their ledger, and rules of automatic top-up."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "credit_grants",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("unit", _text(), nullable=False),
        sa.Column("terms", _text(), nullable=False),
        sa.Column("topped_up", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("voided_us", sa.BigInteger()),
        sa.Column("settled_us", sa.BigInteger()),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("granted", sa.Text(), nullable=False),
        sa.Column("consumed", sa.Text(), nullable=False),
        sa.Column("expired", sa.Text(), nullable=False),
        sa.Column("voided", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_credit_grants"),
        sa.UniqueConstraint("tenant", "id", name="uq_credit_grants_tenant_id"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"],
            ["customers.tenant", "customers.key"],
            name="fk_credit_grants_tenant_customer",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_credit_grants_tenant_customer_number", "credit_grants", ["tenant", "customer", "number"]
    )
    op.create_table(
        "credit_entries",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("unit", _text(), nullable=False),
        sa.Column("grant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at_us", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reference", _text()),
        sa.Column("line", _text()),
        sa.PrimaryKeyConstraint("number", name="pk_credit_entries"),
        sa.ForeignKeyConstraint(
            ["tenant", "grant"],
            ["credit_grants.tenant", "credit_grants.id"],
            name="fk_credit_entries_tenant_grant",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_credit_entries_tenant_customer_number", "credit_entries", ["tenant", "customer", "number"]
    )
    op.create_index("ix_credit_entries_tenant_reference", "credit_entries", ["tenant", "reference"])
    op.create_table(
        "credit_top_ups",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("unit", _text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "customer", "unit", name="pk_credit_top_ups"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"],
            ["customers.tenant", "customers.key"],
            name="fk_credit_top_ups_tenant_customer",
        ),
    )
