"""The oracle: answers a usage question the slow, obvious way, in plain Python.

Stores are held to it by tests, and `derive` too: nothing here shares code with the fast path except the number syntax
and the compiled filter. It is given recorded events; telling duplicates apart is not its business.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import pyarrow as pa

from tallystick.metering.filter import Verdict, compile_filter
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.number import NotNumeric, NumberOutOfRange, number_text, parse_number
from tallystick.metering.path import steps_of
from tallystick.metering.query import Filter, Operator, UsageQuery, UsageRow

Group = tuple[str | None, ...]

_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal("1e-18")
_ZEROES = (Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT)
_DIMENSION_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class OracleEvent:
    """A recorded event."""

    tenant: str
    source: str
    id: str
    type: str
    subject: str
    customer: str
    time_us: int
    position: int
    recorded_at_us: int
    data: bytes


@dataclass(frozen=True, slots=True)
class OracleReading:
    """What one event contributes, with what a question can ask of it."""

    customer: str
    subject: str
    time_us: int
    position: int
    value: Decimal
    text: str
    dimensions: tuple[str | None, ...]


def evaluate(query: UsageQuery, events: Sequence[OracleEvent]) -> list[UsageRow]:
    """The rows of the answer.

    Order: by window; within one by group, a missing dimension first, text by code points. With `descending` set,
    within a window by the group's value over the whole range, then by group. `limit` keeps the first groups in that
    order, each with all its windows.

    With `fill_zero` every group that has any row has one for every window; a question that groups by nothing has its
    one group even without events. Filled values are 0 for count, sum and unique_count, None for the others.

    sum, min, max and latest are exact; average is the exact sum over the count, rounded half-even to 18 digits after
    the point; latest is the reading of the greatest (time, position).
    """
    selected: list[OracleReading] = []
    for event in events:
        if event.tenant != query.meter.tenant or event.type != query.meter.event_type:
            continue
        if not query.from_us <= event.time_us < query.to_us:
            continue
        if query.as_of_us is not None and event.recorded_at_us > query.as_of_us:
            continue
        if query.customers is not None and event.customer not in query.customers:
            continue
        reading = read_one(query.meter, event)
        if reading is not None and all(_passes(query.meter, one, reading) for one in query.filters):
            selected.append(reading)

    groups: dict[Group, list[OracleReading]] = {}
    for reading in selected:
        group = tuple(_named(query.meter, name, reading) for name in query.group_by)
        groups.setdefault(group, []).append(reading)
    if query.fill_zero and not query.group_by:
        groups.setdefault((), [])

    rows: list[UsageRow] = []
    kept = _ordered(query, groups)
    for start, end in zip(query.edges_us, query.edges_us[1:], strict=False):
        for group in kept:
            within = [reading for reading in groups[group] if start <= reading.time_us < end]
            if within:
                rows.append(UsageRow(start, end, group, aggregate(query.meter.aggregation, within)))
            elif query.fill_zero:
                zero = Decimal(0) if query.meter.aggregation in _ZEROES else None
                rows.append(UsageRow(start, end, group, zero))
    return rows


def _ordered(query: UsageQuery, groups: dict[Group, list[OracleReading]]) -> list[Group]:
    ordered = sorted(groups, key=_group_key)
    if query.descending is not None:

        def value_of(group: Group) -> Decimal:
            readings = groups[group]
            return aggregate(query.meter.aggregation, readings) if readings else Decimal(0)

        if query.descending:
            ordered.sort(key=lambda group: value_of(group).copy_negate())  # stable: ties stay by group
        else:
            ordered.sort(key=value_of)
    return ordered if query.limit is None else ordered[: query.limit]


def _group_key(group: Group) -> list[tuple[bool, str]]:
    return [(name is not None, name or "") for name in group]


def aggregate(aggregation: Aggregation, readings: Sequence[OracleReading]) -> Decimal:
    """One figure of one reading or more."""
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
    total = Decimal(0)
    for reading in readings:
        total = _EXACT.add(total, reading.value)
    if aggregation is Aggregation.SUM:
        return total
    # The quotient is cut far behind the digit that decides; a tie at the 18th digit ends before the 200th.
    return _EXACT.quantize(_EXACT.divide(total, Decimal(len(readings))), _QUANTUM)


def _named(meter: Meter, name: str, reading: OracleReading) -> str | None:
    if name == "customer":
        return reading.customer
    if name == "subject":
        return reading.subject
    for declared, value in zip(meter.dimensions, reading.dimensions, strict=True):
        if declared.name == name:
            return value
    raise ValueError(f"{name!r} is no dimension of the meter {meter.key!r}")


def _passes(meter: Meter, one: Filter, reading: OracleReading) -> bool:
    value = _named(meter, one.name, reading)
    operator, operands = one.operator, one.operands
    if operator is Operator.EXISTS:
        return (value is not None) == (operands[0] == "true")
    if operator in (Operator.NE, Operator.NOT_IN):
        return value is None or value not in operands
    if value is None:
        return False
    if operator in (Operator.EQ, Operator.IN):
        return value in operands
    if operator is Operator.PREFIX:
        return value.startswith(operands[0])
    try:
        number, bound = parse_number(value), parse_number(operands[0])
    except (NotNumeric, NumberOutOfRange):
        return False
    return {
        Operator.GT: number > bound,
        Operator.GTE: number >= bound,
        Operator.LT: number < bound,
        Operator.LTE: number <= bound,
    }[operator]


# -- reading one event ------------------------------------------------------------------------------------------------


class _Number:
    """A number of the JSON text, by its literal."""

    def __init__(self, literal: str) -> None:
        self.literal = "0" if literal == "-0" else literal


def read_one(meter: Meter, event: OracleEvent) -> OracleReading | None:
    """What the event contributes to the meter (of its tenant and type), None when nothing; see reading.py."""
    data: Any = {}
    if event.data:
        data = json.loads(event.data, parse_int=_Number, parse_float=_Number)
    if meter.filter is not None and compile_filter(meter.filter).verdict(event) is not Verdict.MATCH:
        return None
    value, text = Decimal(1), ""
    if meter.value is not None and meter.aggregation is not Aggregation.COUNT:
        found = _at(data, meter.value)
        if meter.aggregation is Aggregation.UNIQUE_COUNT:
            if found is None or isinstance(found, dict | list):
                return None
            value, text = Decimal(0), _as_text(found)
        else:
            if isinstance(found, _Number):
                found = found.literal
            if not isinstance(found, str):
                return None
            try:
                value = parse_number(found)
            except (NotNumeric, NumberOutOfRange):
                return None
    dimensions: list[str | None] = []
    for declared in meter.dimensions:
        found = _at(data, declared.path)
        name = None if found is None else _as_text(found)
        too_long = name is not None and len(name.encode("utf-8")) > _DIMENSION_BYTES_MAX
        dimensions.append(None if too_long else name)
    return OracleReading(
        customer=event.customer,
        subject=event.subject,
        time_us=event.time_us,
        position=event.position,
        value=value,
        text=text,
        dimensions=tuple(dimensions),
    )


def _at(data: Any, path: str) -> Any:
    found = data
    for step in steps_of(path):
        if isinstance(found, dict) and isinstance(step, str) and step in found:
            members: dict[str, Any] = found
            found = members[step]
        elif isinstance(found, list) and isinstance(step, int) and -len(found) <= step < len(found):
            elements: list[Any] = found
            found = elements[step]
        else:
            return None
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, _Number):
        return number_text(value.literal)
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json(value: Any) -> str:
    if isinstance(value, _Number):
        return value.literal
    if isinstance(value, list):
        return "[" + ",".join(_json(element) for element in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(name)}:{_json(member)}" for name, member in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def oracle_events(events: pa.Table) -> list[OracleEvent]:
    """The rows of a table of RECORDED_SCHEMA (identity, content, action and note may be absent)."""
    columns: list[list[Any]] = [
        events.column(name).to_pylist()
        for name in ("tenant", "source", "id", "type", "subject", "customer", "position", "data")
    ]
    times: list[int] = events.column("time").cast(pa.int64()).to_pylist()
    recorded: list[int] = events.column("recorded_at").cast(pa.int64()).to_pylist()
    return [
        OracleEvent(
            tenant=tenant,
            source=source,
            id=event_id,
            type=event_type,
            subject=subject,
            customer=customer,
            time_us=time_us,
            position=position,
            recorded_at_us=recorded_at_us,
            data=data,
        )
        for tenant, source, event_id, event_type, subject, customer, position, data, time_us, recorded_at_us in zip(
            *columns, times, recorded, strict=True
        )
    ]
