"""Saved views: questions that people keep, for themselves or for everybody of the tenant."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, true, update
from sqlalchemy.sql.elements import ColumnElement

from tallystick.catalog import report_tables
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Database, from_json
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.reporting import VIEWS_PER_TENANT_MAX, KeptView, Reader
from tallystick.errors import Conflict, Forbidden, NotFound

_table = report_tables.views
_column = _table.c
_reports = report_tables.reports.c


class Views:
    """The part of the catalog that keeps views."""

    _database: Database

    def create_view(
        self, tenant: str, key: str, content: str, *, shared: bool, reader: Reader, actor: Actor, now_us: int
    ) -> KeptView:
        values = {
            "content": content,
            "shared": shared,
            "owner": reader.owner,
            "owner_name": reader.name,
            "created_at_us": now_us,
            "changed_at_us": now_us,
            "archived_at_us": None,
        }
        with self._database.changing(actor, now_us) as change:
            present = _find(change.connection, tenant, key)
            if present is not None and present.archived_at_us is None:
                raise Conflict(f"There is a view {key!r} already. Replace it (PUT).", code="view_exists")
            counted = select(func.count()).select_from(_table).where(_column.tenant == tenant)
            if present is None and change.connection.execute(counted).scalar_one() >= VIEWS_PER_TENANT_MAX:
                raise Conflict(f"A tenant has at most {VIEWS_PER_TENANT_MAX} views.", code="too_many_views")
            if present is None:
                change.connection.execute(insert(_table), {"tenant": tenant, "key": key, **values})
            else:
                change.connection.execute(update(_table).where(*_is(tenant, key)).values(**values))
            made = _get(change.connection, tenant, key)
            change.record((), tenant, "view.create", f"view/{key}", after=_audited(made))
        return made

    def change_view(
        self,
        tenant: str,
        key: str,
        content: str,
        *,
        shared: bool,
        reader: Reader,
        expected: Callable[[KeptView], None],
        actor: Actor,
        now_us: int,
    ) -> KeptView:
        with self._database.changing(actor, now_us) as change:
            present = _own(change.connection, tenant, key, reader)
            expected(present)
            if (present.content, present.shared) == (content, shared):
                return present
            values = {"content": content, "shared": shared, "changed_at_us": now_us}
            change.connection.execute(update(_table).where(*_is(tenant, key)).values(**values))
            made = _get(change.connection, tenant, key)
            change.record(
                (), tenant, "view.change", f"view/{key}", before=_audited(present), after=_audited(made)
            )
        return made

    def archive_view(
        self,
        tenant: str,
        key: str,
        *,
        reader: Reader,
        expected: Callable[[KeptView], None],
        actor: Actor,
        now_us: int,
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            present = _own(change.connection, tenant, key, reader)
            expected(present)
            used = select(_reports.key).where(
                _reports.tenant == tenant, _reports.view_key == key, _reports.archived_at_us.is_(None)
            )
            names = list(change.connection.execute(used.order_by(_reports.key).limit(5)).scalars())
            if names:
                detail = f"The view {key!r} is sent by the reports {', '.join(names)}. Archive those first."
                raise Conflict(detail, code="view_in_use")
            change.connection.execute(update(_table).where(*_is(tenant, key)).values(archived_at_us=now_us))
            change.record((), tenant, "view.archive", f"view/{key}", before=_audited(present))

    def view(self, tenant: str, key: str, *, reader: Reader | None = None) -> KeptView:
        with self._database.reading() as connection:
            found = _get(connection, tenant, key)
        if reader is not None and not found.seen_by(reader):
            raise _missing(key)
        return found

    def views(
        self,
        tenant: str,
        *,
        reader: Reader,
        archived: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptView]:
        query = select(_table).where(_column.tenant == tenant, seen(reader)).order_by(_column.key)
        if not archived:
            query = query.where(_column.archived_at_us.is_(None))
        after = key_of(cursor, "views")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_kept, found[:limit])), cursor_of("views", found[limit - 1].key) if more else None
        )


def seen(reader: Reader) -> ColumnElement[bool]:
    """Which rows of the table a reader sees."""
    if reader.sees_all:
        return true()
    return or_(_column.shared, _column.owner == reader.owner)


def _is(tenant: str, key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _column.tenant == tenant, _column.key == key


def _find(connection: Connection, tenant: str, key: str) -> KeptView | None:
    row = connection.execute(select(_table).where(*_is(tenant, key))).one_or_none()
    return None if row is None else _kept(row)


def _get(connection: Connection, tenant: str, key: str) -> KeptView:
    found = _find(connection, tenant, key)
    if found is None:
        raise _missing(key)
    return found


def _own(connection: Connection, tenant: str, key: str, reader: Reader) -> KeptView:
    """One that is there and that the reader may change."""
    found = _get(connection, tenant, key)
    if not found.seen_by(reader) or found.archived_at_us is not None:
        raise _missing(key)
    if not found.changed_by(reader):
        detail = f"The view {key!r} belongs to {found.owner_name}. Save one of your own."
        raise Forbidden(detail, code="other_owner")
    return found


def _missing(key: str) -> NotFound:
    return NotFound(f"There is no view {key[:128]!r}. GET /v1/views lists them.", code="view_not_found")


def _kept(row: Row[Any]) -> KeptView:
    return KeptView(
        row.tenant,
        row.key,
        row.content,
        row.shared,
        row.owner,
        row.owner_name,
        row.created_at_us,
        row.changed_at_us,
        row.archived_at_us,
    )


def _audited(view: KeptView) -> dict[str, Any]:
    return {**from_json(view.content), "owner": view.owner}
