"""Questions answered from roll-ups: whole hours (or days) from them, and from readings what they do not hold.

That is what was recorded after the roll-ups were made, and the partial hours (or days) at both ends of the range.
"""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from tallystick.metering.meter import Aggregation
from tallystick.metering.query import UsageQuery
from tallystick.store.interface import RollupView
from tallystick.store.question import figure
from tallystick.store.question.bound import Bound
from tallystick.store.question.condition import column_of, condition_of, conditions
from tallystick.store.question.source import TIME_US, Asked, RolledUp, Source, group_columns

HOUR_US = 3_600_000_000


def span_sql(span_hours: int) -> str:
    """The hour, counted from 1970, that the span of so many hours a reading lies in begins with."""
    span_us = span_hours * HOUR_US
    return f"toInt32(intDiv({TIME_US} - positiveModulo({TIME_US}, {span_us:d}), {HOUR_US:d}))"


ADDED = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.AVERAGE})
COMPARED = frozenset({Aggregation.MIN, Aggregation.MAX})
"""Those that roll-ups answer only while nothing is taken back."""

_FIGURES = {
    Aggregation.COUNT: "sum(counted)",
    Aggregation.SUM: "sum(total)",
    Aggregation.AVERAGE: figure.half_even("reinterpretAsInt256(sum(total))", "sum(counted)"),
    Aggregation.MIN: "min(minimum)",
    Aggregation.MAX: "max(maximum)",
}


def _whole_spans_us(query: UsageQuery, span_hours: int) -> tuple[int, int]:
    """Where the first whole span within the range begins, and where the last one ends."""
    span_us = span_hours * HOUR_US
    return -(-query.from_us // span_us) * span_us, query.to_us // span_us * span_us


def views(query: UsageQuery) -> tuple[RollupView, ...]:
    """The views that are divided by everything the question names, those of fewer rows first."""
    names = {*query.group_by, *(one.name for one in query.filters)}
    if query.customers is not None:
        names.add("customer")
    if "subject" in names:
        return ()
    found = [RollupView.WHOLE]
    if names <= {"customer"}:
        found.insert(0, RollupView.CUSTOMERS)
    if "customer" not in names:
        found.insert(0, RollupView.DIMENSIONS)
    return tuple(found)


def can_answer(query: UsageQuery, *, span_hours: int, view: RollupView = RollupView.WHOLE) -> bool:
    """Whether roll-ups by spans of so many hours hold what this question asks for."""
    meter = query.meter
    if meter.of is not None or meter.aggregation not in ADDED | COMPARED:
        return False
    if view not in views(query):
        return False
    first_us, last_us = _whole_spans_us(query, span_hours)
    return first_us < last_us and all(edge % (span_hours * HOUR_US) == 0 for edge in query.edges_us[1:-1])


def of_rollups(asked: Asked, bound: Bound, *, rolled_up: RolledUp) -> Source:
    """Rows of spans and of single readings. The question must be one that roll-ups can answer."""
    query = asked.query
    names = [*query.group_by, *(one.name for one in query.filters)]
    columns = "".join(f"{column}, " for column in sorted({column_of(query.meter, name)[0] for name in names}))
    first_us, last_us = _whole_spans_us(query, rolled_up.span_hours)
    filters = [condition_of(query.meter, one, bound) for one in query.filters]
    kept = conditions(query.meter, bound, customers=query.customers, from_us=None, to_us=None, as_of_us=None)
    kept += [
        f"hour >= {bound.value(first_us // HOUR_US, 'Int32')}",
        f"hour < {bound.value(last_us // HOUR_US, 'Int32')}",
        *filters,
    ]
    branches = [
        f"SELECT {columns}toInt64(hour) * {HOUR_US:d} AS time_us, counted, total, minimum, maximum"
        f" FROM {rolled_up.view.value} WHERE {' AND '.join(kept)}"
    ]

    def readings(from_us: int, to_us: int, *more: str) -> None:
        if from_us >= to_us:
            return
        where = conditions(
            query.meter,
            bound,
            customers=query.customers,
            from_us=from_us,
            to_us=to_us,
            as_of_us=query.as_of_us,
        )
        branches.append(
            f"SELECT {columns}{TIME_US} AS time_us, toInt64(sign) AS counted,"
            " CAST(value, 'Decimal(76, 18)') * sign AS total, value AS minimum, value AS maximum"
            f" FROM {asked.readings} WHERE {' AND '.join([*where, *filters, *more])}"
        )

    readings(query.from_us, first_us)
    readings(last_us, query.to_us)
    if query.as_of_us is None or query.as_of_us > rolled_up.upto_us:
        readings(first_us, last_us, f"recorded_at > {bound.time(rolled_up.upto_us)}")
    return Source(
        relation=f"({' UNION ALL '.join(branches)})",
        where="1",
        groups=group_columns(query),
        time_us="time_us",
        figure=_FIGURES[query.meter.aggregation],
        rows="sum(counted)",
    )
