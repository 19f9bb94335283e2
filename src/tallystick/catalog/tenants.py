"""Tenants: whose configuration and whose events these are."""

import re
from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.alert_tables import alert_states, alert_transitions, alerts
from tallystick.catalog.api_keys import insert_api_key
from tallystick.catalog.channel_tables import channels, deliveries, delivery_attempts
from tallystick.catalog.counter_tables import counter_outbox, counter_series
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Change, Database
from tallystick.catalog.export_tables import exports
from tallystick.catalog.interface import (
    DEFAULT_TENANT,
    ENVIRONMENTS,
    SYSTEM,
    Actor,
    DeletedTenant,
    NewApiKey,
    Page,
    Tenant,
    Topic,
)
from tallystick.catalog.report_tables import report_runs, reports, views
from tallystick.catalog.source_tables import dead_letters, source_progress, source_states, sources
from tallystick.errors import Conflict, Fault, Invalid, NotFound

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\Z")
_NAME_CHARACTERS_MAX = 256
_column = tables.tenants.c
_COLUMNS = (
    _column.key,
    _column.name,
    _column.created_at_us,
    _column.environment,
    _column.suspended_at_us,
)


class Tenants:
    """The part of the catalog that keeps tenants."""

    _database: Database

    def create_tenant(
        self, key: str, name: str, *, environment: str = "live", actor: Actor, now_us: int
    ) -> tuple[Tenant, NewApiKey]:
        _check(key, name, environment)
        with self._database.changing(actor, now_us) as change:
            known = change.connection.execute(select(_column.key).where(_column.key == key)).one_or_none()
            if known is not None:
                raise Conflict(
                    f"There is, or was, a tenant {key!r}. Choose another key.", code="tenant_exists"
                )
            change.connection.execute(
                insert(tables.tenants),
                {"key": key, "name": name, "created_at_us": now_us, "environment": environment},
            )
            change.record(
                ("keys",),
                key,
                "tenant.create",
                f"tenant/{key}",
                after={"name": name, "environment": environment},
            )
            admin_key = insert_api_key(change, key, name="admin", scopes=("admin",), expires_at_us=None)
        return Tenant(key, name, now_us, environment), admin_key

    def tenants(self, *, cursor: str | None = None, limit: int = 100) -> Page[Tenant]:
        query = (
            select(*_COLUMNS)
            .where(_column.deleted_at_us.is_(None))
            .order_by(_column.key)
            .limit(checked_limit(limit) + 1)
        )
        after = key_of(cursor, "tenants")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = [Tenant(*row) for row in connection.execute(query)]
        more = len(found) > limit
        return Page(tuple(found[:limit]), cursor_of("tenants", found[limit - 1].key) if more else None)

    def tenant(self, key: str) -> Tenant:
        with self._database.reading() as connection:
            return _get(connection, key)

    def change_tenant(
        self,
        key: str,
        *,
        name: str | None = None,
        suspended: bool | None = None,
        expected: Callable[[Tenant], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> Tenant:
        if suspended and key == DEFAULT_TENANT:
            raise Conflict("The tenant 'default' cannot be suspended.", code="tenant_default")
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, key)
            expected(present)
            _check(key, present.name if name is None else name, present.environment)
            values: dict[str, object] = {} if name is None else {"name": name}
            if suspended is not None and suspended != (present.suspended_at_us is not None):
                values["suspended_at_us"] = now_us if suspended else None
            if values:
                change.connection.execute(update(tables.tenants).where(_column.key == key).values(**values))
            changed = _get(change.connection, key)
            if changed != present:
                before, after = _audited(present), _audited(changed)
                change.record(("keys",), key, "tenant.change", f"tenant/{key}", before=before, after=after)
        return changed

    def delete_tenant(self, key: str, *, export: bool = True, actor: Actor, now_us: int) -> None:
        if key == DEFAULT_TENANT:
            raise Conflict("The tenant 'default' cannot be deleted.", code="tenant_default")
        with self._database.changing(actor, now_us) as change:
            name = _get(change.connection, key).name
            values = {"deleted_at_us": now_us, "export": None if export else ""}
            change.connection.execute(update(tables.tenants).where(_column.key == key).values(**values))
            change.record(("keys", "meters"), key, "tenant.delete", f"tenant/{key}", before={"name": name})
            # Nobody can ask for the tenant's own audit any more.
            _tell(change, "tenant.delete", key, {"name": name, "export": export})

    def tenants_to_erase(self) -> list[DeletedTenant]:
        query = (
            select(_column.key, _column.deleted_at_us, _column.export)
            .where(_column.deleted_at_us.is_not(None), _column.erased_at_us.is_(None))
            .order_by(_column.key)
        )
        with self._database.reading() as connection:
            return [DeletedTenant(*row) for row in connection.execute(query)]

    def note_export(self, key: str, place: str, *, now_us: int) -> None:
        with self._database.changing(SYSTEM, now_us) as change:
            change.connection.execute(update(tables.tenants).where(_column.key == key).values(export=place))
            _tell(change, "tenant.export", key, {"place": place})

    def erase_tenant(self, key: str, *, now_us: int) -> None:
        with self._database.changing(SYSTEM, now_us) as change:
            run, customers = change.connection.execute, tables.customers
            run(update(customers).where(customers.c.tenant == key).values(parent=None))
            ours = select(deliveries.c.number).where(deliveries.c.tenant == key)
            run(delete(delivery_attempts).where(delivery_attempts.c.delivery_number.in_(ours)))
            own = select(alerts.c.id).where(alerts.c.tenant == key)
            run(delete(alert_states).where(alert_states.c.alert.in_(own)))
            taken = select(sources.c.number).where(sources.c.tenant == key)
            run(delete(source_states).where(source_states.c.source_number.in_(taken)))
            run(delete(source_progress).where(source_progress.c.source_number.in_(taken)))
            for table in (
                dead_letters,
                sources,
                report_runs,
                reports,
                views,
                alerts,
                alert_transitions,
                deliveries,
                channels,
                tables.subjects,
                tables.external_ids,
                tables.tokens,
                tables.idempotency_keys,
                tables.retention,
                counter_series,
                counter_outbox,
                exports,
                customers,
            ):
                run(delete(table).where(table.c.tenant == key))
            run(update(tables.tenants).where(_column.key == key).values(erased_at_us=now_us))
            # What is kept in memory of its customers is to go, too.
            _tell(change, "tenant.erase", key, {}, topics=("subjects", "keys"))


def _tell(
    change: Change, action: str, key: str, after: dict[str, object], *, topics: tuple[Topic, ...] = ()
) -> None:
    change.record(topics, DEFAULT_TENANT, action, f"tenant/{key}", after=after)


def _get(connection: Connection, key: str) -> Tenant:
    row = connection.execute(
        select(*_COLUMNS).where(_column.key == key, _column.deleted_at_us.is_(None))
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no tenant {key!r}.", code="tenant_not_found")
    return Tenant(*row)


def _audited(tenant: Tenant) -> dict[str, object]:
    return {
        "name": tenant.name,
        "environment": tenant.environment,
        "suspended": tenant.suspended_at_us is not None,
    }


def _check(key: str, name: str, environment: str) -> None:
    faults: list[Fault] = []
    if not _KEY.match(key):
        faults.append(
            Fault(
                "/key",
                "invalid_key",
                "A tenant's key begins with a letter or digit and has at most 128 letters, digits and _ . : -",
            )
        )
    if not 1 <= len(name) <= _NAME_CHARACTERS_MAX:
        faults.append(Fault("/name", "invalid_name", f"A name has 1 to {_NAME_CHARACTERS_MAX} characters."))
    if environment not in ENVIRONMENTS:
        faults.append(Fault("/environment", "invalid_value", "environment must be live or test."))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), faults=faults)
