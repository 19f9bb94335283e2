"""`/v1/alerts`: what is watched. A token of a customer sets alerts for that customer alone, and sees no others."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from litestar import Request, delete, get, patch, post, put
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.alerting.rule import CHANNELS_MAX, GROUP_BY_MAX, STEPS_MAX, Direction, EventFault, Operation
from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, read_as, tagged
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
from tallystick.catalog.alerting import KeptAlert, KeptState
from tallystick.errors import Forbidden
from tallystick.flows.alerts import definitions
from tallystick.flows.alerts.definitions import alerts_of, rule_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
_OWNER = "owner"


# -- on the wire ----------------------------------------------------------------------------------------------------
def alert_document(kept: KeptAlert) -> dict[str, Any]:
    """An alert: what was set, and what the server knows of it."""
    return {
        **rule_of(kept.content).to_wire(),
        "id": kept.id,
        "owner": kept.owner,
        "muted_until": wire.optional_time_text(kept.muted_until_us),
        "created_at": wire.time_text(kept.created_at_us),
        "changed_at": wire.time_text(kept.changed_at_us),
    }


def state_document(kept: KeptAlert, state: KeptState) -> dict[str, Any]:
    """How an alert stands with one customer (and group) in one window."""
    steps = rule_of(kept.content).condition.steps
    place = state.place
    started = place.window_start_us if state.window_end_us is not None else None
    return {
        "customer": place.customer or None,
        "group": json.loads(place.scope) if place.scope.startswith("{") else None,
        "unit": place.scope if place.scope and not place.scope.startswith("{") else None,
        "state": "firing" if state.firing else "ok",
        "step": wire.decimal_text(steps[state.level - 1]) if 0 < state.level <= len(steps) else None,
        "value": state.value,
        "window": None
        if started is None or state.window_end_us is None
        else {"from": wire.time_text(started), "to": wire.time_text(state.window_end_us)},
        "since": wire.optional_time_text(state.since_us),
        "changed_at": wire.time_text(state.changed_at_us),
        "transitions": state.sequence,
    }


# -- schemas --------------------------------------------------------------------------------------------------------
NUMBER: Schema = {
    "type": ["string", "number"],
    "description": "An exact decimal; a number is read from its text.",
}
_ANY: Schema = {"type": "object", "additionalProperties": True}
_CONDITION = objects(
    {
        "op": {"type": "string", "enum": [*Operation]},
        "value": {**NUMBER, "type": ["string", "number", "null"]},
        "steps": array(NUMBER, maxItems=STEPS_MAX, description="Instead of `value`: each fires by itself."),
        "hysteresis": {
            **NUMBER,
            "description": "How far beyond its step the figure must go back to recover.",
        },
        "recover": {
            **NUMBER,
            "description": "Instead of `hysteresis`: the figure below (lte: above) which it recovers.",
        },
        "limit": {
            **KEY,
            "description": "percent_of_limit: of this limit; default: the customer's of this meter.",
        },
        "direction": {"type": "string", "enum": [*Direction], "description": "percent_change, anomaly."},
        "per": {"type": "string", "enum": ["second", "minute", "hour"], "description": "rate."},
        "for": {**STRING, "description": "silence: a duration such as PT1H."},
        "sensitivity": {"type": "string", "enum": ["low", "medium", "high"], "description": "anomaly."},
    },
    required=("op",),
)
_MEMBERS: dict[str, Schema] = {
    "key": KEY,
    "name": nullable(STRING),
    "description": nullable(STRING),
    "meter": nullable(KEY),
    "cost": {"type": ["boolean", "null"], "description": "true: what the window will cost the customer."},
    "credits": {
        "description": "true (money), a currency, or `{meter}`: what is left of the customer's credits.",
        "type": ["boolean", "string", "object", "null"],
    },
    "events": nullable({"type": "string", "enum": [*EventFault]}),
    "customer": {
        "type": ["string", "null"],
        "maxLength": 256,
        "default": "*",
        "description": "`*`: each customer by itself.",
    },
    "filter": {**_ANY, "type": ["object", "null"], "description": 'Such as `{"model": {"in": ["a"]}}`.'},
    "group_by": array(STRING, maxItems=GROUP_BY_MAX),
    "window": {
        "type": ["string", "null"],
        "description": "hour, day, week, month, quarter, year, billing, or rolling: and a duration (rolling:PT5H).",
    },
    "timezone": {"type": ["string", "null"], "description": "Of the windows; default: the customer's."},
    "condition": _CONDITION,
    "channels": array(KEY, maxItems=CHANNELS_MAX),
    "enabled": {"type": ["boolean", "null"]},
}
BODY = objects(_MEMBERS, required=("key", "condition"), additionalProperties=False)
_CHANGE = objects(_MEMBERS, required=(), additionalProperties=False)
_ALERT = objects(
    {
        **_MEMBERS,
        "id": STRING,
        "owner": {"type": ["string", "null"], "description": "The customer that has set it for itself."},
        "muted_until": nullable(TIME),
        "created_at": TIME,
        "changed_at": TIME,
    }
)
_STATE = objects(
    {
        "customer": nullable(STRING),
        "group": {"type": ["object", "null"]},
        "unit": nullable(STRING),
        "state": {"type": "string", "enum": ["firing", "ok"]},
        "step": nullable(STRING),
        "value": nullable(STRING),
        "window": {"type": ["object", "null"]},
        "since": nullable(TIME),
        "changed_at": TIME,
        "transitions": {"type": "integer"},
    }
)
EXAMPLE = {
    "key": "tokens-of-the-month",
    "name": "Tokens of the month",
    "meter": "tokens",
    "customer": "*",
    "window": "month",
    "condition": {"op": "gte", "steps": ["500000", "800000", "1000000"]},
    "channels": ["ops"],
}
OWNER_PARAMETER = query(
    _OWNER, "An alert that this customer has set for itself. (A customer's token sees its own anyway.)"
)


def owned(request: Connection, fields: Fields) -> tuple[System, str, str | None]:
    """System, tenant, and whose alerts are meant: a customer's token has its own alone."""
    who = caller(request)
    owner = fields.text(_OWNER, characters_max=256)
    if who.customer is not None:
        if owner not in (None, who.customer):
            raise Forbidden("This token may not see that customer.", code="other_customer")
        owner = who.customer
    return wire.system_of(request), who.tenant, owner


