"""Customers: who pays, and who belongs to whom."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import UnsetType
from sqlalchemy import Column, ColumnElement, Connection, Row, func, insert, or_, select, update

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.customer_lines import check_depth, check_parent, children_at, line_above
from tallystick.catalog.customer_values import checked_values, text_faults
from tallystick.catalog.database import Change, Database, among, from_json, to_json
from tallystick.catalog.external_ids import bind_external_ids, owner_of, release_external_ids
from tallystick.catalog.interface import (
    STAGE_MOVES,
    SUBJECTS_PER_CUSTOMER_MAX,
    Actor,
    Customer,
    CustomerChange,
    CustomerSearch,
    Page,
)
from tallystick.catalog.subjects import declare, declared_by, hand_over, own_key
from tallystick.errors import Conflict, Fault, Invalid, NotFound

_KEYS_PER_SELECT_MAX = 1_000
_ANY = CustomerSearch()
_column = tables.customers.c
_TEXTS = (_column.key, _column.name, _column.email)


class Customers:
    """The part of the catalog that keeps customers."""

    _database: Database

    def create_customer(
        self,
        tenant: str,
        key: str,
        customer: CustomerChange,
        *,
        reassign: bool = False,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        faults = text_faults("/key", key)
        values = {"name": key, **_DEFAULTS, **checked_values(customer, faults)}
        with self._database.changing(actor, now_us) as change:
            present = _find(change.connection, tenant, key)
            if present is not None and present.archived_at_us is None:
                raise Conflict(
                    f"There is a customer {key!r} already. PATCH changes it.", code="customer_exists"
                )
            check_parent(change.connection, tenant, key, values["parent"])
            if present is None:
                change.connection.execute(
                    insert(tables.customers),
                    {"tenant": tenant, "key": key, "created_at_us": now_us, **values},
                )
                own_key(change, tenant, key)
            else:
                _update(change, tenant, key, {**values, "archived_at_us": None, "merged_into": None})
            _bind_external_ids(change, tenant, key, customer)
            if not isinstance(customer.subjects, UnsetType):
                declare(change, tenant, key, customer.subjects, reassign=reassign)
            created = _get(change.connection, tenant, key)
            _record(change, "customer.create", present, created)
        return created

    def change_customer(
        self,
        tenant: str,
        key: str,
        change: CustomerChange,
        *,
        reassign: bool = False,
        expected: Callable[[Customer], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        values = checked_values(change, [])
        with self._database.changing(actor, now_us) as transaction:
            present = _get(transaction.connection, tenant, key)
            if expected is not None:
                expected(present)
            if present.archived_at_us is not None:
                raise Conflict(
                    f"Customer {key!r} is archived. Create it again to use it again.",
                    code="customer_archived",
                )
            check_parent(transaction.connection, tenant, key, values.get("parent"))
            _check_stage(present, values.get("stage", present.stage))
            if values:
                _update(transaction, tenant, key, values)
            _bind_external_ids(transaction, tenant, key, change)
            if not isinstance(change.subjects, UnsetType):
                declare(transaction, tenant, key, change.subjects, reassign=reassign)
            changed = _get(transaction.connection, tenant, key)
            if changed != present:
                _record(transaction, "customer.change", present, changed)
        return changed

    def archive_customer(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[Customer], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            if expected is not None:
                expected(present)
            if present.archived_at_us is not None:
                return present
            _update(change, tenant, key, {"archived_at_us": now_us})
            archived = _get(change.connection, tenant, key)
            _record(change, "customer.archive", present, archived)
        return archived

    def customer(self, tenant: str, key: str) -> Customer:
        with self._database.reading() as connection:
            return _get(connection, tenant, key)

    def merge_customers(
        self,
        tenant: str,
        key: str,
        into: str,
        *,
        expected: Callable[[Customer], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        with self._database.changing(actor, now_us) as change:
            present, target = _get(change.connection, tenant, key), _get(change.connection, tenant, into)
            if expected is not None:
                expected(present)
            if present.merged_into == into:
                return target
            _check_merge(present, target)
            _adopt(change, present, target)
            hand_over(change, tenant, key, into)
            held = len(declared_by(change.connection, tenant, [into]).get(into, ()))
            if held > SUBJECTS_PER_CUSTOMER_MAX:
                raise Conflict(
                    f"Customer {into!r} would have {held} subjects; {SUBJECTS_PER_CUSTOMER_MAX} are allowed.",
                    code="too_many_subjects",
                )
            kept = {
                system: value
                for system, value in present.external_ids.items()
                if system in target.external_ids
            }
            both = {**present.external_ids, **target.external_ids}
            for customer, ids in ((key, kept), (into, both)):
                _update(change, tenant, customer, {"external_ids": to_json(ids)})
            release_external_ids(change, tenant, key)
            bind_external_ids(change, tenant, key, kept)
            bind_external_ids(change, tenant, into, both)
            merged = _get(change.connection, tenant, key)
            joined = _get(change.connection, tenant, into)
            _record(change, "customer.merge", present, merged)
            _record(change, "customer.join", target, joined)
        return joined

    def customers(
        self,
        tenant: str,
        search: CustomerSearch = _ANY,
        *,
        archived: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Customer]:
        query = select(tables.customers).where(_column.tenant == tenant).order_by(_column.number)
        for column, wanted in ((_column.stage, search.stage), (_column.parent, search.parent)):
            if wanted is not None:
                query = query.where(column == wanted)
        if search.external_id is not None:
            query = query.where(_column.key == owner_of(tenant, *search.external_id))
        if search.text is not None:
            query = query.where(or_(*(_holds(column, search.text) for column in _TEXTS)))
        after = number_of(cursor, "customers")
        if after is not None:
            query = query.where(_column.number > after)
        if not archived:
            query = query.where(_column.archived_at_us.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(checked_limit(limit) + 1)).all()
            declared = declared_by(connection, tenant, [row.key for row in rows[:limit]])
        more = len(rows) > limit
        return Page(
            tuple(_customer(row, declared.get(row.key, ())) for row in rows[:limit]),
            cursor_of("customers", rows[limit - 1].number) if more else None,
        )

    def children(self, tenant: str, keys: Collection[str], *, at_us: int | None = None) -> tuple[str, ...]:
        asked = sorted(set(keys))
        found: set[str] = set()
        with self._database.reading() as connection:
            then = None if at_us is None else children_at(connection, tenant, asked, at_us)
            if then is not None:
                return tuple(sorted(then))
            for start in range(0, len(asked), _KEYS_PER_SELECT_MAX):
                some = asked[start : start + _KEYS_PER_SELECT_MAX]
                top = select(_column.key).where(
                    _column.tenant == tenant, among(connection, _column.parent, some)
                )
                below = top.cte("below", recursive=True)
                # UNION, not UNION ALL: it would end even on a cycle.
                below = below.union(
                    select(_column.key).where(_column.tenant == tenant, _column.parent == below.c.key)
                )
                found.update(connection.execute(select(below.c.key)).scalars())
        return tuple(sorted(found))


_DEFAULTS: dict[str, Any] = {
    "parent": None,
    "currency": None,
    "timezone": "UTC",
    "email": None,
    "external_ids": "{}",
    "traits": "{}",
    "stage": "active",
}


def _holds(column: Column[Any], text: str) -> ColumnElement[bool]:
    # As given, too: SQLite makes small letters of ASCII alone, Python of all.
    small = func.lower(column)
    return or_(small.contains(text.lower(), autoescape=True), column.contains(text, autoescape=True))


def _check_stage(present: Customer, stage: str) -> None:
    allowed = STAGE_MOVES[present.stage]
    if stage != present.stage and stage not in allowed:
        raise Conflict(
            f"Customer {present.key!r} is {present.stage} and cannot become {stage}; "
            f"it can become {' or '.join(allowed) or 'nothing else'}.",
            code="stage_not_allowed",
            faults=[
                Fault("/stage", "stage_not_allowed", f"From {present.stage}: {', '.join(allowed) or 'none'}.")
            ],
        )


def _bind_external_ids(change: Change, tenant: str, key: str, given: CustomerChange) -> None:
    if not isinstance(given.external_ids, UnsetType):
        release_external_ids(change, tenant, key)
        bind_external_ids(change, tenant, key, given.external_ids)


def _check_merge(present: Customer, target: Customer) -> None:
    if present.key == target.key:
        detail = "A customer cannot be merged into itself."
        raise Invalid(detail, code="merge_into_itself", faults=[Fault("/into", "merge_into_itself", detail)])
    if present.merged_into is not None:
        raise Conflict(
            f"Customer {present.key!r} was merged into {present.merged_into!r} already.",
            code="customer_merged",
        )
    if target.archived_at_us is not None:
        raise Conflict(
            f"Customer {target.key!r} is archived. Create it again to use it again.", code="customer_archived"
        )


def _adopt(change: Change, present: Customer, target: Customer) -> None:
    """The children of a customer that is merged become those of the other, and so does it: what it was billed for
    until now is then below the other."""
    connection, tenant = change.connection, present.tenant
    if present.key in line_above(connection, tenant, target.key):
        # Else it would be below one of its own children.
        _update(change, tenant, target.key, {"parent": present.parent})
    children = (_column.tenant == tenant, _column.parent == present.key, _column.key != target.key)
    for child in connection.execute(select(_column.key).where(*children)).scalars().all():
        change.record(
            ("subjects",),
            tenant,
            "customer.change",
            f"customer/{child}",
            before={"parent": present.key},
            after={"parent": target.key},
        )
    connection.execute(update(tables.customers).where(*children).values(parent=target.key))
    values = {"parent": target.key, "merged_into": target.key, "archived_at_us": change.now_us}
    _update(change, tenant, present.key, values)
    check_depth(connection, tenant, target.key)


def _find(connection: Connection, tenant: str, key: str) -> Customer | None:
    row = connection.execute(
        select(tables.customers).where(_column.tenant == tenant, _column.key == key)
    ).one_or_none()
    return None if row is None else _customer(row, declared_by(connection, tenant, [key]).get(key, ()))


def _get(connection: Connection, tenant: str, key: str) -> Customer:
    found = _find(connection, tenant, key)
    if found is None:
        raise NotFound(
            f"There is no customer {key!r}. GET /v1/customers lists them.", code="customer_not_found"
        )
    return found


def _update(change: Change, tenant: str, key: str, values: Mapping[str, Any]) -> None:
    change.connection.execute(
        update(tables.customers).where(_column.tenant == tenant, _column.key == key).values(**values)
    )


def _customer(row: Row[*tuple[Any, ...]], subjects: Collection[str]) -> Customer:
    return Customer(
        tenant=row.tenant,
        key=row.key,
        name=row.name,
        subjects=tuple(subjects),
        parent=row.parent,
        currency=row.currency,
        timezone=row.timezone,
        email=row.email,
        external_ids=from_json(row.external_ids),
        traits=from_json(row.traits),
        created_at_us=row.created_at_us,
        archived_at_us=row.archived_at_us,
        stage=row.stage,
        merged_into=row.merged_into,
    )


def _record(change: Change, action: str, before: Customer | None, after: Customer) -> None:
    change.record(
        ("subjects",),
        after.tenant,
        action,
        f"customer/{after.key}",
        before=None if before is None else _audited(before),
        after=_audited(after),
    )


def _audited(customer: Customer) -> dict[str, Any]:
    return {
        "name": customer.name,
        "subjects": customer.subjects,
        "parent": customer.parent,
        "currency": customer.currency,
        "timezone": customer.timezone,
        "email": customer.email,
        "external_ids": customer.external_ids,
        "traits": customer.traits,
        "stage": customer.stage,
        "merged_into": customer.merged_into,
        "archived": customer.archived_at_us is not None,
    }
