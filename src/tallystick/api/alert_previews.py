"""`POST /v1/alerts/preview`: what an alert would have done, before it is set; and what one that is set would have."""

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Request, post
from litestar.types import ControllerRouterHandler

from tallystick.alerting.rule import Rule
from tallystick.api import wire
from tallystick.api.alerts import BODY, EXAMPLE, OWNER_PARAMETER, owned_by
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import TIME, array, nullable, objects, operation
from tallystick.api.transitions import TRANSITION
from tallystick.flows.alerts.definitions import alerts_of, checked, rule_of
from tallystick.flows.alerts.preview import TRANSITIONS_MAX, preview_alert
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
_DAYS_30_US = 30 * 86_400_000_000
_RANGE: dict[str, dict[str, Any]] = {
    "from": {**nullable(TIME), "description": "Default: 30 days before `to`."},
    "to": {**nullable(TIME), "description": "Default: now."},
}
_PREVIEW = objects(
    {
        "from": TIME,
        "to": TIME,
        "fired": {"type": "integer", "description": "How often it would have fired."},
        "recovered": {"type": "integer"},
        "customers": {"type": "integer", "description": "Looked at."},
        "grain_seconds": {
            "type": ["integer", "null"],
            "description": "How finely it was looked at; null: at the end of each window, or at each change.",
        },
        "transitions": array(TRANSITION, description=f"The first {TRANSITIONS_MAX}."),
        "complete": {"type": "boolean", "description": "Whether `transitions` are all of them."},
    }
)


def _range_of(system: System, fields: Fields) -> tuple[int, int]:
    to_us = fields.time_us("to")
    from_us = fields.time_us("from")
    to_us = system.clock.now_us() if to_us is None else to_us
    from_us = to_us - _DAYS_30_US if from_us is None else from_us
    if from_us >= to_us:
        fields.fault("to", "empty_range", "`to` must be later than `from`.")
    return from_us, to_us


async def _answer(system: System, tenant: str, rule: Rule, from_us: int, to_us: int) -> dict[str, Any]:
    replay = await preview_alert(system, tenant, rule, from_us, to_us)
    kinds = [one.kind for _, one in replay.transitions]
    shown = replay.transitions[:TRANSITIONS_MAX]
    return {
        "from": wire.time_text(from_us),
        "to": wire.time_text(to_us),
        "fired": kinds.count("fired"),
        "recovered": kinds.count("recovered"),
        "customers": replay.customers,
        "grain_seconds": None if replay.grain_us is None else replay.grain_us // 1_000_000,
        "transitions": [
            {
                "id": one.id,
                "kind": one.kind,
                "alert": rule.key,
                "owner": None,
                "customer": customer or None,
                "at": wire.time_text(one.at_us),
                "muted": False,
                "summary": one.summary,
                **one.content,
            }
            for customer, one in shown
        ],
        "complete": len(shown) == len(replay.transitions),
    }


@post(
    "/v1/alerts/preview",
    guards=[require("alerts:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="What an alert would have done",
            tag="Alerts",
            description="The members of an alert, with a range beside them. Nothing is set, and nobody is told.",
            body={**BODY, "properties": {**BODY["properties"], **_RANGE}, "required": ["condition"]},
            body_example={**EXAMPLE, "from": "2026-06-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"},
            answer=_PREVIEW,
        )
    },
)
async def preview_new(request: Connection) -> dict[str, Any]:
    """Before it is set."""
    system, who = wire.system_of(request), caller(request)
    wire.check_parameters(request, ())
    members: Mapping[str, Any] = await wire.json_object(request)
    fields = Fields({name: value for name, value in members.items() if name in _RANGE}, body=True)
    from_us, to_us = _range_of(system, fields)
    fields.finish()
    raw = {"key": "new", **{name: value for name, value in members.items() if name not in _RANGE}}
    rule = await in_questions(system, lambda: checked(system, who.tenant, who.customer, raw))
    return await _answer(system, who.tenant, rule, from_us, to_us)


@post(
    "/v1/alerts/{key:str}/preview",
    guards=[require("alerts:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="What an alert that is set would have done",
            tag="Alerts",
            parameters=[OWNER_PARAMETER],
            body=objects(_RANGE, required=(), additionalProperties=False),
            body_example={"from": "2026-06-01T00:00:00Z"},
            body_required=False,
            answer=_PREVIEW,
        )
    },
)
async def preview_present(request: Connection) -> dict[str, Any]:
    """As it is set now."""
    system, tenant, owner = owned_by(request)
    body = await wire.arrived(request)
    fields = Fields(await wire.json_object(request) if body else {}, body=True)
    from_us, to_us = _range_of(system, fields)
    fields.finish()
    key: str = request.path_params["key"]
    kept = await in_questions(system, lambda: alerts_of(system).alert(tenant, owner, key))
    return await _answer(system, tenant, rule_of(kept.content), from_us, to_us)


ROUTES: Sequence[ControllerRouterHandler] = (preview_new, preview_present)
