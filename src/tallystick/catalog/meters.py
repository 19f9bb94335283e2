"""Meters: definitions, their versions, and what all versions share."""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Change, Database, from_json, to_json
from tallystick.catalog.interface import METERS_PER_TENANT_MAX, Actor, Definition, Page
from tallystick.errors import Conflict, Fault, Invalid, NotFound
from tallystick.metering.meter import Aggregation, Dimension, InnerAggregation, Meter, Window

_IDS_PER_SELECT_MAX = 1_000
_head = tables.meters.c
_version = tables.meter_versions.c


class Meters:
    """The part of the catalog that keeps meters."""

    _database: Database

    def create_meter(self, tenant: str, definition: Definition, *, actor: Actor, now_us: int) -> Meter:
        key = definition.key
        with self._database.changing(actor, now_us) as change:
            present = _find(change.connection, tenant, key)
            if present is not None and present.archived_at_us is None:
                raise Conflict(f"There is a meter {key!r} already. PATCH changes it.", code="meter_exists")
            if present is None:
                _check_room(change.connection, tenant)
                change.connection.execute(
                    insert(tables.meters), {"tenant": tenant, "key": key, "version": 1, **_shared(definition)}
                )
            else:
                change.connection.execute(
                    update(tables.meters)
                    .where(_head.tenant == tenant, _head.key == key)
                    .values(version=present.version + 1, archived_at_us=None, **_shared(definition))
                )
            _add_version(change, tenant, definition, 1 if present is None else present.version + 1)
            created = _get(change.connection, tenant, key)
            _record(change, "meter.create", present, created)
        return created

    def change_meter(
        self,
        tenant: str,
        key: str,
        definition: Definition,
        *,
        expected: Callable[[Meter], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Meter:
        if definition.key != key:
            detail = f"The key of meter {key!r} cannot be changed. Create another meter."
            raise Invalid(detail, code="key_immutable", faults=[Fault("/key", "key_immutable", detail)])
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            if expected is not None:
                expected(present)
            if present.archived_at_us is not None:
                raise Conflict(
                    f"Meter {key!r} is archived. Create it again to use it again.", code="meter_archived"
                )
            # Equal dicts do not care for the order of dimensions.
            same_meaning = _stored(definition) == _stored(present)
            if same_meaning and _shared(definition) == _shared(present):
                return present
            version = present.version if same_meaning else present.version + 1
            change.connection.execute(
                update(tables.meters)
                .where(_head.tenant == tenant, _head.key == key)
                .values(version=version, **_shared(definition))
            )
            if not same_meaning:
                _add_version(change, tenant, definition, version)
            changed = _get(change.connection, tenant, key)
            _record(change, "meter.change", present, changed)
        return changed

    def archive_meter(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[Meter], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Meter:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            if expected is not None:
                expected(present)
            if present.archived_at_us is not None:
                return present
            change.connection.execute(
                update(tables.meters)
                .where(_head.tenant == tenant, _head.key == key)
                .values(archived_at_us=now_us)
            )
            archived = _get(change.connection, tenant, key)
            _record(change, "meter.archive", present, archived)
        return archived

    def meter(self, tenant: str, key: str, version: int | None = None) -> Meter:
        with self._database.reading() as connection:
            newest = _get(connection, tenant, key)
            if version is None or version == newest.version:
                return newest
            asked = _any_version().where(
                _version.tenant == tenant, _version.key == key, _version.version == version
            )
            # A version is at most the newest one's; asking the database for more could overflow its integers.
            row = connection.execute(asked).one_or_none() if 0 < version < newest.version else None
        if row is None:
            raise NotFound(
                f"Meter {key!r} has versions 1 to {newest.version}, no {version}.",
                code="meter_version_not_found",
            )
        return _meter(row)

    def meters(
        self, tenant: str, *, archived: bool = False, cursor: str | None = None, limit: int = 100
    ) -> Page[Meter]:
        query = _newest().where(_head.tenant == tenant).order_by(_head.key)
        after = key_of(cursor, "meters")
        if after is not None:
            query = query.where(_head.key > after)
        if not archived:
            query = query.where(_head.archived_at_us.is_(None))
        with self._database.reading() as connection:
            found = [_meter(row) for row in connection.execute(query.limit(checked_limit(limit) + 1))]
        more = len(found) > limit
        return Page(tuple(found[:limit]), cursor_of("meters", found[limit - 1].key) if more else None)

    def meter_versions(self, tenant: str, key: str) -> tuple[Meter, ...]:
        query = (
            _any_version().where(_version.tenant == tenant, _version.key == key).order_by(_version.version)
        )
        with self._database.reading() as connection:
            found = tuple(_meter(row) for row in connection.execute(query))
        if not found:
            raise _not_found(key)
        return found

    def active_meters(self) -> tuple[Meter, ...]:
        query = (
            _newest()
            .join(tables.tenants, tables.tenants.c.key == _head.tenant)
            .where(_head.archived_at_us.is_(None), tables.tenants.c.deleted_at_us.is_(None))
            .order_by(_version.number)
        )
        with self._database.reading() as connection:
            return tuple(_meter(row) for row in connection.execute(query))

    def meters_by_id(self, ids: Collection[int]) -> dict[int, Meter]:
        asked = sorted(set(ids))
        found: dict[int, Meter] = {}
        with self._database.reading() as connection:
            for start in range(0, len(asked), _IDS_PER_SELECT_MAX):
                some = asked[start : start + _IDS_PER_SELECT_MAX]
                for row in connection.execute(_any_version().where(_version.number.in_(some))):
                    meter = _meter(row)
                    found[meter.id] = meter
        return found


_COLUMNS = (
    _version.number,
    _head.tenant,
    _head.key,
    _version.version,
    _head.name,
    _version.definition,
    _head.unit,
    _head.description,
    _version.created_at_us,
    _head.archived_at_us,
)


def _any_version() -> Select[*tuple[Any, ...]]:
    same_key = and_(_version.tenant == _head.tenant, _version.key == _head.key)
    return select(*_COLUMNS).select_from(tables.meters.join(tables.meter_versions, same_key))


def _newest() -> Select[*tuple[Any, ...]]:
    same = and_(_version.tenant == _head.tenant, _version.key == _head.key, _version.version == _head.version)
    return select(*_COLUMNS).select_from(tables.meters.join(tables.meter_versions, same))


def _find(connection: Connection, tenant: str, key: str) -> Meter | None:
    row = connection.execute(_newest().where(_head.tenant == tenant, _head.key == key)).one_or_none()
    return None if row is None else _meter(row)


def _get(connection: Connection, tenant: str, key: str) -> Meter:
    found = _find(connection, tenant, key)
    if found is None:
        raise _not_found(key)
    return found


def _not_found(key: str) -> NotFound:
    return NotFound(f"There is no meter {key!r}. GET /v1/meters lists them.", code="meter_not_found")


def _check_room(connection: Connection, tenant: str) -> None:
    count = connection.execute(
        select(func.count()).select_from(tables.meters).where(_head.tenant == tenant)
    ).scalar_one()
    if count >= METERS_PER_TENANT_MAX:
        raise Conflict(
            f"A tenant has at most {METERS_PER_TENANT_MAX} meters, archived ones included.",
            code="too_many_meters",
        )


def _add_version(change: Change, tenant: str, definition: Definition, version: int) -> None:
    change.connection.execute(
        insert(tables.meter_versions),
        {
            "tenant": tenant,
            "key": definition.key,
            "version": version,
            "definition": to_json(_stored(definition)),
            "created_at_us": change.now_us,
        },
    )


def _shared(definition: Definition) -> dict[str, str | None]:
    return {"name": definition.name, "unit": definition.unit, "description": definition.description}


def _stored(definition: Definition) -> dict[str, Any]:
    """The part that makes a version. The order of dimensions is kept: it says which slot holds which."""
    return {
        "event_type": definition.event_type,
        "aggregation": str(definition.aggregation),
        "value": definition.value,
        "dimensions": {dimension.name: dimension.path for dimension in definition.dimensions},
        "filter": definition.filter,
        # Absent where they are not said, so that definitions stored before there was such a member compare equal.
        **{name: given for name, given in _optional(definition).items() if given is not None},
    }


def _optional(definition: Definition) -> dict[str, Any]:
    of = definition.of
    return {
        "value_cel": definition.value_cel,
        "pair_by": definition.pair_by,
        "timeout_us": definition.timeout_us,
        "of": None if of is None else {"aggregation": str(of.aggregation), "window": str(of.window)},
    }


def _meter(row: Row[*tuple[Any, ...]]) -> Meter:
    number, tenant, key, version, name, definition, unit, description, created_at_us, archived_at_us = row
    stored: dict[str, Any] = from_json(definition)
    of: dict[str, str] | None = stored.get("of")
    return Meter(
        id=number,
        tenant=tenant,
        key=key,
        version=version,
        name=name,
        event_type=stored["event_type"],
        aggregation=Aggregation(stored["aggregation"]),
        value=stored["value"],
        dimensions=tuple(Dimension(name, path) for name, path in stored["dimensions"].items()),
        filter=stored["filter"],
        unit=unit,
        description=description,
        created_at_us=created_at_us,
        archived_at_us=archived_at_us,
        value_cel=stored.get("value_cel"),
        pair_by=stored.get("pair_by"),
        timeout_us=stored.get("timeout_us"),
        of=None if of is None else InnerAggregation(Aggregation(of["aggregation"]), Window(of["window"])),
    )


def _record(change: Change, action: str, before: Meter | None, after: Meter) -> None:
    change.record(
        ("meters",),
        after.tenant,
        action,
        f"meter/{after.key}",
        before=None if before is None else _audited(before),
        after=_audited(after),
    )


def _audited(meter: Meter) -> dict[str, Any]:
    return {
        "version": meter.version,
        **_shared(meter),
        **_stored(meter),
        "archived": meter.archived_at_us is not None,
    }
