"""How long facts of a type are kept, and how far they have been deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "retention",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("type", _text(), nullable=False),
        sa.Column("keep_days", sa.Integer()),
        sa.Column("forgotten_before_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("tenant", "type", name="pk_retention"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_retention_tenant"),
    )
