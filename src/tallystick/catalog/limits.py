"""Limits of tenants, and one-off raises of them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.catalog import limit_tables, tables
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of, number_of
from tallystick.catalog.database import Database, from_json, to_json
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.limiting import LIMITS_PER_TENANT_MAX, RAISES_PER_LIMIT_MAX, KeptLimit, LimitRaise
from tallystick.errors import Conflict, NotFound
from tallystick.limits.limit import Limit, read_limit
from tallystick.money import plain

_table = limit_tables.limits
_column = _table.c
_raises = limit_tables.limit_raises
_raise = _raises.c


class Limits:
    """The part of the catalog that keeps limits."""

    _database: Database

    def create_limit(self, tenant: str, limit: Limit, *, actor: Actor, now_us: int) -> KeptLimit:
        with self._database.changing(actor, now_us) as change:
            if _find(change.connection, tenant, limit.key) is not None:
                raise Conflict(
                    f"There is a limit {limit.key!r} already. Change it (PATCH).", code="limit_exists"
                )
            counted = select(func.count()).select_from(_table).where(_column.tenant == tenant)
            if change.connection.execute(counted).scalar_one() >= LIMITS_PER_TENANT_MAX:
                raise Conflict(
                    f"A tenant has at most {LIMITS_PER_TENANT_MAX} limits.", code="too_many_limits"
                )
            change.connection.execute(
                insert(_table),
                {
                    "tenant": tenant,
                    "key": limit.key,
                    "content": to_json(limit.to_wire()),
                    "created_at_us": now_us,
                    "changed_at_us": now_us,
                },
            )
            change.record(("alerts",), tenant, "limit.create", f"limit/{limit.key}", after=limit.to_wire())
        return KeptLimit(tenant, limit, now_us, now_us)

    def change_limit(
        self, tenant: str, key: str, change: Callable[[KeptLimit], Limit], *, actor: Actor, now_us: int
    ) -> KeptLimit:
        with self._database.changing(actor, now_us) as transaction:
            present = _get(transaction.connection, tenant, key)
            made = change(present)
            if made == present.limit:
                return present
            transaction.connection.execute(
                update(_table)
                .where(_column.tenant == tenant, _column.key == key)
                .values(content=to_json(made.to_wire()), changed_at_us=now_us)
            )
            transaction.record(
                ("alerts",),
                tenant,
                "limit.change",
                f"limit/{key}",
                before=present.limit.to_wire(),
                after=made.to_wire(),
            )
        return KeptLimit(tenant, made, present.created_at_us, now_us)

    def delete_limit(
        self, tenant: str, key: str, *, expected: Callable[[KeptLimit], None], actor: Actor, now_us: int
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            expected(present)
            change.connection.execute(delete(_raises).where(_raise.tenant == tenant, _raise.limit_key == key))
            change.connection.execute(delete(_table).where(_column.tenant == tenant, _column.key == key))
            change.record(("alerts",), tenant, "limit.delete", f"limit/{key}", before=present.limit.to_wire())

    def limit(self, tenant: str, key: str) -> KeptLimit:
        with self._database.reading() as connection:
            return _get(connection, tenant, key)

    def limits(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> Page[KeptLimit]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.key)
        after = key_of(cursor, "limits")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_kept, found[:limit])), cursor_of("limits", found[limit - 1].key) if more else None
        )

    def all_limits(self, tenant: str) -> tuple[KeptLimit, ...]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.key)
        with self._database.reading() as connection:
            return tuple(map(_kept, connection.execute(query)))

    def raise_limit(
        self,
        tenant: str,
        key: str,
        *,
        customer: str,
        amount: Decimal,
        until_us: int,
        actor: Actor,
        now_us: int,
    ) -> LimitRaise:
        with self._database.changing(actor, now_us) as change:
            _get(change.connection, tenant, key)
            of_customer = tables.customers.c
            known = select(of_customer.key).where(of_customer.tenant == tenant, of_customer.key == customer)
            if change.connection.execute(known).one_or_none() is None:
                raise NotFound(
                    f"There is no customer {customer!r}. GET /v1/customers lists them.",
                    code="customer_not_found",
                )
            counted = select(func.count()).where(
                _raise.tenant == tenant, _raise.limit_key == key, _raise.until_us > now_us
            )
            if change.connection.execute(counted).scalar_one() >= RAISES_PER_LIMIT_MAX:
                raise Conflict(
                    f"A limit is raised at most {RAISES_PER_LIMIT_MAX} times at once.", code="too_many_raises"
                )
            values = {
                "tenant": tenant,
                "limit_key": key,
                "customer": customer,
                "amount": plain(amount),
                "until_us": until_us,
                "created_at_us": now_us,
            }
            number = change.connection.execute(
                insert(_raises).values(values).returning(_raise.number)
            ).scalar_one()
            change.record(
                ("alerts",),
                tenant,
                "limit.raise",
                f"limit/{key}",
                after={"customer": customer, "amount": plain(amount), "until_us": until_us},
            )
        return LimitRaise(number, tenant, key, customer, amount, until_us, now_us)

    def limit_raises(
        self, tenant: str, key: str, *, cursor: str | None = None, limit: int = 100
    ) -> Page[LimitRaise]:
        query = (
            select(_raises).where(_raise.tenant == tenant, _raise.limit_key == key).order_by(_raise.number)
        )
        after = number_of(cursor, "limit_raises")
        if after is not None:
            query = query.where(_raise.number > after)
        with self._database.reading() as connection:
            _get(connection, tenant, key)
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_raised, found[:limit])),
            cursor_of("limit_raises", found[limit - 1].number) if more else None,
        )

    def raises_of(self, tenant: str, *, now_us: int) -> tuple[LimitRaise, ...]:
        query = select(_raises).where(_raise.tenant == tenant, _raise.until_us > now_us)
        with self._database.reading() as connection:
            return tuple(map(_raised, connection.execute(query)))


def _find(connection: Connection, tenant: str, key: str) -> KeptLimit | None:
    query = select(_table).where(_column.tenant == tenant, _column.key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else _kept(row)


def _get(connection: Connection, tenant: str, key: str) -> KeptLimit:
    found = _find(connection, tenant, key)
    if found is None:
        raise NotFound(f"There is no limit {key!r}. GET /v1/limits lists them.", code="limit_not_found")
    return found


def _kept(row: Row[Any]) -> KeptLimit:
    return KeptLimit(row.tenant, read_limit(from_json(row.content)), row.created_at_us, row.changed_at_us)


def _raised(row: Row[Any]) -> LimitRaise:
    return LimitRaise(
        row.number,
        row.tenant,
        row.limit_key,
        row.customer,
        Decimal(row.amount),
        row.until_us,
        row.created_at_us,
    )