def owned_by(request: Connection) -> tuple[System, str, str | None]:
    """`owned`, for a request without other parameters."""
    fields = Fields.of_query(request)
    found = owned(request, fields)
    fields.finish()
    return found


# -- routes ---------------------------------------------------------------------------------------------------------
@post(
    "/v1/alerts",
    guards=[require("alerts:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Set an alert",
            tag="Alerts",
            description="It is looked at once as a whole, then whenever something it watches is recorded.",
            body=BODY,
            body_example=EXAMPLE,
            answer=_ALERT,
            status=201,
            creates=True,
        )
    },
)
async def create_alert(request: Connection) -> Response[dict[str, Any]]:
    """A new alert."""
    who = caller(request)
    system = wire.system_of(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: definitions.create_alert(system, who.tenant, who.customer, raw, actor=actor, now_us=now_us),
    )
    return tagged(alert_document(made), status=201, Location=f"/v1/alerts/{quote(made.key, safe='')}")


@get(
    "/v1/alerts",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="List alerts",
            tag="Alerts",
            description="All of the tenant, those of customers among them; a customer's token: its own.",
            parameters=[*PAGE, OWNER_PARAMETER],
            answer=listing(_ALERT),
        )
    },
)
async def list_alerts(request: Connection) -> dict[str, Any]:
    """In the order of their creation."""
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    system, tenant, owner = owned(request, fields)
    fields.finish()
    page = await in_questions(
        system,
        lambda: alerts_of(system).alerts(
            tenant, owner=owner, every=owner is None, cursor=cursor, limit=limit
        ),
    )
    return wire.page_answer(map(alert_document, page.items), page.next_cursor)


