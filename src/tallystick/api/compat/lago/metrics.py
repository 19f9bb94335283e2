"""`/billable_metrics`. A metric is a meter of ours: its code is key and event type, `field_name` a member of `data`, the
keys of its filters are dimensions. What Lago would do and we do not (carry-over, rounding, expressions) is refused, not
ignored."""

import re
from typing import Any, cast

from litestar import Request, delete, get, post, put

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat.lago.shape import (
    BASE,
    PAGES,
    lago_id,
    listing,
    operation_of,
    page_of,
    paged,
    root_of,
    time_text,
)
from tallystick.api.compat.note import noted, unnoted
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects
from tallystick.errors import NotFound
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.definition import definition_to_wire, parse_meter
from tallystick.metering.meter import Aggregation, Meter

Connection = Request[Any, Any, Any]

NOTE = "lago"
AGGREGATIONS = {
    "count_agg": Aggregation.COUNT,
    "sum_agg": Aggregation.SUM,
    "max_agg": Aggregation.MAX,
    "unique_count_agg": Aggregation.UNIQUE_COUNT,
    "latest_agg": Aggregation.LATEST,
}
_THEIRS = {ours: theirs for theirs, ours in AGGREGATIONS.items()}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_UNSUPPORTED = ("expression", "rounding_function", "rounding_precision", "weighted_interval")


def can_say(meter: Meter) -> bool:
    """Whether Lago has words for a meter of ours."""
    return meter.aggregation in _THEIRS and meter.of is None and meter.value_cel is None


def aggregation_of(meter: Meter) -> str:
    """In Lago's words; a meter it has none for is shown as a sum."""
    return _THEIRS.get(meter.aggregation, "sum_agg")


def path_of(name: str) -> str:
    """The path of a property."""
    if _NAME.match(name):
        return f"$.{name}"
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"$['{escaped}']"


def _name_in(path: str | None) -> str | None:
    if path is None:
        return None
    if path.startswith("$['") and path.endswith("']"):
        return path[3:-2].replace("\\'", "'").replace("\\\\", "\\")
    return path.removeprefix("$.")


def document(meter: Meter) -> dict[str, Any]:
    """A metric as Lago shows it."""
    description, more = unnoted(meter.description, NOTE)
    return {
        "lago_id": lago_id("billable_metric", meter.tenant, meter.key),
        "name": meter.name,
        "code": meter.key,
        "description": description,
        "aggregation_type": aggregation_of(meter),
        "weighted_interval": None,
        "recurring": False,
        "rounding_function": None,
        "rounding_precision": None,
        "created_at": time_text(meter.created_at_us),
        "field_name": _name_in(meter.value),
        "expression": None,
        "filters": more.get("filters", []),
        "active_subscriptions_count": 0,
        "draft_invoices_count": 0,
        "plans_count": 0,
    }


