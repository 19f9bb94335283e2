"""`/v1/backfills`: many events that come to count all at once, and can be taken back all at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from litestar import Request, Response, delete, get, post

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.ingest import ClientGoneError, Ingest, accepted, nothing_accepted
from tallystick.api.openapi import (
    ACCEPTED,
    KEY,
    PAGE,
    STRING,
    TIME,
    events_operation,
    listing,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.api.problem import PROBLEM_TYPE
from tallystick.catalog.interface import BACKFILL_STEPS, Backfill, BackfillRange, BackfillState
from tallystick.errors import BadRequest, Conflict, TimedOut
from tallystick.flows import correct
from tallystick.flows.customers import check_unbound
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store
from tallystick.metering.definition import KEY_PATTERN
from tallystick.observe import logger

Connection = Request[Any, Any, Any]

REASON_CHARACTERS_MAX = 1000
STATES: tuple[BackfillState, ...] = tuple(BACKFILL_STEPS)
COUNTS = ("recorded", "duplicates", "conflicts", "replaced", "retracted")
_PENDING = ("open", "closing")
_PERMANENT = ("closed", "reverted")

_log = logger(__name__)


def backfill_document(backfill: Backfill, *, pending: int) -> dict[str, Any]:
    """A backfill on the wire. `pending`: events laid aside that do not count yet."""
    replace = backfill.replace
    return {
        "key": backfill.key,
        "state": backfill.state,
        "reason": backfill.reason,
        "author": backfill.author,
        "replace": None
        if replace is None
        else {
            "from": wire.time_text(replace.from_us),
            "to": wire.time_text(replace.to_us),
            "type": replace.type,
            "customer": replace.customer,
        },
        "pending": pending,
        "counts": {name: backfill.counts.get(name, 0) for name in COUNTS},
        "opened_at": wire.time_text(backfill.opened_at_us),
        "closed_at": wire.optional_time_text(backfill.closed_at_us),
        "reverted_at": wire.optional_time_text(backfill.reverted_at_us),
    }


def _document(system: System, backfill: Backfill) -> dict[str, Any]:
    """Synchronous: asks the store."""
    waits = backfill.state in _PENDING
    return backfill_document(
        backfill, pending=system.store.staged_count(backfill.tenant, backfill.key) if waits else 0
    )


_COUNT = {"type": "integer", "minimum": 0}
_RANGE = objects(
    {"from": TIME, "to": TIME, "type": nullable(STRING), "customer": nullable(STRING)},
    required=("from", "to"),
    additionalProperties=False,
    description="Events in [from, to) of event time, of this type and customer, are taken away when it is closed.",
)
_BACKFILL = objects(
    {
        "key": KEY,
        "state": {"type": "string", "enum": [*STATES]},
        "reason": STRING,
        "author": STRING,
        "replace": nullable(_RANGE),
        "pending": {**_COUNT, "description": "Events laid aside that do not count yet."},
        "counts": objects(
            dict.fromkeys(COUNTS, _COUNT),
            description="What the last step did: events recorded, duplicates and conflicts that were not, events that took "
            "the place of one with their identity, events taken away.",
        ),
        "opened_at": TIME,
        "closed_at": nullable(TIME),
        "reverted_at": nullable(TIME),
    }
)
_EXAMPLE = {
    "key": "july-gateway-2",
    "reason": "gateway 2 sent nothing on 3 July",
    "replace": {"from": "2026-07-03T00:00:00Z", "to": "2026-07-04T00:00:00Z", "type": "llm.completion"},
}


@post(
    "/v1/backfills",
    guards=[require("events:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Open a backfill",
            tag="Backfills",
            description="Events sent to it are laid aside; none counts before it is closed.",
            body=objects(
                {
                    "key": KEY,
                    "reason": {"type": "string", "minLength": 1, "maxLength": REASON_CHARACTERS_MAX},
                    "replace": nullable(_RANGE),
                },
                required=("key", "reason"),
                additionalProperties=False,
            ),
            body_example=_EXAMPLE,
            answer=_BACKFILL,
            status=201,
            creates=True,
        )
    },
)
async def open_backfill(request: Connection) -> Response[dict[str, Any]]:
    """A new one, open."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = await Fields.of_body(request, nulls=False)
    key = fields.key("key", KEY_PATTERN)
    reason = fields.required_text("reason", characters_max=REASON_CHARACTERS_MAX)
    replace = _replace(fields)
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: system.catalog.create_backfill(
            who.tenant, key, reason=reason, author=who.name, replace=replace, actor=actor, now_us=now_us
        ),
    )
    location = {"Location": f"/v1/backfills/{made.key}"}
    return Response(backfill_document(made, pending=0), status_code=201, headers=location)


