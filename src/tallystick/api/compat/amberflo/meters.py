"""`/meters`: definitions. An active meter stays as it is at Amberflo; here `PUT` makes a new version of it.

A meter's `id` is made from its key. `lockingStatus` is `close_to_changes` for a meter that counts and `deprecated` for
an archived one; an archived one leaves the list, and to delete it changes nothing more.
"""

from collections.abc import Callable
from typing import Any

from litestar import Request, delete, get, post, put

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat.amberflo.shape import (
    BASE,
    DIMENSIONS,
    VALUE_PATH,
    declared_name,
    dimension_of,
    is_of_records,
    operation_of,
    path_of,
)
from tallystick.api.compat.vendor import uuid_of
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, array, nullable, objects, query
from tallystick.catalog.interface import LIMIT_MAX
from tallystick.errors import BadRequest, Conflict, NotFound
from tallystick.flows import customers
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.definition import definition_to_wire, parse_meter
from tallystick.metering.meter import DIMENSIONS_MAX, Aggregation, Meter

Connection = Request[Any, Any, Any]

LOCKED, DEPRECATED = "close_to_changes", "deprecated"
SUM, UNIQUE, DURATION = "sum_of_all_usage", "active_users", "event_duration"
_TYPES = (SUM, UNIQUE, DURATION)
_TYPE_OF = {
    Aggregation.SUM: SUM,
    Aggregation.COUNT: SUM,
    Aggregation.UNIQUE_COUNT: UNIQUE,
    Aggregation.DURATION: DURATION,
}
_IGNORED = (
    "useInBilling",
    "squashSumMeter",
    "ultraFrequencyUniqueMeter",
    "seatBased",
    "deduplicationConfig",
    "viewGroupingFunction",
    "viewGroupingInterval",
    "viewRescaleFunction",
    "dimensionValuePatterns",
    "sharedWithPartners",
    "enabled",
    "aggregation",
    "eventType",
    "statistics",
    "createTime",
    "updateTime",
    "meterSegment",
)

_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": STRING,
    "label": STRING,
    "meterApiName": STRING,
    "meterType": {"type": "string", "examples": list(_TYPES)},
    "description": nullable(STRING),
    "dimensions": array(STRING),
    "aggregationDimensions": array(STRING),
    "unit": nullable(STRING),
    "timeoutInMinutes": {"type": "integer"},
    "lockingStatus": {"type": "string", "enum": ["open", LOCKED, DEPRECATED]},
}
_METER = objects(_PROPERTIES, required=("id", "label", "meterApiName", "meterType"))
_NEW = objects(_PROPERTIES, required=("label", "meterApiName", "meterType"))
_EXAMPLE = {
    "label": "API calls",
    "meterApiName": "api_calls",
    "meterType": SUM,
    "dimensions": ["region"],
}


def meter_document(meter: Meter) -> dict[str, Any]:
    """A meter as Amberflo shows it."""
    archived_at_us = meter.archived_at_us
    made: dict[str, Any] = {
        "id": uuid_of("amberflo", "meter", meter.key),
        "label": meter.name,
        "meterApiName": meter.key,
        "meterType": _TYPE_OF.get(meter.aggregation, meter.aggregation.value),
        "description": meter.description,
        "dimensions": [
            dimension_of(one.path) if is_of_records(meter) else one.name for one in meter.dimensions
        ],
        "aggregationDimensions": _aggregated(meter),
        "unit": meter.unit,
        "lockingStatus": LOCKED if archived_at_us is None else DEPRECATED,
        "enabled": archived_at_us is None,
        "createTime": meter.created_at_us // 1000,
        "updateTime": (meter.created_at_us if archived_at_us is None else archived_at_us) // 1000,
    }
    if meter.timeout_us is not None:
        made["timeoutInMinutes"] = meter.timeout_us // 60_000_000
    return made


def _aggregated(meter: Meter) -> list[str]:
    """The dimensions that make a distinct value, or a pair."""
    if not is_of_records(meter):
        return []
    if meter.aggregation is Aggregation.DURATION:
        return [] if meter.pair_by is None else [dimension_of(meter.pair_by)]
    if meter.aggregation is not Aggregation.UNIQUE_COUNT:
        return []
    if meter.value is not None:
        return [dimension_of(meter.value)]
    return [dimension_of(path_of(name)) for name in _named_in(meter.value_cel or "")]


