"""`/events`: single, in batches of at most 100, by transaction id, and listed.

An event's identity is its subscription and its transaction id: source `lago/<external_subscription_id>`, id
`<transaction_id>`. Its subject is the subscription, which is a customer here (subscriptions.py), its type the code. A
repeat is answered 422 `value_already_exist`, as Lago on PostgreSQL does, and counted once; a batch with a bad or repeated
event stores nothing.
"""

import re
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import msgspec
from litestar import Request, Response, get, post

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.lago import subscriptions
from tallystick.api.compat.lago.shape import (
    BASE,
    PAGES,
    lago_id,
    listing,
    operation_of,
    page_of,
    paged,
    refused,
    time_text,
)
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, query
from tallystick.api.search import encoded
from tallystick.errors import BadRequest, NotFound
from tallystick.flows import lookup
from tallystick.flows.customers import narrowed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store
from tallystick.metering.instant import instant_text
from tallystick.metering.position import Vector
from tallystick.store.interface import EventSearch, StoredEvent

Connection = Request[Any, Any, Any]

BATCH_MAX = 100
LISTED_MAX = 10_000
"""Events that a list goes back; older ones are found by their time."""
SOURCE = "lago/"
_TIMESTAMP = re.compile(r"\d{1,13}(\.\d{1,9})?\Z", re.ASCII)
_ID_CHARACTERS_MAX = 512
_CODES = {
    "invalid_time": ("timestamp", "invalid_format"),
    "time_in_future": ("timestamp", "value_is_invalid"),
    "data_not_object": ("properties", "value_is_invalid"),
    "duplicate_key": ("properties", "value_is_invalid"),
    "nesting_too_deep": ("properties", "value_is_invalid"),
    "event_too_large": ("properties", "value_is_invalid"),
    "unknown_subject": ("external_subscription_id", "value_is_invalid"),
    "invalid_source": ("external_subscription_id", "value_is_invalid"),
}

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_Faults = dict[str, list[str]]


def source_of(subscription: str) -> str:
    """The source of the events of a subscription."""
    return f"{SOURCE}{subscription}"


class _Sent(msgspec.Struct, frozen=True):
    """An event as it was sent, its numbers untouched."""

    transaction_id: str
    subscription: str
    code: str
    timestamp: str | None
    properties: msgspec.Raw | None
    amount: str | None

    def cloudevent(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "id": self.transaction_id,
            "source": source_of(self.subscription),
            "type": self.code,
            "subject": self.subscription,
        }
        if self.timestamp is not None:
            made["time"] = instant_text(int(Decimal(self.timestamp).scaleb(6)))
        if self.properties is not None:
            made["data"] = self.properties
        if self.amount is not None:
            made["precisetotalamountcents"] = self.amount
        return made


def _read(raw: msgspec.Raw) -> _Sent | _Faults:
    """An event, or what is wrong with it, by field."""
    try:
        members = _object.decode(raw)
    except msgspec.DecodeError:
        return {"event": ["value_is_invalid"]}
    given = {name: value for name, value in members.items() if bytes(value) != b"null"}
    faults: _Faults = {}
    texts: dict[str, str] = {}
    for name in ("transaction_id", "code", "external_subscription_id"):
        value = _text(given.get(name))
        if name == "external_subscription_id" and value is None:
            value = _text(given.get("external_customer_id"))
        if not value:
            faults[name] = ["value_is_mandatory"]
        elif len(value) > _ID_CHARACTERS_MAX or "\0" in value:
            faults[name] = ["value_is_invalid"]
        else:
            texts[name] = value
    timestamp = _text(given.get("timestamp"))
    if "timestamp" in given and (timestamp is None or not _TIMESTAMP.match(timestamp)):
        faults["timestamp"] = ["invalid_format"]
    amount = _text(given.get("precise_total_amount_cents"))
    if amount is not None and not _is_decimal(amount):
        faults["precise_total_amount_cents"] = ["value_is_invalid"]
    properties = given.get("properties")
    if properties is not None and bytes(properties)[:1] != b"{":
        faults["properties"] = ["value_is_invalid"]
    if faults:
        return faults
    return _Sent(
        texts["transaction_id"],
        texts["external_subscription_id"],
        texts["code"],
        timestamp,
        properties,
        amount,
    )


def _text(raw: msgspec.Raw | None) -> str | None:
    """A string, or a number as it is written."""
    if raw is None:
        return None
    written = bytes(raw)
    if written[:1] == b'"':
        return cast("str", msgspec.json.decode(written))
    return written.decode() if written[:1] in b"-0123456789" else None


