"""`/v1/plans`: what is charged. A draft is made and changed, published, archived; each published version stays as it is."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from litestar import Request, get, patch, post
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, require
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
from tallystick.billing.plan import LATE_POLICIES, PlanAction
from tallystick.catalog.billing import KeptPlan
from tallystick.flows.billing import plans
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
VERSION_MAX = 10**9


def plan_document(plan: KeptPlan) -> dict[str, Any]:
    """A plan's version on the wire."""
    return {
        **json.loads(plan.content),
        "version": plan.version,
        "status": plan.state,
        "created_at": wire.time_text(plan.created_at_us),
        "published_at": wire.optional_time_text(plan.published_at_us),
        "archived_at": wire.optional_time_text(plan.archived_at_us),
    }


_ANY: Schema = {"type": "object", "additionalProperties": True}
_NUMBER: Schema = {"type": ["string", "number"]}
_CHARGE: Schema = objects(
    {
        "key": KEY,
        "name": nullable(STRING),
        "meter": nullable(KEY),
        "filter": nullable(_ANY),
        "group_by": array(STRING),
        "price": {**_ANY, "description": "See docs/reference/prices.md."},
        "timing": nullable({"type": "string", "enum": ["arrears", "advance"]}),
        "prorate": {"type": ["boolean", "null"]},
        "quantity": nullable(_NUMBER),
        "tiers": nullable({"type": "string", "enum": ["group", "total"]}),
        "included": nullable(_NUMBER),
        "discounts": array(_ANY),
        "minimum": nullable(_NUMBER),
        "maximum": nullable(_NUMBER),
    },
    required=("key", "price"),
)
_MEMBERS: dict[str, Schema] = {
    "key": KEY,
    "name": nullable(STRING),
    "description": nullable(STRING),
    "currency": {"type": "string", "description": "ISO 4217."},
    "billing_period": {
        "type": "string",
        "description": "hour, day, week, month, quarter, half_year, year, or ISO 8601 of one unit.",
    },
    "charges": array(_CHARGE),
    "phases": array(_ANY),
    "add_ons": array(_ANY),
    "commitment": {"description": "An amount, or `{amount, overage_percent, name}`."},
    "minimum": nullable(_NUMBER),
    "trial_days": {"type": ["integer", "null"]},
    "trial_covers": nullable({"type": "string", "enum": ["all", "fees"]}),
    "proration": nullable({"type": "string", "enum": ["day", "second", "none"]}),
    "invoice_grace": nullable(STRING),
    "thresholds": {
        **array({"anyOf": [_NUMBER, _ANY]}),
        "description": "Amounts of usage at which an invoice is made within a period: `100`, `{amount}`, and last "
        "`{amount, recurring: true}`.",
    },
    "late": nullable({"type": "string", "enum": list(LATE_POLICIES)}),
    "metadata": {"type": ["object", "null"], "additionalProperties": STRING},
}
_PLAN = objects(
    {
        **_MEMBERS,
        "version": {"type": "integer"},
        "status": {"type": "string", "enum": ["draft", "published", "archived"]},
        "created_at": TIME,
        "published_at": nullable(TIME),
        "archived_at": nullable(TIME),
    }
)
_VERSION = query("version", "This version; the newest otherwise.", schema={"type": "integer", "minimum": 1})
_EXAMPLE = {
    "key": "pro",
    "name": "Pro",
    "currency": "USD",
    "billing_period": "month",
    "charges": [
        {"key": "base", "name": "Base fee", "price": {"model": "flat", "amount": "49"}},
        {
            "key": "tokens",
            "name": "Tokens",
            "meter": "tokens",
            "price": {"model": "per_unit", "unit_amount": "0.0002"},
        },
    ],
}


