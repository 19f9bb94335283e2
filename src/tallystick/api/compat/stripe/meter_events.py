"""`POST /v1/billing/meter_events`, `/v2/billing/meter_events` and `/v2/billing/meter_event_stream`.

An event's identity is its `identifier`, its source names the `event_name`. Stripe refuses an identifier it has seen
within a day (400), unless the request is the same one again, by its `Idempotency-Key`; here it is refused for ever. So
the key is kept as an attribute of the event. Without an identifier one is made of the key: a retry is the same event.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
from litestar import Request, post

from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.stripe.meters import key_of, payload_keys
from tallystick.api.compat.stripe.parameters import SECONDS_END, Parameters
from tallystick.api.compat.stripe.shape import (
    BASE,
    STREAM_PATH,
    SYSTEM,
    form,
    live_mode,
    operation_of,
    seconds,
)
from tallystick.api.compat.vendor import uuid_of
from tallystick.api.openapi import STRING, TIME, array, objects
from tallystick.api.wire import Faults, parse_time, system_of
from tallystick.catalog.interface import Catalog, CustomerSearch
from tallystick.errors import BadRequest, Invalid, NotFound
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store
from tallystick.metering.content import same_content
from tallystick.metering.instant import instant_text
from tallystick.metering.meter import Meter

Connection = Request[Any, Any, Any]

STREAM_EVENTS_MAX = 100
CHARACTERS_MAX = 100
KEY_ATTRIBUTE = "idempotencykey"
_KEY_CHARACTERS_MAX = 255
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)

_INTEGER = {"type": "integer"}
_PAYLOAD = {"type": "object", "additionalProperties": STRING}
_EVENT = {"event_name": STRING, "identifier": STRING, "payload": _PAYLOAD}
_EXAMPLE = {
    "event_name": "tokens",
    "identifier": "req_1",
    "payload": {"stripe_customer_id": "cus_123", "value": "25"},
}


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """A meter event as it was sent. `time_us` None: now."""

    event_name: str
    identifier: str
    payload: dict[str, str]
    time_us: int | None


def source_of(event_name: str) -> str:
    return f"stripe:{event_name}"


# -- reading ---------------------------------------------------------------------------------------------------------
def _read(parameters: Parameters, key: str | None, number: int, *, v2: bool) -> MeterEvent:
    """One event. Faults are left in `parameters`."""
    name = parameters.text("event_name", required=True, characters_max=CHARACTERS_MAX) or ""
    identifier = parameters.text("identifier", characters_max=CHARACTERS_MAX)
    if identifier is None:
        identifier = str(uuid4()) if key is None else uuid_of(SYSTEM, "event", name, key, str(number))
    payload = parameters.texts("payload", required=True) or {}
    time_us: int | None = None
    if not v2:
        timestamp = parameters.integer("timestamp", least=0, most=SECONDS_END - 1)
        time_us = None if timestamp is None else timestamp * 1_000_000
    elif (text := parameters.text("timestamp")) is not None:
        time_us = parameters.faults.attempt(lambda: parse_time(text, parameters.pointer("timestamp")), None)
    return MeterEvent(name, identifier, payload, time_us)


def customer_of(catalog: Catalog, tenant: str, stripe_id: str) -> str:
    """The key of the customer that Stripe knows by this id. Synchronous."""
    found = catalog.customers(tenant, CustomerSearch(external_id=(SYSTEM, stripe_id)), limit=1)
    return found.items[0].key if found.items else stripe_id


def _ours(
    system: System, tenant: str, events: Iterable[tuple[MeterEvent, Parameters]], key: str | None
) -> list[dict[str, Any]]:
    """The events as ours. Synchronous. Raises Invalid for a payload without customer, or without a value where the meter
    reads one: Stripe would throw these away later, and tell a webhook."""
    meters: dict[str, Meter | None] = {}
    customers: dict[str, str] = {}
    made: list[dict[str, Any]] = []
    faults = Faults()
    for event, parameters in events:
        if event.event_name not in meters:
            meters[event.event_name] = _meter(system.catalog, tenant, event.event_name)
        customer_key, value_key = payload_keys(meters[event.event_name])
        place = parameters.pointer("payload")
        stripe_id = event.payload.get(customer_key)
        if not stripe_id:
            faults.add(f"{place}[{customer_key}]", "missing", f"The payload has no {customer_key}.")
            continue
        if value_key is not None and not _NUMBER.match(event.payload.get(value_key, "")):
            detail = f"The payload's {value_key} must be a number."
            faults.add(f"{place}[{value_key}]", "invalid_value", detail)
            continue
        if stripe_id not in customers:
            customers[stripe_id] = customer_of(system.catalog, tenant, stripe_id)
        one: dict[str, Any] = {
            "id": event.identifier,
            "source": source_of(event.event_name),
            "type": event.event_name,
            "subject": customers[stripe_id],
            "data": event.payload,
        }
        if event.time_us is not None:
            one["time"] = instant_text(event.time_us)
        if key is not None:
            one[KEY_ATTRIBUTE] = key
        made.append(one)
    faults.raise_any()
    return made


def _meter(catalog: Catalog, tenant: str, event_name: str) -> Meter | None:
    try:
        meter = catalog.meter(tenant, key_of(event_name))
    except NotFound:
        return None
    return meter if meter.event_type == event_name else None


def _key(request: Connection) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and len(key) > _KEY_CHARACTERS_MAX:
        raise BadRequest(f"Idempotency-Key: at most {_KEY_CHARACTERS_MAX} characters.")
    return key or None


# -- storing ---------------------------------------------------------------------------------------------------------
async def _take(request: Connection, events: list[dict[str, Any]], parameters: list[Parameters]) -> Any:
    """Store the events, all of them or none; answers their positions."""
    decoded = await taking.judged(
        request, msgspec.json.encode(events), content_type="application/cloudevents-batch+json"
    )
    if decoded.rejected:
        faults = Faults()
        for one in decoded.rejected:
            name = "timestamp" if "time" in one.code else "payload"
            faults.add(parameters[one.index].pointer(name), one.code, one.detail)
        raise Invalid(decoded.rejected[0].detail, faults=faults.found)
    return await taking.stored(request, decoded)


async def _single(request: Connection, parameters: Parameters, *, v2: bool) -> tuple[MeterEvent, int, bool]:
    """Take one event: it, the time it was received at, and whether this is no try. Raises BadRequest for an identifier
    that another request has used."""
    system, who = system_of(request), caller(request)
    taking.ingest_of(request)
    key = _key(request)
    event = _read(parameters, key, 0, v2=v2)
    parameters.finish()
    given, livemode = await in_questions(
        system,
        lambda: (
            _ours(system, who.tenant, [(event, parameters)], key),
            live_mode(system, who.tenant),
        ),
    )
    received_us = system.clock.now_us()
    positions = await _take(request, given, [parameters])
    outcome = await taking.outcome_of(system, positions)
    if outcome is not None and (outcome.duplicates or outcome.conflicts):
        received_us = await _repeated(system, who.tenant, event, given[0], key)
    return event, received_us, livemode


async def _repeated(
    system: System, tenant: str, event: MeterEvent, given: dict[str, Any], key: str | None
) -> int:
    """When the event was received first, if this is the same request again. Raises BadRequest."""
    present = await in_store(
        system,
        lambda: system.store.lookup(tenant, source_of(event.event_name), event.identifier, as_sent=True),
    )
    attributes: dict[str, Any] = json.loads(present.attributes) if present and present.attributes else {}
    if present is None or key is None or attributes.get(KEY_ATTRIBUTE) != key:
        raise BadRequest(f"An event already exists with identifier {event.identifier}.")
    content = (given["type"], given["subject"], msgspec.json.encode(given["data"]))
    if not same_content(*content, present.type, present.subject, present.data):
        raise Invalid(
            "Keys for idempotent requests can only be used with the same parameters they were first used with.",
            code="idempotency_key_reused",
        )
    return present.received_at_us


# -- the routes ------------------------------------------------------------------------------------------------------
@post(
    f"{BASE}/v1/billing/meter_events",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Send a meter event (Stripe)",
            description="Answered once the event is recorded. 400 for an `identifier` that another request has used.",
            body_types=form(
                objects(
                    {**_EVENT, "timestamp": _INTEGER},
                    required=("event_name", "payload"),
                ),
                "event_name=tokens&payload%5Bstripe_customer_id%5D=cus_123&payload%5Bvalue%5D=25",
            ),
            answer=objects(
                {
                    "object": STRING,
                    **_EVENT,
                    "created": _INTEGER,
                    "timestamp": _INTEGER,
                    "livemode": {"type": "boolean"},
                }
            ),
            errors=(408, 507),
        )
    },
)
async def create_meter_event(request: Connection) -> dict[str, Any]:
    """One event, form-encoded."""
    parameters = await Parameters.of_form(request)
    event, received_us, livemode = await _single(request, parameters, v2=False)
    return {
        "object": "billing.meter_event",
        "created": seconds(received_us),
        "event_name": event.event_name,
        "identifier": event.identifier,
        "livemode": livemode,
        "payload": event.payload,
        "timestamp": seconds(received_us if event.time_us is None else event.time_us),
    }


@post(
    f"{BASE}/v2/billing/meter_events",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Send a meter event (Stripe v2)",
            description="As v1, in JSON.",
            body=objects({**_EVENT, "timestamp": TIME}, required=("event_name", "payload")),
            body_example=_EXAMPLE,
            answer=objects(
                {
                    "object": STRING,
                    **_EVENT,
                    "created": TIME,
                    "timestamp": TIME,
                    "livemode": {"type": "boolean"},
                }
            ),
            errors=(408, 507),
        )
    },
)
async def create_meter_event_v2(request: Connection) -> dict[str, Any]:
    """One event, in JSON."""
    parameters = await Parameters.of_json(request)
    event, received_us, livemode = await _single(request, parameters, v2=True)
    return {
        "object": "v2.billing.meter_event",
        "created": instant_text(received_us),
        "event_name": event.event_name,
        "identifier": event.identifier,
        "livemode": livemode,
        "payload": event.payload,
        "timestamp": instant_text(received_us if event.time_us is None else event.time_us),
    }


@post(
    STREAM_PATH,
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Send meter events (Stripe v2 stream)",
            description=f"At most {STREAM_EVENTS_MAX}, all of them or none; with the token of a session, or with a key. "
            "Answered once they are durable; an identifier that is there already is counted once.",
            body=objects(
                {
                    "events": array(
                        objects({**_EVENT, "timestamp": TIME}, required=("event_name", "payload")),
                        maxItems=STREAM_EVENTS_MAX,
                    )
                }
            ),
            body_example={"events": [_EXAMPLE]},
            answer={"type": "object"},
            errors=(408, 507),
        )
    },
)
async def stream_meter_events(request: Connection) -> dict[str, Any]:
    """Up to 100 events."""
    system, who = system_of(request), caller(request)
    taking.ingest_of(request)
    parameters = await Parameters.of_json(request)
    key = _key(request)
    listed: Any = parameters.take("events")
    given: list[tuple[MeterEvent, Parameters]] = []
    if not isinstance(listed, list) or not 0 < len(listed) <= STREAM_EVENTS_MAX:  # pyright: ignore[reportUnknownArgumentType]
        parameters.fault("events", "invalid_value", f"events must be an array of 1 to {STREAM_EVENTS_MAX}.")
    else:
        each: list[Any] = listed
        inner = Parameters(
            {str(number): one for number, one in enumerate(each)}, place="events", faults=parameters.faults
        )
        for number in range(len(each)):
            one = inner.within(str(number))
            if one is not None:
                given.append((_read(one, key, number, v2=True), one))
            elif not parameters.faults.found:
                inner.fault(str(number), "missing", f"Missing required param: events[{number}].")
        inner.close()
    parameters.finish()
    events = await in_questions(system, lambda: _ours(system, who.tenant, given, key))
    await _take(request, events, [one for _, one in given])
    return {}


ROUTES = [create_meter_event, create_meter_event_v2, stream_meter_events]
