"""A usage question put to the engine, and its answer in rows."""

# ruff: noqa: S608 (the table's name is this room's own, values are bound)

from collections.abc import Callable
from typing import Any

from tallystick.errors import Invalid
from tallystick.metering.meter import PERCENTILES, SERIES, Aggregation
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.store.interface import RollupView
from tallystick.store.question.ask import Group, totals, window_indexes, windows
from tallystick.store.question.bound import Bound, Statement
from tallystick.store.question.condition import conditions
from tallystick.store.question.figure import WEIGHED, figure, zero
from tallystick.store.question.pairs import held
from tallystick.store.question.rollups import COMPARED, can_answer
from tallystick.store.question.source import Asked, RolledUp, where_of

VALUES_MAX = 20_000_000
"""Readings that one question may hold in memory: of percentiles 16 bytes each, of series and pairs up to 100."""

_WEIGHED_CUSTOMERS_MAX = 100

Rows = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]


def answer(
    rows: Rows, query: UsageQuery, *, readings: str, rows_max: int, values_max: int = VALUES_MAX
) -> list[UsageRow]:
    """See store.interface.Store.usage. `rows` runs a statement on the engine; `readings` is the table's name.

    Raises Invalid with code too_many_rows, and too_many_values where the figures would need more than `values_max`
    readings in memory at once: an exact answer or none.
    """
    if query.limit == 0:
        return []
    return _answer(rows, asked_of(rows, query, readings, values_max=values_max), rows_max)


def asked_of(rows: Rows, query: UsageQuery, readings: str, *, values_max: int) -> Asked:
    """The question with what must be known of the readings. Raises Invalid (too_many_values)."""
    # Of few customers it costs less to weigh than to ask whether there is anything to weigh.
    weigh = (
        query.meter.of is None
        and query.meter.aggregation in WEIGHED
        and query.customers is not None
        and len(query.customers) <= _WEIGHED_CUSTOMERS_MAX
    )
    asked = Asked(query, readings, weigh or _taken_back(rows, query, readings))
    _check_values(rows, asked, values_max)
    return asked


def answer_from_rollups(
    rows: Rows,
    query: UsageQuery,
    *,
    rolled_up_to_us: int,
    span_hours: int,
    view: RollupView,
    rows_max: int,
) -> list[UsageRow] | None:
    """See store.interface.Store.usage_from_rollups."""
    if not can_answer(query, span_hours=span_hours, view=view):
        return None
    if query.limit == 0:
        return []
    if query.meter.aggregation in COMPARED and _taken_back(rows, query, "readings"):
        return None
    asked = Asked(query, "readings", False, RolledUp(rolled_up_to_us, span_hours, view))
    return _answer(rows, asked, rows_max)


def _answer(rows: Rows, asked: Asked, rows_max: int) -> list[UsageRow]:
    if len(asked.query.edges_us) == 2:
        return _totals(rows, asked, rows_max)
    return _windows(rows, asked, rows_max)


def _taken_back(rows: Rows, query: UsageQuery, readings: str) -> bool:
    """Whether the meter has any reading of these customers with sign -1: an index of minima says so without reading the
    rows. Asked first, so that all other questions weigh nothing and look for nothing. A row that takes a reading back
    has its time, so that only the question's range is looked at, unless what was before it matters too."""
    meter = query.meter
    looks_back = bool({meter.aggregation, meter.read_as} & SERIES)
    bound = Bound()
    where = conditions(
        meter,
        bound,
        customers=query.customers,  # on a cluster: of their shards alone
        from_us=None if looks_back else query.from_us,
        to_us=None if looks_back else query.to_us,
        as_of_us=None,
    )
    sql = f"SELECT 1 FROM {readings} WHERE {' AND '.join(where)} AND sign < 0 LIMIT 1"
    return bool(rows(sql, bound.parameters))


