"""Parents and children: no cycles, and no more levels than CUSTOMER_LEVELS_MAX."""

from sqlalchemy import Connection, select

from tallystick.catalog import tables
from tallystick.catalog.database import among
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
