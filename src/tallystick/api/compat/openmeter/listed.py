"""`GET /api/v1/events` and `GET /api/v2/events`: newest first, as they were sent, and why one does not count.

What the store cannot be asked for is looked for among the newest events (lookup.SCAN_EVENTS_MAX of them), a page at a
time; the second kind of list says where to go on from. A customer's events are those of its subjects now, whoever had
them when they came, as OpenMeter has it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
from litestar import Request, Response, get

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.openmeter import conditions
from tallystick.api.compat.openmeter.customers import customers_of
from tallystick.api.compat.openmeter.shape import BASE, operation_of, time_text
from tallystick.api.compat.vendor import ulid_of
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, query
from tallystick.api.search import encoded
from tallystick.catalog.interface import Customer
from tallystick.flows import lookup
from tallystick.flows.customers import narrowed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.meter import Meter
from tallystick.metering.position import Vector
from tallystick.metering.reading import Exclusion
from tallystick.store.interface import EventSearch, StoredEvent

Connection = Request[Any, Any, Any]

LIMIT_MAX = 100
_Looks = Callable[[StoredEvent], bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list: events of a search, and what each must be besides. `customers`: whose they are, where that was asked."""

    search: EventSearch
    looks: tuple[_Looks, ...] = ()
    customers: tuple[str, ...] | None = None


_INGESTED = objects(
    {
        "event": {"type": "object"},
        "customerId": STRING,
        "validationError": STRING,
        "ingestedAt": TIME,
        "storedAt": TIME,
    },
    required=("event", "ingestedAt", "storedAt"),
)


@get(
    f"{BASE}/v1/events",
    guards=[require("events:read")],
    opt={
        "operation": operation_of(
            summary="List events (OpenMeter)",
            description="Newest first. `validationError` says why an event does not count.",
            parameters=[
                query("id", "Part of the event's id."),
                query("subject", "The event's subject.", repeated=True),
                query("customerId", "Of these customers.", repeated=True),
                query("from", "Event time, inclusive.", schema=TIME),
                query("to", "Event time, exclusive.", schema=TIME),
                query("ingestedAtFrom", "Time of receipt, inclusive.", schema=TIME),
                query("ingestedAtTo", "Time of receipt, exclusive.", schema=TIME),
                query(
                    "limit", "At most 100.", schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}
                ),
                query("clientId", "Ignored."),
            ],
            answer=array(_INGESTED),
        )
    },
)
async def list_events(request: Connection) -> Response[bytes]:
    """The newest events."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    fields.know("clientId")
    owners = fields.texts("customerId")
    subjects = fields.texts("subject") or ()
    limit = fields.integer("limit", least=1, most=LIMIT_MAX) or LIMIT_MAX
    plain = EventSearch(
        tenant=who.tenant, from_us=fields.time_us("from"), to_us=fields.time_us("to"), limit=limit
    )
    part = fields.part("id")
    received_from_us, received_to_us = fields.time_us("ingestedAtFrom"), fields.time_us("ingestedAtTo")
    fields.finish()
    looks: list[_Looks] = []
    if received_from_us is not None:
        looks.append(lambda event: event.received_at_us >= received_from_us)
    if received_to_us is not None:
        looks.append(lambda event: event.received_at_us < received_to_us)
    people = None if owners is None else await customers_of(system, who.tenant, owners)
    wanted = _of(plain, subjects, people, looks)
    await taking.caught_up(system)
    if part is None:
        events, _ = await _found(system, who.customer, wanted, limit)
    else:
        # The one that is called so is answered however old it is.
        exact = replace(wanted, search=replace(wanted.search, id=part))
        has_part: _Looks = lambda event: part in event.id  # noqa: E731  # typed so
        within = replace(wanted, looks=(*wanted.looks, has_part))
        events, _ = await _found(system, who.customer, within, limit)
        seen = {event.position for event in events}
        called, _ = await _found(system, who.customer, exact, limit)
        events = [*events, *(event for event in called if event.position not in seen)][:limit]
    return encoded(await _documents(system, who.tenant, events))


@get(
    f"{BASE}/v2/events",
    guards=[require("events:read")],
    opt={
        "operation": operation_of(
            summary="Page through events (OpenMeter)",
            parameters=[
                query("cursor", "`nextCursor` of the page before."),
                query(
                    "limit", "At most 100.", schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}
                ),
                query(
                    "filter",
                    "JSON over id, source, subject, type, customerId, time and ingestedAt: "
                    '`{"subject":{"$in":["a","b"]},"time":{"$gte":"2026-03-01T00:00:00Z"}}`.',
                ),
                query("clientId", "Ignored."),
            ],
            answer=objects({"items": array(_INGESTED), "nextCursor": nullable(STRING)}, required=("items",)),
        )
    },
)
async def page_events(request: Connection) -> Response[bytes]:
    """A page of events, newest first."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    fields.know("clientId")
    limit = fields.integer("limit", least=1, most=LIMIT_MAX) or LIMIT_MAX
    cursor = fields.text("cursor")
    before = None if cursor is None else fields.faults.attempt(lambda: wire.read_place_cursor(cursor), None)
    asked = _asked(fields)
    fields.finish()
    plain = EventSearch(tenant=who.tenant, **asked.members, limit=limit)
    people = None if asked.owners is None else await customers_of(system, who.tenant, asked.owners)
    await taking.caught_up(system)
    wanted = _of(plain, (), people, asked.looks)
    events, end = await _found(system, who.customer, wanted, limit, before)
    items = await _documents(system, who.tenant, events)
    return encoded({"items": items, "nextCursor": wire.make_place_cursor(end)})


