"""Alerts: what is set, the state of each, what has happened, how far the keeper is."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "alerts",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("owner", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("begun_edition", sa.Integer(), nullable=False),
        sa.Column("judged_us", sa.BigInteger()),
        sa.Column("muted_until_us", sa.BigInteger()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_alerts"),
        sa.UniqueConstraint("tenant", "owner", "key", name="uq_alerts_tenant_owner_key"),
        sa.UniqueConstraint("id", name="uq_alerts_id"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_alerts_tenant"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "alert_states",
        _number(),
        sa.Column("alert", sa.Text(), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("window_start_us", sa.BigInteger(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("scope", _text(), nullable=False),
        sa.Column("window_end_us", sa.BigInteger()),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("said_level", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("value", sa.Text()),
        sa.Column("since_us", sa.BigInteger()),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_alert_states"),
        sa.UniqueConstraint(
            "alert",
            "edition",
            "window_start_us",
            "customer",
            "scope",
            name="uq_alert_states_alert_edition_window_start_us_customer_scope",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alert_states_alert_number", "alert_states", ["alert", "number"])
    op.create_index("ix_alert_states_alert_closed_level", "alert_states", ["alert", "closed", "level"])
    op.create_table(
        "alert_transitions",
        _number(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("owner", _text(), nullable=False),
        sa.Column("alert", _text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.Column("scope", _text(), nullable=False),
        sa.Column("window_start_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("muted", sa.Boolean(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_alert_transitions"),
        sa.UniqueConstraint("id", name="uq_alert_transitions_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alert_transitions_tenant_number", "alert_transitions", ["tenant", "number"])
    op.create_index("ix_alert_transitions_tenant_at_us", "alert_transitions", ["tenant", "at_us"])
    op.create_index(
        "ix_alert_transitions_tenant_alert_number", "alert_transitions", ["tenant", "alert", "number"]
    )
    op.create_index(
        "ix_alert_transitions_tenant_customer_number", "alert_transitions", ["tenant", "customer", "number"]
    )
    op.create_index("ix_alert_transitions_alert_id_number", "alert_transitions", ["alert_id", "number"])
    op.create_table(
        "alert_progress",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("moment_us", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one", name="pk_alert_progress"),
    )
