"""Questions around usage: all meters of a customer, change to the range before, the current rate, who has usage."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal

from tallystick.errors import Fault, Invalid
from tallystick.flows.derive import dimension_values_from_events
from tallystick.flows.system import System
from tallystick.flows.usage import (
    UsageAnswer,
    UsageRequest,
    at_one_moment,
    check_kept,
    from_readings_or_events,
    in_questions,
    moment,
    usage,
    why_not_kept,
)
from tallystick.metering.formula import quotient
from tallystick.metering.meter import ZEROES, Aggregation, Meter
from tallystick.metering.position import Vector
from tallystick.metering.query import Filter, Operator, UsageQuery, UsageRow, Window
from tallystick.metering.window import edges

MINUTE_US = 60_000_000
METERS_AT_ONCE = 4
RATED = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.REGISTER, Aggregation.DURATION})
"""Those that add up over time, so that a figure per minute means something."""
FILTER_OPERANDS_MAX = 1000

_EXACT = Context(prec=200)
# A window of this kind lasts at most so many days, its zone's changes of clocks included.
_DAYS_MAX = {Window.DAY: 2, Window.WEEK: 8, Window.MONTH: 32, Window.QUARTER: 93, Window.YEAR: 367}


# -- all meters ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Overview:
    """One answer for each meter, all as of one moment."""

    answers: list[UsageAnswer]
    from_us: int
    to_us: int
    position: Vector


async def overview(system: System, meters: Sequence[Meter], question: UsageRequest) -> Overview:
    """Ask every one of these meters the same (`question.meter` is not looked at).

    Raises Invalid (too_many_rows) when all answers together have more rows than one may have; else as `usage`."""
    frozen, position = await at_one_moment(system, question)
    from_us, to_us = frozen.from_us, frozen.to_us
    assert from_us is not None
    assert to_us is not None
    answers: list[UsageAnswer] = []
    rows, rows_max = 0, system.settings.usage_rows_max
    for first in range(0, len(meters), METERS_AT_ONCE):
        some = meters[first : first + METERS_AT_ONCE]
        for answer in await asyncio.gather(*(usage(system, replace(frozen, meter=m.key)) for m in some)):
            rows += len(answer.rows)
            answers.append(replace(answer, position=position))
        if rows > rows_max:
            raise Invalid(
                f"The answer would have more than {rows_max:,} rows (setting usage_rows_max). "
                "Ask for fewer meters, a shorter range or larger windows.",
                code="too_many_rows",
            )
    return Overview(answers, from_us, to_us, position)


# -- change ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Change:
    """What a row is compared with. `previous` is None where there was no figure, or retention has deleted events of that
    window; `change` then, too. `percent` is also None after a previous figure of zero."""

    start_us: int
    end_us: int
    previous: Decimal | None
    change: Decimal | None
    percent: Decimal | None


@dataclass(frozen=True, slots=True)
class Compared:
    """An answer, and for each of its rows what came before."""

    answer: UsageAnswer
    changes: list[Change]


async def compared(system: System, question: UsageRequest) -> Compared:
    """Usage, each row beside that of the same group in the window before it: the whole calendar window, also where the
    row's own is cut by the range. Without windows: beside the range of the same length that ends where this one begins.

    Both are asked as of the same moment. Groups that only the window before has are not shown."""
    frozen, position = await at_one_moment(system, question)
    answer = replace(await usage(system, frozen), position=position)
    starts, borders = _windows_and_those_before(system, answer)
    # Windows whose events retention has deleted, in part or all, have no figure to compare with.
    kept = [border for border in borders if why_not_kept(system, answer.meter, border) is None]
    before: list[UsageRow] = []
    if len(kept) > 1:
        earlier = replace(
            frozen,
            from_us=kept[0],
            to_us=kept[-1],
            order_by=None,
            limit=None,
            filters=(*frozen.filters, *_only_groups_of(answer)),
        )
        before = (await usage(system, earlier)).rows
    figures = {(row.window_start_us, row.group): row.value for row in before}
    index = {start: number for number, start in enumerate(starts)}
    changes: list[Change] = []
    for row in answer.rows:
        number = index[row.window_start_us]
        # With a window before that is kept whole, or without any figure.
        adds_up = answer.meter.aggregation in ZEROES and borders[number] >= kept[0]
        previous = figures.get((borders[number], row.group), Decimal(0) if adds_up else None)
        changes.append(_change(borders[number], borders[number + 1], previous, row.value))
    return Compared(answer, changes)


def _change(start_us: int, end_us: int, previous: Decimal | None, value: Decimal | None) -> Change:
    if previous is None or value is None:
        return Change(start_us, end_us, previous, None, None)
    change = _EXACT.subtract(value, previous)
    percent = quotient(_EXACT.multiply(change, Decimal(100)), previous.copy_abs())
    return Change(start_us, end_us, previous, change, percent)


def _windows_and_those_before(system: System, answer: UsageAnswer) -> tuple[list[int], list[int]]:
    """Where the windows of an answer begin, and the borders of as many windows before: window i is compared with
    borders i to i + 1."""
    from_us, to_us = answer.from_us, answer.to_us
    if answer.window is None:
        return [from_us], [from_us - (to_us - from_us), from_us]
    window = Window(answer.window)
    windows_max = system.settings.usage_windows_max
    own = edges(from_us, to_us, window, answer.timezone, windows_max=windows_max)
    # Far enough back for two whole windows; hours and less may be twice as long where clocks are put back.
    reach_us = _DAYS_MAX.get(window, 1) * 3 * 86_400_000_000
    # To behind the beginning, so that a border that lies on it is told.
    earlier = edges(
        from_us - reach_us, from_us + 1, window, answer.timezone, windows_max=windows_max + 10_000
    )
    # Without the last, which is no border but the end of the range.
    borders = list(earlier[-3:-1])
    return list(own[:-1]), [*borders, *own[1:-1]]


def _only_groups_of(answer: UsageAnswer) -> list[Filter]:
    """Conditions that keep at least the groups of an answer: without them the top ten would be compared with everybody."""
    kept: list[Filter] = []
    for place, name in enumerate(answer.group_by):
        values = dict.fromkeys(row.group[place] for row in answer.rows)
        if 0 < len(values) <= FILTER_OPERANDS_MAX and None not in values:
            kept.append(Filter(name, Operator.IN, tuple(value for value in values if value is not None)))
    return kept


# -- rate ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Rate:
    """What was used in the last whole minutes, by group, and that per second and per minute (half-even, 18 digits)."""

    answer: UsageAnswer
    minutes: int
    rows: list[tuple[UsageRow, Decimal, Decimal]]  # row, per second, per minute


async def rate(system: System, question: UsageRequest, *, minutes: int) -> Rate:
    """The current rate. The minutes are those of the clock that are over; what arrives late is not in yet.

    Raises Invalid (rate_not_defined) for a meter whose figures do not add up over time."""
    meter = await in_questions(
        system, lambda: system.catalog.meter(question.tenant, question.meter, question.version)
    )
    if meter.aggregation not in RATED or meter.of is not None:
        detail = f"Meter {meter.key!r} has no rate: only {', '.join(sorted(RATED))} have one."
        raise Invalid(detail, code="rate_not_defined", faults=[Fault("key", "rate_not_defined", detail)])
    to_us = system.clock.now_us() // MINUTE_US * MINUTE_US
    answer = await usage(
        system, replace(question, from_us=to_us - minutes * MINUTE_US, to_us=to_us, window=None, fill="zero")
    )
    rows: list[tuple[UsageRow, Decimal, Decimal]] = []
    for row in answer.rows:
        value = row.value or Decimal(0)
        per_second, per_minute = quotient(value, Decimal(minutes * 60)), quotient(value, Decimal(minutes))
        assert per_second is not None
        assert per_minute is not None
        rows.append((row, per_second, per_minute))
    return Rate(answer, minutes, rows)


# -- customers and subjects -------------------------------------------------------------------------------------------
async def owner_values(
    system: System,
    meter: Meter,
    name: str,
    *,
    customers: tuple[str, ...] | None,
    from_us: int,
    to_us: int,
    prefix: str,
    limit: int,
) -> list[tuple[str | None, int]]:
    """Customers or subjects that have readings, with their number, most first: `flows.usage.dimension_values` for the
    two names every meter has."""
    query = UsageQuery(
        meter=meter,
        from_us=from_us,
        to_us=to_us,
        edges_us=(from_us, to_us),
        customers=customers,
        group_by=(name,),
        filters=(Filter(name, Operator.PREFIX, (prefix,)),) if prefix else (),
        descending=True,
        limit=limit,
        as_of_us=moment(system, meter, None),
    )
    # The meter's own readings, only counted.
    counting = replace(query, meter=replace(meter, aggregation=Aggregation.COUNT, of=None))

    def ask(readings: str) -> list[tuple[str | None, int]]:
        rows = system.store.usage(counting, rows_max=limit, readings=readings)
        return [(row.group[0], int(row.value)) for row in rows if row.value]

    check_kept(system, meter, from_us)
    values, _ = await from_readings_or_events(
        system,
        query,
        lambda: (ask("readings"), "readings"),
        lambda: dimension_values_from_events(system.store, query, ask),
    )
    check_kept(system, meter, from_us)
    return values