@dataclass(slots=True)
class _Asked:
    """The conditions of `filter`: members of an EventSearch, ids or keys of customers, and what is left to look at."""

    members: dict[str, Any] = field(default_factory=dict[str, Any])
    owners: tuple[str, ...] | None = None
    looks: list[_Looks] = field(default_factory=list[_Looks])


_TEXTS: dict[str, Callable[[StoredEvent], str]] = {
    "id": lambda event: event.id,
    "source": lambda event: event.source,
    "subject": lambda event: event.subject,
    "type": lambda event: event.type,
}
_TIMES: dict[str, Callable[[StoredEvent], int]] = {
    "time": lambda event: event.time_us,
    "ingestedAt": lambda event: event.received_at_us,
}


def _asked(fields: Fields) -> _Asked:
    made = _Asked()
    text = fields.text("filter")
    if text is None:
        return made
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        fields.fault("filter", "invalid_value", "filter must be a JSON object.")
        return made
    for name, condition in cast("dict[str, Any]", given).items():
        if name in _TEXTS:
            accepts = conditions.of_text(fields, "filter", name, condition)
            if not _narrowed(made, name, condition):
                made.looks.append(_look(accepts, _TEXTS[name]))
        elif name in _TIMES:
            made.looks.append(_look(conditions.of_time(fields, "filter", name, condition), _TIMES[name]))
        elif name == "customerId":
            operands: Any = condition
            if isinstance(condition, dict):
                among = cast("dict[str, Any]", condition)
                operands = among.get("$in", among.get("$eq")) if len(among) == 1 else None
            listed = cast("list[Any]", operands if isinstance(operands, list) else [operands])
            if not all(isinstance(one, str) for one in listed) or len(listed) > LIMIT_MAX:
                fields.fault("filter", "unknown_operator", "filter: customerId takes $eq or $in alone.")
            else:
                made.owners = tuple(cast("list[str]", listed))
        else:
            known = ", ".join((*_TEXTS, *_TIMES, "customerId"))
            fields.fault("filter", "unknown_member", f"filter: there is no {name[:40]!r}; there are {known}.")
    return made


