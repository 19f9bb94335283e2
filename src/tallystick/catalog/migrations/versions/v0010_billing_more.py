"""Kinds of invoices, items that are billed once, credit notes, and the collecting of payments."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.add_column("invoices", sa.Column("kind", sa.Text(), nullable=False, server_default="period"))
    op.add_column("subscriptions", sa.Column("progressive", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_subscriptions_progressive_due_us", "subscriptions", ["progressive", "due_us"])
    op.create_table(
        "billing_items",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("removed_at_us", sa.BigInteger()),
        sa.Column("invoice", sa.Text()),
        sa.PrimaryKeyConstraint("number", name="pk_billing_items"),
        sa.UniqueConstraint("tenant", "id", name="uq_billing_items_tenant_id"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"],
            ["customers.tenant", "customers.key"],
            name="fk_billing_items_tenant_customer",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_billing_items_tenant_customer_number", "billing_items", ["tenant", "customer", "number"]
    )
    op.create_table(
        "credit_notes",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("invoice", sa.Text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("document", _text(), nullable=False),
        sa.Column("basis", _text(), nullable=False),
        sa.Column("grant", sa.Text()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("voided_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_credit_notes"),
        sa.UniqueConstraint("tenant", "id", name="uq_credit_notes_tenant_id"),
        sa.UniqueConstraint("tenant", "sequence", name="uq_credit_notes_tenant_sequence"),
        sa.ForeignKeyConstraint(
            ["tenant", "invoice"], ["invoices.tenant", "invoices.id"], name="fk_credit_notes_tenant_invoice"
        ),
        sqlite_autoincrement=True,
    )
    for column in ("number", "customer", "invoice"):
        op.create_index(f"ix_credit_notes_tenant_{column}", "credit_notes", ["tenant", column])
    op.create_table(
        "late_notes",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("of_invoice", sa.Text(), nullable=False),
        sa.Column("of_line", sa.Text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_late_notes"),
        sa.ForeignKeyConstraint(
            ["tenant", "note"], ["credit_notes.tenant", "credit_notes.id"], name="fk_late_notes_tenant_note"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_late_notes_tenant_subscription", "late_notes", ["tenant", "subscription"])
    op.create_table(
        "payments",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("invoice", sa.Text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_us", sa.BigInteger()),
        sa.Column("external_id", _text()),
        sa.Column("url", _text()),
        sa.Column("detail", _text()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "invoice", name="pk_payments"),
        sa.ForeignKeyConstraint(
            ["tenant", "invoice"], ["invoices.tenant", "invoices.id"], name="fk_payments_tenant_invoice"
        ),
    )
    op.create_index("ix_payments_next_us", "payments", ["next_us"])
