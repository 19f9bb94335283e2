"""What was recorded between two moments. Parts that are merged seldom hold the latest rows, and a skip index on the moment
leaves out those parts and granules that are older."""

from collections.abc import Callable, Sequence
from typing import Any

from tallystick.store import question
from tallystick.store.connection import Connection
from tallystick.store.interface import TouchedFacts, TouchedUsage
from tallystick.store.statements import statement

DerivedRows = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]


def recorded_between(
    rows: DerivedRows, after_us: int, until_us: int, *, meters: Sequence[int] | None, limit: int
) -> list[TouchedUsage]:
    """See store.interface.Store."""
    among = "1" if meters is None else "meter IN {meters:Array(UInt32)}"
    parameters: dict[str, Any] = {"after_us": after_us, "until_us": until_us, "limit": limit}
    if meters is not None:
        parameters["meters"] = list(meters)
    sql = statement("recorded_between").replace("{among}", among)
    return [TouchedUsage(*row) for row in rows(sql, parameters)]


def facts_between(connection: Connection, after_us: int, until_us: int, *, limit: int) -> list[TouchedFacts]:
    """See store.interface.Store."""
    parameters = {"after_us": after_us, "until_us": until_us, "limit": limit}
    return [TouchedFacts(*row) for row in connection.rows(statement("facts_between"), parameters)]


def recorded_behind(
    tenant: str,
    after: tuple[int, int],
    until_us: int,
    *,
    types: Sequence[str] | None,
    customers: Sequence[str] | None,
) -> tuple[list[str], question.Bound]:
    """Conditions of `Store.events_recorded`."""
    bound = question.Bound()
    moment_us, position = after
    where = [
        f"tenant = {bound.text(tenant)}",
        f"recorded_at >= {bound.time(moment_us)}",
        f"recorded_at <= {bound.time(until_us)}",
        f"(recorded_at > {bound.time(moment_us)} OR position > {bound.value(position, 'UInt64')})",
    ]
    if types is not None:
        where.append(f"type IN {bound.texts(types)}")
    if customers is not None:
        where.append(f"customer IN {bound.texts(customers)}")
    return where, bound
