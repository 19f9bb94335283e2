"""Stages, merges and unique external ids of customers; environments of tenants; where a change came from."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("customers", sa.Column("stage", sa.Text(), nullable=False, server_default="active"))
    op.add_column("customers", sa.Column("merged_into", _text()))
    op.add_column("tenants", sa.Column("environment", sa.Text(), nullable=False, server_default="live"))
    op.add_column("tenants", sa.Column("suspended_at_us", sa.BigInteger()))
    op.add_column("tenants", sa.Column("erased_at_us", sa.BigInteger()))
    op.add_column("tenants", sa.Column("export", _text()))
    op.add_column("audit", sa.Column("address", sa.Text()))
    external_ids = op.create_table(
        "external_ids",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("system", _text(), nullable=False),
        sa.Column("external_id", _text(), nullable=False),
        sa.Column("customer", _text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "system", "external_id", name="pk_external_ids"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"],
            ["customers.tenant", "customers.key"],
            name="fk_external_ids_tenant_customer",
        ),
    )
    op.create_index("ix_external_ids_tenant_customer", "external_ids", ["tenant", "customer"])
    _fill(external_ids)


def _fill(external_ids: sa.Table) -> None:
    """Where several customers bear the same id until now, the oldest keeps it in the index; all keep showing it."""
    connection = op.get_bind()
    found = connection.execute(
        sa.text("SELECT tenant, key, external_ids FROM customers WHERE external_ids <> '{}' ORDER BY number")
    ).all()
    rows: dict[tuple[str, str, str], str] = {}
    for tenant, key, text in found:
        for system, external_id in json.loads(text).items():
            place = (tenant, _escaped(system, connection), _escaped(external_id, connection))
            rows.setdefault(place, key)
    if rows:
        names = ("tenant", "system", "external_id", "customer")
        op.bulk_insert(
            external_ids,
            [dict(zip(names, (*place, key), strict=True)) for place, key in rows.items()],
        )


def _escaped(value: str, connection: sa.Connection) -> str:
    # As catalog/tables.py writes user text in PostgreSQL, at the time of this migration.
    if connection.dialect.name != "postgresql":
        return value
    return value.replace("\\", "\\\\").replace("\0", "\\0")
