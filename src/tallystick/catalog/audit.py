"""Who changed what, when. Rows are written by `database.Change.record`; here they are read."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, from_json
from tallystick.catalog.interface import Actor, AuditRow, AuditSearch, Page

_column = tables.audit.c
_TEXTS = (
    _column.actor,
    _column.key_id,
    _column.action,
    _column.resource,
    _column.before,
    _column.after,
    _column.request_id,
    _column.address,
)
_ANY = AuditSearch()


class Audit:
    """The part of the catalog that answers the audit."""

    _database: Database

    def audit(
        self, tenant: str, search: AuditSearch = _ANY, *, cursor: str | None = None, limit: int = 100
    ) -> Page[AuditRow]:
        query = (
            select(tables.audit)
            .where(_column.tenant == tenant, *_conditions(search))
            .order_by(_column.number.desc())
        )
        before = number_of(cursor, "audit")
        if before is not None:
            query = query.where(_column.number < before)
        with self._database.reading() as connection:
            found = [_audit_row(row) for row in connection.execute(query.limit(checked_limit(limit) + 1))]
        more = len(found) > limit
        return Page(tuple(found[:limit]), cursor_of("audit", found[limit - 1].id) if more else None)

    def note(
        self,
        tenant: str,
        action: str,
        resource: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        actor: Actor,
        now_us: int,
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            change.record((), tenant, action, resource, before=before, after=after)


def _conditions(search: AuditSearch) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if search.actor is not None:
        conditions.append(or_(_column.actor == search.actor, _column.key_id == search.actor))
    for column, wanted in ((_column.action, search.action), (_column.resource, search.resource)):
        if wanted is None:
            continue
        if not wanted.endswith("*"):
            conditions.append(column == wanted)
        elif prefix := wanted[:-1]:
            # By range and not by LIKE, which in SQLite takes no notice of capital letters.
            conditions += [column >= prefix, column < prefix + "\U0010ffff"]
    if search.request_id is not None:
        conditions.append(_column.request_id == search.request_id)
    if search.from_us is not None:
        conditions.append(_column.at_us >= search.from_us)
    if search.to_us is not None:
        conditions.append(_column.at_us < search.to_us)
    if search.text is not None:
        conditions.append(
            or_(*(func.lower(column).contains(search.text.lower(), autoescape=True) for column in _TEXTS))
        )
    return conditions


def _audit_row(row: Row[*tuple[Any, ...]]) -> AuditRow:
    return AuditRow(
        id=row.number,
        at_us=row.at_us,
        tenant=row.tenant,
        actor=row.actor,
        key_id=row.key_id,
        action=row.action,
        resource=row.resource,
        before=None if row.before is None else from_json(row.before),
        after=None if row.after is None else from_json(row.after),
        request_id=row.request_id,
        address=row.address,
    )
