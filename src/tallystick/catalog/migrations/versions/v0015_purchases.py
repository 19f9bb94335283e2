"""Purchases of credits by automatic top-up; why an invoice is not final yet."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.add_column("invoices", sa.Column("waits_for", _text()))
    op.create_table(
        "credit_purchases",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("unit", _text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("expires_after", sa.Text()),
        sa.Column("grant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("ordered_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_credit_purchases"),
        sa.UniqueConstraint("tenant", "id", name="uq_credit_purchases_tenant_id"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"],
            ["customers.tenant", "customers.key"],
            name="fk_credit_purchases_tenant_customer",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_credit_purchases_tenant_customer", "credit_purchases", ["tenant", "customer"])
    op.create_index("ix_credit_purchases_state", "credit_purchases", ["state"])
