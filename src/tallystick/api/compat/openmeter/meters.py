"""`/api/v1/meters`. A slug is our key; what our definition has no place for is noted in the description."""

import re
from collections.abc import Callable
from typing import Any

from litestar import Request, Response, delete, get, post, put

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat.note import noted, unnoted
from tallystick.api.compat.openmeter.shape import BASE, operation_of, time_text
from tallystick.api.compat.vendor import ulid_of
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, query
from tallystick.errors import Invalid, NotFound
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.definition import definition_to_wire, parse_meter
from tallystick.metering.meter import Aggregation, Meter

Connection = Request[Any, Any, Any]

NOTE = "openmeter"
AGGREGATIONS = {
    "SUM": Aggregation.SUM,
    "COUNT": Aggregation.COUNT,
    "AVG": Aggregation.AVERAGE,
    "MIN": Aggregation.MIN,
    "MAX": Aggregation.MAX,
    "UNIQUE_COUNT": Aggregation.UNIQUE_COUNT,
    "LATEST": Aggregation.LATEST,
}
_THEIRS = {ours: theirs for theirs, ours in AGGREGATIONS.items()}
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")
_MEMBERS = (
    "slug",
    "name",
    "description",
    "metadata",
    "aggregation",
    "eventType",
    "eventFrom",
    "valueProperty",
    "groupBy",
)


def can_say(meter: Meter) -> bool:
    """Whether OpenMeter has words for a meter of ours."""
    return meter.aggregation in _THEIRS and meter.of is None and meter.value_cel is None


def document(meter: Meter) -> dict[str, Any]:
    """A meter as OpenMeter shows it; members that are absent there are absent here."""
    description, more = unnoted(meter.description, NOTE)
    made: dict[str, Any] = {
        "id": ulid_of("meter", meter.tenant, meter.key),
        "slug": meter.key,
        "name": meter.name,
        "description": description,
        "metadata": more.get("metadata"),
        "aggregation": _THEIRS[meter.aggregation],
        "eventType": meter.event_type,
        "eventFrom": more.get("eventFrom"),
        "valueProperty": meter.value,
        "groupBy": {dimension.name: dimension.path for dimension in meter.dimensions} or None,
        "createdAt": time_text(more.get("createdAtUs", meter.created_at_us)),
        "updatedAt": time_text(meter.created_at_us),
        "deletedAt": None if meter.archived_at_us is None else time_text(meter.archived_at_us),
    }
    return {name: value for name, value in made.items() if value is not None}


async def meter_of(system: System, tenant: str, id_or_slug: str) -> Meter:
    """The meter that a path names by its id or its slug. Raises NotFound (meter_not_found)."""

    def work() -> Meter:
        try:
            found = system.catalog.meter(tenant, id_or_slug)
        except NotFound:
            if not _ULID.match(id_or_slug):
                raise
            found = next((one for one in every(system, tenant) if _id(one) == id_or_slug), None)
        if found is None or found.archived_at_us is not None or not can_say(found):
            raise NotFound(f"not found error: meter {id_or_slug[:128]}", code="meter_not_found")
        return found

    return await in_questions(system, work)


