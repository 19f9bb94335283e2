"""The oracle: answers a usage question the slow, obvious way, in plain Python.

Stores are held to it by tests, and `derive` too: nothing here shares code with the fast path except the number syntax
and compiled expressions. It is given recorded events; telling duplicates apart is not its business.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Context, Decimal

from tallystick.metering.meter import PERCENTILES, ZEROES, Aggregation, Meter
from tallystick.metering.oracle_reading import OracleEvent, OracleReading, oracle_events, read_one
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.metering.series import Stretch, contributions, curves, pairs

__all__ = ["OracleEvent", "OracleReading", "aggregate", "evaluate", "oracle_events", "read_one"]

Group = tuple[str | None, ...]
Part = OracleReading | Stretch

_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal("1e-18")
_HOUR_US = 3_600_000_000
_SECOND_US = 1_000_000


def evaluate(query: UsageQuery, events: Sequence[OracleEvent]) -> list[UsageRow]:
    """The rows of the answer.

    Order: by window; within one by group, a missing dimension first, text by code points. With `descending` set,
    within a window by the group's value over the whole range, then by group. `limit` keeps the first groups in that
    order, each with all its windows.

    With `fill_zero` every group that has any row has one for every window; a question that groups by nothing has its
    one group even without events. Filled values are 0 for the aggregations of meter.ZEROES, None for the others.

    What each aggregation is, and what counts as data in a window, stands in docs/howto/aggregations.md. All are exact;
    average and time_weighted are an exact sum, divided and rounded half-even to 18 digits after the point once.
    """
    counted = [
        reading
        for event in events
        if _counts(query, event) and (reading := read_one(query.meter, event)) is not None
    ]
    groups: dict[Group, list[Part]] = {}
    for part in _parts(query, counted):
        names = part if isinstance(part, OracleReading) else part.names
        if all(one.accepts(_named(query.meter, one.name, names)) for one in query.filters):
            group = tuple(_named(query.meter, name, names) for name in query.group_by)
            groups.setdefault(group, []).append(part)
    totals = {
        group: total
        for group, parts in groups.items()
        if (total := _figure(query, parts, query.from_us, query.to_us)) is not None
    }
    if query.fill_zero and not query.group_by:
        totals.setdefault((), Decimal(0))

    rows: list[UsageRow] = []
    kept = _ordered(query, totals)
    for start, end in zip(query.edges_us, query.edges_us[1:], strict=False):
        for group in kept:
            value = _figure(query, groups.get(group, []), start, end)
            if value is not None:
                rows.append(UsageRow(start, end, group, value))
            elif query.fill_zero:
                zero = Decimal(0) if query.meter.aggregation in ZEROES else None
                rows.append(UsageRow(start, end, group, zero))
    return rows


def _counts(query: UsageQuery, event: OracleEvent) -> bool:
    if event.tenant != query.meter.tenant or event.type != query.meter.event_type:
        return False
    if query.customers is not None and event.customer not in query.customers:
        return False
    if query.as_of_us is None:
        return event.superseded_at_us is None
    if event.recorded_at_us > query.as_of_us:
        return False
    return event.superseded_at_us is None or event.superseded_at_us > query.as_of_us


def _parts(query: UsageQuery, readings: Sequence[OracleReading]) -> Sequence[Part]:
    """What the figures are made of. Whole series first, of all time: filters and windows cut them afterwards."""
    meter = query.meter
    if meter.aggregation is Aggregation.TIME_WEIGHTED:
        until_us = query.to_us if query.now_us is None else min(query.to_us, query.now_us)
        return curves(readings, timeout_us=meter.timeout_us, until_us=until_us)
    if meter.aggregation is Aggregation.DURATION:
        return pairs(readings, timeout_us=meter.timeout_us, now_us=query.now_us)
    if meter.aggregation is Aggregation.REGISTER:
        return contributions(readings)
    return readings


def _figure(query: UsageQuery, parts: Sequence[Part], start_us: int, end_us: int) -> Decimal | None:
    """The figure of these parts in [start_us, end_us), None when there is no data in it."""
    stretches = [part for part in parts if isinstance(part, Stretch) and part.touches(start_us, end_us)]
    readings = [
        part for part in parts if isinstance(part, OracleReading) and start_us <= part.time_us < end_us
    ]
    if stretches:
        area = Decimal(0)
        for stretch in stretches:
            within_us = min(stretch.end_us, end_us) - max(stretch.start_us, start_us)
            area = _EXACT.add(area, _EXACT.multiply(stretch.level, Decimal(within_us)))
        unit_us = _HOUR_US if query.meter.aggregation is Aggregation.TIME_WEIGHTED else _SECOND_US
        return _divided(area, unit_us)
    if not readings:
        return None
    if query.meter.of is not None:
        readings = _inner(query, readings, start_us, end_us)
    return aggregate(query.meter.aggregation, readings)


def _inner(
    query: UsageQuery, readings: Sequence[OracleReading], start_us: int, end_us: int
) -> list[OracleReading]:
    """The inner figures of a group in [start_us, end_us): one a customer and inner window, in the place of its last
    reading."""
    assert query.meter.of is not None
    assert query.inner_edges_us is not None
    figures: list[OracleReading] = []
    for inner_start_us, inner_end_us in zip(query.inner_edges_us, query.inner_edges_us[1:], strict=False):
        cut_start_us, cut_end_us = max(start_us, inner_start_us), min(end_us, inner_end_us)
        for customer in {reading.customer for reading in readings}:
            within = [
                reading
                for reading in readings
                if reading.customer == customer and cut_start_us <= reading.time_us < cut_end_us
            ]
            if within:
                last = max(within, key=lambda reading: (reading.time_us, reading.position))
                figures.append(replace(last, value=aggregate(query.meter.of.aggregation, within)))
    return figures


def _ordered(query: UsageQuery, totals: dict[Group, Decimal]) -> list[Group]:
    ordered = sorted(totals, key=_group_key)
    if query.descending:
        ordered.sort(key=lambda group: totals[group].copy_negate())  # stable: ties stay by group
    elif query.descending is not None:
        ordered.sort(key=lambda group: totals[group])
    return ordered if query.limit is None else ordered[: query.limit]


def _group_key(group: Group) -> list[tuple[bool, str]]:
    return [(name is not None, name or "") for name in group]


def aggregate(aggregation: Aggregation, readings: Sequence[OracleReading]) -> Decimal:
    """One figure of one reading or more; of a register, of its contributions. Not for time_weighted and duration."""
    if aggregation is Aggregation.COUNT:
        return Decimal(len(readings))
    if aggregation is Aggregation.UNIQUE_COUNT:
        return Decimal(len({reading.text for reading in readings}))
    if aggregation is Aggregation.MIN:
        return min(reading.value for reading in readings)
    if aggregation is Aggregation.MAX:
        return max(reading.value for reading in readings)
    if aggregation is Aggregation.LATEST:
        return max(readings, key=lambda reading: (reading.time_us, reading.position)).value
    if aggregation in PERCENTILES:
        rank = -(-len(readings) * PERCENTILES[aggregation] // 100)
        return sorted(reading.value for reading in readings)[rank - 1]
    total = Decimal(0)
    for reading in readings:
        total = _EXACT.add(total, reading.value)
    if aggregation in (Aggregation.SUM, Aggregation.REGISTER):
        return total
    if aggregation is Aggregation.AVERAGE:
        return _divided(total, len(readings))
    raise ValueError(f"{aggregation} is not of readings one by one")


def _divided(total: Decimal, by: int) -> Decimal:
    # The quotient is cut far behind the digit that decides; a tie at the 18th digit ends before the 200th.
    return _EXACT.quantize(_EXACT.divide(total, Decimal(by)), _QUANTUM)


def _named(meter: Meter, name: str, reading: OracleReading) -> str | None:
    if name == "customer":
        return reading.customer
    if name == "subject":
        return reading.subject
    for declared, value in zip(meter.dimensions, reading.dimensions, strict=True):
        if declared.name == name:
            return value
    raise ValueError(f"{name!r} is no dimension of the meter {meter.key!r}")
