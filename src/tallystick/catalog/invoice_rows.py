"""Invoices as rows."""

from typing import Any

from sqlalchemy import Connection, Row, select

from tallystick.catalog import billing_tables
from tallystick.catalog.billing import KeptInvoice
from tallystick.errors import NotFound

_table = billing_tables.invoices


def read_invoice(connection: Connection, tenant: str, name: str) -> KeptInvoice:
    """Raises NotFound (invoice_not_found)."""
    query = select(_table).where(_table.c.tenant == tenant, _table.c.id == name)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no invoice {name!r}. GET /v1/invoices lists them.", code="invoice_not_found"
        )
    return invoice_of(row)


def invoice_of(row: Row[Any]) -> KeptInvoice:
    return KeptInvoice(
        tenant=row.tenant,
        id=row.id,
        customer=row.customer,
        subscription=row.subscription,
        boundary_us=row.boundary_us,
        from_us=row.from_us,
        to_us=row.to_us,
        status=row.status,
        grace_until_us=row.grace_until_us,
        document=row.document,
        basis=row.basis,
        created_at_us=row.created_at_us,
        sequence=row.sequence,
        finalized_at_us=row.finalized_at_us,
        voided_at_us=row.voided_at_us,
        kind=row.kind,
        waits_for=row.waits_for,
    )


def invoice_values(one: KeptInvoice) -> dict[str, Any]:
    return {
        "tenant": one.tenant,
        "id": one.id,
        "customer": one.customer,
        "subscription": one.subscription,
        "boundary_us": one.boundary_us,
        "from_us": one.from_us,
        "to_us": one.to_us,
        "status": one.status,
        "grace_until_us": one.grace_until_us,
        "document": one.document,
        "basis": one.basis,
        "created_at_us": one.created_at_us,
        "sequence": one.sequence,
        "finalized_at_us": one.finalized_at_us,
        "voided_at_us": one.voided_at_us,
        "kind": one.kind,
        "waits_for": one.waits_for,
    }
