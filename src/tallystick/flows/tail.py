"""What is recorded, as it is recorded: events and transitions in the order of recording, from any place on.

Everything is read from the store or the catalog, a page at a time, when whoever listens has taken the page before: a slow
listener costs no memory, and one that comes back after a week reads on where it was. An event's place is (moment of
recording, position): nothing is ever recorded at or before a published moment any more, in any partition.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import cast

from tallystick.catalog.alerting import AlertCatalog, Transition
from tallystick.errors import Fault, Invalid, NotFound, Unavailable
from tallystick.flows.customers import narrowed, visible
from tallystick.flows.lookup import reading_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store
from tallystick.metering.meter import Meter
from tallystick.metering.reading import Reading
from tallystick.store.interface import StoredEvent

PAGE_EVENTS = 500
HEARTBEAT_S = 15.0
PAUSE_S = 0.2
"""Between two looks of one listener, so that a flood costs it no more than a look for each."""
TRANSITIONS_LOOK_S = 0.5
POSITION_END = 2**64 - 1
_SPAN_FIRST_US = 60_000_000
_SPAN_MAX_US = 100 * 366 * 86_400_000_000
_SPAN_MIN_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Up to here (and with it) everything was seen."""

    moment_us: int
    position: int = POSITION_END


@dataclass(frozen=True, slots=True)
class TailRequest:
    """What to listen to. None: any. `meter`: events that count for it, with these values of its dimensions."""

    tenant: str
    bound: str | None
    types: tuple[str, ...] | None = None
    customers: tuple[str, ...] | None = None
    meter: str | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order of recording, each with its place; and the place reached, which is behind them where others were
    left out. Without events: nothing new for a while."""

    events: tuple[StoredEvent, ...]
    reached: Place


def check_tail(system: System, request: TailRequest) -> None:
    """Raise Forbidden for another's customer, NotFound for an unknown meter, Invalid for an unknown dimension. Synchronous."""
    narrowed(system.catalog, request.tenant, request.bound, request.customers)
    if request.meter is None:
        return
    meter = system.catalog.meter(request.tenant, request.meter)
    known = {dimension.name for dimension in meter.dimensions}
    faults = [
        Fault(
            f"filter[{name}]", "unknown_dimension", f"The meter {meter.key!r} has no dimension {name[:60]!r}."
        )
        for name in request.dimensions
        if name not in known
    ]
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), code=faults[0].code, faults=faults)


def check_kept(system: System, request: TailRequest, place: Place) -> None:
    """Raise Invalid (past_retention) when events behind this place may have been deleted. Synchronous."""
    types = request.types
    if request.meter is not None:
        types = (system.catalog.meter(request.tenant, request.meter).event_type,)
    for one in system.catalog.retentions(request.tenant):
        if types is not None and one.type not in types:
            continue
        if one.forgotten_before_us is not None and place.moment_us < one.forgotten_before_us:
            detail = (
                f"Events of type {one.type[:60]!r} from before that place are deleted by its retention. Begin without "
                "Last-Event-ID."
            )
            raise Invalid(
                detail, code="past_retention", faults=[Fault("Last-Event-ID", "past_retention", detail)]
            )


