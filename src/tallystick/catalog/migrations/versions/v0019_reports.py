"""Saved views, scheduled reports and their runs."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "views",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("owner", _text(), nullable=False),
        sa.Column("owner_name", _text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("archived_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_views"),
        sa.UniqueConstraint("tenant", "key", name="uq_views_tenant_key"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_views_tenant"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reports",
        _number(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("view_key", _text(), nullable=False),
        sa.Column("content", _text(), nullable=False),
        sa.Column("next_due_us", sa.BigInteger()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("archived_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_reports"),
        sa.UniqueConstraint("id", name="uq_reports_id"),
        sa.UniqueConstraint("tenant", "key", name="uq_reports_tenant_key"),
        sa.ForeignKeyConstraint(
            ["tenant", "view_key"], ["views.tenant", "views.key"], name="fk_reports_tenant_view_key"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reports_next_due_us", "reports", ["next_due_us"])
    op.create_index("ix_reports_tenant_view_key", "reports", ["tenant", "view_key"])
    op.create_table(
        "report_runs",
        _number(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("due_at_us", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("detail", _text()),
        sa.Column("from_us", sa.BigInteger()),
        sa.Column("to_us", sa.BigInteger()),
        sa.Column("file_name", _text()),
        sa.Column("media_type", sa.Text()),
        sa.Column("file_bytes", sa.Integer()),
        sa.Column("digest", sa.Text()),
        sa.Column("file", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("number", name="pk_report_runs"),
        sa.UniqueConstraint("id", name="uq_report_runs_id"),
        sa.ForeignKeyConstraint(["report_id"], ["reports.id"], name="fk_report_runs_report_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_report_runs_report_id_number", "report_runs", ["report_id", "number"])
