"""`/v1/subscriptions`: which plan a customer has, since when, until when, and every change to it."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, get, post
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
    KEY,
    PAGE,
    STRING,
    TIME,
    Schema,
    array,
    listing,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.billing.subscription import VERSION_MAX, Quantity, State, read_time_us
from tallystick.catalog.billing import KeptPlan
from tallystick.document import Document
from tallystick.flows.billing import subscriptions as flow
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.customers import narrowed
from tallystick.flows.usage import in_questions
from tallystick.money import plain

Connection = Request[Any, Any, Any]
INSTANCES_MAX = 10**6


def subscription_document(one: flow.Shown) -> dict[str, Any]:
    """A subscription on the wire."""
    kept, own = one.kept, one.subscription
    span = own.span_at(one.turn.part.from_us) if one.turn is not None else None
    span = span or (own.spans[0] if one.state is State.SCHEDULED else own.spans[-1])
    if one.turn is not None and one.state is not State.SCHEDULED:
        span = own.spans[-1] if own.spans[-1].from_us < one.turn.part.to_us else span
    return {
        "id": kept.id,
        "key": kept.key,
        "customer": kept.customer,
        "plan": span.plan,
        "version": span.version,
        "status": one.state.value,
        "start": wire.time_text(own.start_us),
        "end": wire.optional_time_text(own.end_us),
        "anchor": wire.optional_time_text(own.anchor_us),
        "timezone": kept.timezone,
        "trial_days": own.trial_days,
        "trial_end": wire.optional_time_text(one.trial_end_us),
        "current_period": None
        if one.turn is None
        else {"from": wire.time_text(one.turn.part.from_us), "to": wire.time_text(one.turn.part.to_us)},
        "include_children": kept.include_children,
        "spans": [
            {
                "plan": each.plan,
                "version": each.version,
                "from": wire.time_text(each.from_us),
                "to": wire.optional_time_text(each.to_us),
            }
            for each in own.spans
        ],
        "pauses": [
            {"from": wire.time_text(begin), "to": wire.optional_time_text(end)} for begin, end in own.pauses
        ],
        "quantities": [_quantity("charge", each) for each in own.quantities],
        "thresholds": None if own.thresholds is None else own.thresholds.to_wire(),
        "add_ons": [_quantity("add_on", each) for each in own.add_ons],
        "metadata": dict(own.metadata),
        "created_at": wire.time_text(kept.created_at_us),
    }


def _quantity(name: str, one: Quantity) -> dict[str, Any]:
    return {name: one.key, "from": wire.time_text(one.at_us), "quantity": plain(one.quantity)}


_NUMBER: Schema = {"type": ["string", "number"]}
_RANGE = objects({"from": TIME, "to": nullable(TIME)})
_SUBSCRIPTION = objects(
    {
        "id": STRING,
        "key": nullable(KEY),
        "customer": STRING,
        "plan": KEY,
        "version": {"type": "integer"},
        "status": {"type": "string", "enum": [state.value for state in State]},
        "start": TIME,
        "end": nullable(TIME),
        "anchor": nullable(TIME),
        "timezone": STRING,
        "trial_days": {"type": ["integer", "null"]},
        "trial_end": nullable(TIME),
        "current_period": nullable(_RANGE),
        "include_children": {"type": "boolean"},
        "spans": array({"type": "object"}),
        "pauses": array(_RANGE),
        "quantities": array({"type": "object"}),
        "thresholds": {"type": ["array", "null"], "description": "Null: the plan's."},
        "add_ons": array({"type": "object"}),
        "metadata": {"type": "object"},
        "created_at": TIME,
    }
)
_NEW = objects(
    {
        "customer": STRING,
        "plan": KEY,
        "version": {"type": ["integer", "null"]},
        "start": nullable(TIME),
        "end": nullable(TIME),
        "anchor": nullable(TIME),
        "trial_days": {"type": ["integer", "null"]},
        "quantities": {"type": ["object", "null"], "additionalProperties": _NUMBER},
        "thresholds": {
            "type": ["array", "null"],
            "description": "Instead of the plan's: amounts of usage at which an invoice is made within a period.",
        },
        "include_children": {
            "type": ["boolean", "null"],
            "description": "The customer pays for those below it, too.",
        },
        "key": nullable(KEY),
        "metadata": {"type": ["object", "null"], "additionalProperties": STRING},
    },
    required=("customer", "plan"),
    additionalProperties=False,
)
_EFFECTIVE: Schema = {
    "type": ["string", "null"],
    "description": "`now` (default), `period_end`, or a time.",
}


async def _answer(request: Connection, name: str) -> dict[str, Any]:
    system = wire.system_of(request)
    tenant, bound = caller(request).tenant, caller(request).customer

    def read() -> flow.Shown:
        kept = billing_of(system).subscription(tenant, name)
        narrowed(system.catalog, tenant, bound, (kept.customer,))
        return flow.shown(system, kept, system.clock.now_us())

    return subscription_document(await in_questions(system, read))


@post(
    "/v1/subscriptions",
    guards=[require("billing:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Subscribe a customer",
            tag="Pricing",
            description="`start`: now, earlier or later. Without `anchor`, periods follow the calendar in the customer's zone.",
            body=_NEW,
            body_example={"customer": "acme", "plan": "pro", "start": "2026-07-01T00:00:00Z"},
            answer=_SUBSCRIPTION,
            status=201,
            errors=(404, 409),
            creates=True,
        )
    },
)
async def create_subscription(request: Connection) -> Response[dict[str, Any]]:
    """To the plan's newest published version, or the one asked for."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system, lambda: flow.create_subscription(system, tenant, raw, actor=actor, now_us=now_us)
    )
    answer = await _answer(request, made.id)
    return Response(answer, status_code=201, headers={"Location": f"/v1/subscriptions/{made.id}"})


