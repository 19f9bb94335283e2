"""How long facts of a type are kept, and how far they have been deleted."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Row, func, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.database import Database
from tallystick.catalog.interface import RETENTIONS_MAX, SYSTEM, Actor, Retention
from tallystick.errors import Conflict

_column = tables.retention.c


class Retentions:
    """The part of the catalog that keeps retention."""

    _database: Database

    def set_retention(
        self,
        tenant: str,
        event_type: str,
        keep_days: int | None,
        *,
        expected: Callable[[Sequence[Retention]], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> Retention:
        with self._database.changing(actor, now_us) as change:
            expected(_all(change.connection, tenant))
            row = _find(change.connection, tenant, event_type)
            if row is None:
                held = change.connection.execute(
                    select(func.count()).select_from(tables.retention).where(_column.tenant == tenant)
                ).scalar_one()
                if held >= RETENTIONS_MAX:
                    raise Conflict(
                        f"A tenant may limit at most {RETENTIONS_MAX} types.", code="too_many_retentions"
                    )
                change.connection.execute(
                    insert(tables.retention),
                    {"tenant": tenant, "type": event_type, "keep_days": keep_days},
                )
            elif row.keep_days != keep_days:
                change.connection.execute(
                    update(tables.retention)
                    .where(_column.tenant == tenant, _column.type == event_type)
                    .values(keep_days=keep_days)
                )
            before = None if row is None else row.keep_days
            if row is None or before != keep_days:
                change.record(
                    (),
                    tenant,
                    "retention.set",
                    event_type,
                    before={"keep_days": before},
                    after={"keep_days": keep_days},
                )
            limit_us = None if row is None else row.forgotten_before_us
            return Retention(tenant, event_type, keep_days, limit_us)

    def retentions(self, tenant: str | None = None) -> list[Retention]:
        with self._database.reading() as connection:
            return _all(connection, tenant)

    def advance_forgotten(self, tenant: str, event_type: str, before_us: int, *, now_us: int) -> None:
        with self._database.changing(SYSTEM, now_us) as change:
            row = _find(change.connection, tenant, event_type)
            if row is None or (row.forgotten_before_us or before_us - 1) >= before_us:
                return
            change.connection.execute(
                update(tables.retention)
                .where(_column.tenant == tenant, _column.type == event_type)
                .values(forgotten_before_us=before_us)
            )
            change.record(
                (),
                tenant,
                "retention.advance",
                event_type,
                before={"forgotten_before_us": row.forgotten_before_us},
                after={"forgotten_before_us": before_us},
            )


def _all(connection: Connection, tenant: str | None) -> list[Retention]:
    chosen = select(tables.retention).order_by(_column.tenant, _column.type)
    if tenant is not None:
        chosen = chosen.where(_column.tenant == tenant)
    return [
        Retention(row.tenant, row.type, row.keep_days, row.forgotten_before_us)
        for row in connection.execute(chosen)
    ]


def _find(connection: Connection, tenant: str, event_type: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(
        select(tables.retention).where(_column.tenant == tenant, _column.type == event_type)
    ).one_or_none()
