"""`/v1/meters`: definitions. What a valid one is stands in metering/definition.py, what a change does in the catalog."""

import hashlib
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
    KEY,
    PAGE,
    STRING,
    TIME,
    array,
    listing,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.errors import PreconditionFailed
from tallystick.flows import customers
from tallystick.flows.usage import in_questions
from tallystick.metering.definition import definition_to_wire, parse_meter
from tallystick.metering.meter import INNER, Aggregation, Meter, Window

Connection = Request[Any, Any, Any]


def meter_document(meter: Meter) -> dict[str, Any]:
    """A meter on the wire: all members of its definition, and when this version began."""
    return {
        **definition_to_wire(meter),
        "version": meter.version,
        "created_at": wire.time_text(meter.created_at_us),
        "archived_at": wire.optional_time_text(meter.archived_at_us),
    }


def etag_of(document: dict[str, Any]) -> str:
    """A strong validator: changes with anything a client can see of the resource."""
    return f'"{hashlib.sha256(msgspec.json.encode(document)).hexdigest()[:24]}"'


def listed_in(header: str | None, etag: str) -> bool:
    """Whether an `If-Match` or `If-None-Match` header covers the validator."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def tagged(document: dict[str, Any], *, status: int = 200, **headers: str) -> Response[dict[str, Any]]:
    """An answer with its ETag."""
    return Response(document, status_code=status, headers={"ETag": etag_of(document), **headers})


def read_as(request: Connection, document: dict[str, Any]) -> Response[Any]:
    """What a GET answers: the document with its ETag, or 304 for who has it already."""
    etag = etag_of(document)
    if listed_in(request.headers.get("if-none-match"), etag):
        return Response(None, status_code=304, headers={"ETag": etag})
    return tagged(document)


def check_if_match(request: Connection, document: dict[str, Any]) -> None:
    """Raise PreconditionFailed when the client asks for its change only of a state that is gone."""
    header = request.headers.get("if-match")
    if header is not None and not listed_in(header, etag_of(document)):
        raise changed_meanwhile()


def changed_meanwhile() -> PreconditionFailed:
    return PreconditionFailed("This has been changed since you read it: read it again, then change it.")


_PROPERTIES: dict[str, dict[str, Any]] = {
    "key": KEY,
    "name": STRING,
    "event_type": STRING,
    "aggregation": {"type": "string", "enum": [*Aggregation]},
    "value": {
        "anyOf": [
            {"type": "string", "description": "RFC 9535 singular path into `data`."},
            objects(
                {"cel": {"type": "string", "description": "CEL over the event."}}, additionalProperties=False
            ),
            {"type": "null"},
        ],
        "description": "What an event contributes; not for count. For duration, what says `start` or `stop`.",
    },
    "dimensions": {"type": "object", "additionalProperties": STRING},
    "filter": nullable({"type": "string", "description": "CEL over the event."}),
    "unit": nullable(STRING),
    "description": nullable(STRING),
    "pair_by": nullable(
        {"type": "string", "description": "duration: path of what a start and its stop have in common."}
    ),
    "timeout": nullable(
        {
            "type": "string",
            "format": "duration",
            "description": "time_weighted, duration: how long a level or a start holds at most, ISO 8601 without years "
            "and months: PT1H.",
        }
    ),
    "of": nullable(
        objects(
            {
                "aggregation": {"type": "string", "enum": sorted(INNER)},
                "window": {"type": "string", "enum": [*Window]},
            },
            additionalProperties=False,
            description="`aggregation` is over the figures of this one: maximum a day, summed over the month.",
        )
    ),
}
NEW_METER = objects(_PROPERTIES, required=("key", "event_type", "aggregation"), additionalProperties=False)
_CHANGE = objects(_PROPERTIES, required=(), additionalProperties=False)
_METER = objects(
    {**_PROPERTIES, "version": {"type": "integer"}, "created_at": TIME, "archived_at": nullable(TIME)}
)
NEW_METER_EXAMPLE = {
    "key": "tokens",
    "name": "LLM tokens",
    "event_type": "llm.completion",
    "aggregation": "sum",
    "value": "$.tokens",
    "dimensions": {"model": "$.model", "region": "$.region"},
    "filter": 'data.status == "ok"',
    "unit": "token",
}


@post(
    "/v1/meters",
    guards=[require("meters:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Define a meter",
            tag="Meters",
            description="It counts events recorded before it existed, too.",
            body=NEW_METER,
            body_example=NEW_METER_EXAMPLE,
            answer=_METER,
            status=201,
            creates=True,
        )
    },
)
async def create_meter(request: Connection) -> Response[dict[str, Any]]:
    """A new meter, or the next version of an archived one."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    definition = parse_meter(await wire.json_body(request))
    actor, now_us = actor_of(request), system.clock.now_us()
    meter = await in_questions(
        system, lambda: system.catalog.create_meter(who.tenant, definition, actor=actor, now_us=now_us)
    )
    return tagged(meter_document(meter), status=201, Location=f"/v1/meters/{meter.key}")


