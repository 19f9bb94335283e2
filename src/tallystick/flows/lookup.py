"""Finding events, and everything known of one.

What an event contributes is never stored beside it: it is read again from the event by the definitions in force
(metering/reading.py), as the recorder does it.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tallystick.errors import NotFound
from tallystick.flows.attribute import QUARANTINED
from tallystick.flows.customers import narrowed, visible
from tallystick.flows.newest import behind, newest
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store, store_ready
from tallystick.metering.meter import Meter
from tallystick.metering.position import Vector
from tallystick.metering.reading import Exclusion, Reading, read
from tallystick.store.interface import Correction, EventSearch, Repeat, StoredEvent

Status = Literal["recorded", "conflict", "unmetered", "invalid", "retracted", "quarantined"]
STATUSES: tuple[Status, ...] = ("recorded", "conflict", "unmetered", "invalid", "retracted", "quarantined")

SCAN_EVENTS_MAX = 20_000
"""Events one search for invalid ones looks at before it answers what it has, with a cursor to go on from."""
SCAN_PAGE_EVENTS = 1000
REPEATS_SHOWN_MAX = 20
FILTERED = (Exclusion.FILTER_FALSE, Exclusion.QUARANTINED)
"""Reasons that are no defect of the event: the meter does not want it."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What an event gives to one meter, or why nothing."""

    meter: Meter
    reading: Reading | Exclusion


