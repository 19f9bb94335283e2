"""Durations: from a start to its stop, for each (customer, subject, what both have in common).

Whether a start opens depends on what lies before it, and where its stretch ends on what lies behind it. So these questions
read all of their customers' past, and of what comes behind the range the first stop of each pair (with a timeout: within
it). Held in memory are the readings of the pairs in question alone: with a timeout those with a start near the range,
otherwise those with a stop in the range or behind it.
"""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from tallystick.store.question.bound import Bound
from tallystick.store.question.condition import column_of, condition_of
from tallystick.store.question.figure import order_of
from tallystick.store.question.source import TIME_US, Asked, Spans, where_of

_PAIR = "customer, subject, text"
_US_PER_S = 1_000_000


def of_pairs(asked: Asked, bound: Bound) -> Spans:
    """A start opens when nothing is open, a stop closes what is open; a stretch has the dimensions of its start. What is
    open ends at the timeout, and counts then once that has passed."""
    query = asked.query
    timeout_us = query.meter.timeout_us
    from_sql, to_sql = bound.value(query.from_us, "Int64"), bound.value(query.to_us, "Int64")
    until_us = None if timeout_us is None else query.to_us + timeout_us
    everything = where_of(asked, bound, from_us=None, to_us=until_us, weighed=False, filtered=False)
    own = [one for one in query.filters if one.name in {"customer", "subject"}]
    everything = " AND ".join([everything, *(condition_of(query.meter, one, bound) for one in own)])
    if timeout_us is None:
        near = f"value = 0 AND {TIME_US} >= {from_sql}"
    else:
        near = (
            f"value = 1 AND {TIME_US} < {to_sql}"
            f" AND {TIME_US} > {bound.value(query.from_us - timeout_us, 'Int64')}"
        )
    in_question = f"({_PAIR}) IN (SELECT {_PAIR} FROM {asked.readings} WHERE {everything} AND {near})"

    dimensions = sorted(
        {
            column_of(query.meter, name)[0]
            for name in (*query.group_by, *(one.name for one in query.filters))
            if name not in {"customer", "subject"}
        }
    )
    order = order_of(TIME_US, "position")
    inside = f"{TIME_US} < {to_sql}"
    later_stop = f"value = 0 AND {TIME_US} >= {to_sql}"
    kept = "".join(
        f", arraySort((name, place) -> place, groupArrayIf(tuple(CAST({name}, 'Nullable(String)')), {inside}), orders)"
        f" AS names_{name}"
        for name in dimensions
    )
    histories = (
        f"SELECT {_PAIR}, groupArrayIf({order}, {inside}) AS orders,"
        f" arraySort((is_start, place) -> place, groupArrayIf(toUInt8(value = 1), {inside}), orders) AS before_end,"
        f" arrayMap(place -> toInt64(bitShiftRight(place, 64)), arraySort(orders)) AS times_before_end,"
        f" countIf({later_stop}) AS later, minIf({TIME_US}, {later_stop}) AS later_us,"
        " if(later > 0, arrayPushBack(before_end, toUInt8(0)), before_end) AS states,"
        f" if(later > 0, arrayPushBack(times_before_end, later_us), times_before_end) AS times{kept}"
        f" FROM {asked.readings} WHERE {everything} AND {in_question} GROUP BY {_PAIR}"
    )
    # Runs: what lies behind a stop does not depend on what lies before it; nor does what comes a timeout later.
    fresh = "previous = 0"
    timeout = ""
    if timeout_us is not None:
        timeout = bound.value(timeout_us, "Int64")
        fresh = f"(previous = 0 OR times[place] >= times[place - 1] + {timeout})"
    runs = (
        f"arraySplit((place, previous) -> place > 1 AND {fresh}, arrayEnumerate(states),"
        " arrayPushFront(arrayPopBack(states), toUInt8(0)))"
    )
    starts = "arrayFilter(place -> states[place] = 1, run)"
    stop_us = "if(states[run[-1]] = 0, times[run[-1]], NULL)"
    if timeout_us is None:
        opened = f"arraySlice({starts}, 1, 1)"
        end_us, counts = "stop_us", "isNotNull(stop_us)"
    else:
        opened = (
            f"if(length({starts}) < 2, {starts}, arrayFold((found, place) -> if(empty(found) OR times[place] >="
            f" times[found[-1]] + {timeout}, arrayPushBack(found, place), found), {starts}, emptyArrayUInt32()))"
        )
        timed_out_us = f"(times[opening] + {timeout})"
        stopped = f"(opening = openings[-1] AND ifNull(stop_us < {timed_out_us}, 0))"
        end_us = f"if({stopped}, assumeNotNull(stop_us), {timed_out_us})"
        counts = (
            stopped
            if query.now_us is None
            else f"({stopped} OR {timed_out_us} <= {bound.value(query.now_us, 'Int64')})"
        )
        if query.now_us is None:
            counts = "1"
    names = "".join(f", (names_{name}[opening]).1 AS {name}" for name in dimensions)
    stretches = (
        f"SELECT customer, subject, times[opening] AS start_us, assumeNotNull({end_us}) AS end_us{names}"
        f" FROM (SELECT *, {opened} AS openings, {stop_us} AS stop_us FROM ({histories}) ARRAY JOIN {runs} AS run)"
        f" ARRAY JOIN openings AS opening WHERE {counts}"
    )
    filters = [
        condition_of(query.meter, one, bound)
        for one in query.filters
        if one.name not in {"customer", "subject"}
    ]
    touching = [f"start_us < {to_sql}", f"(end_us > {from_sql} OR start_us >= {from_sql})"]
    named = "".join(f"{column_of(query.meter, name)[0]} AS k{i}, " for i, name in enumerate(query.group_by))
    return Spans(
        relation=f"(SELECT {named}greatest(start_us, {from_sql}) AS a_us, least(end_us, {to_sql}) AS b_us,"
        f" toInt256(1) AS level FROM ({stretches}) WHERE {' AND '.join([*touching, *filters])})",
        groups=tuple(f"k{i}" for i in range(len(query.group_by))),
        multiplier=10**18 // _US_PER_S,
        divisor=1,
    )