@get(
    "/v1/alerts/{key:str}",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="Read an alert",
            tag="Alerts",
            parameters=[OWNER_PARAMETER],
            answer=_ALERT,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_alert(request: Connection) -> Response[Any]:
    """As it was set, and whether it is muted."""
    system, tenant, owner = owned_by(request)
    key: str = request.path_params["key"]
    document = alert_document(await in_questions(system, lambda: alerts_of(system).alert(tenant, owner, key)))
    return read_as(request, document)


async def _change(request: Connection, *, whole: bool) -> Response[dict[str, Any]]:
    system, tenant, owner = owned_by(request)
    members = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    made = await in_questions(
        system,
        lambda: definitions.change_alert(
            system,
            tenant,
            owner,
            key,
            members,
            whole=whole,
            expected=lambda present: check_if_match(request, alert_document(present)),
            actor=actor,
            now_us=now_us,
        ),
    )
    return tagged(alert_document(made))


@patch(
    "/v1/alerts/{key:str}",
    guards=[require("alerts:write")],
    opt={
        "operation": operation(
            summary="Change an alert",
            tag="Alerts",
            description="The members given replace the present ones. Where something that decides is changed (not names, "
            "channels, or whether it is enabled), its states begin anew. `If-Match` guards against a change in between.",
            parameters=[OWNER_PARAMETER],
            body=_CHANGE,
            body_example={"channels": ["ops", "finance"]},
            answer=_ALERT,
            errors=(412,),
        )
    },
)
async def change_alert(request: Connection) -> Response[dict[str, Any]]:
    """The members given, merged and checked as a whole."""
    return await _change(request, whole=False)


@put(
    "/v1/alerts/{key:str}",
    guards=[require("alerts:write")],
    opt={
        "operation": operation(
            summary="Replace an alert",
            tag="Alerts",
            description="As PATCH, with all members: what is left out has its default.",
            parameters=[OWNER_PARAMETER],
            body=objects(_MEMBERS, required=("condition",), additionalProperties=False),
            body_example=EXAMPLE,
            answer=_ALERT,
            errors=(412,),
        )
    },
)
async def replace_alert(request: Connection) -> Response[dict[str, Any]]:
    """All members at once."""
    return await _change(request, whole=True)


@delete(
    "/v1/alerts/{key:str}",
    guards=[require("alerts:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Delete an alert",
            tag="Alerts",
            description="What has happened stays readable (GET /v1/transitions).",
            parameters=[OWNER_PARAMETER],
            status=204,
            errors=(412,),
        )
    },
)
async def delete_alert(request: Connection) -> None:
    """It fires no more."""
    system, tenant, owner = owned_by(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    await in_questions(
        system,
        lambda: alerts_of(system).delete_alert(
            tenant,
            owner,
            key,
            expected=lambda present: check_if_match(request, alert_document(present)),
            actor=actor,
            now_us=now_us,
        ),
    )


async def _mute(request: Connection, until_us: int | None) -> dict[str, Any]:
    system, tenant, owner = owned_by(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    made = await in_questions(
        system,
        lambda: alerts_of(system).mute_alert(tenant, owner, key, until_us, actor=actor, now_us=now_us),
    )
    return alert_document(made)


@post(
    "/v1/alerts/{key:str}/mute",
    guards=[require("alerts:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Mute an alert",
            tag="Alerts",
            description="Until then its channels are told nothing; it is still decided. What has fired by then and still "
            "does is told when it ends.",
            parameters=[OWNER_PARAMETER],
            body=objects({"until": TIME}, additionalProperties=False),
            body_example={"until": "2026-08-01T00:00:00Z"},
            answer=_ALERT,
        )
    },
)
async def mute_alert(request: Connection) -> dict[str, Any]:
    """Quiet until a moment."""
    members = await wire.json_object(request)
    fields = Fields(members, body=True)
    until_us = fields.time_us("until")
    if "until" not in members or members["until"] is None:
        fields.fault("until", "missing", "until is required: when to tell again.")
    fields.finish()
    return await _mute(request, until_us)


@post(
    "/v1/alerts/{key:str}/unmute",
    guards=[require("alerts:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Unmute an alert", tag="Alerts", parameters=[OWNER_PARAMETER], answer=_ALERT
        )
    },
)
async def unmute_alert(request: Connection) -> dict[str, Any]:
    """Tell again, from now on."""
    return await _mute(request, None)


@get(
    "/v1/alerts/{key:str}/states",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="How an alert stands",
            tag="Alerts",
            description="By customer (and group) and window: those where something has happened, the latest first.",
            parameters=[
                *PAGE,
                OWNER_PARAMETER,
                query("state", "Those in it.", schema={"type": "string", "enum": ["firing", "ok"]}),
                query("customer", "Of this customer."),
            ],
            answer=listing(_STATE),
        )
    },
)
async def list_states(request: Connection) -> dict[str, Any]:
    """Those there are."""
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    state = fields.choice("state", ("firing", "ok"))
    customer = fields.text("customer", characters_max=256)
    system, tenant, owner = owned(request, fields)
    fields.finish()
    key: str = request.path_params["key"]

    def ask() -> tuple[KeptAlert, Any]:
        kept = alerts_of(system).alert(tenant, owner, key)
        firing = None if state is None else state == "firing"
        return kept, alerts_of(system).alert_states(
            kept, firing=firing, customer=customer, cursor=cursor, limit=limit
        )

    kept, page = await in_questions(system, ask)
    return wire.page_answer((state_document(kept, one) for one in page.items), page.next_cursor)


ROUTES: Sequence[ControllerRouterHandler] = (
    create_alert,
    list_alerts,
    get_alert,
    change_alert,
    replace_alert,
    delete_alert,
    mute_alert,
    unmute_alert,
    list_states,
)
