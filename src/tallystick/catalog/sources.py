"""Sources of tenants, how each stands, and how far it is."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.catalog import cluster_tables, source_tables, tables
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Database, from_json, to_json
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.leases import LeaseLostError
from tallystick.catalog.sourcing import (
    PART_CHARACTERS_MAX,
    SOURCES_PER_TENANT_MAX,
    STATE_BYTES_MAX,
    KeptSource,
    SourceState,
    StateChange,
)
from tallystick.errors import Conflict, Invalid, NotFound

_table = source_tables.sources
_column = _table.c
_states = source_tables.source_states
_state = _states.c
_progress = source_tables.source_progress
_part = _progress.c
ERROR_CHARACTERS_MAX = 2000


class Sources:
    """The part of the catalog that keeps sources."""

    _database: Database

    def create_source(
        self, tenant: str, key: str, content: Mapping[str, Any], *, paused: bool, actor: Actor, now_us: int
    ) -> KeptSource:
        with self._database.changing(actor, now_us) as change:
            if _find(change.connection, tenant, key) is not None:
                raise Conflict(
                    f"There is a source {key!r} already (archived ones keep their key). Change it (PUT).",
                    code="source_exists",
                )
            counted = select(func.count()).select_from(_table).where(_column.tenant == tenant)
            if change.connection.execute(counted).scalar_one() >= SOURCES_PER_TENANT_MAX:
                raise Conflict(
                    f"A tenant has at most {SOURCES_PER_TENANT_MAX} sources.", code="too_many_sources"
                )
            change.connection.execute(
                insert(_table),
                {
                    "tenant": tenant,
                    "key": key,
                    "content": to_json(content),
                    "paused": paused,
                    "version": 1,
                    "created_at_us": now_us,
                    "changed_at_us": now_us,
                    "archived_at_us": None,
                },
            )
            made = _get(change.connection, tenant, key)
            change.record((), tenant, "source.create", f"source/{key}", after=_audited(made))
        return made

    def change_source(
        self,
        tenant: str,
        key: str,
        content: Mapping[str, Any] | None = None,
        *,
        paused: bool | None = None,
        expected: Callable[[KeptSource], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> KeptSource:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            expected(present)
            if content is None and present.archived_at_us is not None:
                raise Conflict(
                    f"The source {key!r} is archived. PUT its definition to restore it.",
                    code="source_archived",
                )
            content = present.content if content is None else content
            paused = present.paused if paused is None else paused
            if present.archived_at_us is None and (content, paused) == (present.content, present.paused):
                return present
            change.connection.execute(
                update(_table)
                .where(_column.number == present.number)
                .values(
                    content=to_json(content),
                    paused=paused,
                    version=_column.version + 1,
                    changed_at_us=now_us,
                    archived_at_us=None,
                )
            )
            made = _get(change.connection, tenant, key)
            change.record(
                (),
                tenant,
                "source.change",
                f"source/{key}",
                before=_audited(present),
                after=_audited(made),
            )
        return made

    def archive_source(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[KeptSource], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> KeptSource:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            expected(present)
            if present.archived_at_us is not None:
                return present
            change.connection.execute(
                update(_table)
                .where(_column.number == present.number)
                .values(version=_column.version + 1, changed_at_us=now_us, archived_at_us=now_us)
            )
            change.record((), tenant, "source.archive", f"source/{key}", before=_audited(present))
            return _get(change.connection, tenant, key)

    def source(self, tenant: str, key: str) -> KeptSource:
        with self._database.reading() as connection:
            return _get(connection, tenant, key)

    def sources(
        self, tenant: str, *, archived: bool = False, cursor: str | None = None, limit: int = 100
    ) -> Page[KeptSource]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.key)
        if not archived:
            query = query.where(_column.archived_at_us.is_(None))
        after = key_of(cursor, "sources")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_kept, found[:limit])), cursor_of("sources", found[limit - 1].key) if more else None
        )

    def sources_to_run(self) -> tuple[KeptSource, ...]:
        of_tenant = tables.tenants.c
        query = (
            select(_table)
            .join(tables.tenants, of_tenant.key == _column.tenant)
            .where(
                _column.paused.is_(False),
                _column.archived_at_us.is_(None),
                of_tenant.suspended_at_us.is_(None),
                of_tenant.deleted_at_us.is_(None),
            )
            .order_by(_column.number)
        )
        with self._database.reading() as connection:
            return tuple(map(_kept, connection.execute(query)))

    # -- how each stands ------------------------------------------------------------------------------------------
    def source_states(self, numbers: Collection[int]) -> dict[int, SourceState]:
        query = select(_states).where(_state.source_number.in_(list(numbers)))
        with self._database.reading() as connection:
            return {
                row.source_number: SourceState(
                    status=row.status,
                    fault=row.fault,
                    lag=row.lag,
                    taken=row.taken,
                    rejected=row.rejected,
                    last_error=row.last_error,
                    last_error_at_us=row.last_error_at_us,
                    taken_at_us=row.taken_at_us,
                    changed_at_us=row.changed_at_us,
                )
                for row in connection.execute(query)
            }

    def set_source_state(
        self, number: int, lease: tuple[str, int], change: StateChange, *, now_us: int
    ) -> None:
        values: dict[str, Any] = {"status": change.status, "lag": change.lag, "fault": _short(change.fault)}
        if change.last_error is not None:
            values |= {"last_error": _short(change.last_error), "last_error_at_us": now_us}
        with self._database.writing() as connection:
            check_lease(connection, lease)
            add_to_state(connection, number, values, change.taken, change.rejected, now_us)

    # -- how far it is --------------------------------------------------------------------------------------------
    def source_progress(
        self, number: int, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> dict[str, bytes]:
        query = (
            select(_part.part, _part.state)
            .where(
                _part.source_number == number,
                _part.part > after,
                _part.part.startswith(prefix, autoescape=True),
            )
            .order_by(_part.part)
            .limit(checked_limit(limit))
        )
        with self._database.reading() as connection:
            return {row.part: bytes(row.state) for row in connection.execute(query)}

    def save_source_progress(
        self,
        number: int,
        lease: tuple[str, int],
        states: Mapping[str, bytes | None],
        *,
        taken: int = 0,
        now_us: int,
    ) -> None:
        for part, state in states.items():
            if len(part) > PART_CHARACTERS_MAX or (state is not None and len(state) > STATE_BYTES_MAX):
                raise Invalid(
                    f"What a source keeps of a part has at most {STATE_BYTES_MAX:,} bytes: {part[:80]!r}.",
                    code="source_state_too_large",
                )
        with self._database.writing() as connection:
            check_lease(connection, lease)
            for part, state in states.items():
                where = (_part.source_number == number, _part.part == part)
                if state is None:
                    connection.execute(delete(_progress).where(*where))
                    continue
                changed = connection.execute(update(_progress).where(*where).values(state=state))
                if not changed.rowcount:
                    connection.execute(
                        insert(_progress), {"source_number": number, "part": part, "state": state}
                    )
            if taken:
                add_to_state(connection, number, {"taken_at_us": now_us}, taken, 0, now_us)


def check_lease(connection: Connection, lease: tuple[str, int]) -> None:
    """Let nobody else take the lease until this transaction ends. Raises LeaseLostError."""
    name, epoch = lease
    column = cluster_tables.leases.c
    found = connection.execute(
        select(column.epoch).where(column.name == name).with_for_update()
    ).scalar_one_or_none()
    if found != epoch:
        raise LeaseLostError(f"The lease {name!r} is no longer held in epoch {epoch}.")


def add_to_state(  # noqa: PLR0917 -- what is set, and what is added
    connection: Connection, number: int, values: Mapping[str, Any], taken: int, rejected: int, now_us: int
) -> None:
    """Set how a source stands, and count."""
    changed = connection.execute(
        update(_states)
        .where(_state.source_number == number)
        .values(
            **values,
            taken=_state.taken + taken,
            rejected=_state.rejected + rejected,
            changed_at_us=now_us,
        )
    )
    if not changed.rowcount:
        row = {"status": "running", "fault": None, "lag": None, **values}
        counts = {"source_number": number, "taken": taken, "rejected": rejected, "changed_at_us": now_us}
        connection.execute(insert(_states), {**row, **counts})


def _short(text: str | None) -> str | None:
    return None if text is None else text[:ERROR_CHARACTERS_MAX]


def _find(connection: Connection, tenant: str, key: str) -> KeptSource | None:
    query = select(_table).where(_column.tenant == tenant, _column.key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else _kept(row)


def _get(connection: Connection, tenant: str, key: str) -> KeptSource:
    found = _find(connection, tenant, key)
    if found is None:
        raise NotFound(f"There is no source {key!r}. GET /v1/sources lists them.", code="source_not_found")
    return found


def _kept(row: Row[Any]) -> KeptSource:
    return KeptSource(
        number=row.number,
        tenant=row.tenant,
        key=row.key,
        content=from_json(row.content),
        paused=row.paused,
        version=row.version,
        created_at_us=row.created_at_us,
        changed_at_us=row.changed_at_us,
        archived_at_us=row.archived_at_us,
    )


def _audited(source: KeptSource) -> dict[str, Any]:
    return {**source.content, "paused": source.paused}
