"""Plans, subscriptions, invoices."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> "sa.Column[int]":
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "plan_versions",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("published_at_us", sa.BigInteger()),
        sa.Column("archived_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_plan_versions"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_plan_versions_tenant"),
        sa.UniqueConstraint("tenant", "key", "version", name="uq_plan_versions_tenant_key_version"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "subscriptions",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", _text()),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("plan", _text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("include_children", sa.Integer(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("closed_us", sa.BigInteger()),
        sa.Column("due_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_subscriptions"),
        sa.UniqueConstraint("tenant", "id", name="uq_subscriptions_tenant_id"),
        sa.UniqueConstraint("tenant", "key", name="uq_subscriptions_tenant_key"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"],
            ["customers.tenant", "customers.key"],
            name="fk_subscriptions_tenant_customer",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_subscriptions_tenant_number", "subscriptions", ["tenant", "number"])
    op.create_index("ix_subscriptions_tenant_customer", "subscriptions", ["tenant", "customer"])
    op.create_index("ix_subscriptions_due_us", "subscriptions", ["due_us"])
    op.create_table(
        "invoices",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("boundary_us", sa.BigInteger(), nullable=False),
        sa.Column("from_us", sa.BigInteger(), nullable=False),
        sa.Column("to_us", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("grace_until_us", sa.BigInteger(), nullable=False),
        sa.Column("document", _text(), nullable=False),
        sa.Column("basis", _text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("finalized_at_us", sa.BigInteger()),
        sa.Column("voided_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_invoices"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_invoices_tenant"),
        sa.UniqueConstraint("tenant", "id", name="uq_invoices_tenant_id"),
        sa.UniqueConstraint("tenant", "sequence", name="uq_invoices_tenant_sequence"),
        sa.UniqueConstraint(
            "tenant", "subscription", "boundary_us", name="uq_invoices_tenant_subscription_boundary_us"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_invoices_tenant_number", "invoices", ["tenant", "number"])
    op.create_index("ix_invoices_tenant_customer", "invoices", ["tenant", "customer"])
    op.create_index("ix_invoices_status_grace_until_us", "invoices", ["status", "grace_until_us"])
    op.create_table(
        "invoice_counters",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_invoice_counters"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_invoice_counters_tenant"),
    )
    op.create_table(
        "late_lines",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("invoice", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("of_invoice", sa.Text(), nullable=False),
        sa.Column("of_line", sa.Text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_late_lines"),
        sa.ForeignKeyConstraint(
            ["tenant", "invoice"], ["invoices.tenant", "invoices.id"], name="fk_late_lines_tenant_invoice"
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "of_invoice"],
            ["invoices.tenant", "invoices.id"],
            name="fk_late_lines_tenant_of_invoice",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_late_lines_tenant_subscription", "late_lines", ["tenant", "subscription"])
    op.create_index("ix_late_lines_tenant_number", "late_lines", ["tenant", "number"])
    op.create_table(
        "billing_terms",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "customer", name="pk_billing_terms"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"],
            ["customers.tenant", "customers.key"],
            name="fk_billing_terms_tenant_customer",
        ),
    )
