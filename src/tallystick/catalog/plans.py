"""Plan versions: drafts, what is published and what is archived."""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from tallystick.catalog import billing_tables
from tallystick.catalog.billing import PLANS_PER_TENANT_MAX, KeptPlan
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Database, from_json
from tallystick.catalog.interface import Actor, Page
from tallystick.errors import Conflict, NotFound

_table = billing_tables.plan_versions
_column = _table.c
_MOMENTS = {"published": "published_at_us", "archived": "archived_at_us"}


class Plans:
    """The part of the catalog that keeps plans."""

    _database: Database

    def add_plan_version(
        self,
        tenant: str,
        key: str,
        content: str,
        *,
        first: bool,
        expected: Callable[[KeptPlan], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> KeptPlan:
        with self._database.changing(actor, now_us) as change:
            newest = _find(change.connection, tenant, key)
            if newest is not None and expected is not None:
                expected(newest)
            if newest is not None and newest.state == "draft":
                if first:
                    raise Conflict(
                        f"There is a draft of the plan {key!r} already. Change it (PATCH), or publish it first.",
                        code="plan_exists",
                    )
                change.connection.execute(
                    update(_table).where(*_is(tenant, key, newest.version)).values(content=content)
                )
            else:
                _check_room(change.connection, tenant)
                change.connection.execute(
                    insert(_table),
                    {
                        "tenant": tenant,
                        "key": key,
                        "version": 1 if newest is None else newest.version + 1,
                        "state": "draft",
                        "content": content,
                        "created_at_us": now_us,
                    },
                )
            made = _get(change.connection, tenant, key)
            if made != newest:
                same = newest is not None and newest.version == made.version
                change.record(
                    (),
                    tenant,
                    "plan.change" if same else "plan.draft",
                    f"plan/{key}",
                    before=_audited(newest) if same and newest is not None else None,
                    after=_audited(made),
                )
        return made

    def change_plan_state(
        self,
        tenant: str,
        key: str,
        version: int | None,
        to_state: Callable[[KeptPlan], str],
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptPlan:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key, version)
            state = to_state(present)
            if state == present.state:
                return present
            change.connection.execute(
                update(_table)
                .where(*_is(tenant, key, present.version))
                .values({"state": state, _MOMENTS[state]: now_us})
            )
            made = _get(change.connection, tenant, key, present.version)
            change.record(
                (),
                tenant,
                f"plan.{state}",
                f"plan/{key}",
                before={"version": present.version, "state": present.state},
                after={"version": made.version, "state": made.state},
            )
        return made

    def plan(
        self, tenant: str, key: str, version: int | None = None, *, state: str | None = None
    ) -> KeptPlan:
        with self._database.reading() as connection:
            return _get(connection, tenant, key, version, state=state)

    def plans(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> Page[KeptPlan]:
        newest = (
            select(_column.key, func.max(_column.version).label("version"))
            .where(_column.tenant == tenant)
            .group_by(_column.key)
            .subquery()
        )
        query = (
            select(_table)
            .join(newest, and_(_column.key == newest.c.key, _column.version == newest.c.version))
            .where(_column.tenant == tenant)
            .order_by(_column.key)
        )
        after = key_of(cursor, "plans")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_plan, found[:limit])), cursor_of("plans", found[limit - 1].key) if more else None
        )

    def plan_versions(self, tenant: str, key: str) -> tuple[KeptPlan, ...]:
        query = select(_table).where(_column.tenant == tenant, _column.key == key).order_by(_column.version)
        with self._database.reading() as connection:
            found = tuple(map(_plan, connection.execute(query)))
        if not found:
            raise _not_found(key)
        return found

    def plans_by_version(
        self, tenant: str, wanted: Collection[tuple[str, int]]
    ) -> dict[tuple[str, int], KeptPlan]:
        keys = sorted({key for key, _ in wanted})
        made: dict[tuple[str, int], KeptPlan] = {}
        with self._database.reading() as connection:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                query = select(_table).where(_column.tenant == tenant, _column.key.in_(part))
                for plan in map(_plan, connection.execute(query)):
                    if (plan.key, plan.version) in wanted:
                        made[plan.key, plan.version] = plan
        return made


def _is(tenant: str, key: str, version: int) -> tuple[Any, ...]:
    return (_column.tenant == tenant, _column.key == key, _column.version == version)


def _find(
    connection: Connection, tenant: str, key: str, version: int | None = None, *, state: str | None = None
) -> KeptPlan | None:
    query = select(_table).where(_column.tenant == tenant, _column.key == key)
    if version is not None:
        query = query.where(_column.version == version)
    if state is not None:
        query = query.where(_column.state == state)
    row = connection.execute(query.order_by(_column.version.desc()).limit(1)).one_or_none()
    return None if row is None else _plan(row)


def _get(
    connection: Connection, tenant: str, key: str, version: int | None = None, *, state: str | None = None
) -> KeptPlan:
    found = _find(connection, tenant, key, version, state=state)
    if found is not None:
        return found
    if _find(connection, tenant, key) is None:
        raise _not_found(key)
    if version is not None:
        raise NotFound(f"The plan {key!r} has no version {version}.", code="plan_version_not_found")
    raise NotFound(f"No version of the plan {key!r} is {state}.", code="plan_version_not_found")


def _not_found(key: str) -> NotFound:
    return NotFound(f"There is no plan {key!r}. GET /v1/plans lists them.", code="plan_not_found")


def _check_room(connection: Connection, tenant: str) -> None:
    query = select(func.count()).select_from(_table).where(_column.tenant == tenant)
    if connection.execute(query).scalar_one() >= PLANS_PER_TENANT_MAX:
        raise Conflict(
            f"A tenant has at most {PLANS_PER_TENANT_MAX} versions of plans.", code="too_many_plans"
        )


def _plan(row: Row[Any]) -> KeptPlan:
    return KeptPlan(
        row.tenant,
        row.key,
        row.version,
        row.state,
        row.content,
        row.created_at_us,
        row.published_at_us,
        row.archived_at_us,
    )


def _audited(plan: KeptPlan) -> dict[str, Any]:
    return {"version": plan.version, "state": plan.state, "content": from_json(plan.content)}
