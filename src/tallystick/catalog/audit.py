"""Who changed what, when. Rows are written by `database.Change.record`; here they are read."""

from typing import Any

from sqlalchemy import Row, select

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, from_json
from tallystick.catalog.interface import AuditRow, Page

_column = tables.audit.c


class Audit:
    """The part of the catalog that answers the audit."""

    _database: Database

    def audit(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> Page[AuditRow]:
        query = select(tables.audit).where(_column.tenant == tenant).order_by(_column.number.desc())
        before = number_of(cursor, "audit")
        if before is not None:
            query = query.where(_column.number < before)
        with self._database.reading() as connection:
            found = [_audit_row(row) for row in connection.execute(query.limit(checked_limit(limit) + 1))]
        more = len(found) > limit
        return Page(tuple(found[:limit]), cursor_of("audit", found[limit - 1].id) if more else None)


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
    )