def every(system: System, tenant: str, *, archived: bool = False) -> list[Meter]:
    """All meters of a tenant that OpenMeter has words for. Synchronous."""
    found: list[Meter] = []
    cursor: str | None = None
    while True:
        page = system.catalog.meters(tenant, archived=archived, cursor=cursor, limit=1000)
        found += filter(can_say, page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found


def _id(meter: Meter) -> str:
    return ulid_of("meter", meter.tenant, meter.key)


def _definition(given: dict[str, Any]) -> dict[str, Any]:
    """Our definition of a meter in OpenMeter's words, for `parse_meter` to judge."""
    faults = wire.Faults()
    wire.check_members(given, _MEMBERS, faults)
    aggregation = given.get("aggregation")
    if aggregation not in AGGREGATIONS:
        faults.add(
            "/aggregation", "unknown_aggregation", f"aggregation must be one of {', '.join(AGGREGATIONS)}."
        )
    since: Any = given.get("eventFrom")
    if since is not None:
        since = faults.attempt(lambda: time_text(wire.parse_time(str(since), "/eventFrom")), None)
    _check_metadata(given, faults)
    faults.raise_any()
    members = {"metadata": given.get("metadata"), "eventFrom": since}
    return {
        "key": given.get("slug"),
        "name": given.get("name"),
        "event_type": given.get("eventType"),
        "aggregation": AGGREGATIONS[str(aggregation)].value,
        "value": given.get("valueProperty"),
        "dimensions": given.get("groupBy"),
        "filter": None if since is None else f'time >= timestamp("{since}")',
        "description": noted(_text(given.get("description")), NOTE, members),
    }


def _check_metadata(given: dict[str, Any], faults: wire.Faults) -> None:
    if not isinstance(given.get("metadata"), dict | None):
        faults.add("/metadata", "invalid_value", "metadata must be an object.")
    if not isinstance(given.get("description"), str | None):
        faults.add("/description", "invalid_value", "description must be a string.")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


METER = objects(
    {
        "id": STRING,
        "slug": STRING,
        "name": STRING,
        "description": STRING,
        "metadata": {"type": "object"},
        "aggregation": {"type": "string", "enum": list(AGGREGATIONS)},
        "eventType": STRING,
        "eventFrom": TIME,
        "valueProperty": STRING,
        "groupBy": {"type": "object", "additionalProperties": STRING},
        "createdAt": TIME,
        "updatedAt": TIME,
        "deletedAt": TIME,
    },
    required=("id", "slug", "aggregation", "eventType", "createdAt", "updatedAt"),
)
_NEW = objects(
    {
        "slug": STRING,
        "name": nullable(STRING),
        "description": nullable(STRING),
        "metadata": nullable({"type": "object"}),
        "aggregation": {"type": "string", "enum": list(AGGREGATIONS)},
        "eventType": STRING,
        "eventFrom": nullable(TIME),
        "valueProperty": nullable(STRING),
        "groupBy": nullable({"type": "object", "additionalProperties": STRING}),
    },
    required=("slug", "aggregation", "eventType"),
)
_CHANGE = objects(
    {
        "name": nullable(STRING),
        "description": nullable(STRING),
        "metadata": nullable({"type": "object"}),
        "groupBy": nullable({"type": "object", "additionalProperties": STRING}),
    },
    required=(),
)
_EXAMPLE = {
    "slug": "tokens_total",
    "aggregation": "SUM",
    "eventType": "prompt",
    "valueProperty": "$.tokens",
    "groupBy": {"model": "$.model"},
}


@post(
    f"{BASE}/v1/meters",
    guards=[require("meters:write")],
    status_code=201,
    opt={
        "operation": operation_of(
            summary="Create a meter (OpenMeter)",
            body=_NEW,
            body_example=_EXAMPLE,
            answer=METER,
            status=201,
            errors=(409,),
        )
    },
)
async def create_meter(request: Connection) -> Response[dict[str, Any]]:
    """A new meter."""
    system, tenant = administered(request)
    definition = parse_meter(_definition(await wire.json_object(request)))
    actor, now_us = actor_of(request), system.clock.now_us()
    meter = await in_questions(
        system, lambda: system.catalog.create_meter(tenant, definition, actor=actor, now_us=now_us)
    )
    return Response(document(meter), status_code=201)


_ORDERS: dict[str, Callable[[Meter], Any]] = {
    "key": lambda meter: meter.key,
    "name": lambda meter: meter.name,
    "aggregation": lambda meter: _THEIRS[meter.aggregation],
    "createdAt": lambda meter: document(meter)["createdAt"],
    "updatedAt": lambda meter: meter.created_at_us,
}


@get(
    f"{BASE}/v1/meters",
    guards=[require("meters:read")],
    opt={
        "operation": operation_of(
            summary="List meters (OpenMeter)",
            parameters=[
                query("page", "From 1.", schema={"type": "integer", "minimum": 1}),
                query("pageSize", "At most 1000.", schema={"type": "integer", "minimum": 1, "maximum": 1000}),
                query("order", "ASC or DESC."),
                query("orderBy", ", ".join(_ORDERS)),
                query("includeDeleted", "Archived ones too.", schema={"type": "boolean"}),
            ],
            answer=array(METER),
        )
    },
)
async def list_meters(request: Connection) -> list[dict[str, Any]]:
    """An array, as its clients want it."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    page = fields.integer("page", least=1, most=1_000_000) or 1
    size = fields.integer("pageSize", least=1, most=1000) or 1000
    descending = fields.choice("order", ("ASC", "DESC")) == "DESC"
    order = fields.choice("orderBy", tuple(_ORDERS)) or "createdAt"
    archived = fields.boolean("includeDeleted")
    fields.finish()
    found = await in_questions(system, lambda: every(system, who.tenant, archived=archived))
    found.sort(key=_ORDERS[order], reverse=descending)
    return [document(meter) for meter in found[(page - 1) * size : page * size]]


@get(
    f"{BASE}/v1/meters/{{id_or_slug:str}}",
    guards=[require("meters:read")],
    opt={"operation": operation_of(summary="Read a meter (OpenMeter)", answer=METER)},
)
async def get_meter(request: Connection) -> dict[str, Any]:
    """By its id or slug."""
    system, who = wire.system_of(request), caller(request)
    wire.check_parameters(request, ())
    return document(await meter_of(system, who.tenant, request.path_params["id_or_slug"]))


@put(
    f"{BASE}/v1/meters/{{id_or_slug:str}}",
    guards=[require("meters:write")],
    opt={
        "operation": operation_of(
            summary="Change a meter (OpenMeter)",
            description="Name, description, metadata and groupBy; the rest is fixed.",
            body=_CHANGE,
            body_example={"name": "Tokens", "groupBy": {"model": "$.model"}},
            answer=METER,
            errors=(409,),
        )
    },
)
async def change_meter(request: Connection) -> dict[str, Any]:
    """What is left out becomes empty, as PUT means it; a name left out stays."""
    system, tenant = administered(request)
    given = await wire.json_object(request)
    faults = wire.Faults()
    wire.check_members(given, ("name", "description", "metadata", "groupBy"), faults)
    _check_metadata(given, faults)
    faults.raise_any()
    present = await meter_of(system, tenant, request.path_params["id_or_slug"])
    _, before = unnoted(present.description, NOTE)
    members = {
        "metadata": given.get("metadata"),
        "eventFrom": before.get("eventFrom"),
        # Our versions each have a moment of their own.
        "createdAtUs": before.get("createdAtUs", present.created_at_us),
    }
    definition = parse_meter(
        {
            **definition_to_wire(present),
            "name": given.get("name") or present.name,
            "dimensions": given.get("groupBy"),
            "description": noted(_text(given.get("description")), NOTE, members),
        }
    )

    def unchanged(current: Meter) -> None:
        if current != present:
            raise Invalid("The meter has been changed since it was read; send this again.")

    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: system.catalog.change_meter(
            tenant, present.key, definition, expected=unchanged, actor=actor, now_us=now_us
        ),
    )
    return document(changed)


@delete(
    f"{BASE}/v1/meters/{{id_or_slug:str}}",
    guards=[require("meters:write")],
    status_code=204,
    opt={
        "operation": operation_of(
            summary="Delete a meter (OpenMeter)",
            description="It is archived: its history stays.",
            status=204,
        )
    },
)
async def delete_meter(request: Connection) -> None:
    """Archive it."""
    system, tenant = administered(request)
    meter = await meter_of(system, tenant, request.path_params["id_or_slug"])
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system, lambda: system.catalog.archive_meter(tenant, meter.key, actor=actor, now_us=now_us)
    )


ROUTES = [create_meter, list_meters, get_meter, change_meter, delete_meter]
