"""`POST /v1/billing/meter_event_adjustments` and `/v2/…`: an event is cancelled, which is a correction here.

Stripe allows it within a day of receipt; here, always. It counts when it is answered.
"""

from typing import Any

from litestar import Request, post

from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat.stripe.meter_events import CHARACTERS_MAX, source_of
from tallystick.api.compat.stripe.parameters import Parameters
from tallystick.api.compat.stripe.shape import BASE, form, live_mode, operation_of
from tallystick.api.compat.vendor import uuid_of
from tallystick.api.openapi import STRING, TIME, objects
from tallystick.api.wire import invalid, system_of
from tallystick.flows.correct import correct
from tallystick.flows.customers import check_unbound
from tallystick.flows.usage import in_questions
from tallystick.metering.instant import instant_text

Connection = Request[Any, Any, Any]

REASON = "stripe: meter event adjustment"
_GIVEN = {
    "event_name": STRING,
    "type": {"type": "string", "enum": ["cancel"]},
    "cancel": objects({"identifier": STRING}),
}
_ADJUSTMENT = {
    "object": STRING,
    **_GIVEN,
    "status": {"type": "string", "enum": ["pending", "complete"]},
    "livemode": {"type": "boolean"},
}
_EXAMPLE = {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "req_1"}}


async def _cancel(request: Connection, parameters: Parameters) -> dict[str, Any]:
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    name = parameters.text("event_name", required=True, characters_max=CHARACTERS_MAX) or ""
    parameters.choice("type", ("cancel",), required=True)
    cancel = parameters.within("cancel")
    identifier = ""
    if cancel is None:
        parameters.fault("cancel", "missing", "Missing required param: cancel[identifier].")
    else:
        identifier = cancel.text("identifier", required=True, characters_max=CHARACTERS_MAX) or ""
    parameters.finish()
    result = await correct(
        system,
        who.tenant,
        reason=REASON,
        actor=actor_of(request),
        retract=[(source_of(name), identifier)],
        replacements=None,
    )
    if result.statuses == ["not_found"]:
        detail = f"No event {name[:100]} with the identifier {identifier[:100]} was found."
        raise invalid("cancel[identifier]", "not_found", detail)
    livemode = await in_questions(system, lambda: live_mode(system, who.tenant))
    return {
        "cancel": {"identifier": identifier},
        "event_name": name,
        "livemode": livemode,
        "status": "complete",
        "type": "cancel",
    }


@post(
    f"{BASE}/v1/billing/meter_event_adjustments",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Cancel a meter event (Stripe)",
            body_types=form(objects(_GIVEN), "event_name=tokens&type=cancel&cancel%5Bidentifier%5D=req_1"),
            answer=objects(_ADJUSTMENT),
            errors=(507,),
        )
    },
)
async def create_adjustment(request: Connection) -> dict[str, Any]:
    """To cancel it again changes nothing."""
    parameters = await Parameters.of_form(request)
    return {"object": "billing.meter_event_adjustment", **await _cancel(request, parameters)}


@post(
    f"{BASE}/v2/billing/meter_event_adjustments",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Cancel a meter event (Stripe v2)",
            body=objects(_GIVEN),
            body_example=_EXAMPLE,
            answer=objects({"id": STRING, "created": TIME, **_ADJUSTMENT}),
            errors=(507,),
        )
    },
)
async def create_adjustment_v2(request: Connection) -> dict[str, Any]:
    """To cancel it again changes nothing."""
    made = await _cancel(request, await Parameters.of_json(request))
    return {
        "id": f"mtr_event_adj_{uuid_of('stripe', made['event_name'], made['cancel']['identifier'])}",
        "object": "v2.billing.meter_event_adjustment",
        "created": instant_text(system_of(request).clock.now_us()),
        **made,
    }


ROUTES = [create_adjustment, create_adjustment_v2]