@dataclass(frozen=True, slots=True)
class Found:
    """An event that a search found. `faulty`: the meters it should count for and cannot (only for `invalid`)."""

    event: StoredEvent
    faulty: tuple[Contribution, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Newest first. `next_before`: the place to go on from (flows/newest.py), None at the end. A page may hold fewer than asked for,
    even none, and still go on."""

    items: list[Found]
    next_before: Vector | None
    place: Vector = ()

    def behind(self, count: int) -> Vector | None:
        """The place to go on from after so many of the items; None when nothing is behind them."""
        if count == len(self.items):
            return self.next_before
        return behind(self.place, [one.event for one in self.items[:count]])


@dataclass(frozen=True, slots=True)
class Known:
    """Everything known of one event. `event` is its current version (retracted: the last there was); `sent` is how it was
    recorded, where that is not the same."""

    event: StoredEvent
    sent: StoredEvent | None
    duplicates: int
    repeats: list[Repeat]  # the latest duplicates
    conflicts: int
    conflicting: list[StoredEvent]  # the latest conflicts
    corrected: int
    corrections: list[Correction]  # the latest
    contributions: list[Contribution]  # of the current version; a retracted event makes none


def active_meters(system: System, tenant: str) -> dict[str, list[Meter]]:
    """The meters of a tenant that count now, by event type. Synchronous."""
    by_type: defaultdict[str, list[Meter]] = defaultdict(list)
    for meter in system.catalog.active_meters():
        if meter.tenant == tenant:
            by_type[meter.event_type].append(meter)
    return dict(by_type)


def contributions(meters: Sequence[Meter], event: StoredEvent) -> list[Contribution]:
    """What an event gives to each of the meters of its type."""
    return [Contribution(meter, reading_of(meter, event)) for meter in meters]


def reading_of(meter: Meter, event: StoredEvent) -> Reading | Exclusion:
    """What an event gives to a meter; nothing while it belongs to nobody."""
    return Exclusion.QUARANTINED if event.customer == QUARANTINED else read(meter, event)


async def search(
    system: System, wanted: EventSearch, status: Status, *, bound: str | None, before: Vector | None = None
) -> FoundPage:
    """Events newest first (flows/newest.py), among what has been published, behind the place `before`. `wanted.status` and
    `wanted.as_of_us` are set here; `bound` is the customer the caller is bound to (flows/customers.py).

    - `unmetered`: no active meter has its type;
    - `invalid`: at least one active meter of its type cannot read it;
    - `retracted`: taken back by a correction;
    - `quarantined`: its subject belongs to no customer yet, and it counts for nobody.

    `unmetered` and `invalid` judge the version that counts now, and answer it; the others, the event as it was recorded.
    """
    await store_ready(system)
    published = replace(wanted, as_of_us=system.recorder.recorded_at_us)

    def work() -> FoundPage:
        customers = narrowed(system.catalog, wanted.tenant, bound, wanted.customers)
        asked = replace(published, customers=customers)
        if status == "quarantined":
            # They belong to nobody, so whoever asks for somebody's, or may see only somebody's, finds none.
            if customers is not None:
                return FoundPage([], None)
            return _page(system, before, replace(asked, status="current", customers=(QUARANTINED,)))
        if status in ("recorded", "conflict", "retracted"):
            return _page(system, before, replace(asked, status=status))
        metered = active_meters(system, wanted.tenant)
        asked = replace(asked, status="current")
        if status == "unmetered":
            if asked.types is None:
                return _page(system, before, replace(asked, types_excluded=tuple(sorted(metered))))
            types = tuple(name for name in asked.types if name not in metered)
            return _page(system, before, replace(asked, types=types)) if types else FoundPage([], None)
        types = tuple(sorted(metered if asked.types is None else metered.keys() & set(asked.types)))
        return (
            _invalid(system, before, replace(asked, types=types), metered) if types else FoundPage([], None)
        )

    return await in_questions(system, work)


def _page(system: System, before: Vector | None, wanted: EventSearch) -> FoundPage:
    found = newest(system, wanted, before)
    items = [Found(event) for event in found.events]
    return FoundPage(items, found.behind(len(items)) if found.more else None, found.place)


def _invalid(
    system: System, before: Vector | None, wanted: EventSearch, metered: dict[str, list[Meter]]
) -> FoundPage:
    items: list[Found] = []

    def look(event: StoredEvent) -> bool:
        faulty = tuple(
            given
            for given in contributions(metered[event.type], event)
            if isinstance(given.reading, Exclusion) and given.reading not in FILTERED
        )
        if faulty:
            items.append(Found(event, faulty))
        return len(items) < wanted.limit

    return FoundPage(items, scan(system, wanted, look, events_max=SCAN_EVENTS_MAX, before=before))


def scan(
    system: System,
    wanted: EventSearch,
    look: Callable[[StoredEvent], bool],
    *,
    events_max: int,
    before: Vector | None = None,
) -> Vector | None:
    """Show events newest first, behind the place `before`, to `look` until it answers False or `events_max` have been
    shown. Answers the place to go on from, None when there is nothing more."""
    shown = 0
    while True:
        size = min(SCAN_PAGE_EVENTS, events_max - shown)
        if size == 0:
            return before
        found = newest(system, replace(wanted, limit=size), before)
        for count, event in enumerate(found.events, 1):
            if not look(event):
                return found.behind(count)
        if not found.more:
            return None
        before = found.behind(size)
        shown += size


async def lookup(system: System, tenant: str, source: str, event_id: str, *, bound: str | None) -> Known:
    """Everything known of the event with this identity.

    Raises NotFound (event_not_found) when there is none, or none the caller may see."""

    def work() -> Known:
        as_of_us = system.recorder.recorded_at_us
        event = system.store.lookup(tenant, source, event_id, as_of_us=as_of_us)
        seen = visible(system.catalog, tenant, bound)
        if event is None or (seen is not None and event.customer not in seen):
            raise NotFound(
                f"There is no recorded event {event_id[:80]!r} of source {source[:80]!r}.",
                code="event_not_found",
            )
        duplicates, repeats = system.store.duplicates_of(tenant, source, event_id, limit=REPEATS_SHOWN_MAX)
        conflicts, conflicting = system.store.conflicts_of(tenant, source, event_id, limit=REPEATS_SHOWN_MAX)
        corrected, corrections = system.store.corrections_of(
            tenant, source, event_id, limit=REPEATS_SHOWN_MAX, as_of_us=as_of_us
        )
        sent = system.store.lookup(tenant, source, event_id, as_sent=True) if corrected else None
        meters = active_meters(system, tenant).get(event.type, [])

        # Another content may name another customer's subject: it is not for this caller then.
        def shown(other: StoredEvent | None) -> bool:
            return other is not None and (seen is None or other.customer in seen)

        return Known(
            event=event,
            sent=sent if shown(sent) else None,
            duplicates=duplicates,
            repeats=repeats,
            conflicts=conflicts,
            conflicting=[other for other in conflicting if shown(other)],
            corrected=corrected,
            corrections=[one if shown(one.made) else replace(one, made=None) for one in corrections],
            contributions=contributions(meters, event),
        )

    return await in_store(system, work)