@get(
    "/v1/subscriptions",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="List subscriptions",
            tag="Pricing",
            parameters=[*PAGE, query("customer", "Of this customer."), query("plan", "To this plan.")],
            answer=listing(_SUBSCRIPTION),
        )
    },
)
async def list_subscriptions(request: Connection) -> dict[str, Any]:
    """In the order of their creation."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    customer, plan = fields.text("customer"), fields.text("plan")
    fields.finish()

    def read() -> tuple[list[flow.Shown], str | None]:
        asked = None if customer is None else (customer,)
        customers = narrowed(system.catalog, who.tenant, who.customer, asked)
        page = billing_of(system).subscriptions(
            who.tenant, customers=customers, plan=plan, cursor=cursor, limit=limit
        )
        now_us = system.clock.now_us()
        return [flow.shown(system, kept, now_us) for kept in page.items], page.next_cursor

    items, next_cursor = await in_questions(system, read)
    return wire.page_answer(map(subscription_document, items), next_cursor)


@get(
    "/v1/subscriptions/{id:str}",
    guards=[require("billing:read")],
    opt={"operation": operation(summary="Read a subscription", tag="Pricing", answer=_SUBSCRIPTION)},
)
async def get_subscription(request: Connection) -> dict[str, Any]:
    """By its id or its key."""
    wire.check_parameters(request, ())
    return await _answer(request, request.path_params["id"])


async def _document(request: Connection) -> Document:
    wire.check_parameters(request, ())
    return Document(await wire.json_object(request) if await wire.arrived(request) else {})


async def _change(
    request: Connection,
    document: Document,
    change: flow.Change,
    action: str,
    *,
    target: KeptPlan | None = None,
    otherwise: str = "now",
) -> dict[str, Any]:
    system, tenant = administered(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    name: str = request.path_params["id"]
    made = await in_questions(
        system,
        lambda: flow.change_subscription(
            system,
            tenant,
            name,
            document,
            change,
            action=action,
            target=target,
            otherwise=otherwise,
            actor=actor,
            now_us=now_us,
        ),
    )
    return await _answer(request, made.id)


def _operation(summary: str, members: dict[str, Schema], required: Sequence[str], example: Any) -> Any:
    return operation(
        summary=summary,
        tag="Pricing",
        body=objects(
            {**members, "effective": _EFFECTIVE}, required=tuple(required), additionalProperties=False
        ),
        body_required=bool(required),
        body_example=example,
        answer=_SUBSCRIPTION,
        errors=(409,),
    )


@post(
    "/v1/subscriptions/{id:str}/change",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": _operation(
            "Change the plan",
            {"plan": KEY, "version": {"type": ["integer", "null"]}},
            ("plan",),
            {"plan": "enterprise", "effective": "period_end"},
        )
    },
)
async def change_subscription(request: Connection) -> dict[str, Any]:
    """Upgrade, downgrade, or another version: now, at the end of the period, or at a time."""
    system, tenant = administered(request)
    document = await _document(request)
    key = document.key("plan") or ""
    version = document.integer("version", least=1, most=VERSION_MAX)
    document.raise_any()
    target = await in_questions(system, lambda: flow.subscribable(system, tenant, key, version))
    return await _change(request, document, flow.changed_plan(target), "change", target=target)


@post(
    "/v1/subscriptions/{id:str}/cancel",
    guards=[require("billing:write")],
    status_code=200,
    opt={"operation": _operation("Cancel", {}, (), {"effective": "period_end"})},
)
async def cancel_subscription(request: Connection) -> dict[str, Any]:
    """It ends, and what is due until then is invoiced at once."""
    return await _change(request, await _document(request), flow.cancelled, "cancel")


@post(
    "/v1/subscriptions/{id:str}/uncancel",
    guards=[require("billing:write")],
    status_code=200,
    opt={"operation": _operation("Take a cancellation back", {}, (), {})},
)
async def uncancel_subscription(request: Connection) -> dict[str, Any]:
    """While it lies ahead."""
    now_us = wire.system_of(request).clock.now_us()
    return await _change(request, await _document(request), flow.uncancelled(now_us), "uncancel")


@post(
    "/v1/subscriptions/{id:str}/pause",
    guards=[require("billing:write")],
    status_code=200,
    opt={"operation": _operation("Pause", {"until": nullable(TIME)}, (), {"effective": "period_end"})},
)
async def pause_subscription(request: Connection) -> dict[str, Any]:
    """Nothing is due until it is resumed."""
    document = await _document(request)
    until_us = read_time_us(document, "until")
    return await _change(request, document, flow.paused(until_us), "pause")


@post(
    "/v1/subscriptions/{id:str}/resume",
    guards=[require("billing:write")],
    status_code=200,
    opt={"operation": _operation("Resume", {}, (), {})},
)
async def resume_subscription(request: Connection) -> dict[str, Any]:
    """Ends the pause."""
    return await _change(request, await _document(request), flow.resumed, "resume")


@post(
    "/v1/subscriptions/{id:str}/quantities",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": _operation(
            "Change a quantity",
            {"charge": KEY, "quantity": _NUMBER},
            ("charge", "quantity"),
            {"charge": "seats", "quantity": "12"},
        )
    },
)
async def change_quantity(request: Connection) -> dict[str, Any]:
    """Seats of a charge without a meter, from a moment on."""
    document = await _document(request)
    key, quantity = document.key("charge") or "", document.required_decimal("quantity")
    document.raise_any()
    return await _change(request, document, flow.with_quantity(key, quantity), "quantity")


@post(
    "/v1/subscriptions/{id:str}/add_ons",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": _operation(
            "Take an add-on",
            {"add_on": KEY, "instances": {"type": ["integer", "null"]}},
            ("add_on",),
            {"add_on": "support", "instances": 1},
        )
    },
)
async def change_add_on(request: Connection) -> dict[str, Any]:
    """So many of it from a moment on; 0 takes it off."""
    document = await _document(request)
    key, instances = document.key("add_on") or "", document.integer("instances", least=0, most=INSTANCES_MAX)
    document.raise_any()
    return await _change(
        request, document, flow.with_add_on(key, 1 if instances is None else instances), "add_on"
    )


ROUTES: Sequence[ControllerRouterHandler] = (
    create_subscription,
    list_subscriptions,
    get_subscription,
    change_subscription,
    cancel_subscription,
    uncancel_subscription,
    pause_subscription,
    resume_subscription,
    change_quantity,
    change_add_on,
)
