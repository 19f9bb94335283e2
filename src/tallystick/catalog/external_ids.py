"""External ids: what a customer is called in another system. Each id belongs to one customer in each system."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ScalarSelect, delete, insert, select

from tallystick.catalog import tables
from tallystick.catalog.database import Change
from tallystick.errors import Conflict, Fault

_column = tables.external_ids.c


def owner_of(tenant: str, system: str, external_id: str) -> ScalarSelect[Any]:
    """The key of the customer with this id, as a subquery."""
    return (
        select(_column.customer)
        .where(_column.tenant == tenant, _column.system == system, _column.external_id == external_id)
        .scalar_subquery()
    )


def release_external_ids(change: Change, tenant: str, customer: str) -> None:
    change.connection.execute(
        delete(tables.external_ids).where(_column.tenant == tenant, _column.customer == customer)
    )


def bind_external_ids(change: Change, tenant: str, customer: str, ids: Mapping[str, str]) -> None:
    """Raises Conflict (external_id_taken) with a fault for each that another customer has."""
    faults: list[Fault] = []
    for system, external_id in ids.items():
        taken = change.connection.execute(select(owner_of(tenant, system, external_id))).scalar_one()
        if taken is not None and taken != customer:
            pointer = "/external_ids/" + system.replace("~", "~0").replace("/", "~1")
            detail = f"{system} id {external_id!r} belongs to customer {taken!r}."
            faults.append(Fault(pointer, "external_id_taken", detail))
    if faults:
        raise Conflict(
            " ".join(fault.detail for fault in faults[:5]), code="external_id_taken", faults=faults
        )
    rows = [
        {"tenant": tenant, "system": system, "external_id": external_id, "customer": customer}
        for system, external_id in ids.items()
    ]
    release_external_ids(change, tenant, customer)
    if rows:
        change.connection.execute(insert(tables.external_ids), rows)
