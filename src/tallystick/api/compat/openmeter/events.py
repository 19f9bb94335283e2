"""`POST` and `GET /api/v1/events`, `GET /api/v2/events`.

An event is ours: identity is its source and id, and the first one stays. OpenMeter stores what comes before a bad event
of a batch; here a batch with a bad event stores nothing, so that it may be mended and sent again.
"""

import json
from dataclasses import replace
from typing import Any, cast

import msgspec
from litestar import Request, Response, get, post

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.openmeter.customers import customers_of
from tallystick.api.compat.openmeter.shape import BASE, operation_of, time_text
from tallystick.api.compat.vendor import ulid_of
from tallystick.api.fields import Fields
from tallystick.api.ingest import ce_headers_of
from tallystick.api.openapi import EVENT, EVENT_EXAMPLE, STRING, TIME, array, nullable, objects, query
from tallystick.api.search import encoded
from tallystick.errors import BadRequest, Fault
from tallystick.flows import lookup
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.meter import Meter
from tallystick.metering.reading import Exclusion
from tallystick.store.interface import EventSearch, StoredEvent

Connection = Request[Any, Any, Any]

LIMIT_MAX = 100
SHOWN_FAULTS_MAX = 5

_sources = msgspec.json.Decoder(list[dict[str, msgspec.Raw]] | dict[str, msgspec.Raw])


@post(
    f"{BASE}/v1/events",
    guards=[require("events:write")],
    status_code=204,
    opt={
        "operation": operation_of(
            summary="Send events (OpenMeter)",
            description="Answered once every event is durable. One bad event: nothing of the request is stored.",
            body_types={
                "application/cloudevents+json": {"schema": EVENT, "example": EVENT_EXAMPLE},
                "application/cloudevents-batch+json": {"schema": array(EVENT), "example": [EVENT_EXAMPLE]},
                "application/json": {"schema": {"oneOf": [EVENT, array(EVENT)]}, "example": EVENT_EXAMPLE},
            },
            status=204,
            errors=(408, 507),
        )
    },
)
async def ingest_events(request: Connection) -> None:
    """CloudEvents: structured, batch, plain JSON, and binary mode."""
    body = await taking.body_of(request)
    headers = dict(request.scope["headers"])
    ce_headers = ce_headers_of(headers)
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    decoded = await taking.judged(request, body, content_type=content_type, ce_headers=ce_headers)
    faults = [Fault(f"/{one.index}", one.code, one.detail) for one in decoded.rejected]
    faults += _without_source(decoded.events.source, body, ce_headers)
    if faults:
        shown = " ".join(fault.detail for fault in faults[:SHOWN_FAULTS_MAX])
        raise BadRequest(f"invalid event: {shown}", faults=faults)
    await taking.stored(request, decoded)


def _without_source(sources: list[str], body: bytes, ce_headers: dict[str, str]) -> list[Fault]:
    """OpenMeter needs the source, which we do without."""
    if "/" not in sources:
        return []
    if ce_headers:
        missing = [] if "ce-source" in ce_headers else [0]
    else:
        found = _sources.decode(body)
        events = found if isinstance(found, list) else [found]
        missing = [index for index, event in enumerate(events) if "source" not in event]
    return [Fault(f"/{index}", "missing_source", "`source` is missing.") for index in missing]


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
                query("id", "The event's id."),
                query("subject", "The event's subject."),
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
    limit = fields.integer("limit", least=1, most=LIMIT_MAX) or LIMIT_MAX
    wanted = EventSearch(
        tenant=who.tenant,
        id=fields.text("id"),
        subject=fields.text("subject"),
        from_us=fields.time_us("from"),
        to_us=fields.time_us("to"),
        limit=limit,
    )
    received_from_us, received_to_us = fields.time_us("ingestedAtFrom"), fields.time_us("ingestedAtTo")
    fields.finish()
    if owners is not None:
        named = await customers_of(system, who.tenant, owners)
        wanted = replace(wanted, customers=tuple(one.key for one in named))
    await taking.caught_up(system)
    found = await lookup.search(system, wanted, "recorded", bound=who.customer)
    events = [
        one.event
        for one in found.items
        if (received_from_us is None or one.event.received_at_us >= received_from_us)
        and (received_to_us is None or one.event.received_at_us < received_to_us)
    ]
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
                query("filter", 'JSON over id, source, subject, type and time: `{"subject":{"$eq":"a"}}`.'),
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
    after = None
    if cursor is not None:
        after = fields.faults.attempt(lambda: wire.read_cursor(cursor, (int,)), None)
    conditions = _conditions(fields)
    fields.finish()
    wanted = EventSearch(
        tenant=who.tenant,
        **conditions,
        before_position=cast("int", after[0]) if after else None,
        limit=limit,
    )
    await taking.caught_up(system)
    found = await lookup.search(system, wanted, "recorded", bound=who.customer)
    next_cursor = None if found.next_before is None else wire.make_cursor(found.next_before)
    items = await _documents(system, who.tenant, [one.event for one in found.items])
    return encoded({"items": items, "nextCursor": next_cursor})


def _conditions(fields: Fields) -> dict[str, Any]:
    """The members of an EventSearch for the conditions of `filter`."""
    text = fields.text("filter")
    if text is None:
        return {}
    try:
        given: Any = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        fields.fault("filter", "invalid_value", "filter must be a JSON object.")
        return {}
    made: dict[str, Any] = {}
    for name, condition in cast("dict[str, Any]", given).items():
        operators = cast("dict[str, Any]", condition) if isinstance(condition, dict) else {"$eq": condition}
        for operator, operand in operators.items():
            if operator == "$eq" and name in ("id", "source", "subject") and isinstance(operand, str):
                made[name] = operand
            elif operator in ("$eq", "$in") and name == "type":
                made["types"] = tuple(map(str, operand if isinstance(operand, list) else [operand]))  # pyright: ignore[reportUnknownArgumentType]
            elif operator in ("$gte", "$lt") and name == "time" and isinstance(operand, str):
                bound = "from_us" if operator == "$gte" else "to_us"
                made[bound] = fields.faults.attempt(lambda at=operand: wire.parse_time(at, "filter"), None)
            else:
                fields.fault(
                    "filter", "unknown_operator", f"filter: {name} {operator} is not supported here."
                )
    return made


async def _documents(system: System, tenant: str, events: list[StoredEvent]) -> list[dict[str, Any]]:
    meters = await in_questions(system, lambda: lookup.active_meters(system, tenant))
    return [_document(event, meters.get(event.type, [])) for event in events]


def _document(event: StoredEvent, meters: list[Meter]) -> dict[str, Any]:
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
        "customerId": ulid_of("customer", event.tenant, event.customer) if event.customer else None,
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


ROUTES = [ingest_events, list_events, page_events]