@post(
    "/v1/plans",
    guards=[require("billing:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Create a plan",
            tag="Pricing",
            description="A draft. Of a key that has versions already, none of them a draft: its next version.",
            body=objects(_MEMBERS, required=("key", "currency"), additionalProperties=False),
            body_example=_EXAMPLE,
            answer=_PLAN,
            status=201,
            errors=(409,),
            creates=True,
        )
    },
)
async def create_plan(request: Connection) -> Response[dict[str, Any]]:
    """A draft."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system, lambda: plans.create_plan(system, tenant, raw, actor=actor, now_us=now_us)
    )
    location = f"/v1/plans/{quote(made.key, safe='')}"
    return tagged(plan_document(made), status=201, Location=location)


@get(
    "/v1/plans",
    guards=[require("billing:read")],
    opt={
        "operation": operation(summary="List plans", tag="Pricing", parameters=[*PAGE], answer=listing(_PLAN))
    },
)
async def list_plans(request: Connection) -> dict[str, Any]:
    """The newest version of each, by key."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    fields.finish()
    found = await in_questions(system, lambda: billing_of(system).plans(tenant, cursor=cursor, limit=limit))
    return wire.page_answer(map(plan_document, found.items), found.next_cursor)


@get(
    "/v1/plans/{key:str}",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Read a plan",
            tag="Pricing",
            parameters=[_VERSION],
            answer=_PLAN,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_plan(request: Connection) -> Response[Any]:
    """The newest version, or the one asked for."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    version = fields.integer("version", least=1, most=VERSION_MAX)
    fields.finish()
    key: str = request.path_params["key"]
    document = plan_document(
        await in_questions(system, lambda: billing_of(system).plan(tenant, key, version))
    )
    return read_as(request, document)


def matches(request: Connection) -> Callable[[KeptPlan], None]:
    """What `If-Match` expects of a plan's version when the change is made."""
    return lambda present: check_if_match(request, plan_document(present))


@get(
    "/v1/plans/{key:str}/versions",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Versions of a plan", tag="Pricing", answer=objects({"items": array(_PLAN)})
        )
    },
)
async def list_versions(request: Connection) -> dict[str, Any]:
    """Oldest first."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    found = await in_questions(system, lambda: billing_of(system).plan_versions(tenant, key))
    return {"items": [plan_document(one) for one in found]}


@patch(
    "/v1/plans/{key:str}",
    guards=[require("billing:write")],
    opt={
        "operation": operation(
            summary="Change a plan",
            tag="Pricing",
            description="The members given replace those of the newest version: in place where that is a draft, otherwise "
            "in a new draft. Who has subscribed keeps the version he has. `If-Match` takes the `ETag` of that newest version.",
            body=objects(_MEMBERS, required=(), additionalProperties=False),
            body_example={"name": "Pro (2027)"},
            answer=_PLAN,
            errors=(409, 412),
        )
    },
)
async def change_plan(request: Connection) -> Response[dict[str, Any]]:
    """A changed draft."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    changed = await in_questions(
        system,
        lambda: plans.change_plan(
            system, tenant, key, raw, expected=matches(request), actor=actor, now_us=now_us
        ),
    )
    return tagged(plan_document(changed))


async def _advance(request: Connection, action: PlanAction) -> Response[dict[str, Any]]:
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    version = fields.integer("version", least=1, most=VERSION_MAX)
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    advanced = await in_questions(
        system,
        lambda: plans.advance_plan(
            system, tenant, key, version, action, expected=matches(request), actor=actor, now_us=now_us
        ),
    )
    return tagged(plan_document(advanced))


@post(
    "/v1/plans/{key:str}/publish",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Publish a plan",
            tag="Pricing",
            description="From then on that version can be subscribed to, and never changes.",
            parameters=[_VERSION],
            answer=_PLAN,
            errors=(409, 412),
        )
    },
)
async def publish_plan(request: Connection) -> Response[dict[str, Any]]:
    """The newest version, or the one asked for."""
    return await _advance(request, PlanAction.PUBLISH)


@post(
    "/v1/plans/{key:str}/archive",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Archive a plan",
            tag="Pricing",
            description="That version can no longer be subscribed to; who has it keeps it.",
            parameters=[_VERSION],
            answer=_PLAN,
            errors=(409, 412),
        )
    },
)
async def archive_plan(request: Connection) -> Response[dict[str, Any]]:
    """The newest version, or the one asked for."""
    return await _advance(request, PlanAction.ARCHIVE)


ROUTES: Sequence[ControllerRouterHandler] = (
    create_plan,
    list_plans,
    get_plan,
    list_versions,
    change_plan,
    publish_plan,
    archive_plan,
)
