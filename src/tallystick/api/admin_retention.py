"""`/v1/retention`: how long facts of a type are kept. Off for every type until it is set here."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, get, put
from litestar.response import Response

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import changed_meanwhile, etag_of, listed_in
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, operation
from tallystick.catalog.interface import Retention
from tallystick.flows.customers import check_unbound
from tallystick.flows.retention import KEEP_DAYS_MAX
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

TYPE_CHARACTERS_MAX = 256
_KEEP_DAYS = {
    "type": ["integer", "null"],
    "minimum": 1,
    "maximum": KEEP_DAYS_MAX,
    "description": "Days of event time; null: for ever.",
}
_RETENTION = objects(
    {
        "type": STRING,
        "keep_days": _KEEP_DAYS,
        "forgotten_before": {
            **nullable(TIME),
            "description": "Facts from before are deleted. Questions about them are refused (past_retention).",
        },
    }
)


def retention_document(one: Retention) -> dict[str, Any]:
    """Retention of a type on the wire."""
    return {
        "type": one.type,
        "keep_days": one.keep_days,
        "forgotten_before": wire.optional_time_text(one.forgotten_before_us),
    }


def retentions_document(every: Sequence[Retention]) -> dict[str, Any]:
    """What `GET` answers, of which the `ETag` is. How far deleting has come is left out of that: nobody changes it."""
    return {"items": [retention_document(one) for one in every]}


def _etag(every: Sequence[Retention]) -> str:
    return etag_of({"items": [[one.type, one.keep_days] for one in every]})


@put(
    "/v1/retention",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Keep facts of a type for so many days",
            tag="Operation",
            description="Events of the type whose time lies further back are deleted in the background, for good, with their "
            "corrections, duplicates, conflicts and readings. They stay known: a retry is still a duplicate. Types of which "
            "a meter carries figures over (time_weighted, duration, register) are kept.",
            body=objects({"type": STRING, "keep_days": _KEEP_DAYS}, additionalProperties=False),
            body_example={"type": "llm.requests", "keep_days": 730},
            answer=_RETENTION,
            errors=(409, 412),
        )
    },
)
async def set_retention(request: Connection) -> Response[dict[str, Any]]:
    """Set it; `keep_days` null turns it off. `If-Match` takes the `ETag` of the list."""
    who, system = caller(request), wire.system_of(request)
    check_unbound(who.customer)
    fields = await Fields.of_body(request)
    event_type = fields.required_text("type", characters_max=TYPE_CHARACTERS_MAX)
    if "keep_days" not in fields.names():
        fields.fault("keep_days", "missing", "keep_days is required; null keeps the facts for ever.")
    keep_days = fields.integer("keep_days", least=1, most=KEEP_DAYS_MAX)
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    header = request.headers.get("if-match")

    def expected(every: Sequence[Retention]) -> None:
        if header is not None and not listed_in(header, _etag(every)):
            raise changed_meanwhile()

    def change() -> tuple[Retention, str]:
        made = system.catalog.set_retention(
            who.tenant, event_type, keep_days, expected=expected, actor=actor, now_us=now_us
        )
        return made, _etag(system.catalog.retentions(who.tenant))

    made, etag = await in_questions(system, change)
    return Response(retention_document(made), headers={"ETag": etag})


@get(
    "/v1/retention",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="How long facts are kept",
            tag="Operation",
            description="Types that are not listed are kept for ever.",
            answer=objects({"items": array(_RETENTION)}),
        )
    },
)
async def get_retention(request: Connection) -> Response[dict[str, Any]]:
    """All types that have a limit, or had one."""
    who, system = caller(request), wire.system_of(request)
    check_unbound(who.customer)
    wire.check_parameters(request, ())
    found = await in_questions(system, lambda: system.catalog.retentions(who.tenant))
    return Response(retentions_document(found), headers={"ETag": _etag(found)})


ROUTES = [set_retention, get_retention]
