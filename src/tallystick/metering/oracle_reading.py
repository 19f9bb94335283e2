"""What an event contributes, for the oracle: slow, obvious, and apart from what `derive` uses.

Shared with the fast path are only the number syntax, paths and compiled expressions.
"""

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tallystick.metering.computed import Failed, compile_value
from tallystick.metering.filter import Verdict, compile_filter
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.number import NotNumeric, NumberOutOfRange, number_text, parse_number
from tallystick.metering.path import steps_of

_DIMENSION_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class OracleEvent:
    """A recorded event. `superseded_at_us`: when it was taken back, or another took its place; None: never."""

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
    superseded_at_us: int | None = None


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
    if meter.read_as is not Aggregation.COUNT:
        found = _value(meter, event, data)
        if meter.read_as is Aggregation.DURATION:
            pair = _at(data, meter.pair_by or "")
            if pair is None or isinstance(pair, dict | list) or found not in ("start", "stop"):
                return None
            value, text = Decimal(1 if found == "start" else 0), _as_text(pair)
        elif meter.read_as is Aggregation.UNIQUE_COUNT:
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
            if meter.read_as is Aggregation.REGISTER and value < 0:
                return None
    dimensions: list[str | None] = []
    for declared in meter.dimensions:
        found = _at(data, declared.path)
        name = None if found is None else _as_text(found)
        too_long = name is not None and len(name.encode("utf-8")) > _DIMENSION_BYTES_MAX
        dimensions.append(None if too_long else name)
    if not event.customer:  # it belongs to nobody yet
        return None
    return OracleReading(
        customer=event.customer,
        subject=event.subject,
        time_us=event.time_us,
        position=event.position,
        value=value,
        text=text,
        dimensions=tuple(dimensions),
    )


def _value(meter: Meter, event: OracleEvent, data: Any) -> Any:
    if meter.value_cel is None:
        return _at(data, meter.value or "")
    given = compile_value(meter.value_cel).value(event)
    if isinstance(given, float) and not math.isfinite(given):
        return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        return _Number(repr(given))
    return None if isinstance(given, Failed) else given


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
