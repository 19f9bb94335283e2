"""Leases, partitions and barriers: what the processes of a cluster share."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _lease() -> tuple[sa.Column[int] | sa.Column[str] | sa.Column[bytes], ...]:
    return (
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary()),
    )


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        *_lease(),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "partitions",
        sa.Column("partition", sa.Integer(), autoincrement=False),
        *_lease(),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("published_us", sa.BigInteger(), nullable=False),
        sa.Column("recorded", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("conflicts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partition", name="pk_partitions"),
    )
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "barriers",
        sa.Column("number", number, autoincrement=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ends", sa.Text(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.Column("moment_us", sa.BigInteger()),
        sa.Column("gathered", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_barriers"),
        sa.UniqueConstraint("name", name="uq_barriers_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "barrier_arrivals",
        sa.Column("barrier", number, autoincrement=False),
        sa.Column("partition", sa.Integer(), autoincrement=False),
        sa.Column("floor_us", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("barrier", "partition", name="pk_barrier_arrivals"),
        sa.ForeignKeyConstraint(
            ["barrier"], ["barriers.number"], name="fk_barrier_arrivals_barrier", ondelete="CASCADE"
        ),
    )