def _is_decimal(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _document(sent: _Sent, tenant: str, now_us: int) -> dict[str, Any]:
    at_us = now_us if sent.timestamp is None else int(Decimal(sent.timestamp).scaleb(6))
    return {
        "lago_id": _id(tenant, sent.subscription, sent.transaction_id),
        "transaction_id": sent.transaction_id,
        "lago_customer_id": None,
        "code": sent.code,
        "timestamp": _millis(at_us),
        "precise_total_amount_cents": sent.amount,
        "properties": sent.properties if sent.properties is not None else {},
        "lago_subscription_id": None,
        "external_subscription_id": sent.subscription,
        "created_at": time_text(now_us),
    }


def _id(tenant: str, subscription: str, transaction_id: str) -> str:
    return lago_id("event", tenant, f"{subscription}\0{transaction_id}")


def _millis(us: int) -> str:
    return f"{time_text(us)[:-1]}.{us // 1000 % 1000:03}Z"


async def _take(request: Connection, events: list[_Sent], *, batch: bool) -> Response[Any] | None:
    """Store them all, or answer why none of them is stored."""
    system, tenant = wire.system_of(request), caller(request).tenant
    repeated = _repeated(events)
    decoded = await taking.judged(request, msgspec.json.encode([one.cloudevent() for one in events]))
    faults: dict[int, _Faults] = {index: {"transaction_id": ["value_already_exist"]} for index in repeated}
    for rejection in decoded.rejected:
        field, code = _CODES.get(rejection.code, ("base", rejection.code))
        faults[rejection.index] = {field: [code]}
    if batch and not faults:
        await taking.caught_up(system)
        known = await in_store(system, lambda: _known(system, tenant, events))
        faults = {index: {"transaction_id": ["value_already_exist"]} for index in known}
    if faults:
        return refused({str(index): one for index, one in sorted(faults.items())} if batch else faults[0])
    positions = await taking.stored(request, decoded)
    if batch:
        return None
    outcome = await taking.outcome_of(system, positions)
    if outcome is not None and (outcome.duplicates or outcome.conflicts):
        return refused({"transaction_id": ["value_already_exist"]})
    return None


def _repeated(events: list[_Sent]) -> list[int]:
    """Places of those that stand in the batch a second time."""
    seen: set[tuple[str, str]] = set()
    found: list[int] = []
    for index, one in enumerate(events):
        identity = (one.subscription, one.transaction_id)
        if identity in seen:
            found.append(index)
        seen.add(identity)
    return found


def _known(system: System, tenant: str, events: list[_Sent]) -> list[int]:
    """Places of those that are recorded already. Synchronous."""
    as_of_us = system.recorder.recorded_at_us
    return [
        index
        for index, one in enumerate(events)
        if system.store.lookup(tenant, source_of(one.subscription), one.transaction_id, as_of_us=as_of_us)
    ]


_SENT = objects(
    {
        "transaction_id": STRING,
        "external_subscription_id": STRING,
        "code": STRING,
        "timestamp": {"type": ["integer", "number", "string", "null"], "description": "Seconds since 1970."},
        "precise_total_amount_cents": {"type": ["string", "number", "null"]},
        "properties": nullable({"type": "object"}),
    },
    required=("transaction_id", "external_subscription_id", "code"),
)
_EVENT = objects(
    {
        "lago_id": nullable(STRING),
        "transaction_id": STRING,
        "lago_customer_id": nullable(STRING),
        "code": STRING,
        "timestamp": TIME,
        "precise_total_amount_cents": nullable(STRING),
        "properties": {"type": "object"},
        "lago_subscription_id": nullable(STRING),
        "external_subscription_id": STRING,
        "created_at": nullable(TIME),
    }
)
_EXAMPLE = {
    "transaction_id": "t-1",
    "external_subscription_id": "sub_1",
    "code": "api_calls",
    "timestamp": 1651240791,
    "properties": {"gb": 10},
}


def _root(body: bytes, name: str) -> msgspec.Raw:
    try:
        found = _object.decode(body).get(name)
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not a JSON object: {error}", code="invalid_json") from None
    if found is None or bytes(found)[:1] not in b"{[":
        raise BadRequest(f"param is missing or the value is empty or invalid: {name}")
    return found


@post(
    f"{BASE}/events",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Send an event (Lago)",
            description="Answered once it is recorded; a repeat is 422 `value_already_exist`.",
            body=objects({"event": _SENT}),
            body_example={"event": _EXAMPLE},
            answer=objects({"event": _EVENT}),
        )
    },
)
async def create_event(request: Connection) -> Response[Any]:
    """One event."""
    sent = _read(_root(await taking.body_of(request), "event"))
    if isinstance(sent, dict):
        return refused(sent)
    refusal = await _take(request, [sent], batch=False)
    if refusal is not None:
        return refusal
    now_us = wire.system_of(request).clock.now_us()
    return encoded({"event": _document(sent, caller(request).tenant, now_us)})