def _check_values(rows: Rows, asked: Asked, values_max: int) -> None:
    meter = asked.query.meter
    if not {meter.aggregation, meter.read_as} & {*PERCENTILES, *SERIES}:
        return
    if rows(f"SELECT count() FROM {asked.readings}", {})[0][0] <= values_max:  # from metadata
        return
    if all(
        rows(counting.sql, counting.parameters)[0][0] > values_max
        for counting in _counts_of_values(asked, values_max)
    ):
        raise Invalid(
            f"The exact {meter.aggregation} of more than {values_max:,} readings is not taken in one question. "
            "Ask for a shorter range or fewer customers.",
            code="too_many_values",
        )


def _counts_of_values(asked: Asked, values_max: int) -> tuple[Statement, ...]:
    """How many readings a question holds in memory, counted to one beyond `values_max`: bounds, the last one exact."""
    if asked.query.meter.aggregation is Aggregation.DURATION:
        return held(asked, rows_max=values_max)
    bound = Bound()
    where = where_of(asked, bound, from_us=asked.query.from_us, to_us=asked.query.to_us, weighed=False)
    counted = f"SELECT 1 FROM {asked.readings} WHERE {where} LIMIT {values_max + 1:d}"
    return (Statement(f"SELECT count() FROM ({counted})", bound.parameters),)


def _totals(rows: Rows, asked: Asked, rows_max: int) -> list[UsageRow]:
    query = asked.query
    statement = totals(asked, rows_max=rows_max)
    answered = rows(statement.sql, statement.parameters)
    _check_rows(len(answered), rows_max)
    start_us, end_us = query.edges_us
    found = [UsageRow(start_us, end_us, tuple(row[1:]), figure(query.meter, row[0])) for row in answered]
    if not found and query.fill_zero and not query.group_by:
        found = [UsageRow(start_us, end_us, (), zero(query.meter))]
    return found


def _windows(rows: Rows, asked: Asked, rows_max: int) -> list[UsageRow]:
    query = asked.query
    edges_us = query.edges_us
    ranks: dict[Group, int] | None = None
    if query.group_by and query.descending is not None:
        ranking = totals(asked, rows_max=rows_max)
        ranked = rows(ranking.sql, ranking.parameters)
        _check_rows(len(ranked), rows_max)
        ranks = {tuple(row[1:]): rank for rank, row in enumerate(ranked)}
    statement = windows(asked, rows_max=rows_max, ranked=None if ranks is None else tuple(ranks))
    answered = rows(statement.sql, statement.parameters)
    _check_rows(len(answered), rows_max)
    indexes = window_indexes(query)
    figures: dict[tuple[int, Group], Any] = {}
    for row in answered:
        index = row[1] if indexes is None else indexes[row[1]]
        figures[index, tuple(row[2:])] = figure(query.meter, row[0])
    groups = {group for _, group in figures}
    if query.fill_zero:
        if not query.group_by:
            groups = {()}
        _check_rows(len(groups) * (len(edges_us) - 1), rows_max)
        empty = zero(query.meter)
        for index in range(len(edges_us) - 1):
            for group in groups:
                figures.setdefault((index, group), empty)
    if ranks is None:
        ordered = sorted(figures, key=lambda key: (key[0], _group_order(key[1])))
    else:
        # A group that appeared between the two statements has no rank; without `as_of_us` that can happen.
        known = ranks
        ordered = sorted((key for key in figures if key[1] in known), key=lambda key: (key[0], known[key[1]]))
    return [UsageRow(edges_us[i], edges_us[i + 1], group, figures[i, group]) for i, group in ordered]


def _group_order(group: Group) -> tuple[tuple[bool, str], ...]:
    return tuple((value is not None, value or "") for value in group)


def _check_rows(rows: int, rows_max: int) -> None:
    if rows > rows_max:
        raise Invalid(
            f"The answer would have more than {rows_max:,} rows (setting usage_rows_max). "
            "Ask for a shorter range, larger windows, fewer groups, or the top groups with order_by and limit.",
            code="too_many_rows",
        )
