"""Durations: from a start to its stop, for each (customer, subject, what both have in common).

Whether a start opens depends on what lies before it, and where its stretch ends on what lies behind it. So these questions
read all of their customers' past, and of what comes behind the range the first stop of each pair (with a timeout: within
it). Held in memory are the readings of the pairs in question alone: with a timeout those with a start near the range,
otherwise those with a stop in the range or behind it.
"""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from tallystick.store.question.bound import Bound, Statement
from tallystick.store.question.condition import column_of, condition_of
from tallystick.store.question.figure import order_of
from tallystick.store.question.source import TIME_US, Asked, Spans, where_of

_PAIR = "customer, subject, text"
_US_PER_S = 1_000_000


def _scope(asked: Asked, bound: Bound) -> tuple[str, str]:
    """The readings a question may have to read, and of these the ones whose pairs are in question, as conditions."""
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
    return everything, in_question


def held(asked: Asked, *, rows_max: int) -> tuple[Statement, Statement]:
    """How many readings `of_pairs` holds in memory, counted to one beyond `rows_max`: at most, which is cheap to count,
    and exactly."""
    statements: list[Statement] = []
    for exactly in (False, True):
        bound = Bound()
        everything, in_question = _scope(asked, bound)
        where = [everything, f"{TIME_US} < {bound.value(asked.query.to_us, 'Int64')}"]
        where += [in_question] if exactly else []
        counted = f"SELECT 1 FROM {asked.readings} WHERE {' AND '.join(where)} LIMIT {rows_max + 1:d}"
        statements.append(Statement(f"SELECT count() FROM ({counted})", bound.parameters))
    return statements[0], statements[1]


def of_pairs(asked: Asked, bound: Bound) -> Spans:
    """A start opens when nothing is open, a stop closes what is open; a stretch has the dimensions of its start. What is
    open ends at the timeout, and counts then once that has passed."""
    query = asked.query
    timeout_us = query.meter.timeout_us
    everything, in_question = _scope(asked, bound)
    from_sql, to_sql = bound.value(query.from_us, "Int64"), bound.value(query.to_us, "Int64")
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
    columns = [
        "arrayMap(place -> toInt64(bitShiftRight(place, 64)), arraySort(orders))",
        f"arraySort((is_start, place) -> place, groupArrayIf(toUInt8(value = 1), {inside}), orders)",
        *(
            f"arraySort((name, place) -> place, groupArrayIf(tuple(CAST({name}, 'Nullable(String)')), {inside}), orders)"
            for name in dimensions
        ),
    ]
    nowhere = "".join(", tuple(CAST(NULL, 'Nullable(String)'))" for _ in dimensions)
    # Points are (time, whether it is a start, dimensions …), and the first stop behind the range.
    histories = (
        f"SELECT {_PAIR}, groupArrayIf({order}, {inside}) AS orders, arrayZip({', '.join(columns)}) AS known,"
        f" countIf({later_stop}) AS later, minIf({TIME_US}, {later_stop}) AS later_us,"
        f" if(later > 0, arrayPushBack(known, (later_us, toUInt8(0){nowhere})), known) AS points"
        f" FROM {asked.readings} WHERE {everything} AND {in_question} GROUP BY {_PAIR}"
    )
    if timeout_us is None:
        stretches = _closed(histories)
    else:
        now = None if query.now_us is None else bound.value(query.now_us, "Int64")
        stretches = _closed_or_timed_out(histories, bound.value(timeout_us, "Int64"), now)
    names = "".join(f", tupleElement(opening, {i + 3}).1 AS {name}" for i, name in enumerate(dimensions))
    stretches = f"SELECT customer, subject, opening.1 AS start_us, end_us{names} FROM ({stretches})"
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


# An array that a lambda, or a row of ARRAY JOIN, takes from around it is copied for each element. So what they need is
# handed to them element by element.


def _closed(histories: str) -> str:
    """Rows with opening (a point) and end_us: each start that nothing open precedes, with its stop."""
    before = "arrayPopBack(arrayPushFront(arrayMap(point -> point.2, points), toUInt8(0)))"
    starts = f"arrayFilter((point, before) -> point.2 = 1 AND before = 0, points, {before})"
    stops = f"arrayFilter((point, before) -> point.2 = 0 AND before = 1, points, {before})"
    return (
        "SELECT customer, subject, opening, closing.1 AS end_us FROM"
        f" (SELECT customer, subject, {starts} AS starts, {stops} AS stops FROM ({histories}))"
        " ARRAY JOIN arraySlice(starts, 1, length(stops)) AS opening, stops AS closing"
    )


def _closed_or_timed_out(histories: str, timeout: str, now: str | None) -> str:
    """The same; what has no stop within the timeout ends there.

    A history falls into runs: what comes behind a stop, or a timeout later than the reading before, does not depend on
    anything before. A run is some starts, and a stop or none. The first start opens, and so does each that comes
    a timeout after the one that opened last.
    """
    times, states = "arrayMap(point -> point.1, points)", "arrayMap(point -> point.2, points)"
    fresh = (
        f"arrayMap((time, time_before, state_before) -> state_before = 0 OR time >= time_before + {timeout}, {times},"
        f" arrayPopBack(arrayPushFront({times}, toInt64(0))), arrayPopBack(arrayPushFront({states}, toUInt8(1))))"
    )
    runs = f"arraySplit((point, is_fresh) -> is_fresh, points, {fresh})"
    openings = (
        f"if(length(starts) < 2, starts, arrayFold((found, point) -> if(point.1 >= found[-1].1 + {timeout},"
        " arrayPushBack(found, point), found), arraySlice(starts, 2), arraySlice(starts, 1, 1)))"
    )
    split = f"SELECT customer, subject, {runs} AS runs FROM ({histories})"
    starts = (
        "SELECT customer, subject, arrayFilter(point -> point.2 = 1, run) AS starts,"
        f" if(run[-1].2 = 0, run[-1].1, NULL) AS stop_us FROM ({split}) ARRAY JOIN runs AS run"
    )
    opened = f"SELECT customer, subject, stop_us, {openings} AS openings, length(openings) AS number FROM ({starts})"
    ended = (
        f"SELECT customer, subject, opening, opening.1 + {timeout} AS timed_out_us,"
        " nth = number AND ifNull(stop_us < timed_out_us, 0) AS stopped,"
        " if(stopped, assumeNotNull(stop_us), timed_out_us) AS end_us"
        f" FROM ({opened}) ARRAY JOIN openings AS opening, arrayEnumerate(openings) AS nth"
    )
    counts = "1" if now is None else f"stopped OR end_us <= {now}"
    return f"SELECT customer, subject, opening, end_us FROM ({ended}) WHERE {counts}"
