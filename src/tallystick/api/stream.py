"""`GET /v1/stream`: events and transitions as they happen, as Server-Sent Events.

An `id` is a place in the order of recording, and opaque: whoever comes back with it (Last-Event-ID, which browsers send by
themselves) goes on behind it. A comment comes when nothing else does, with the place reached.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request, get
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import Authenticator, address_of, caller, check_scope, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, operation, query
from tallystick.api.search import found_document
from tallystick.api.transitions import transition_document
from tallystick.errors import Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from tallystick.flows.lookup import Found
from tallystick.flows.system import System
from tallystick.flows.tail import (
    POSITION_END,
    Place,
    TailRequest,
    check_kept,
    check_tail,
    event_pages,
    last_transition,
    transition_pages,
)
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
KINDS = ("events", "transitions")
SCOPE = "events:read"
RETRY_MS = 2000
"""How long a client waits before it comes back."""
ID_CHARACTERS_MAX = 64
_EVENT_ID = re.compile(r"e1-([0-9a-f]{1,16})(?:-([0-9a-f]{1,16}))?\Z", re.ASCII)
_TRANSITION_ID = re.compile(r"t1-([0-9a-f]{1,15})\Z", re.ASCII)
_FILTER = re.compile(r"filter\[([^\]]{1,128})\]\Z")


def id_of(place: Place) -> str:
    """A place among events, as `id`."""
    if place.position == POSITION_END:
        return f"e1-{place.moment_us:x}"
    return f"e1-{place.moment_us:x}-{place.position:x}"


def message(place: str, document: Mapping[str, Any]) -> bytes:
    """One message. Its JSON has no line break, so that one `data` line holds it."""
    return b"id: %s\ndata: %s\n\n" % (place.encode(), msgspec.json.encode(document))


def heartbeat(place: str) -> bytes:
    """A comment, and the place reached: browsers keep the id of a message without data, and show none."""
    return b": nothing new\nid: %s\n\n" % place.encode()


@get(
    "/v1/stream",
    guards=[require(SCOPE)],
    opt={
        "operation": operation(
            summary="Listen to events or transitions",
            tag="Events",
            description="Server-Sent Events without end: each event as search shows it (or each transition) when it is "
            "recorded, from now, or behind the `id` in the header Last-Event-ID. See docs/howto/stream.md.",
            parameters=[
                query(
                    "kind",
                    "What to listen to.",
                    schema={"type": "string", "enum": list(KINDS), "default": "events"},
                ),
                query("type", "Events of these types.", repeated=True),
                query("customer", "Of these customers.", repeated=True),
                query("meter", "Events that count for this meter; transitions of alerts on it."),
                query("filter[name]", "Events with this value of a dimension of the meter."),
                query("from", "From what was recorded at this moment on, instead of from now.", schema=TIME),
                query("last_event_id", "As the header, for clients that cannot set one."),
            ],
            answer_types={
                "text/event-stream": {"schema": STRING, "example": 'id: e1-5f\ndata: {"id":"e1"}\n\n'}
            },
            errors=(404, 422, 429),
        )
    },
)
async def stream(request: Connection) -> Stream:
    """Until the client goes, or the server."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    kind = fields.choice("kind", KINDS) or "events"
    header = request.headers.get("last-event-id") or fields.text("last_event_id")
    dimensions: dict[str, str] = {}
    for name in list(fields.names()):
        match = _FILTER.match(name)
        if match is not None:
            dimensions[match[1]] = fields.text(name) or ""
    asked = TailRequest(
        tenant=who.tenant,
        bound=who.customer,
        types=fields.texts("type"),
        customers=fields.texts("customer"),
        meter=fields.text("meter"),
        dimensions=dimensions,
    )
    if dimensions and (asked.meter is None or kind != "events"):
        fields.fault("meter", "missing", "A filter is of a dimension of a meter: kind=events&meter=….")
    from_us = fields.time_us("from")
    if from_us is not None and kind != "events":
        fields.fault("from", "invalid_value", "from is for kind=events.")
    pattern = _EVENT_ID if kind == "events" else _TRANSITION_ID
    place = None if header is None else pattern.match(header[:ID_CHARACTERS_MAX])
    if header is not None and place is None:
        detail = f"{header[:40]!r} is no id of this stream. Send one back as it came, or none to begin now."
        fields.faults.add("Last-Event-ID", "invalid_position", detail)
    fields.finish()
    await in_questions(system, lambda: check_tail(system, asked))
    system.tails.check(who.tenant, max(system.settings.streams_per_tenant_max, 1))
    if kind == "events":
        begin = _begin(system, place, from_us)
        if place is not None or from_us is not None:
            await in_questions(system, lambda: check_kept(system, asked, begin))
        pieces = _events(system, asked, begin)
    else:
        number = int(place[1], 16) if place is not None else await last_transition(system, who.tenant)
        pieces = _transitions(system, asked, number)
    return Stream(
        _listened(request, system, who.tenant, pieces),
        media_type="text/event-stream",
        status_code=200,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _begin(system: System, place: "re.Match[str] | None", from_us: int | None) -> Place:
    if place is not None:
        return Place(int(place[1], 16), POSITION_END if place[2] is None else int(place[2], 16))
    published_us = system.recorder.recorded_at_us
    return Place(published_us if from_us is None else min(from_us - 1, published_us))


async def _events(system: System, asked: TailRequest, begin: Place) -> AsyncGenerator[bytes]:
    async for page in event_pages(system, asked, begin):
        pieces = [
            message(id_of(Place(one.recorded_at_us, one.position)), found_document(Found(one), "recorded"))
            for one in page.events
        ]
        yield b"".join(pieces) or heartbeat(id_of(page.reached))


async def _transitions(system: System, asked: TailRequest, number: int) -> AsyncGenerator[bytes]:
    async for rows, reached in transition_pages(system, asked, number):
        pieces = [message(f"t1-{one.number:x}", transition_document(one)) for one in rows]
        yield b"".join(pieces) or heartbeat(f"t1-{reached:x}")


async def _listened(
    request: Connection, system: System, tenant: str, pieces: AsyncGenerator[bytes]
) -> AsyncGenerator[bytes]:
    """The pieces, for as long as the caller may have them: a key that is revoked ends its streams."""
    with system.tails.listening(tenant):
        yield b"retry: %d\n\n" % RETRY_MS
        try:
            async for piece in pieces:
                if not await _still_may(request):
                    return
                yield piece
        except (Forbidden, NotFound, Invalid):
            return  # the customer or the meter is not there any more
        finally:
            await pieces.aclose()


async def _still_may(request: Connection) -> bool:
    authenticator: Authenticator = request.app.state["authenticator"]
    try:
        found = await authenticator.authenticate(
            request.headers.get("authorization"), address=address_of(request.scope)
        )
        check_scope(found, SCOPE)
    except (Unauthenticated, Forbidden):
        return False
    except Unavailable:
        return True
    return True


ROUTES: Sequence[ControllerRouterHandler] = (stream,)