def _look(accepts: conditions.Accepts[Any], member: Callable[[StoredEvent], Any]) -> _Looks:
    return lambda event: accepts(member(event))


def _narrowed(made: _Asked, name: str, condition: object) -> bool:
    """Whether the store can look for it: where it is to be equal to one value."""
    equal: Any = condition
    if isinstance(condition, dict):
        among = cast("dict[str, Any]", condition)
        equal = among.get("$eq") if len(among) == 1 else None
    if not isinstance(equal, str) or not equal:
        return False
    member = {"type": "types", "subject": "subjects"}.get(name)
    if member is None:
        made.members[name] = equal
    else:
        made.members[member] = (equal,)
    return True


def _of(
    plain: EventSearch, subjects: Sequence[str], people: Sequence[Customer] | None, looks: Sequence[_Looks]
) -> Wanted:
    """The search for these subjects, and of them those of these customers."""
    if subjects:
        plain = replace(plain, subjects=tuple(subjects))
    if people is None:
        return Wanted(plain, tuple(looks))
    keys = tuple(one.key for one in people)
    theirs = frozenset(keys) | {subject for one in people for subject in one.subjects}
    return Wanted(replace(plain, belonging=(keys, tuple(sorted(theirs)))), tuple(looks), keys)


async def _found(
    system: System, bound: str | None, wanted: Wanted, limit: int, before: Vector | None = None
) -> tuple[list[StoredEvent], Vector | None]:
    """At most so many events, newest first, and the place to go on from; None: there are no more. Raises Forbidden."""
    found: list[StoredEvent] = []
    seen = 0
    size = lookup.SCAN_PAGE_EVENTS if wanted.looks else limit
    asked = wanted.customers
    if asked is not None:
        await in_questions(system, lambda: narrowed(system.catalog, wanted.search.tenant, bound, asked))
    while seen < lookup.SCAN_EVENTS_MAX:
        page = await lookup.search(
            system, replace(wanted.search, limit=size), "recorded", bound=bound, before=before
        )
        for number, one in enumerate(page.items, 1):
            if all(accepts(one.event) for accepts in wanted.looks):
                found.append(one.event)
            if len(found) == limit:
                return found, page.behind(number)
        before = page.next_before
        if before is None:
            return found, None
        seen += len(page.items)
    return found, before


async def _documents(system: System, tenant: str, events: list[StoredEvent]) -> list[dict[str, Any]]:
    subjects = {event.subject for event in events}

    def work() -> tuple[dict[str, list[Meter]], Mapping[str, str]]:
        owners = system.catalog.resolve_subjects(tenant, subjects)
        return lookup.active_meters(system, tenant), owners

    meters, owners = await in_questions(system, work)
    return [
        _document(event, meters.get(event.type, []), owners.get(event.subject, event.customer))
        for event in events
    ]


def _document(event: StoredEvent, meters: list[Meter], owner: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "event": {
            "id": event.id,
            "source": event.source,
            "specversion": "1.0",
            "type": event.type,
            "subject": event.subject,
            "time": time_text(event.time_us),
            "data": msgspec.Raw(event.data) if event.data else None,
        },
        "customerId": ulid_of("customer", event.tenant, owner) if owner else None,
        "ingestedAt": time_text(event.received_at_us),
        "storedAt": time_text(event.recorded_at_us),
    }
    fault = _validation_error(event, meters)
    if fault is not None:
        made["validationError"] = fault
    return {name: value for name, value in made.items() if value is not None}


def _validation_error(event: StoredEvent, meters: list[Meter]) -> str | None:
    if not meters:
        return f"no meter found for event type: {event.type}"
    for meter in meters:
        found = lookup.reading_of(meter, event)
        if found is Exclusion.VALUE_MISSING:
            return f'invalid event: missing value property: "{meter.value}"'
        if isinstance(found, Exclusion) and found not in lookup.FILTERED:
            return f"invalid event: {found}"
    return None


ROUTES = [list_events, page_events]
