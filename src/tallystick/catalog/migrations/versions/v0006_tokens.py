"""Keys that are rotated with an overlap and say when they were used; tokens of customers and of people."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("previous_digest", sa.LargeBinary()))
    op.add_column("api_keys", sa.Column("previous_until_us", sa.BigInteger()))
    op.add_column("api_keys", sa.Column("last_used_at_us", sa.BigInteger()))
    op.create_index("ix_api_keys_previous_digest", "api_keys", ["previous_digest"], unique=True)
    op.create_table(
        "tokens",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("customer", _text()),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("issued_by", sa.Text()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_tokens"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_tokens_tenant"),
        sa.UniqueConstraint("id", name="uq_tokens_id"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_tenant_number", "tokens", ["tenant", "number"])
    op.create_index("ix_tokens_expires_at_us", "tokens", ["expires_at_us"])