def _named_in(expression: str) -> list[str]:
    """The dimensions of an expression that `_joined` made."""
    names: list[str] = []
    for part in expression.split(f"data.{DIMENSIONS}[")[1:]:
        text = part[: part.index("]")]
        names.append(str(wire.parse_json(text.encode())))
    return names


def _joined(names: tuple[str, ...]) -> str:
    """CEL: the values of several dimensions as one distinct value."""
    return ' + "\\n" + '.join(f"data.{DIMENSIONS}[{_quoted(name)}]" for name in names)


def _quoted(name: str) -> str:
    if any(mark in name for mark in '"\\]') or not name.isprintable():
        raise BadRequest(f"aggregationDimensions: {name[:60]!r} has characters that are not supported.")
    return f'"{name}"'


def _definition(fields: Fields) -> dict[str, Any]:
    """Our definition of a meter, from Amberflo's members. Faults are left in `fields`."""
    fields.know(*_IGNORED, "id", "lockingStatus")
    key = fields.required_text("meterApiName")
    kind = fields.required_text("meterType")
    if kind and kind not in _TYPES:
        fields.fault("meterType", "invalid_value", f"Invalid meter type: {kind[:60]}; {', '.join(_TYPES)}.")
    dimensions = fields.texts("dimensions") or ()
    aggregated = fields.texts("aggregationDimensions") or ()
    made: dict[str, Any] = {
        "key": key,
        "name": fields.text("label") or key,
        "event_type": key,
        "description": fields.text("description", characters_max=4096),
        "unit": fields.text("unit"),
        # More are found all the same when they are asked for (usage.py).
        "dimensions": {declared_name(name): path_of(name) for name in dimensions[:DIMENSIONS_MAX]},
        "aggregation": "sum",
        "value": VALUE_PATH,
    }
    timeout_minutes = fields.integer("timeoutInMinutes", least=0, most=527_040)
    if kind in (UNIQUE, DURATION) and not aggregated:
        detail = f"aggregationDimensions: a meter of type {kind} needs at least one."
        fields.fault("aggregationDimensions", "missing", detail)
    elif kind == UNIQUE and aggregated:
        value = path_of(aggregated[0]) if len(aggregated) == 1 else {"cel": _joined(aggregated)}
        made.update(aggregation="unique_count", value=value)
    elif kind == DURATION and aggregated:
        made.update(
            aggregation="duration",
            value={"cel": 'data.meterValue > 0.0 ? "start" : "stop"'},
            pair_by=path_of(aggregated[0]),
            timeout=f"PT{timeout_minutes}M" if timeout_minutes else None,
        )
    return made


@post(
    f"{BASE}/meters",
    guards=[require("meters:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Define a meter (Amberflo)",
            body=_NEW,
            body_example=_EXAMPLE,
            answer=_METER,
        )
    },
)
async def create_meter(request: Connection) -> dict[str, Any]:
    """It counts records that came before it, too."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    fields = Fields(await wire.json_object(request), body=True)
    definition = _definition(fields)
    fields.faults.raise_any()
    parsed = parse_meter(definition)
    actor, now_us = actor_of(request), system.clock.now_us()
    try:
        made = await in_questions(
            system, lambda: system.catalog.create_meter(who.tenant, parsed, actor=actor, now_us=now_us)
        )
    except Conflict as error:
        if error.code != "meter_exists":
            raise
        raise Conflict(f"Meter already exists with meterApiName: {parsed.key}", code="meter_exists") from None
    return meter_document(made)


@put(
    f"{BASE}/meters",
    guards=[require("meters:write")],
    opt={
        "operation": operation_of(
            summary="Change a meter (Amberflo)",
            description="The body holds the `id`. With `lockingStatus` `deprecated` the meter is archived.",
            body=objects(_PROPERTIES, required=("id", "meterApiName")),
            body_example={"id": "0f9c8f6e-0000-8000-8000-000000000000", **_EXAMPLE},
            answer=_METER,
        )
    },
)
async def change_meter(request: Connection) -> dict[str, Any]:
    """A new version; or no more counting."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    document = await wire.json_object(request)
    fields = Fields(document, body=True)
    meter_id, key = fields.text("id"), fields.required_text("meterApiName")
    if meter_id is None and key:
        fields.fault("id", "missing", f"Meter already exists with meterApiName: {key}; its id is required.")
    status = fields.choice("lockingStatus", ("open", LOCKED, DEPRECATED))
    fields.faults.raise_any()
    present = await in_questions(system, lambda: found(system, who.tenant, lambda meter: meter.key == key))
    if uuid_of("amberflo", "meter", key) != meter_id:
        raise NotFound(f"There is no meter with id {str(meter_id)[:60]}.", code="meter_not_found")
    actor, now_us = actor_of(request), system.clock.now_us()
    if status == DEPRECATED:
        return meter_document(
            await in_questions(
                system,
                lambda: system.catalog.archive_meter(who.tenant, key, actor=actor, now_us=now_us),
            )
        )
    present_kind = _TYPE_OF.get(present.aggregation)
    fields = Fields({"meterType": present_kind, "label": present.name, **document}, body=True)
    definition = _definition(fields)
    fields.faults.raise_any()
    if not is_of_records(present):
        # A meter of ours over other events: its words may change here, not what it reads.
        kept = definition_to_wire(present)
        definition = {
            **kept,
            **{name: definition[name] for name in ("name", "unit", "description") if definition[name]},
        }
    parsed = parse_meter(definition)
    return meter_document(
        await in_questions(
            system,
            lambda: system.catalog.change_meter(who.tenant, key, parsed, actor=actor, now_us=now_us),
        )
    )


