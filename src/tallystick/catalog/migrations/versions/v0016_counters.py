"""Counters that are read from outside, and the events they have become."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "counter_series",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("reached", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "series", name="pk_counter_series"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_counter_series_tenant"),
    )
    op.create_table(
        "counter_outbox",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_counter_outbox"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_counter_outbox_tenant"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_counter_outbox_tenant", "counter_outbox", ["tenant"])