def every(system: System, tenant: str) -> list[Meter]:
    """All meters that Lago has words for. Synchronous."""
    found: list[Meter] = []
    cursor: str | None = None
    while True:
        page = system.catalog.meters(tenant, cursor=cursor, limit=1000)
        found += filter(can_say, page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found


def found(system: System, tenant: str, code: str) -> Meter:
    """By code or id. Synchronous. Raises NotFound (meter_not_found)."""
    try:
        meter = system.catalog.meter(tenant, code)
    except NotFound:
        meter = next(
            (one for one in every(system, tenant) if lago_id("billable_metric", tenant, one.key) == code),
            None,
        )
    if meter is None or meter.archived_at_us is not None or not can_say(meter):
        raise NotFound(f"There is no billable metric {code[:128]!r}.", code="meter_not_found")
    return meter


def _filters(fields: Fields) -> list[dict[str, Any]]:
    given: Any = fields.take("filters")
    if given is None:
        return []
    kept: list[dict[str, Any]] = []
    for one in cast("list[Any]", given) if isinstance(given, list) else [None]:
        filter_ = cast("dict[str, Any]", one) if isinstance(one, dict) else {}
        key, values = filter_.get("key"), filter_.get("values")
        if not isinstance(key, str) or not isinstance(values, list):
            fields.fault("filters", "value_is_invalid", "A filter has a key and values.")
            continue
        kept.append({"key": key, "values": sorted(map(str, cast("list[Any]", values)))})
    return kept


def _refuse_unsupported(fields: Fields) -> None:
    for name in _UNSUPPORTED:
        if fields.take(name) is not None:
            fields.fault(name, "value_is_invalid", f"{name} is not supported here.")
    if fields.boolean("recurring"):
        fields.fault("recurring", "value_is_invalid", "A metric that carries over is not supported here.")


_PROPERTIES: dict[str, dict[str, Any]] = {
    "name": STRING,
    "code": STRING,
    "description": nullable(STRING),
    "aggregation_type": {"type": "string", "enum": list(AGGREGATIONS)},
    "field_name": nullable(STRING),
    "recurring": {"type": ["boolean", "null"]},
    "filters": nullable(array(objects({"key": STRING, "values": array(STRING)}))),
}
_NEW = objects(
    {"billable_metric": objects(_PROPERTIES, required=("name", "code", "aggregation_type"))},
)
_METRIC = objects(
    {"lago_id": STRING, **_PROPERTIES, "created_at": TIME, "filters": array({"type": "object"})},
)
_ONE = objects({"billable_metric": _METRIC})
_EXAMPLE = {
    "billable_metric": {
        "name": "Tokens",
        "code": "tokens",
        "aggregation_type": "sum_agg",
        "field_name": "total",
        "filters": [{"key": "model", "values": ["gpt-4"]}],
    }
}


@post(
    f"{BASE}/billable_metrics",
    guards=[require("meters:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Create a billable metric (Lago)", body=_NEW, body_example=_EXAMPLE, answer=_ONE
        )
    },
)
async def create_metric(request: Connection) -> dict[str, Any]:
    """A new metric."""
    system, tenant = administered(request)
    fields = await root_of(request, "billable_metric")
    name = fields.required_text("name", characters_max=256)
    code = fields.required_text("code", characters_max=128)
    aggregation = fields.required_text("aggregation_type")
    field_name = fields.text("field_name")
    description = fields.text("description")
    filters = _filters(fields)
    if aggregation and aggregation not in AGGREGATIONS:
        fields.fault("aggregation_type", "value_is_invalid", f"One of {', '.join(AGGREGATIONS)}.")
    elif aggregation and aggregation != "count_agg" and field_name is None:
        fields.fault("field_name", "missing", "field_name is needed.")
    _refuse_unsupported(fields)
    fields.faults.raise_any()
    definition = parse_meter(
        {
            "key": code,
            "name": name,
            "event_type": code,
            "aggregation": AGGREGATIONS[aggregation].value,
            "value": None if aggregation == "count_agg" else path_of(str(field_name)),
            "dimensions": {one["key"]: path_of(one["key"]) for one in filters},
            "description": noted(description, NOTE, {"filters": filters or None}),
        }
    )
    actor, now_us = actor_of(request), system.clock.now_us()
    meter = await in_questions(
        system, lambda: system.catalog.create_meter(tenant, definition, actor=actor, now_us=now_us)
    )
    return {"billable_metric": document(meter)}


@get(
    f"{BASE}/billable_metrics",
    guards=[require("meters:read")],
    opt={
        "operation": operation_of(
            summary="List billable metrics (Lago)",
            parameters=PAGES,
            answer=listing("billable_metrics", _METRIC),
        )
    },
)
async def list_metrics(request: Connection) -> dict[str, Any]:
    """A page of them."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    page, size = page_of(fields)
    fields.finish()
    meters = await in_questions(system, lambda: every(system, who.tenant))
    return paged("billable_metrics", [document(one) for one in meters], page, size)


@get(
    f"{BASE}/billable_metrics/{{code:str}}",
    guards=[require("meters:read")],
    opt={"operation": operation_of(summary="Read a billable metric (Lago)", answer=_ONE)},
)
async def get_metric(request: Connection) -> dict[str, Any]:
    """By its code."""
    system, who = wire.system_of(request), caller(request)
    meter = await in_questions(system, lambda: found(system, who.tenant, request.path_params["code"]))
    return {"billable_metric": document(meter)}


@put(
    f"{BASE}/billable_metrics/{{code:str}}",
    guards=[require("meters:write")],
    opt={
        "operation": operation_of(
            summary="Change a billable metric (Lago)",
            description="Name, description, field_name and filters.",
            body=objects({"billable_metric": objects(_PROPERTIES, required=())}),
            body_example={"billable_metric": {"name": "All tokens"}},
            answer=_ONE,
        )
    },
)
async def change_metric(request: Connection) -> dict[str, Any]:
    """The members given."""
    system, tenant = administered(request)
    fields = await root_of(request, "billable_metric")
    present = await in_questions(system, lambda: found(system, tenant, request.path_params["code"]))
    shown = document(present)
    for name in ("code", "aggregation_type"):
        if fields.text(name) not in (None, shown[name]):
            fields.fault(name, "value_is_invalid", f"{name} cannot be changed.")
    field_name = fields.text("field_name") or shown["field_name"]
    filters = _filters(fields) if "filters" in fields.names() else shown["filters"]
    description = fields.text("description") or shown["description"]
    name = fields.text("name") or present.name
    _refuse_unsupported(fields)
    fields.faults.raise_any()
    definition = parse_meter(
        {
            **definition_to_wire(present),
            "name": name,
            "value": None if field_name is None else path_of(field_name),
            "dimensions": {one["key"]: path_of(one["key"]) for one in filters},
            "description": noted(description, NOTE, {"filters": filters or None}),
        }
    )
    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: system.catalog.change_meter(tenant, present.key, definition, actor=actor, now_us=now_us),
    )
    return {"billable_metric": document(changed)}


@delete(
    f"{BASE}/billable_metrics/{{code:str}}",
    guards=[require("meters:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Delete a billable metric (Lago)",
            description="It is archived: its history stays.",
            answer=_ONE,
        )
    },
)
async def delete_metric(request: Connection) -> dict[str, Any]:
    """Archive it, and show it once more."""
    system, tenant = administered(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> Meter:
        meter = found(system, tenant, request.path_params["code"])
        system.catalog.archive_meter(tenant, meter.key, actor=actor, now_us=now_us)
        return meter

    return {"billable_metric": document(await in_questions(system, work))}


ROUTES = [create_metric, list_metrics, get_metric, change_metric, delete_metric]
