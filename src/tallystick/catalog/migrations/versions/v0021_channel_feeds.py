"""Channels that are told of every event: how far each is."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "channel_feeds",
        sa.Column("channel_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("moment_us", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Text()),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel_number", name="pk_channel_feeds"),
    )
