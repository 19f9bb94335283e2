"""Items that are billed once: they wait for an invoice, and then stand on it."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from tallystick.catalog import billing_tables, tables
from tallystick.catalog.charging import WAITING_ITEMS_MAX, KeptItem
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, among, from_json
from tallystick.catalog.interface import Actor, Page
from tallystick.errors import Conflict, NotFound

_table = billing_tables.billing_items
_column = _table.c
_waiting = (_column.invoice.is_(None), _column.removed_at_us.is_(None))


class Items:
    """The part of the catalog that keeps items."""

    _database: Database

    def add_items(self, items: Sequence[KeptItem], *, actor: Actor, now_us: int) -> None:
        tenant, customer = items[0].tenant, items[0].customer
        with self._database.changing(actor, now_us) as change:
            own = tables.customers.c
            known = select(own.key).where(own.tenant == tenant, own.key == customer)
            if change.connection.execute(known).one_or_none() is None:
                raise NotFound(f"There is no customer {customer!r}.", code="customer_not_found")
            held = select(func.count()).select_from(_table)
            held = held.where(_column.tenant == tenant, _column.customer == customer, *_waiting)
            if change.connection.execute(held).scalar_one() + len(items) > WAITING_ITEMS_MAX:
                detail = f"At most {WAITING_ITEMS_MAX} items may wait for a customer's next invoice."
                raise Conflict(detail, code="too_many_items")
            change.connection.execute(insert(_table), [_values(item) for item in items])
            for item in items:
                after = {"customer": customer, "currency": item.currency, **from_json(item.content)}
                change.record((), tenant, "item.create", f"item/{item.id}", after=after)

    def remove_item(self, tenant: str, customer: str, name: str, *, actor: Actor, now_us: int) -> None:
        here = (_column.tenant == tenant, _column.customer == customer, _column.id == name)
        with self._database.changing(actor, now_us) as change:
            row = change.connection.execute(select(_table).where(*here)).one_or_none()
            if row is None:
                raise NotFound(f"The customer has no item {name[:80]!r}.", code="item_not_found")
            if row.invoice is not None:
                raise Conflict("The item is on a finalized invoice.", code="item_billed")
            if row.removed_at_us is not None:
                return
            change.connection.execute(update(_table).where(*here).values(removed_at_us=now_us))
            change.record((), tenant, "item.remove", f"item/{name}", before=from_json(row.content))

    def items(
        self,
        tenant: str,
        customer: str,
        *,
        waiting: bool | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptItem]:
        query = select(_table).where(
            _column.tenant == tenant, _column.customer == customer, _column.removed_at_us.is_(None)
        )
        if waiting is not None:
            query = query.where(_column.invoice.is_(None) if waiting else _column.invoice.is_not(None))
        before = number_of(cursor, "items")
        if before is not None:
            query = query.where(_column.number < before)
        with self._database.reading() as connection:
            ordered = query.order_by(_column.number.desc()).limit(checked_limit(limit) + 1)
            found = connection.execute(ordered).all()
        more = len(found) > limit
        return Page(
            tuple(map(_item, found[:limit])), cursor_of("items", found[limit - 1].number) if more else None
        )

    def waiting_items(self, tenant: str, customers: Collection[str]) -> dict[str, tuple[KeptItem, ...]]:
        made: dict[str, list[KeptItem]] = {}
        with self._database.reading() as connection:
            query = select(_table).where(
                _column.tenant == tenant, *_waiting, among(connection, _column.customer, customers)
            )
            for item in map(_item, connection.execute(query.order_by(_column.number))):
                made.setdefault(item.customer, []).append(item)
        return {customer: tuple(items) for customer, items in made.items()}


# -- within a transaction -------------------------------------------------------------------------------------------
def bill_items(connection: Connection, tenant: str, names: Sequence[str], invoice: str) -> bool:
    """Put waiting items on an invoice; False where one of them waits no more (the caller gives the change up)."""
    done = connection.execute(
        update(_table)
        .where(_column.tenant == tenant, *_waiting, among(connection, _column.id, names))
        .values(invoice=invoice)
    )
    return done.rowcount == len(names)


def _item(row: Row[Any]) -> KeptItem:
    return KeptItem(
        row.tenant,
        row.id,
        row.customer,
        row.currency,
        row.content,
        row.created_at_us,
        row.removed_at_us,
        row.invoice,
    )


def _values(one: KeptItem) -> dict[str, Any]:
    return {
        "tenant": one.tenant,
        "id": one.id,
        "customer": one.customer,
        "currency": one.currency,
        "content": one.content,
        "created_at_us": one.created_at_us,
        "removed_at_us": one.removed_at_us,
        "invoice": one.invoice,
    }
