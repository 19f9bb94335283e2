"""Parents and children: no cycles, no more levels than CUSTOMER_LEVELS_MAX, and what they were at an earlier moment."""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import Connection, or_, select

from tallystick.catalog import tables
from tallystick.catalog.database import among, from_json
from tallystick.catalog.interface import CUSTOMER_LEVELS_MAX
from tallystick.errors import Fault, Invalid

_column = tables.customers.c


def line_above(connection: Connection, tenant: str, key: str) -> list[str]:
    """The customers above one, its parent first. Raises Invalid (too_many_levels) past the bound."""
    line: list[str] = []
    current: str | None = key
    while True:
        query = select(_column.parent).where(_column.tenant == tenant, _column.key == current)
        current = connection.execute(query).scalar_one_or_none()
        if current is None:
            return line
        line.append(current)
        if len(line) > 2 * CUSTOMER_LEVELS_MAX:  # an installation from before there was a bound
            raise _too_deep()


def check_parent(connection: Connection, tenant: str, key: str, parent: str | None) -> None:
    """Raises Invalid (parent_not_found; parent_cycle; too_many_levels)."""
    if parent is None:
        return
    present = select(_column.key).where(_column.tenant == tenant, _column.key == parent)
    if key == parent:
        code, detail = "parent_cycle", f"Customer {parent!r} is {key!r} itself."
    elif connection.execute(present).scalar_one_or_none() is None:
        code, detail = "parent_not_found", f"There is no customer {parent!r} to be the parent."
    else:
        line = line_above(connection, tenant, parent)
        if key in line:
            code, detail = "parent_cycle", f"Customer {parent!r} is below {key!r}."
        elif len(line) + 1 + _levels_below(connection, tenant, key) > CUSTOMER_LEVELS_MAX:
            raise _too_deep()
        else:
            return
    raise Invalid(detail, code=code, faults=[Fault("/parent", code, detail)])


def check_depth(connection: Connection, tenant: str, key: str) -> None:
    """Raises Invalid (too_many_levels) when the line through a customer is too long."""
    if (
        len(line_above(connection, tenant, key)) + _levels_below(connection, tenant, key)
        > CUSTOMER_LEVELS_MAX
    ):
        raise _too_deep()


_audit = tables.audit.c
_ROWS_A_LOOK = 1_000
_NAMES_A_PARENT = '%"parent":"%'


def children_at(connection: Connection, tenant: str, keys: Collection[str], at_us: int) -> set[str] | None:
    """All customers that were below these at an earlier moment; None where no line has changed since.

    The audit holds every change, with what was before: the present lines, and the later changes taken back."""
    # Older rows come later, and so stand in the end.
    changes = _changed_since(connection, tenant, at_us)
    undone = {key: before for key, before, after in changes if before != after}
    if not undone:
        return None
    present = select(_column.key, _column.parent).where(_column.tenant == tenant, _column.parent.is_not(None))
    parents: dict[str, str | None] = {row.key: row.parent for row in connection.execute(present)} | undone
    below: defaultdict[str, list[str]] = defaultdict(list)
    for key, parent in parents.items():
        if parent is not None:
            below[parent].append(key)
    found: set[str] = set()
    ahead = list(keys)
    while ahead:
        ahead = [child for key in ahead for child in below[key] if child not in found]
        found.update(ahead)
    return found


def _changed_since(
    connection: Connection, tenant: str, at_us: int
) -> list[tuple[str, str | None, str | None]]:
    """Customer and its parent before and after, the latest change first."""
    query = select(_audit.number, _audit.at_us, _audit.resource, _audit.before, _audit.after).where(
        _audit.tenant == tenant,
        _audit.resource.like("customer/%"),
        or_(_audit.before.like(_NAMES_A_PARENT), _audit.after.like(_NAMES_A_PARENT)),
    )
    query = query.order_by(_audit.number.desc()).limit(_ROWS_A_LOOK)
    made: list[tuple[str, str | None, str | None]] = []
    last: int | None = None
    while True:
        rows = connection.execute(query if last is None else query.where(_audit.number < last)).all()
        for row in rows:
            if row.at_us <= at_us:
                return made
            made.append((row.resource.removeprefix("customer/"), _parent(row.before), _parent(row.after)))
        if len(rows) < _ROWS_A_LOOK:
            return made
        last = rows[-1].number


def _parent(document: str | None) -> str | None:
    return None if document is None else from_json(document).get("parent")


def _levels_below(connection: Connection, tenant: str, key: str) -> int:
    """How many levels a customer and those below it make: 1 without children."""
    levels, here = 0, [key]
    while here and levels <= CUSTOMER_LEVELS_MAX:
        levels += 1
        query = select(_column.key).where(_column.tenant == tenant, among(connection, _column.parent, here))
        here = list(connection.execute(query).scalars())
    return levels


def _too_deep() -> Invalid:
    detail = f"Customers may stand below each other at most {CUSTOMER_LEVELS_MAX} levels deep."
    return Invalid(detail, code="too_many_levels", faults=[Fault("/parent", "too_many_levels", detail)])
