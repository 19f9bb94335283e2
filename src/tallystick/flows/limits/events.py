"""The events that a settled reservation records: those of the caller, or ones made for it.

They must give to the meter exactly what is settled, for the customer that reserved it, with the dimensions it was reserved
with: otherwise what was reserved and what is billed would not agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import msgspec

from tallystick.errors import Fault, Invalid
from tallystick.limits.reservation import Dimensions, Reservation
from tallystick.metering.decode import Limits, decode
from tallystick.metering.event import EventColumns
from tallystick.metering.instant import instant_text
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.path import steps_of
from tallystick.metering.reading import Reading, read
from tallystick.money import ZERO, exactly, plain

SOURCE = "/reservations"
"""Of events that are made here."""
_encoder = msgspec.json.Encoder(decimal_format="number")
MADE_MAX = 1000
"""A meter that counts gets an event for each unit."""


@dataclass(frozen=True, slots=True)
class _Event:
    """As expressions see it."""

    tenant: str
    source: str
    id: str
    type: str
    subject: str
    time_us: int
    received_at_us: int
    data: bytes
    attributes: bytes


def made_events(one: Reservation, meter: Meter, amount: Decimal, now_us: int) -> bytes:
    """JSON of events that say so. Raises Invalid (event_needed) for a meter that no event can be made for."""
    if meter.value_cel is not None:
        raise _needed(meter, "its value is an expression")
    data: dict[str, Any] = {}
    count = 1
    if meter.aggregation is Aggregation.COUNT:
        count = int(amount)
        if count > MADE_MAX:
            raise _needed(meter, f"that would be more than {MADE_MAX} events")
    else:
        _put(data, meter, meter.value or "", msgspec.Raw(plain(amount).encode()))
    paths = {dimension.name: dimension.path for dimension in meter.dimensions}
    for name, value in one.dimensions:
        if value is not None and name in paths:
            _put(data, meter, paths[name], value)
    event: dict[str, Any] = {
        "source": SOURCE,
        "type": meter.event_type,
        "subject": one.customer,
        "time": instant_text(now_us),
    }
    if data:
        event["data"] = data
    return msgspec.json.encode(
        [{"id": one.id if number == 1 else f"{one.id}-{number}", **event} for number in range(1, count + 1)]
    )


def _put(data: dict[str, Any], meter: Meter, path: str, value: Any) -> None:
    steps = steps_of(path)
    if not steps or not all(isinstance(step, str) for step in steps):
        raise _needed(meter, f"nothing can be put at {path}")
    place = data
    for step in steps[:-1]:
        inner = place.setdefault(str(step), {})
        if not isinstance(inner, dict):
            raise _needed(meter, f"nothing can be put at {path}")
        place = cast("dict[str, Any]", inner)
    if str(steps[-1]) in place:
        raise _needed(meter, f"nothing can be put at {path}")
    place[str(steps[-1])] = value


def _needed(meter: Meter, why: str) -> Invalid:
    detail = f"Send the event: none can be made for the meter {meter.key!r} ({why})."
    return Invalid(detail, code="event_needed", faults=[Fault("/event", "event_needed", detail)])


def given_event(raw: Mapping[str, Any], now_us: int) -> bytes:
    """JSON of the caller's event; where it has no time, it happens now, also when it is appended again."""
    event = dict(raw)
    if event.get("time") is None:
        event["time"] = instant_text(now_us)
    return _encoder.encode([_numbers(event)])


def _numbers(value: Any) -> Any:
    """Integers beyond 64 bits as decimals, which are written digit by digit."""
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in cast("list[Any]", value)]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return Decimal(value)
    return value


def columns_of(events: bytes, *, tenant: str, received_at_us: int, limits: Limits) -> EventColumns:
    """Raises Invalid with what is wrong with them."""
    decoded = decode(
        events,
        content_type="application/json",
        ce_headers={},
        tenant=tenant,
        received_at_us=received_at_us,
        limits=limits,
    )
    if decoded.rejected:
        faults = [Fault("/event", one.code, one.detail) for one in decoded.rejected]
        raise Invalid(faults[0].detail, code=faults[0].code, faults=faults)
    return decoded.events


@exactly
def contributed(meter: Meter, columns: EventColumns) -> tuple[Decimal, Dimensions]:
    """What they give to the meter together, and the dimensions of the first. Raises Invalid (event_counts_nothing)."""
    total, dimensions = ZERO, None
    for row in range(len(columns)):
        event = _Event(
            columns.tenant,
            columns.source[row],
            columns.id[row],
            columns.type[row],
            columns.subject[row],
            int(columns.time_us[row]),
            columns.received_at_us,
            columns.data[row],
            columns.attributes[row],
        )
        reading = read(meter, event) if event.type == meter.event_type else "another_type"
        if not isinstance(reading, Reading):
            detail = f"The event counts nothing for the meter {meter.key!r} ({reading})."
            raise Invalid(
                detail,
                code="event_counts_nothing",
                faults=[Fault("/event", "event_counts_nothing", detail)],
            )
        total += reading.value
        if dimensions is None:
            dimensions = tuple(
                sorted(
                    (declared.name, value)
                    for declared, value in zip(meter.dimensions, reading.dimensions, strict=True)
                )
            )
    return total, dimensions or ()
