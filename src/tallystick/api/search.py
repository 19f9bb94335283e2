"""`GET /v1/events` and `GET /v1/events/lookup`: which events there are, and everything known of one."""

from typing import Any, cast

import msgspec
from litestar import Request, Response, get

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
    DECIMAL,
    PAGE,
    POSITION,
    STRING,
    TIME,
    array,
    listing,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.flows.event_document import event_document
from tallystick.flows.lookup import STATUSES, Contribution, Found, Known, Status, lookup, search
from tallystick.flows.position import token_of
from tallystick.metering.meter import Aggregation
from tallystick.metering.reading import Reading
from tallystick.store.interface import Correction, EventSearch, Repeat

Connection = Request[Any, Any, Any]

SOURCE_DEFAULT = "/"
RETRACTED = "retracted"
"""Why a retracted event contributes nothing, beside the reasons of metering/reading.py."""


def contribution_document(given: Contribution) -> dict[str, Any]:
    """What an event gives to a meter, or why nothing."""
    meter, reading = given.meter, given.reading
    if not isinstance(reading, Reading):
        return {"meter": meter.key, "version": meter.version, "excluded": str(reading)}
    return {
        "meter": meter.key,
        "version": meter.version,
        "value": reading_value(given),
        "dimensions": {
            dimension.name: value
            for dimension, value in zip(meter.dimensions, reading.dimensions, strict=True)
        },
    }


def reading_value(given: Contribution) -> str | None:
    """A reading's figure as text; the distinct value, for unique_count."""
    if not isinstance(given.reading, Reading):
        return None
    if given.meter.read_as is Aggregation.UNIQUE_COUNT:
        return given.reading.text
    return wire.decimal_text(given.reading.value)


def found_document(found: Found, status: Status) -> dict[str, Any]:
    document = event_document(found.event) | {"status": "retracted" if found.event.retracted else status}
    if found.faulty:
        document["excluded"] = [
            {"meter": given.meter.key, "excluded": str(given.reading)} for given in found.faulty
        ]
    return document


def known_document(known: Known) -> dict[str, Any]:
    return event_document(known.event) | {
        "duplicates": {"count": known.duplicates, "latest": [_repeat(one) for one in known.repeats]},
        "conflict_count": known.conflicts,
        "conflicts": [event_document(event) for event in known.conflicting],
        "retracted": known.event.retracted,
        "as_sent": None if known.sent is None else event_document(known.sent),
        "correction_count": known.corrected,
        "corrections": [_correction(one) for one in known.corrections],
        "readings": [
            {"meter": given.meter.key, "version": given.meter.version, "excluded": RETRACTED}
            if known.event.retracted
            else contribution_document(given)
            for given in known.contributions
        ],
    }


def _correction(correction: Correction) -> dict[str, Any]:
    return {
        "action": correction.action,
        "reason": correction.reason,
        "author": correction.author,
        "backfill": correction.backfill or None,
        "recorded_at": wire.time_text(correction.recorded_at_us),
        "position": token_of((correction.position,)),
        "event": None if correction.made is None else event_document(correction.made),
    }


def _repeat(repeat: Repeat) -> dict[str, Any]:
    return {
        "received_at": wire.time_text(repeat.received_at_us),
        "recorded_at": wire.time_text(repeat.recorded_at_us),
        "position": token_of((repeat.position,)),
    }


