"""Channels, deliveries and the log of their attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "channels",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("customer", _text()),
        sa.Column("content", _text(), nullable=False),
        sa.Column("subscribes", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.Text()),
        sa.Column("previous_secret", sa.Text()),
        sa.Column("previous_until_us", sa.BigInteger()),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_channels"),
        sa.UniqueConstraint("tenant", "key", name="uq_channels_tenant_key"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_channels_tenant"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"], ["customers.tenant", "customers.key"], name="fk_channels_tenant_customer"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_channels_tenant_customer", "channels", ["tenant", "customer"])
    op.create_table(
        "deliveries",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("notice", _text(), nullable=False),
        sa.Column("channel_number", sa.BigInteger(), nullable=False),
        sa.Column("channel", _text(), nullable=False),
        sa.Column("owner", _text()),
        sa.Column("customer", _text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("summary", _text(), nullable=False),
        sa.Column("body", _text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("due_at_us", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("claim", sa.BigInteger(), nullable=False),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.Column("finished_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_deliveries"),
        sa.UniqueConstraint("tenant", "id", name="uq_deliveries_tenant_id"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_deliveries_tenant"),
        sqlite_autoincrement=True,
    )
    for columns in (
        ["tenant", "number"],
        ["tenant", "channel_number", "number"],
        ["channel_number", "status", "due_at_us"],
        ["channel_number", "status", "number"],
        ["finished_at_us"],
    ):
        op.create_index("_".join(["ix_deliveries", *columns]), "deliveries", columns)
    op.create_table(
        "delivery_attempts",
        _number(),
        sa.Column("delivery_number", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("target", _text(), nullable=False),
        sa.Column("request_headers", _text(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("answer_headers", _text(), nullable=False),
        sa.Column("answer", _text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("detail", _text()),
        sa.PrimaryKeyConstraint("number", name="pk_delivery_attempts"),
        sa.ForeignKeyConstraint(
            ["delivery_number"], ["deliveries.number"], name="fk_delivery_attempts_delivery_number"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_delivery_attempts_delivery_number_attempt", "delivery_attempts", ["delivery_number", "attempt"]
    )
