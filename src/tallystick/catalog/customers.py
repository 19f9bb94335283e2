"""Customers: who pays, and who belongs to whom."""

import re
from collections.abc import Collection, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import UnsetType
from sqlalchemy import Connection, Row, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Change, Database, among, from_json, to_json
from tallystick.catalog.interface import SUBJECTS_PER_CUSTOMER_MAX, Actor, Customer, CustomerChange, Page
from tallystick.catalog.subjects import declare, declared_by, own_key
from tallystick.errors import Conflict, Fault, Invalid, NotFound

_CHARACTERS_MAX = 256
_EMAIL_CHARACTERS_MAX = 320
_EXTERNAL_IDS_MAX = 50
_TRAITS_BYTES_MAX = 64 * 1024
_FAULTS_MAX = 100
_KEYS_PER_SELECT_MAX = 1_000
_CURRENCY = re.compile(r"[A-Z]{3}\Z")
_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+\Z")

_column = tables.customers.c


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
        faults = _text_faults("/key", key)
        values = {"name": key, **_DEFAULTS, **_checked_values(customer, faults)}
        with self._database.changing(actor, now_us) as change:
            present = _find(change.connection, tenant, key)
            if present is not None and present.archived_at_us is None:
                raise Conflict(
                    f"There is a customer {key!r} already. PATCH changes it.", code="customer_exists"
                )
            _check_parent(change.connection, tenant, key, values["parent"])
            if present is None:
                change.connection.execute(
                    insert(tables.customers),
                    {"tenant": tenant, "key": key, "created_at_us": now_us, **values},
                )
                own_key(change, tenant, key)
            else:
                _update(change, tenant, key, {**values, "archived_at_us": None})
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
        actor: Actor,
        now_us: int,
    ) -> Customer:
        values = _checked_values(change, [])
        with self._database.changing(actor, now_us) as transaction:
            present = _get(transaction.connection, tenant, key)
            if present.archived_at_us is not None:
                raise Conflict(
                    f"Customer {key!r} is archived. Create it again to use it again.",
                    code="customer_archived",
                )
            _check_parent(transaction.connection, tenant, key, values.get("parent"))
            if values:
                _update(transaction, tenant, key, values)
            if not isinstance(change.subjects, UnsetType):
                declare(transaction, tenant, key, change.subjects, reassign=reassign)
            changed = _get(transaction.connection, tenant, key)
            if changed != present:
                _record(transaction, "customer.change", present, changed)
        return changed

    def archive_customer(self, tenant: str, key: str, *, actor: Actor, now_us: int) -> Customer:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            if present.archived_at_us is not None:
                return present
            _update(change, tenant, key, {"archived_at_us": now_us})
            archived = _get(change.connection, tenant, key)
            _record(change, "customer.archive", present, archived)
        return archived

    def customer(self, tenant: str, key: str) -> Customer:
        with self._database.reading() as connection:
            return _get(connection, tenant, key)

    def customers(
        self, tenant: str, *, archived: bool = False, cursor: str | None = None, limit: int = 100
    ) -> Page[Customer]:
        query = select(tables.customers).where(_column.tenant == tenant).order_by(_column.number)
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

    def children(self, tenant: str, keys: Collection[str]) -> tuple[str, ...]:
        asked = sorted(set(keys))
        found: set[str] = set()
        with self._database.reading() as connection:
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
}


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
        "archived": customer.archived_at_us is not None,
    }


def _check_parent(connection: Connection, tenant: str, key: str, parent: str | None) -> None:
    """Raises Invalid (parent_not_found; parent_cycle)."""
    if parent is None:
        return
    first = select(_column.key, _column.parent).where(_column.tenant == tenant, _column.key == parent)
    above = first.cte("above", recursive=True)
    above = above.union(
        select(_column.key, _column.parent).where(_column.tenant == tenant, _column.key == above.c.parent)
    )
    line = set(connection.execute(select(above.c.key)).scalars())
    if key == parent or key in line:
        code, detail = "parent_cycle", f"Customer {parent!r} is {key!r} itself or below it."
    elif not line:
        code, detail = "parent_not_found", f"There is no customer {parent!r} to be the parent."
    else:
        return
    raise Invalid(detail, code=code, faults=[Fault("/parent", code, detail)])