def _replace(fields: Fields) -> BackfillRange | None:
    raw = fields.take("replace")
    if raw is None:
        return None
    if not isinstance(raw, dict):
        fields.fault(
            "replace", "invalid_value", 'replace must be an object such as {"from": "…", "to": "…"}.'
        )
        return None
    inner = fields.within({name: value for name, value in raw.items() if value is not None}, "replace")  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    for name in ("from", "to"):
        if inner.take(name) is None:
            inner.fault(name, "missing", f"replace: {name} is required.")
    from_us, to_us = inner.time_us("from"), inner.time_us("to")
    event_type, customer = inner.text("type"), inner.text("customer")
    inner.close()
    if from_us is None or to_us is None:
        return None
    if from_us >= to_us:
        inner.fault("to", "empty_range", "The range [from, to) is empty: from must be earlier than to.")
        return None
    return BackfillRange(from_us, to_us, event_type, customer)


@get(
    "/v1/backfills",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="List backfills",
            tag="Backfills",
            description="Newest first.",
            parameters=[
                query("state", "Only those in this state.", schema={"type": "string", "enum": [*STATES]}),
                *PAGE,
            ],
            answer=listing(_BACKFILL),
        )
    },
)
async def list_backfills(request: Connection) -> dict[str, Any]:
    """A page of them."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    asked = fields.choice("state", STATES)
    fields.finish()
    state: BackfillState | None = next((known for known in STATES if known == asked), None)

    def work() -> dict[str, Any]:
        page = system.catalog.backfills(who.tenant, state=state, cursor=cursor, limit=limit)
        return wire.page_answer([_document(system, one) for one in page.items], page.next_cursor)

    return await in_store(system, work)


@get(
    "/v1/backfills/{key:str}",
    guards=[require("events:read")],
    opt={"operation": operation(summary="Read a backfill", tag="Backfills", answer=_BACKFILL)},
)
async def get_backfill(request: Connection) -> dict[str, Any]:
    """How far it is."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    wire.check_parameters(request, ())
    key = request.path_params["key"]
    return await in_store(system, lambda: _document(system, system.catalog.backfill(who.tenant, key)))


def _staging_operation() -> dict[str, Any]:
    """As that of `POST /v1/events`, without waiting."""
    made = events_operation()
    made["summary"] = "Send events to a backfill"
    made["tags"] = ["Backfills"]
    made["description"] = (
        "The formats of `POST /v1/events`. Answered once every accepted event is durable; none counts before the backfill is "
        "closed. 409 `backfill_not_open` after that."
    )
    made["parameters"] = [one for one in made["parameters"] if one["name"] != "wait"]
    made["responses"] = {
        status: response for status, response in made["responses"].items() if status != "200"
    }
    made["responses"]["202"]["content"] = {"application/json": {"schema": ACCEPTED}}
    made["x-errors"] = sorted({*made["x-errors"], 409})
    return made