_EVENT_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": STRING,
    "source": STRING,
    "type": STRING,
    "subject": STRING,
    "time": TIME,
    "time_source": {"type": "string", "enum": ["event", "received"]},
    "data": {"type": ["object", "null"], "description": "As it was sent."},
    "extensions": {"type": "object", "description": "Further CloudEvents attributes."},
    "customer": STRING,
    "received_at": TIME,
    "recorded_at": TIME,
    "position": POSITION,
}
_EVENT = objects(_EVENT_PROPERTIES)
_FOUND = objects(
    {
        **_EVENT_PROPERTIES,
        "status": {"type": "string", "enum": list(STATUSES)},
        "excluded": {
            **array(objects({"meter": STRING, "excluded": STRING})),
            "description": "For `invalid`.",
        },
    },
    required=(*_EVENT_PROPERTIES, "status"),
)
_COUNT = {"type": "integer"}
_KNOWN = objects(
    {
        **_EVENT_PROPERTIES,
        "duplicates": objects(
            {
                "count": _COUNT,
                "latest": array(objects({"received_at": TIME, "recorded_at": TIME, "position": POSITION})),
            }
        ),
        "conflict_count": _COUNT,
        "conflicts": {**array(_EVENT), "description": "The latest of them."},
        "retracted": {"type": "boolean"},
        "as_sent": {
            **nullable(_EVENT),
            "description": "The event as it was recorded, where corrections came after; null otherwise.",
        },
        "correction_count": _COUNT,
        "corrections": array(
            objects(
                {
                    "action": {"type": "string", "enum": ["retract", "replace"]},
                    "reason": STRING,
                    "author": STRING,
                    "backfill": nullable(STRING),
                    "recorded_at": TIME,
                    "position": POSITION,
                    "event": {**nullable(_EVENT), "description": "What `replace` put in its place."},
                }
            ),
            description="The latest of them, latest first.",
        ),
        "readings": array(
            objects(
                {
                    "meter": STRING,
                    "version": {"type": "integer"},
                    "value": {
                        **DECIMAL,
                        "pattern": "",
                        "description": "The distinct value, for unique_count.",
                    },
                    "dimensions": {"type": "object", "additionalProperties": nullable(STRING)},
                    "excluded": STRING,
                },
                required=("meter", "version"),
            )
        ),
    }
)


@get(
    "/v1/events",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="Search events",
            tag="Events",
            description="Newest first, in the order of recording, found and shown as they were sent (`unmetered` and `invalid`: "
            "as they count now); what corrections made of one is in its look-up. A page of `status=invalid` may hold fewer events than "
            "asked for and still go on: follow `next_cursor` until it is null.",
            parameters=[
                query("source", "The event's source."),
                query("id", "The event's id."),
                query("type", "The event's type.", repeated=True),
                query("customer", "Of these customers.", repeated=True),
                query("subject", "The event's subject."),
                query("from", "Event time, inclusive.", schema=TIME),
                query("to", "Event time, exclusive.", schema=TIME),
                query(
                    "status",
                    "`unmetered`: no meter has its type. `invalid`: a meter of its type cannot read it. `quarantined`: its "
                    "subject belongs to no customer yet.",
                    schema={"type": "string", "enum": list(STATUSES), "default": "recorded"},
                ),
                *PAGE,
            ],
            answer=listing(_FOUND),
        )
    },
)
async def search_events(request: Connection) -> Response[bytes]:
    """A page of events."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    status = cast("Status", fields.choice("status", STATUSES) or "recorded")
    limit, cursor = fields.catalog_page()
    before = None if cursor is None else fields.faults.attempt(lambda: wire.read_place_cursor(cursor), None)
    subject = fields.text("subject")
    wanted = EventSearch(
        tenant=who.tenant,
        source=fields.text("source"),
        id=fields.text("id"),
        types=fields.texts("type"),
        customers=fields.texts("customer"),
        subjects=None if subject is None else (subject,),
        from_us=fields.time_us("from"),
        to_us=fields.time_us("to"),
        limit=limit,
    )
    if wanted.from_us is not None and wanted.to_us is not None and wanted.from_us >= wanted.to_us:
        fields.fault("to", "empty_range", "The range [from, to) is empty: from must be earlier than to.")
    fields.finish()
    found = await search(system, wanted, status, bound=who.customer, before=before)
    next_cursor = wire.make_place_cursor(found.next_before)
    return encoded(wire.page_answer((found_document(one, status) for one in found.items), next_cursor))


@get(
    "/v1/events/lookup",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="Everything known of one event",
            tag="Events",
            parameters=[
                query("source", "The event's source.", schema={**STRING, "default": SOURCE_DEFAULT}),
                query("id", "The event's id.", required=True),
            ],
            answer=_KNOWN,
            errors=(404,),
        )
    },
)
async def lookup_event(request: Connection) -> Response[bytes]:
    """One event by its identity."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    source = fields.text("source") or SOURCE_DEFAULT
    event_id = fields.required_text("id")
    fields.finish()
    known = await lookup(system, who.tenant, source, event_id, bound=who.customer)
    return encoded(known_document(known))


def encoded(document: Any) -> Response[bytes]:
    """A JSON answer whose raw members go out byte for byte."""
    return Response(msgspec.json.encode(document), media_type="application/json", status_code=200)


ROUTES = [search_events, lookup_event]
