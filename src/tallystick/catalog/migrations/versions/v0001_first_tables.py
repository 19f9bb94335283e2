"""First tables: revisions, tenants, keys, meters, customers, subjects, idempotency keys, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def upgrade() -> None:
    revisions = op.create_table(
        "revisions",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", name="pk_revisions"),
    )
    tenants = op.create_table(
        "tenants",
        sa.Column("key", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("key", name="pk_tenants"),
    )
    op.create_table(
        "api_keys",
        _number(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("configured", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger()),
        sa.Column("revoked_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_api_keys_tenant"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_keys_tenant_number", "api_keys", ["tenant", "number"])
    op.create_table(
        "meters",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("unit", _text()),
        sa.Column("description", _text()),
        sa.Column("archived_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("tenant", "key", name="pk_meters"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_meters_tenant"),
    )
    op.create_table(
        "meter_versions",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_meter_versions"),
        sa.ForeignKeyConstraint(
            ["tenant", "key"], ["meters.tenant", "meters.key"], name="fk_meter_versions_tenant_key"
        ),
        sa.UniqueConstraint("tenant", "key", "version", name="uq_meter_versions_tenant_key_version"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "customers",
        _number(),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("parent", _text()),
        sa.Column("currency", sa.Text()),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("email", _text()),
        sa.Column("external_ids", sa.Text(), nullable=False),
        sa.Column("traits", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("archived_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_customers"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.key"], name="fk_customers_tenant"),
        sa.UniqueConstraint("tenant", "key", name="uq_customers_tenant_key"),
        sa.ForeignKeyConstraint(
            ["tenant", "parent"], ["customers.tenant", "customers.key"], name="fk_customers_tenant_parent"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_customers_tenant_number", "customers", ["tenant", "number"])
    op.create_index("ix_customers_tenant_parent", "customers", ["tenant", "parent"])
    op.create_table(
        "subjects",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("subject", _text(), nullable=False),
        sa.Column("customer", _text()),
        sa.Column("declared", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "subject", name="pk_subjects"),
        sa.ForeignKeyConstraint(
            ["tenant", "customer"], ["customers.tenant", "customers.key"], name="fk_subjects_tenant_customer"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_subjects_revision", "subjects", ["revision"])
    op.create_index("ix_subjects_tenant_customer", "subjects", ["tenant", "customer"])
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("route", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at_us", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("headers", sa.Text()),
        sa.Column("body", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("tenant", "key_id", "route", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_taken_at_us", "idempotency_keys", ["taken_at_us"])
    op.create_table(
        "audit",
        _number(),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("tenant", _text(), nullable=False),
        sa.Column("actor", _text(), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("resource", _text(), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("request_id", _text()),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_tenant_number", "audit", ["tenant", "number"])
    _keep_audit()
    op.bulk_insert(
        revisions, [{"topic": topic, "revision": 1} for topic in ("all", "meters", "subjects", "keys")]
    )
    op.bulk_insert(tenants, [{"key": "default", "name": "Default", "created_at_us": 0}])


def _keep_audit() -> None:
    """The database itself refuses to change or delete an audit row."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
        )
        return
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_refuses_{action.lower()} BEFORE {action} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
        )