@post(
    "/v1/backfills/{key:str}/events",
    guards=[require("events:write")],
    status_code=202,
    request_max_body_size=None,  # the ingest's own bounds hold
    opt={"operation": _staging_operation()},
)
async def stage_events(request: Connection) -> Response[bytes]:
    """Lay events aside."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    wire.check_parameters(request, ())
    key = request.path_params["key"]
    backfill = await in_questions(system, lambda: system.catalog.backfill(who.tenant, key))
    if backfill.state != "open":
        raise Conflict(f"Backfill {key!r} is {backfill.state}, not open.", code="backfill_not_open")
    ingest: Ingest = request.app.state["ingest"]
    headers: dict[bytes, bytes] = dict(request.scope["headers"])
    try:
        decoded = await ingest.decoded(headers, request.receive, tenant=who.tenant)
    except ClientGoneError:
        raise BadRequest("The body ended before it was complete; nothing was stored.") from None
    if not len(decoded.events):
        return Response(nothing_accepted(decoded), media_type=PROBLEM_TYPE, status_code=422)
    position = await correct.stage(system, who.tenant, key, decoded.events)
    return Response(accepted(decoded, position), media_type="application/json", status_code=202)


def _step_operation(summary: str, description: str, state: str) -> dict[str, Any]:
    return operation(
        summary=summary,
        tag="Backfills",
        description=f"{description} Answered 200 when it is done; when that takes longer than a request may wait, 202, and "
        f"`GET` tells when the state is `{state}`. Asking again is safe.",
        answer=_BACKFILL,
        answers={
            202: {
                "description": "Under way.",
                "content": {"application/json": {"schema": _BACKFILL}},
            }
        },
        errors=(409, 507),
    )


@post(
    "/v1/backfills/{key:str}/close",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": _step_operation(
            "Close a backfill",
            "All its events count from one moment on, and what it replaces does not count any more.",
            "closed",
        )
    },
)
async def close_backfill(request: Connection) -> Response[dict[str, Any]]:
    """Let it count."""
    system, who = wire.system_of(request), caller(request)
    return await _step(
        request,
        correct.close_backfill(system, who.tenant, request.path_params["key"], actor=actor_of(request)),
    )


@post(
    "/v1/backfills/{key:str}/revert",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": _step_operation(
            "Revert a backfill",
            "All its events are retracted at one moment, and what it replaced counts again. What was corrected since then "
            "stays corrected.",
            "reverted",
        )
    },
)
async def revert_backfill(request: Connection) -> Response[dict[str, Any]]:
    """Take it back."""
    system, who = wire.system_of(request), caller(request)
    return await _step(
        request,
        correct.revert_backfill(system, who.tenant, request.path_params["key"], actor=actor_of(request)),
    )


_under_way: set[asyncio.Task[Backfill]] = set()
"""Steps whose requests have been answered. Held here, because the loop alone would let them be collected."""


async def _step(request: Connection, work: Coroutine[Any, Any, Backfill]) -> Response[dict[str, Any]]:
    system, who = wire.system_of(request), caller(request)
    try:
        check_unbound(who.customer)
        wire.check_parameters(request, ())
    except BaseException:
        work.close()
        raise
    key = request.path_params["key"]
    # The step goes on when this request has waited long enough, or its client has hung up.
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_done)
    found: Backfill | None = None
    done, _ = await asyncio.wait((task,), timeout=system.settings.wait_s_max)
    if done:
        try:
            found = task.result()
        except TimedOut:
            found = None
    if found is None:
        found = await in_questions(system, lambda: system.catalog.backfill(who.tenant, key))
    status = 200 if found.state in _PERMANENT else 202
    return Response(await in_store(system, lambda: _document(system, found)), status_code=status)


def _done(task: asyncio.Task[Backfill]) -> None:
    _under_way.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.info("backfill step ended", error=repr(error))


@delete(
    "/v1/backfills/{key:str}",
    guards=[require("events:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Discard a backfill",
            tag="Backfills",
            description="Only an open one: what was laid aside is thrown away, and its key may be used again.",
            status=204,
            errors=(409,),
        )
    },
)
async def discard_backfill(request: Connection) -> None:
    """Throw it away."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    wire.check_parameters(request, ())
    await correct.discard_backfill(system, who.tenant, request.path_params["key"], actor=actor_of(request))


ROUTES = [
    open_backfill,
    list_backfills,
    get_backfill,
    stage_events,
    close_backfill,
    revert_backfill,
    discard_backfill,
]