def all_meters(system: System, tenant: str, *, archived: bool = False) -> list[Meter]:
    """Every meter of a tenant. Synchronous."""
    meters: list[Meter] = []
    cursor: str | None = None
    while True:
        page = system.catalog.meters(tenant, archived=archived, cursor=cursor, limit=LIMIT_MAX)
        meters += page.items
        cursor = page.next_cursor
        if cursor is None:
            return meters


def found(system: System, tenant: str, wanted: Callable[[Meter], bool]) -> Meter:
    """The first meter that is wanted, archived ones too. Synchronous. Raises NotFound."""
    for meter in all_meters(system, tenant, archived=True):
        if wanted(meter):
            return meter
    raise NotFound("There is no such meter. GET /meters lists them.", code="meter_not_found")


@get(
    f"{BASE}/meters",
    guards=[require("meters:read")],
    opt={
        "operation": operation_of(
            summary="List meters (Amberflo)",
            parameters=[query("meterApiName", "The meter of this name alone.")],
            answer=array(_METER),
        )
    },
)
async def list_meters(request: Connection) -> list[dict[str, Any]]:
    """All that are active."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    name = fields.text("meterApiName")
    fields.faults.raise_any()
    meters = await in_questions(system, lambda: all_meters(system, who.tenant))
    return [meter_document(meter) for meter in meters if name is None or meter.key == name]


@get(
    f"{BASE}/meters/{{id:str}}",
    guards=[require("meters:read")],
    opt={"operation": operation_of(summary="Read a meter (Amberflo)", answer=_METER)},
)
async def get_meter(request: Connection) -> dict[str, Any]:
    """By its id."""
    system, who = wire.system_of(request), caller(request)
    meter_id: str = request.path_params["id"]
    meter = await in_questions(system, lambda: found(system, who.tenant, _with_id(meter_id)))
    return meter_document(meter)


@delete(
    f"{BASE}/meters/{{id:str}}",
    guards=[require("meters:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Delete a meter (Amberflo)",
            description="It must be deprecated before. Its history stays readable.",
            answer=_METER,
        )
    },
)
async def delete_meter(request: Connection) -> dict[str, Any]:
    """An archived one is out of the list already."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    meter_id: str = request.path_params["id"]
    meter = await in_questions(system, lambda: found(system, who.tenant, _with_id(meter_id)))
    if meter.archived_at_us is None:
        raise Conflict(f"'lockingStatus' {LOCKED} prevents meter from being deleted")
    return meter_document(meter)


def _with_id(meter_id: str) -> Callable[[Meter], bool]:
    return lambda meter: uuid_of("amberflo", "meter", meter.key) == meter_id


ROUTES = [create_meter, change_meter, list_meters, get_meter, delete_meter]
