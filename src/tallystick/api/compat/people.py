"""Customers as vendors' clients make them: often after their first events, which have made one already."""

from collections.abc import Collection
from dataclasses import replace

from msgspec import UnsetType

from tallystick.catalog.interface import Actor, Catalog, Customer, CustomerChange, CustomerSearch
from tallystick.errors import Conflict, NotFound

PAGE = 1000
_MADE_MEANWHILE = ("customer_exists", "subject_taken")
"""How a change is refused when the recorder made a customer of an event between the look and the change."""
_TRIES = 3
"""The second look sees what was made meanwhile; the third is for another subject's event just then."""


def saved(
    catalog: Catalog,
    tenant: str,
    key: str,
    change: CustomerChange,
    *,
    upsert: bool,
    actor: Actor,
    now_us: int,
) -> Customer:
    """Make a customer, or change it where it is there: with `upsert` always, otherwise only one that its events made.

    A subject that nobody but its own events has claimed, or only a customer that is deleted, moves here. Raises Conflict (customer_exists, subject_taken)."""

    def attempt() -> Customer:
        reassign = _may_take(catalog, tenant, key, change.subjects)
        present = _present(catalog, tenant, key)
        if present is None or present.archived_at_us is not None:
            return catalog.create_customer(tenant, key, change, reassign=reassign, actor=actor, now_us=now_us)
        if not upsert and not made_by_events(present):
            raise Conflict(f"There is a customer {key!r} already.", code="customer_exists")
        whole = change
        if not isinstance(change.external_ids, UnsetType):
            whole = replace(change, external_ids={**present.external_ids, **change.external_ids})
        return catalog.change_customer(tenant, key, whole, reassign=reassign, actor=actor, now_us=now_us)

    for _ in range(_TRIES - 1):
        try:
            return attempt()
        except Conflict as refused:
            if refused.code not in _MADE_MEANWHILE:
                raise
    return attempt()


def made_by_events(customer: Customer) -> bool:
    """Whether nobody has said anything of it yet: it is what `unknown_subject = create` makes."""
    return (
        customer.name == customer.key
        and customer.subjects in ((), (customer.key,))
        and customer.email is None
        and customer.parent is None
        and not customer.traits
        and not customer.external_ids
    )


def _may_take(catalog: Catalog, tenant: str, key: str, subjects: Collection[str] | UnsetType) -> bool:
    if isinstance(subjects, UnsetType):
        return False
    taken = False
    for subject, owner in catalog.resolve_subjects(tenant, subjects).items():
        if owner == key:
            continue
        present = _present(catalog, tenant, owner)
        gone = present is not None and present.archived_at_us is not None
        if not gone and (owner != subject or present is None or not made_by_events(present)):
            return False
        taken = True
    return taken


def _present(catalog: Catalog, tenant: str, key: str) -> Customer | None:
    try:
        return catalog.customer(tenant, key)
    except NotFound:
        return None


def every(catalog: Catalog, tenant: str) -> list[Customer]:
    """All customers that are not archived, in the order of their creation."""
    found: list[Customer] = []
    cursor: str | None = None
    while True:
        page = catalog.customers(tenant, CustomerSearch(), cursor=cursor, limit=PAGE)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
