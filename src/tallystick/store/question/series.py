"""Aggregations over the course of a series: one for each customer, subject and dimensions, in order of (time, position).

What a series shows in the range depends on its latest reading before it. So these questions read the past of their
customers too: of `time_weighted` with a timeout no more than the timeout, otherwise all of it. Of that past one reading a
series is held in memory, of the range all readings, ordered in arrays: a third of what the engine's window functions
take.
"""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from tallystick.metering.query import UsageQuery
from tallystick.store.question.bound import Bound
from tallystick.store.question.figure import order_of
from tallystick.store.question.source import TIME_US, Asked, Source, Spans, group_columns, where_of

_HOUR_US = 3_600_000_000
_VALUE = "reinterpretAsInt128(value)"


def _courses(asked: Asked, bound: Bound, *, after_us: int | None, to_us: int) -> str:
    """One row a series: its columns, `times` and `levels` of the range in order, and the latest before it: `earlier`
    (how many there are), carried_us and carried."""
    query = asked.query
    series = ", ".join(_columns(query))
    from_us = bound.value(query.from_us, "Int64")
    inside = f"{TIME_US} >= {from_us}"
    outside = f"{TIME_US} < {from_us}"
    where = where_of(asked, bound, from_us=after_us, to_us=to_us, weighed=False)
    order = order_of(TIME_US, "position")
    # Arrays of numbers beside each other: the engine keeps arrays of tuples at twice the cost.
    return (
        f"SELECT {series}, groupArrayIf({order}, {inside}) AS orders,"
        f" arraySort((level, place) -> place, groupArrayIf({_VALUE}, {inside}), orders) AS levels,"
        f" arrayMap(place -> toInt64(bitShiftRight(place, 64)), arraySort(orders)) AS times,"
        f" countIf({outside}) AS earlier, maxIf({TIME_US}, {outside}) AS carried_us,"
        f" argMaxIf({_VALUE}, {order}, {outside}) AS carried"
        f" FROM {asked.readings} WHERE {where} GROUP BY {series}"
    )


def _columns(query: UsageQuery) -> list[str]:
    return ["customer", "subject", *(f"d{slot:d}" for slot in range(len(query.meter.dimensions)))]


def _named(query: UsageQuery) -> str:
    return "".join(f"{column} AS k{i}, " for i, column in enumerate(group_columns(query)))


def of_register(asked: Asked, bound: Bound) -> Source:
    """What each reading is above the one before it; all of it where it is less, for then the register began anew."""
    query = asked.query
    courses = _courses(asked, bound, after_us=None, to_us=query.to_us)
    before = "arrayPopBack(arrayPushFront(levels, if(earlier > 0, carried, levels[1])))"
    increases = f"arrayMap((level, before) -> level - if(level >= before, before, 0), levels, {before})"
    return Source(
        relation=f"(SELECT {_named(query)}time_us, toInt256(increase) AS value FROM ({courses}) "
        f"ARRAY JOIN times AS time_us, {increases} AS increase)",
        where="1",
        groups=tuple(f"k{i}" for i in range(len(query.group_by))),
        time_us="time_us",
        figure="sum(value)",
    )


def of_time_weighted(asked: Asked, bound: Bound) -> Spans:
    """The level of each series from a reading to the next, or to its timeout; in value-hours."""
    query = asked.query
    timeout_us = query.meter.timeout_us
    end_us = query.to_us if query.now_us is None else min(query.to_us, query.now_us)
    after_us = None if timeout_us is None else query.from_us - timeout_us
    courses = _courses(asked, bound, after_us=after_us, to_us=end_us)
    from_sql, end_sql = bound.value(query.from_us, "Int64"), bound.value(end_us, "Int64")
    starts = "if(earlier > 0, arrayPushFront(times, carried_us), times)"
    next_us = "arrayPushBack(arrayPopFront(starts), " + end_sql + ")"
    if timeout_us is not None:
        next_us = f"arrayMap((start, next) -> least(next, start + {bound.value(timeout_us, 'Int64')}), starts, {next_us})"
    return Spans(
        relation=f"(SELECT {_named(query)}greatest(start, {from_sql}) AS a_us, end AS b_us, toInt256(held) AS level "
        f"FROM (SELECT *, {starts} AS starts FROM ({courses})) "
        f"ARRAY JOIN starts AS start, {next_us} AS end, if(earlier > 0, arrayPushFront(levels, carried), levels) AS held "
        f"WHERE b_us > a_us)",
        groups=tuple(f"k{i}" for i in range(len(query.group_by))),
        multiplier=1,
        divisor=_HOUR_US,
    )
