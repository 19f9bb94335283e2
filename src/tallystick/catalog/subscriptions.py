"""Subscriptions: who has which plan since when, and when the next invoice is due."""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from tallystick.catalog import billing_tables, tables
from tallystick.catalog.billing import KeptSubscription
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, among, from_json
from tallystick.catalog.interface import Actor, Page
from tallystick.errors import Conflict, NotFound

_table = billing_tables.subscriptions
_column = _table.c


class Subscriptions:
    """The part of the catalog that keeps subscriptions."""

    _database: Database

    def create_subscription(
        self, subscription: KeptSubscription, *, actor: Actor, now_us: int
    ) -> KeptSubscription:
        tenant = subscription.tenant
        with self._database.changing(actor, now_us) as change:
            customer = tables.customers.c
            known = select(customer.key).where(
                customer.tenant == tenant, customer.key == subscription.customer
            )
            if change.connection.execute(known).one_or_none() is None:
                raise NotFound(
                    f"There is no customer {subscription.customer!r}. GET /v1/customers lists them.",
                    code="customer_not_found",
                )
            names = [name for name in (subscription.id, subscription.key) if name is not None]
            if any(_find(change.connection, tenant, name) is not None for name in names):
                raise Conflict(
                    f"There is a subscription {subscription.key!r} already.", code="subscription_exists"
                )
            change.connection.execute(insert(_table), _values(subscription))
            change.record(
                (),
                tenant,
                "subscription.create",
                f"subscription/{subscription.id}",
                after=from_json(subscription.content),
            )
        return subscription

    def change_subscription(
        self,
        tenant: str,
        name: str,
        change: Callable[[KeptSubscription], KeptSubscription],
        *,
        action: str,
        actor: Actor,
        now_us: int,
    ) -> KeptSubscription:
        with self._database.changing(actor, now_us) as transaction:
            present = _get(transaction.connection, tenant, name)
            made = change(present)
            if made == present:
                return present
            transaction.connection.execute(
                update(_table)
                .where(_column.tenant == tenant, _column.id == present.id)
                .values(
                    plan=made.plan,
                    content=made.content,
                    due_us=made.due_us,
                    progressive=int(made.progressive),
                )
            )
            transaction.record(
                (),
                tenant,
                f"subscription.{action}",
                f"subscription/{present.id}",
                before=from_json(present.content),
                after=from_json(made.content),
            )
        return made

    def subscription(self, tenant: str, name: str) -> KeptSubscription:
        with self._database.reading() as connection:
            return _get(connection, tenant, name)

    def subscriptions(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        plan: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptSubscription]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.number)
        after = number_of(cursor, "subscriptions")
        if after is not None:
            query = query.where(_column.number > after)
        if plan is not None:
            query = query.where(_column.plan == plan)
        with self._database.reading() as connection:
            if customers is not None:
                query = query.where(among(connection, _column.customer, customers))
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_subscription, found[:limit])),
            cursor_of("subscriptions", found[limit - 1].number) if more else None,
        )

    def due_subscriptions(
        self, tenant: str | None, at_us: int, *, excluded: Collection[str] = (), limit: int
    ) -> tuple[KeptSubscription, ...]:
        query = select(_table).where(_column.due_us <= at_us)
        if tenant is not None:
            query = query.where(_column.tenant == tenant)
        if excluded:
            query = query.where(_column.id.not_in(list(excluded)))
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(_column.due_us, _column.number).limit(limit)).all()
        return tuple(map(_subscription, found))

    def defer_subscription(self, tenant: str, name: str, due_us: int | None) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(_table).where(_column.tenant == tenant, _column.id == name).values(due_us=due_us)
            )

    def progressive_subscriptions(
        self, tenant: str | None, at_us: int, *, after: int = 0, limit: int
    ) -> tuple[tuple[int, KeptSubscription], ...]:
        query = select(_table).where(_column.progressive == 1, _column.due_us > at_us, _column.number > after)
        if tenant is not None:
            query = query.where(_column.tenant == tenant)
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(_column.number).limit(limit)).all()
        return tuple((row.number, _subscription(row)) for row in found)

    def open_subscriptions(self, tenant: str) -> tuple[KeptSubscription, ...]:
        query = select(_table).where(_column.tenant == tenant, _column.due_us.is_not(None))
        with self._database.reading() as connection:
            return tuple(map(_subscription, connection.execute(query)))


def _find(connection: Connection, tenant: str, name: str) -> KeptSubscription | None:
    query = select(_table).where(_column.tenant == tenant, or_(_column.id == name, _column.key == name))
    row = connection.execute(query.order_by(_column.id != name).limit(1)).one_or_none()
    return None if row is None else _subscription(row)


def _get(connection: Connection, tenant: str, name: str) -> KeptSubscription:
    found = _find(connection, tenant, name)
    if found is None:
        raise NotFound(
            f"There is no subscription {name!r}. GET /v1/subscriptions lists them.",
            code="subscription_not_found",
        )
    return found


def _subscription(row: Row[Any]) -> KeptSubscription:
    return KeptSubscription(
        row.tenant,
        row.id,
        row.key,
        row.customer,
        row.plan,
        row.timezone,
        row.content,
        bool(row.include_children),
        row.created_at_us,
        row.closed_us,
        row.due_us,
        bool(row.progressive),
    )


def _values(one: KeptSubscription) -> dict[str, Any]:
    return {
        "tenant": one.tenant,
        "id": one.id,
        "key": one.key,
        "customer": one.customer,
        "plan": one.plan,
        "timezone": one.timezone,
        "content": one.content,
        "include_children": int(one.include_children),
        "created_at_us": one.created_at_us,
        "closed_us": one.closed_us,
        "due_us": one.due_us,
        "progressive": int(one.progressive),
    }
