"""Backfills: what was opened, how far it is, what came of it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Change, Database, from_json, to_json
from tallystick.catalog.interface import (
    BACKFILL_COUNTS,
    BACKFILL_STEPS,
    BACKFILLS_OPEN_MAX,
    SYSTEM,
    Actor,
    Backfill,
    BackfillRange,
    BackfillState,
    Page,
)
from tallystick.errors import Conflict, NotFound

_column = tables.backfills.c
_MOMENTS: Mapping[str, str] = {"closed": "closed_at_us", "reverted": "reverted_at_us"}


class Backfills:
    """The part of the catalog that keeps backfills."""

    _database: Database

    def create_backfill(
        self,
        tenant: str,
        key: str,
        *,
        reason: str,
        author: str,
        replace: BackfillRange | None,
        actor: Actor,
        now_us: int,
    ) -> Backfill:
        with self._database.changing(actor, now_us) as change:
            if _find(change.connection, tenant, key) is not None:
                raise Conflict(
                    f"There is a backfill {key!r} already. Choose another key.", code="backfill_exists"
                )
            _check_room(change.connection, tenant)
            change.connection.execute(
                insert(tables.backfills),
                {
                    "tenant": tenant,
                    "key": key,
                    "reason": reason,
                    "author": author,
                    "replace_from_us": None if replace is None else replace.from_us,
                    "replace_to_us": None if replace is None else replace.to_us,
                    "replace_type": None if replace is None else replace.type,
                    "replace_customer": None if replace is None else replace.customer,
                    "state": "open",
                    "counts": to_json(dict.fromkeys(BACKFILL_COUNTS, 0)),
                    "opened_at_us": now_us,
                },
            )
            created = _get(change.connection, tenant, key)
            _record(change, "backfill.open", None, created)
        return created

    def backfill(self, tenant: str, key: str) -> Backfill:
        with self._database.reading() as connection:
            return _get(connection, tenant, key)

    def backfills(
        self,
        tenant: str,
        *,
        state: BackfillState | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Backfill]:
        query = select(tables.backfills).where(_column.tenant == tenant).order_by(_column.number.desc())
        before = number_of(cursor, "backfills")
        if before is not None:
            query = query.where(_column.number < before)
        if state is not None:
            query = query.where(_column.state == state)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(_backfill(row) for row in found[:limit]),
            cursor_of("backfills", found[limit - 1].number) if more else None,
        )

    def advance_backfill(
        self,
        tenant: str,
        key: str,
        *,
        to_state: BackfillState,
        counts: Mapping[str, int] | None = None,
        actor: Actor = SYSTEM,
        now_us: int,
    ) -> Backfill:
        unknown = set(counts or ()) - set(BACKFILL_COUNTS)
        if unknown:
            raise ValueError(f"{sorted(unknown)} are no counts of a backfill")
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            same = present.state == to_state
            if not same and to_state not in BACKFILL_STEPS[present.state]:
                raise _refused(present, to_state)
            counted = {**present.counts, **(counts or {})}
            if same and counted == present.counts:
                return present
            values: dict[str, Any] = {"state": to_state, "counts": to_json(counted)}
            if not same and to_state in _MOMENTS:
                values[_MOMENTS[to_state]] = now_us
            change.connection.execute(
                update(tables.backfills).where(_column.tenant == tenant, _column.key == key).values(**values)
            )
            advanced = _get(change.connection, tenant, key)
            if not same:
                _record(change, f"backfill.{to_state}", present, advanced)
        return advanced

    def discard_backfill(self, tenant: str, key: str, *, actor: Actor = SYSTEM, now_us: int) -> Backfill:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            if present.state != "open":
                raise Conflict(
                    f"Backfill {key!r} is {present.state}; only an open one can be discarded.",
                    code="backfill_not_open",
                )
            change.connection.execute(
                delete(tables.backfills).where(_column.tenant == tenant, _column.key == key)
            )
            _record(change, "backfill.discard", present, None)
        return present


def _find(connection: Connection, tenant: str, key: str) -> Backfill | None:
    query = select(tables.backfills).where(_column.tenant == tenant, _column.key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else _backfill(row)


def _get(connection: Connection, tenant: str, key: str) -> Backfill:
    found = _find(connection, tenant, key)
    if found is None:
        raise NotFound(
            f"There is no backfill {key!r}. GET /v1/backfills lists them.", code="backfill_not_found"
        )
    return found


def _check_room(connection: Connection, tenant: str) -> None:
    open_ones = (
        select(func.count())
        .select_from(tables.backfills)
        .where(_column.tenant == tenant, _column.state.in_(("open", "closing")))
    )
    if connection.execute(open_ones).scalar_one() >= BACKFILLS_OPEN_MAX:
        raise Conflict(
            f"A tenant has at most {BACKFILLS_OPEN_MAX} open backfills. Close or discard one.",
            code="too_many_backfills",
        )


def _refused(present: Backfill, to_state: BackfillState) -> Conflict:
    if to_state in ("reverting", "reverted"):
        return Conflict(
            f"Backfill {present.key!r} is {present.state}; only a closed one can be reverted.",
            code="backfill_not_closed",
        )
    return Conflict(f"Backfill {present.key!r} is {present.state}, not open.", code="backfill_not_open")


def _backfill(row: Row[Any]) -> Backfill:
    replace = None
    if row.replace_from_us is not None:
        replace = BackfillRange(
            row.replace_from_us, row.replace_to_us, row.replace_type, row.replace_customer
        )
    return Backfill(
        tenant=row.tenant,
        key=row.key,
        reason=row.reason,
        author=row.author,
        replace=replace,
        state=row.state,
        counts=from_json(row.counts),
        opened_at_us=row.opened_at_us,
        closed_at_us=row.closed_at_us,
        reverted_at_us=row.reverted_at_us,
    )


def _record(change: Change, action: str, before: Backfill | None, after: Backfill | None) -> None:
    some = after or before
    assert some is not None
    change.record(
        (),
        some.tenant,
        action,
        f"backfill/{some.key}",
        before=None if before is None else _audited(before),
        after=None if after is None else _audited(after),
    )


def _audited(backfill: Backfill) -> dict[str, Any]:
    replace = backfill.replace
    return {
        "reason": backfill.reason,
        "author": backfill.author,
        "state": backfill.state,
        "counts": dict(backfill.counts),
        "replace": None
        if replace is None
        else {
            "from_us": replace.from_us,
            "to_us": replace.to_us,
            "type": replace.type,
            "customer": replace.customer,
        },
    }