async def event_pages(
    system: System,
    request: TailRequest,
    place: Place,
    *,
    heartbeat_s: float = HEARTBEAT_S,
    pause_s: float = PAUSE_S,
) -> AsyncGenerator[EventPage]:
    """Pages of events behind `place`, for as long as the server runs. While the store does not answer: heartbeats."""
    tails, span_us, told_s = system.tails, _SPAN_FIRST_US, _now_s()
    while not tails.closed:
        asked_s = _now_s()
        until_us = min(system.recorder.recorded_at_us, place.moment_us + span_us)
        events: tuple[StoredEvent, ...] = ()
        was_full = False
        if until_us > place.moment_us or place.position < POSITION_END:
            try:
                found, place_after, was_full = await page_behind(
                    system, request, place, max(until_us, place.moment_us)
                )
            except Unavailable:
                await tails.pause(1.0)
            else:
                # Long stretches without events are passed in long steps, full pages are read from short ones.
                span_us = max(span_us // 2, _SPAN_MIN_US) if was_full else span_us
                span_us = span_us if found else min(span_us * 8, _SPAN_MAX_US)
                events, place = found, place_after
        if events or _now_s() - told_s >= heartbeat_s:
            yield EventPage(events, place)
            told_s = _now_s()
        if was_full or system.recorder.recorded_at_us > place.moment_us + span_us:
            continue
        await tails.pause(max(0.0, pause_s - (_now_s() - asked_s)))
        if system.recorder.recorded_at_us <= place.moment_us and not tails.closed:
            left_s = max(0.01, heartbeat_s - (_now_s() - told_s))
            await tails.until(asyncio.ensure_future(system.recorder.wait_for_moment(place.moment_us, left_s)))


async def page_behind(
    system: System, request: TailRequest, place: Place, until_us: int
) -> tuple[tuple[StoredEvent, ...], Place, bool]:
    """Events behind a place that are wanted, up to a published moment; the place reached, and whether there were more than a
    page holds. Raises Unavailable, Forbidden, NotFound (the meter)."""

    def read() -> tuple[tuple[StoredEvent, ...], Place, bool]:
        customers = narrowed(system.catalog, request.tenant, request.bound, request.customers)
        meter, types = None, request.types
        if request.meter is not None:
            meter = system.catalog.meter(request.tenant, request.meter)
            types = (meter.event_type,) if types is None or meter.event_type in types else ()
        if types == ():
            return (), Place(until_us), False
        rows = system.store.events_recorded(
            request.tenant,
            after=(place.moment_us, place.position),
            until_us=until_us,
            types=types,
            customers=customers,
            limit=PAGE_EVENTS,
        )
        is_full = len(rows) >= PAGE_EVENTS
        reached = Place(rows[-1].recorded_at_us, rows[-1].position) if is_full else Place(until_us)
        wanted = rows if meter is None else [row for row in rows if _counts(meter, request.dimensions, row)]
        return tuple(wanted), reached, is_full

    return await in_store(system, read)


def _counts(meter: Meter, dimensions: Mapping[str, str], event: StoredEvent) -> bool:
    reading = reading_of(meter, event)
    if not isinstance(reading, Reading):
        return False
    values = {
        dimension.name: value for dimension, value in zip(meter.dimensions, reading.dimensions, strict=True)
    }
    return all(values[name] == wanted for name, wanted in dimensions.items())


def transitions_of(system: System) -> AlertCatalog:
    """The catalog, as far as it keeps what has happened to alerts."""
    return cast("AlertCatalog", system.catalog)


async def last_transition(system: System, tenant: str) -> int:
    """The number to begin behind, from now on."""
    found = await in_questions(
        system, lambda: transitions_of(system).transitions_after(tenant, None, limit=1)
    )
    return found[-1].number if found else 0


async def transition_pages(
    system: System,
    request: TailRequest,
    number: int,
    *,
    heartbeat_s: float = HEARTBEAT_S,
    look_s: float = TRANSITIONS_LOOK_S,
) -> AsyncGenerator[tuple[tuple[Transition, ...], int]]:
    """Transitions behind a number, and the number reached. A bound caller sees those of alerts of its own."""
    tails, told_s = system.tails, _now_s()

    def read() -> tuple[tuple[Transition, ...], int, bool]:
        seen = visible(system.catalog, request.tenant, request.bound)
        narrowed(system.catalog, request.tenant, request.bound, request.customers)
        rows = transitions_of(system).transitions_after(request.tenant, number, limit=PAGE_EVENTS)
        kept = tuple(
            row
            for row in rows
            if (seen is None or row.owner in seen)
            and (request.customers is None or row.customer in request.customers)
            and _of_meter(system, request, row)
        )
        return kept, rows[-1].number if rows else number, len(rows) >= PAGE_EVENTS

    while not tails.closed:
        is_full = False
        rows: tuple[Transition, ...] = ()
        try:
            rows, number, is_full = await in_questions(system, read)
        except Unavailable:
            await tails.pause(1.0)
        if rows or _now_s() - told_s >= heartbeat_s:
            yield rows, number
            told_s = _now_s()
        if not is_full:
            await tails.pause(look_s)


def _of_meter(system: System, request: TailRequest, row: Transition) -> bool:
    """Whether the alert of a transition watches the meter asked for, or one that reads a type asked for."""
    if request.meter is None and request.types is None:
        return True
    try:
        alert = transitions_of(system).alert(row.tenant, row.owner, row.alert)
        key = json.loads(alert.content).get("meter")
        if key is None or (request.meter is not None and key != request.meter):
            return False
        return request.types is None or system.catalog.meter(row.tenant, key).event_type in request.types
    except NotFound:
        return False


def _now_s() -> float:
    return asyncio.get_running_loop().time()