def _checked_values(change: CustomerChange, faults: list[Fault]) -> dict[str, Any]:
    """Columns to set. Raises Invalid with `faults` and all that are found here."""
    values: dict[str, Any] = {}
    if not isinstance(change.name, UnsetType):
        faults.extend(_text_faults("/name", change.name))
        values["name"] = change.name
    if not isinstance(change.parent, UnsetType):
        values["parent"] = change.parent
        if change.parent is not None:
            faults.extend(_text_faults("/parent", change.parent))
    if not isinstance(change.currency, UnsetType):
        values["currency"] = change.currency
        if change.currency is not None and not _CURRENCY.match(change.currency):
            faults.append(
                Fault("/currency", "invalid_currency", "A currency is three capital letters (ISO 4217).")
            )
    if not isinstance(change.timezone, UnsetType):
        values["timezone"] = change.timezone
        if not _is_timezone(change.timezone):
            detail = f"{change.timezone[:40]!r} is no IANA time zone, such as Europe/Berlin."
            faults.append(Fault("/timezone", "invalid_timezone", detail))
    if not isinstance(change.email, UnsetType):
        values["email"] = change.email
        if change.email is not None and not (
            len(change.email) <= _EMAIL_CHARACTERS_MAX and _EMAIL.match(change.email)
        ):
            faults.append(Fault("/email", "invalid_email", "An email address looks like name@example.com."))
    if not isinstance(change.external_ids, UnsetType):
        values["external_ids"] = _external_ids(change.external_ids, faults)
    if not isinstance(change.traits, UnsetType):
        values["traits"] = _traits(change.traits, faults)
    if not isinstance(change.subjects, UnsetType):
        _check_subjects(change.subjects, faults)
    if faults:
        shown = faults[:_FAULTS_MAX]
        raise Invalid(" ".join(fault.detail for fault in shown[:5]), faults=shown)
    return values


def _text_faults(pointer: str, value: str) -> list[Fault]:
    if not 1 <= len(value) <= _CHARACTERS_MAX:
        detail = f"{pointer} must have 1 to {_CHARACTERS_MAX} characters."
    elif not _is_utf8(value):
        detail = f"{pointer} is not valid Unicode (it holds half of a surrogate pair)."
    else:
        return []
    return [Fault(pointer, "invalid_text", detail)]


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _check_subjects(subjects: Collection[str], faults: list[Fault]) -> None:
    if len(subjects) > SUBJECTS_PER_CUSTOMER_MAX:
        detail = f"A customer has at most {SUBJECTS_PER_CUSTOMER_MAX} declared subjects, not {len(subjects)}."
        faults.append(Fault("/subjects", "too_many_subjects", detail))
        return
    for index, subject in enumerate(subjects):
        faults.extend(_text_faults(f"/subjects/{index}", subject))


def _external_ids(external_ids: Mapping[str, str], faults: list[Fault]) -> str:
    if len(external_ids) > _EXTERNAL_IDS_MAX:
        detail = f"A customer has at most {_EXTERNAL_IDS_MAX} external ids."
        faults.append(Fault("/external_ids", "too_many_external_ids", detail))
        return "{}"
    before = len(faults)
    for name, value in external_ids.items():
        if not (1 <= len(name) <= _CHARACTERS_MAX and _is_utf8(name)):
            detail = f"A name in external_ids has 1 to {_CHARACTERS_MAX} characters."
            faults.append(Fault("/external_ids", "invalid_text", detail))
        else:
            pointer = name.replace("~", "~0").replace("/", "~1")
            faults.extend(_text_faults(f"/external_ids/{pointer}", value))
    return to_json(external_ids) if len(faults) == before else "{}"


def _traits(traits: Mapping[str, Any], faults: list[Fault]) -> str:
    try:
        encoded = to_json(traits)
    except (TypeError, ValueError, OverflowError, RecursionError):
        faults.append(Fault("/traits", "invalid_traits", "traits must be a JSON object."))
        return "{}"
    if len(encoded.encode()) > _TRAITS_BYTES_MAX:
        detail = f"traits have at most {_TRAITS_BYTES_MAX} bytes as JSON."
        faults.append(Fault("/traits", "traits_too_large", detail))
    return encoded