@post(
    f"{BASE}/events/batch",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Send events (Lago)",
            description="At most 100, all or none of them.",
            body=objects({"events": array(_SENT, maxItems=BATCH_MAX)}),
            body_example={"events": [_EXAMPLE]},
            answer=objects({"events": array(_EVENT)}),
        )
    },
)
async def create_events(request: Connection) -> Response[Any]:
    """A batch."""
    try:
        listed = _list.decode(_root(await taking.body_of(request), "events"))
    except msgspec.DecodeError:
        raise BadRequest("param is missing or the value is empty or invalid: events") from None
    if not listed:
        return refused({"events": ["no_events"]})
    if len(listed) > BATCH_MAX:
        return refused({"events": ["too_many_events"]})
    sent: list[_Sent] = []
    faults: dict[str, _Faults] = {}
    for index, raw in enumerate(listed):
        one = _read(raw)
        if isinstance(one, dict):
            faults[str(index)] = one
        else:
            sent.append(one)
    if faults:
        return refused(faults)
    refusal = await _take(request, sent, batch=True)
    if refusal is not None:
        return refusal
    now_us = wire.system_of(request).clock.now_us()
    return encoded({"events": [_document(one, caller(request).tenant, now_us) for one in sent]})


def _recorded(event: StoredEvent) -> dict[str, Any]:
    subscription = event.subject
    more = msgspec.json.decode(event.attributes) if event.attributes else {}
    return {
        "lago_id": _id(event.tenant, subscription, event.id),
        "transaction_id": event.id,
        "lago_customer_id": None,
        "code": event.type,
        "timestamp": _millis(event.time_us),
        "precise_total_amount_cents": more.get("precisetotalamountcents"),
        "properties": msgspec.Raw(event.data) if event.data else {},
        "lago_subscription_id": None,
        "external_subscription_id": subscription,
        "created_at": time_text(event.received_at_us),
    }


async def _search(request: Connection, wanted: EventSearch, most: int) -> list[StoredEvent]:
    """Newest first, at most so many."""
    system, who = wire.system_of(request), caller(request)
    await taking.caught_up(system)
    found: list[StoredEvent] = []
    before: Vector | None = None
    while len(found) < most:
        page = await lookup.search(system, wanted, "recorded", bound=who.customer, before=before)
        found += [one.event for one in page.items]
        if page.next_before is None:
            break
        before = page.next_before
    return found[:most]


@get(
    f"{BASE}/events/{{transaction_id:path}}",
    guards=[require("events:read")],
    opt={"operation": operation_of(summary="Read an event (Lago)", answer=objects({"event": _EVENT}))},
)
async def get_event(request: Connection) -> Response[bytes]:
    """The newest of this transaction id."""
    wire.check_parameters(request, ())
    transaction_id = str(request.path_params["transaction_id"]).removeprefix("/")
    wanted = EventSearch(tenant=caller(request).tenant, id=transaction_id, limit=1)
    found = await _search(request, wanted, 1)
    if not found:
        raise NotFound(f"There is no event {transaction_id[:128]!r}.", code="event_not_found")
    return encoded({"event": _recorded(found[0])})


async def _started_us(request: Connection, subscription: str) -> int:
    """When a subscription began. Raises NotFound (subscription_not_found)."""
    system, tenant = wire.system_of(request), caller(request).tenant
    bound = caller(request).customer

    def work() -> int:
        if system.billing is None:
            raise NotFound("There are no subscriptions here.", code="subscription_not_found")
        if bound is not None:
            # Before it is looked for, so that a refusal tells nothing.
            narrowed(system.catalog, tenant, bound, (subscription,))
        return subscriptions.found(system, tenant, subscription).subscription.start_us

    return await in_questions(system, work)


@get(
    f"{BASE}/events",
    guards=[require("events:read")],
    opt={
        "operation": operation_of(
            summary="List events (Lago)",
            description=f"Newest first; the latest {LISTED_MAX} that fit.",
            parameters=[
                query("code", "Of this billable metric."),
                query("external_subscription_id", "Of this subscription."),
                query("timestamp_from", "Event time, inclusive.", schema=TIME),
                query("timestamp_to", "Event time, exclusive.", schema=TIME),
                query(
                    "timestamp_from_started_at",
                    "From the beginning of the subscription on.",
                    schema={"type": "boolean"},
                ),
                *PAGES,
            ],
            answer=listing("events", _EVENT),
        )
    },
)
async def list_events(request: Connection) -> Response[bytes]:
    """A page of them."""
    fields = Fields.of_query(request)
    page, size = page_of(fields)
    code = fields.text("code")
    subscription = fields.text("external_subscription_id")
    wanted = EventSearch(
        tenant=caller(request).tenant,
        types=None if code is None else (code,),
        subjects=None if subscription is None else (subscription,),
        from_us=fields.time_us("timestamp_from"),
        to_us=fields.time_us("timestamp_to"),
        limit=1000,
    )
    since_started = fields.boolean("timestamp_from_started_at")
    fields.finish()
    if since_started and subscription is not None:
        started_us = await _started_us(request, subscription)
        wanted = replace(wanted, from_us=max(started_us, wanted.from_us or started_us))
    found = await _search(request, wanted, LISTED_MAX)
    return encoded(paged("events", [_recorded(one) for one in found], page, size))


ROUTES = [create_event, create_events, get_event, list_events]
