"""What the figures of a question are made of: readings as they are, or rows made of them."""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from dataclasses import dataclass

from tallystick.metering.query import UsageQuery
from tallystick.store.interface import RollupView
from tallystick.store.question import figure
from tallystick.store.question.bound import Bound
from tallystick.store.question.condition import column_of, condition_of, conditions

TIME_US = "toUnixTimestamp64Micro(time)"


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Roll-ups of readings recorded up to a moment, by spans of so many hours."""

    upto_us: int
    span_hours: int
    view: RollupView


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the table of readings it goes to, and whether readings in that table are taken back (sign -1)."""

    query: UsageQuery
    readings: str
    taken_back: bool
    rolled_up: RolledUp | None = None  # to be answered from these roll-ups


@dataclass(frozen=True, slots=True)
class Source:
    """Rows, each of one group at one moment, and how they become a figure."""

    relation: str
    where: str
    groups: tuple[str, ...]  # an expression for each name of the question's group_by
    time_us: str
    figure: str
    rows: str = "count()"  # how many there are, less those taken back: a group of none has no figure


@dataclass(frozen=True, slots=True)
class Spans:
    """Rows with a_us, b_us and level (scaled whole number): what holds for group from a to b, within the range, a < b."""

    relation: str
    groups: tuple[str, ...]
    multiplier: (
        int  # level times microseconds, times this, over the divisor, is the figure as scaled whole number
    )
    divisor: int

    def figure(self, area: str) -> str:
        if self.divisor == 1:
            return f"{area} * {self.multiplier:d}"
        scaled = area if self.multiplier == 1 else f"{area} * {self.multiplier:d}"
        return figure.half_even(scaled, f"{self.divisor:d}")


def nullable_groups(query: UsageQuery) -> list[bool]:
    return [column_of(query.meter, name)[1] for name in query.group_by]


def group_columns(query: UsageQuery) -> tuple[str, ...]:
    return tuple(column_of(query.meter, name)[0] for name in query.group_by)


def where_of(
    asked: Asked,
    bound: Bound,
    *,
    from_us: int | None,
    to_us: int | None,
    weighed: bool,
    filtered: bool = True,
) -> str:
    """Readings of the question within these times. Unless they are `weighed` by sign, those taken back are left out:
    at no cost where there are none."""
    query = asked.query
    scope = conditions(
        query.meter,
        bound,
        customers=query.customers,
        from_us=from_us,
        to_us=to_us,
        as_of_us=query.as_of_us,
    )
    where = list(scope)
    if filtered:
        where += [condition_of(query.meter, one, bound) for one in query.filters]
    if asked.taken_back and not weighed:
        # A row that takes a reading back has its time and customer too.
        gone = f"SELECT position FROM {asked.readings} WHERE {' AND '.join(scope)} AND sign = -1"
        where += ["sign = 1", f"position NOT IN ({gone})"]
    return " AND ".join(where)


def of_readings(asked: Asked, bound: Bound) -> Source:
    """Readings of the range, as they are."""
    query = asked.query
    aggregation = query.meter.aggregation
    weighed = aggregation in figure.WEIGHED
    return Source(
        relation=asked.readings,
        where=where_of(asked, bound, from_us=query.from_us, to_us=query.to_us, weighed=weighed),
        groups=group_columns(query),
        time_us=TIME_US,
        figure=figure.of_readings(aggregation, weighed=weighed and asked.taken_back),
        rows="sum(sign)" if weighed and asked.taken_back else "count()",
    )
