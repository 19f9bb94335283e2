"""Alerts: what people and customers have set. What becomes of them is in alert_states.py."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.catalog import alert_tables
from tallystick.catalog.alerting import (
    ALERTS_PER_CUSTOMER_MAX,
    ALERTS_PER_TENANT_MAX,
    AlertDraft,
    KeptAlert,
)
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, from_json
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.secret import new_id
from tallystick.errors import Conflict, NotFound

_table = alert_tables.alerts
_column = _table.c


class Alerts:
    """The part of the catalog that keeps alerts."""

    _database: Database

    def create_alert(
        self, tenant: str, owner: str | None, key: str, draft: AlertDraft, *, actor: Actor, now_us: int
    ) -> KeptAlert:
        with self._database.changing(actor, now_us) as change:
            if _find(change.connection, tenant, owner, key) is not None:
                raise Conflict(f"There is an alert {key!r} already.", code="alert_exists")
            _check_room(change.connection, tenant, owner)
            values = {
                "tenant": tenant,
                "owner": owner or "",
                "key": key,
                "id": new_id("al"),
                "customer": draft.customer,
                "content": draft.content,
                "edition": 1,
                "begun_edition": 0,
                "created_at_us": now_us,
                "changed_at_us": now_us,
            }
            change.connection.execute(insert(_table), values)
            made = _get(change.connection, tenant, owner, key)
            change.record(("alerts",), tenant, "alert.create", _resource(made), after=_audited(made))
        return made

    def change_alert(
        self,
        tenant: str,
        owner: str | None,
        key: str,
        change: Callable[[KeptAlert], AlertDraft],
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptAlert:
        with self._database.changing(actor, now_us) as transaction:
            present = _get(transaction.connection, tenant, owner, key)
            draft = change(present)
            if (draft.customer, draft.content) == (present.customer, present.content):
                return present
            values: dict[str, Any] = {
                "customer": draft.customer,
                "content": draft.content,
                "changed_at_us": now_us,
            }
            if draft.decides:
                values |= {"edition": present.edition + 1, "judged_us": None}
                states = alert_tables.alert_states
                transaction.connection.execute(delete(states).where(states.c.alert == present.id))
            transaction.connection.execute(update(_table).where(_column.id == present.id).values(**values))
            made = _get(transaction.connection, tenant, owner, key)
            transaction.record(
                ("alerts",),
                tenant,
                "alert.change",
                _resource(made),
                before=_audited(present),
                after=_audited(made),
            )
        return made

    def mute_alert(
        self,
        tenant: str,
        owner: str | None,
        key: str,
        until_us: int | None,
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptAlert:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, owner, key)
            if present.muted_until_us == until_us:
                return present
            change.connection.execute(
                update(_table).where(_column.id == present.id).values(muted_until_us=until_us)
            )
            made = _get(change.connection, tenant, owner, key)
            change.record(
                ("alerts",),
                tenant,
                "alert.unmute" if until_us is None else "alert.mute",
                _resource(made),
                before={"muted_until_us": present.muted_until_us},
                after={"muted_until_us": until_us},
            )
        return made

    def delete_alert(
        self,
        tenant: str,
        owner: str | None,
        key: str,
        *,
        expected: Callable[[KeptAlert], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, owner, key)
            if expected is not None:
                expected(present)
            states = alert_tables.alert_states
            change.connection.execute(delete(states).where(states.c.alert == present.id))
            change.connection.execute(delete(_table).where(_column.id == present.id))
            change.record(("alerts",), tenant, "alert.delete", _resource(present), before=_audited(present))

    def alert(self, tenant: str, owner: str | None, key: str) -> KeptAlert:
        with self._database.reading() as connection:
            return _get(connection, tenant, owner, key)

    def alerts(
        self,
        tenant: str,
        *,
        owner: str | None = None,
        every: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptAlert]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.number)
        if not every:
            query = query.where(_column.owner == (owner or ""))
        after = number_of(cursor, "alerts")
        if after is not None:
            query = query.where(_column.number > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(alert_of, found[:limit])),
            cursor_of("alerts", found[limit - 1].number) if more else None,
        )


def alert_of(row: Row[Any]) -> KeptAlert:
    """A row of the table."""
    return KeptAlert(
        tenant=row.tenant,
        owner=row.owner or None,
        key=row.key,
        id=row.id,
        customer=row.customer,
        content=row.content,
        edition=row.edition,
        begun=row.begun_edition == row.edition,
        judged_us=row.judged_us,
        muted_until_us=row.muted_until_us,
        created_at_us=row.created_at_us,
        changed_at_us=row.changed_at_us,
    )


def _find(connection: Connection, tenant: str, owner: str | None, key: str) -> KeptAlert | None:
    query = select(_table).where(_column.tenant == tenant, _column.owner == (owner or ""), _column.key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else alert_of(row)


def _get(connection: Connection, tenant: str, owner: str | None, key: str) -> KeptAlert:
    found = _find(connection, tenant, owner, key)
    if found is None:
        raise NotFound(f"There is no alert {key!r}. GET /v1/alerts lists them.", code="alert_not_found")
    return found


def _check_room(connection: Connection, tenant: str, owner: str | None) -> None:
    counted = select(func.count()).select_from(_table).where(_column.tenant == tenant)
    if connection.execute(counted).scalar_one() >= ALERTS_PER_TENANT_MAX:
        raise Conflict(f"A tenant has at most {ALERTS_PER_TENANT_MAX} alerts.", code="too_many_alerts")
    if owner is not None:
        own = connection.execute(counted.where(_column.owner == owner)).scalar_one()
        if own >= ALERTS_PER_CUSTOMER_MAX:
            raise Conflict(
                f"A customer has at most {ALERTS_PER_CUSTOMER_MAX} alerts of its own.",
                code="too_many_alerts",
            )


def _resource(alert: KeptAlert) -> str:
    return f"alert/{alert.key}" if alert.owner is None else f"alert/{alert.owner}/{alert.key}"


def _audited(alert: KeptAlert) -> dict[str, Any]:
    return {"owner": alert.owner, **from_json(alert.content)}