@get(
    "/v1/meters",
    guards=[require("meters:read")],
    opt={
        "operation": operation(
            summary="List meters",
            tag="Meters",
            parameters=[
                *PAGE,
                query("include_archived", "Archived ones too.", schema={"type": "boolean"}),
            ],
            answer=listing(_METER),
        )
    },
)
async def list_meters(request: Connection) -> dict[str, Any]:
    """Newest versions by key."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    archived = fields.boolean("include_archived")
    fields.finish()
    page = await in_questions(
        system, lambda: system.catalog.meters(who.tenant, archived=archived, cursor=cursor, limit=limit)
    )
    return wire.page_answer(map(meter_document, page.items), page.next_cursor)


@get(
    "/v1/meters/{key:str}",
    guards=[require("meters:read")],
    opt={
        "operation": operation(
            summary="Read a meter",
            tag="Meters",
            parameters=[
                query("version", "An older version.", schema={"type": "integer", "minimum": 1}),
            ],
            answer=_METER,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_meter(request: Connection) -> Response[Any]:
    """The newest version, or the one asked for; archived ones too."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    version = fields.integer("version", least=1, most=1_000_000_000)
    fields.finish()
    key = request.path_params["key"]
    meter = await in_questions(system, lambda: system.catalog.meter(who.tenant, key, version))
    document = meter_document(meter)
    return read_as(request, document)


@get(
    "/v1/meters/{key:str}/versions",
    guards=[require("meters:read")],
    opt={
        "operation": operation(
            summary="List the versions of a meter",
            tag="Meters",
            answer=objects({"items": array(_METER), "next_cursor": nullable(STRING)}),
        )
    },
)
async def list_versions(request: Connection) -> dict[str, Any]:
    """All of them, oldest first."""
    system, who = wire.system_of(request), caller(request)
    wire.check_parameters(request, ())
    key = request.path_params["key"]
    versions = await in_questions(system, lambda: system.catalog.meter_versions(who.tenant, key))
    return wire.page_answer(map(meter_document, versions), None)


@patch(
    "/v1/meters/{key:str}",
    guards=[require("meters:write")],
    opt={
        "operation": operation(
            summary="Change a meter",
            tag="Meters",
            description="The members given replace the present ones, null removes one. A changed definition is a new "
            "version; a changed name, unit or description is not. `If-Match` guards against a change in between.",
            body=_CHANGE,
            body_example={"dimensions": {"model": "$.model", "region": "$.region", "team": "$.team"}},
            answer=_METER,
            errors=(409, 412),
        )
    },
)
async def change_meter(request: Connection) -> Response[dict[str, Any]]:
    """The members given, merged into the definition and checked as a whole."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    key = request.path_params["key"]
    change = await wire.json_object(request)
    present = await in_questions(system, lambda: system.catalog.meter(who.tenant, key))
    check_if_match(request, meter_document(present))
    definition = parse_meter(definition_to_wire(present) | change)
    actor, now_us = actor_of(request), system.clock.now_us()

    def unchanged(current: Meter) -> None:
        # The change was merged into what was read: another one in between must not be lost, asked for or not.
        if current != present:
            raise changed_meanwhile()

    meter = await in_questions(
        system,
        lambda: system.catalog.change_meter(
            who.tenant, key, definition, expected=unchanged, actor=actor, now_us=now_us
        ),
    )
    return tagged(meter_document(meter))


@delete(
    "/v1/meters/{key:str}",
    guards=[require("meters:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Archive a meter",
            tag="Meters",
            description="It counts nothing any more; its history stays readable.",
            status=204,
            errors=(412,),
        )
    },
)
async def archive_meter(request: Connection) -> None:
    """Archive; idempotent."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    key = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system,
        lambda: system.catalog.archive_meter(
            who.tenant,
            key,
            expected=lambda present: check_if_match(request, meter_document(present)),
            actor=actor,
            now_us=now_us,
        ),
    )


ROUTES = [create_meter, list_meters, get_meter, list_versions, change_meter, archive_meter]
