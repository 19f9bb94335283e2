"""`/v1/limits`: how much may be used, by whom and until when; raises of it; and how a customer's limits stand."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from litestar import Request, Response, delete, get, patch, post
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.forward import at_owner, body_of, limiting_of
from tallystick.api.meters import check_if_match, read_as, tagged
from tallystick.api.openapi import (
    DECIMAL,
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
)
from tallystick.catalog.limiting import KeptLimit, LimitRaise
from tallystick.document import Document
from tallystick.errors import Conflict, Invalid
from tallystick.flows.customers import narrowed, visible
from tallystick.flows.limits.asked import AskedGate
from tallystick.flows.limits.owner import Limiting
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.limits.limit import EVERY, Limit, conditions_of, read_limit
from tallystick.limits.standing import Standing
from tallystick.money import ZERO, plain

Connection = Request[Any, Any, Any]

_NUMBER: Schema = {"type": ["string", "number"], "description": "An exact decimal."}
_PROPERTIES: dict[str, Schema] = {
    "key": KEY,
    "name": nullable(STRING),
    "customer": nullable({"type": "string", "description": 'A customer, or "*": each by itself.'}),
    "plan": nullable({"type": "string", "description": "Each customer while subscribed to this plan."}),
    "meter": nullable({"type": "string", "description": "Units of this meter."}),
    "cost": {
        "type": ["boolean", "null"],
        "description": "Money: what the customer's usage comes to by the charges of his plans.",
    },
    "filter": {
        "type": ["object", "null"],
        "additionalProperties": True,
        "description": 'By the meter\'s dimensions: `{"model": "large"}` or `{"model": {"in": ["large"]}}`.',
    },
    "amount": _NUMBER,
    "period": {
        "type": "string",
        "description": "day, week, month (in the customer's zone), billing (the subscription's open period), or "
        "rolling:PT5H, rolling:P7D.",
    },
    "enforce": {"type": ["string", "null"], "enum": ["hard", "soft", None]},
    "fail": {
        "type": ["string", "null"],
        "enum": ["open", "closed", None],
        "description": "What holds while usage cannot be known. Default: closed.",
    },
    "carry_over": nullable(
        {**_NUMBER, "description": "What was left of the period before is added, at most so much."}
    ),
}
_NEW = objects(_PROPERTIES, required=("key", "amount", "period"), additionalProperties=False)
_CHANGE = objects(_PROPERTIES, required=(), additionalProperties=False)
_LIMIT = objects({**_PROPERTIES, "created_at": TIME, "changed_at": TIME})
_RAISE = objects(
    {
        "id": STRING,
        "limit": KEY,
        "customer": STRING,
        "amount": DECIMAL,
        "until": TIME,
        "created_at": TIME,
    }
)
_STANDING = objects(
    {
        "rule": KEY,
        "meter": nullable(STRING),
        "cost": {"type": "boolean"},
        "enforce": STRING,
        "known": {"type": "boolean"},
        "limit": nullable(DECIMAL),
        "used": nullable(DECIMAL),
        "held": nullable(DECIMAL),
        "remaining": nullable(DECIMAL),
        "currency": nullable(STRING),
        "period": objects({"from": TIME, "to": TIME}),
        "reset_at": TIME,
    }
)
_EXAMPLE = {
    "key": "tokens-per-day",
    "customer": "acme",
    "meter": "tokens",
    "amount": "100000",
    "period": "day",
    "enforce": "hard",
    "fail": "closed",
}


def limit_document(kept: KeptLimit) -> dict[str, Any]:
    """A limit on the wire."""
    return {
        **kept.limit.to_wire(),
        "created_at": wire.time_text(kept.created_at_us),
        "changed_at": wire.time_text(kept.changed_at_us),
    }


def _raise_document(one: LimitRaise) -> dict[str, Any]:
    return {
        "id": str(one.number),
        "limit": one.limit,
        "customer": one.customer,
        "amount": plain(one.amount),
        "until": wire.time_text(one.until_us),
        "created_at": wire.time_text(one.created_at_us),
    }


def _standing_document(one: Standing) -> dict[str, Any]:
    def figure(value: Any) -> str | None:
        return plain(value) if one.known else None

    return {
        "rule": one.limit.key,
        "meter": one.limit.meter,
        "cost": one.limit.cost,
        "enforce": one.limit.enforce.value,
        "known": one.known,
        "limit": figure(one.amount),
        "used": figure(one.used),
        "held": figure(one.held),
        "remaining": figure(one.remaining),
        "currency": one.currency,
        "period": {"from": wire.time_text(one.window.from_us), "to": wire.time_text(one.window.to_us)},
        "reset_at": wire.time_text(one.reset_us),
    }


async def _check(system: System, limiting: Limiting, tenant: str, limit: Limit) -> None:
    """What it names must be there. Raises NotFound, Invalid, Conflict."""
    if (limit.plan is not None or limit.cost) and system.billing is None:
        raise Conflict(
            "Billing is switched off here: there are no plans, and no money to limit.",
            code="limit_needs_billing",
        )
    names = frozenset(one.name for one in conditions_of(limit.filter))
    await limiting.check_limit(tenant, limit.meter, names)
    customer, plan, billing = limit.customer, limit.plan, system.billing
    if customer is not None and customer != EVERY:
        await in_questions(system, lambda: system.catalog.customer(tenant, customer))
    if plan is not None and billing is not None:
        await in_questions(system, lambda: billing.plan(tenant, plan))


@post(
    "/v1/limits",
    guards=[require("limits:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Create a limit",
            tag="Limits",
            description="It holds at once. Of several that concern a use, all hard ones must hold.",
            body=_NEW,
            body_example=_EXAMPLE,
            answer=_LIMIT,
            status=201,
            errors=(404, 409),
            creates=True,
        )
    },
)
async def create_limit(request: Connection) -> Response[dict[str, Any]]:
    """A new limit."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    limit = read_limit(await body_of(request))
    limiting = limiting_of(request)
    await _check(system, limiting, tenant, limit)
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system, lambda: limiting.catalog.create_limit(tenant, limit, actor=actor, now_us=now_us)
    )
    limiting.changed()
    return tagged(limit_document(made), status=201, Location=f"/v1/limits/{quote(made.limit.key, safe='')}")


@get(
    "/v1/limits",
    guards=[require("limits:check")],
    opt={
        "operation": operation(
            summary="List limits", tag="Limits", parameters=[*PAGE], answer=listing(_LIMIT)
        )
    },
)
async def list_limits(request: Connection) -> dict[str, Any]:
    """By key. A customer's token sees those that name him, and those of everybody."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    fields.finish()
    catalog = limiting_of(request).catalog

    def read() -> tuple[list[KeptLimit], str | None]:
        page = catalog.limits(who.tenant, cursor=cursor, limit=limit)
        seen = visible(system.catalog, who.tenant, who.customer)
        return [one for one in page.items if _sees(seen, one)], page.next_cursor

    items, next_cursor = await in_questions(system, read)
    return wire.page_answer(map(limit_document, items), next_cursor)


def _sees(seen: Sequence[str] | None, one: KeptLimit) -> bool:
    return seen is None or one.limit.customer == EVERY or one.limit.customer in seen


@get(
    "/v1/limits/{key:str}",
    guards=[require("limits:check")],
    opt={
        "operation": operation(
            summary="Read a limit",
            tag="Limits",
            answer=_LIMIT,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
            errors=(404,),
        )
    },
)
async def get_limit(request: Connection) -> Response[Any]:
    """One limit."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    document = limit_document(
        await in_questions(system, lambda: limiting_of(request).catalog.limit(tenant, key))
    )
    return read_as(request, document)


@patch(
    "/v1/limits/{key:str}",
    guards=[require("limits:write")],
    opt={
        "operation": operation(
            summary="Change a limit",
            tag="Limits",
            description="The members given replace the present ones, null removes one. What is reserved stays reserved, and "
            "may be settled.",
            body=_CHANGE,
            body_example={"amount": "200000"},
            answer=_LIMIT,
            errors=(404, 412),
        )
    },
)
async def change_limit(request: Connection) -> Response[dict[str, Any]]:
    """The members given, merged into the limit and checked as a whole."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    raw = await body_of(request)
    key: str = request.path_params["key"]
    if raw.get("key", key) != key:
        raise wire.invalid("/key", "key_immutable", "The key of a limit cannot be changed.")
    limiting = limiting_of(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    present = await in_questions(system, lambda: limiting.catalog.limit(tenant, key))
    merged = _merged(present, raw)
    await _check(system, limiting, tenant, merged)

    def change(current: KeptLimit) -> Limit:
        check_if_match(request, limit_document(current))
        return _merged(current, raw)

    changed = await in_questions(
        system, lambda: limiting.catalog.change_limit(tenant, key, change, actor=actor, now_us=now_us)
    )
    limiting.changed()
    return tagged(limit_document(changed))


def _merged(present: KeptLimit, raw: dict[str, Any]) -> Limit:
    return read_limit({**present.limit.to_wire(), **raw})


@delete(
    "/v1/limits/{key:str}",
    guards=[require("limits:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Delete a limit",
            tag="Limits",
            description="With its raises.",
            status=204,
            errors=(404, 412),
        )
    },
)
async def delete_limit(request: Connection) -> None:
    """It holds no longer."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    limiting = limiting_of(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system,
        lambda: limiting.catalog.delete_limit(
            tenant,
            key,
            expected=lambda present: check_if_match(request, limit_document(present)),
            actor=actor,
            now_us=now_us,
        ),
    )
    limiting.changed()


@post(
    "/v1/limits/{key:str}/raises",
    guards=[require("limits:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Raise a limit once",
            tag="Limits",
            description="One customer may use so much more of it, until then.",
            body=objects(
                {"customer": {"type": "string"}, "amount": _NUMBER, "until": TIME}, additionalProperties=False
            ),
            body_example={"customer": "acme", "amount": "5000", "until": "2026-08-01T00:00:00Z"},
            answer=_RAISE,
            status=201,
            errors=(404, 409),
            creates=True,
        )
    },
)
async def raise_limit(request: Connection) -> Response[dict[str, Any]]:
    """It counts at once."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    now_us = system.clock.now_us()
    document = Document(await body_of(request))
    customer = document.required_text("customer", characters_max=256)
    amount = document.required_decimal("amount", above=ZERO)
    until = document.required_text("until", characters_max=64)
    until_us = now_us + 1
    if until:
        try:
            until_us = wire.parse_time(until, "/until")
        except Invalid as error:
            document.faults.extend(error.faults)
    if until_us <= now_us:
        document.fault("in_the_past", "must lie in the future.", "until")
    document.finish()
    key: str = request.path_params["key"]
    limiting, actor = limiting_of(request), actor_of(request)
    made = await in_questions(
        system,
        lambda: limiting.catalog.raise_limit(
            tenant, key, customer=customer, amount=amount, until_us=until_us, actor=actor, now_us=now_us
        ),
    )
    limiting.changed()
    return Response(_raise_document(made), status_code=201)


@get(
    "/v1/limits/{key:str}/raises",
    guards=[require("limits:check")],
    opt={
        "operation": operation(
            summary="List raises of a limit",
            tag="Limits",
            parameters=[*PAGE],
            answer=listing(_RAISE),
            errors=(404,),
        )
    },
)
async def list_raises(request: Connection) -> dict[str, Any]:
    """In the order they were made, past ones too."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    fields.finish()
    key: str = request.path_params["key"]
    catalog = limiting_of(request).catalog
    page = await in_questions(system, lambda: catalog.limit_raises(tenant, key, cursor=cursor, limit=limit))
    return wire.page_answer(map(_raise_document, page.items), page.next_cursor)


@get(
    "/v1/customers/{key:str}/limits",
    guards=[require("limits:check")],
    opt={
        "operation": operation(
            summary="How a customer's limits stand",
            tag="Limits",
            answer=objects({"items": array(_STANDING), "next_cursor": nullable(STRING)}),
            errors=(404,),
        )
    },
)
async def customer_limits(request: Connection) -> Response[Any]:
    """All that concern him now, by key."""
    wire.check_parameters(request, ())
    system, who = wire.system_of(request), caller(request)
    key: str = request.path_params["key"]
    await in_questions(system, lambda: narrowed(system.catalog, who.tenant, who.customer, (key,)))

    async def local(gate: AskedGate) -> Response[Any]:
        found = await gate.standings(who.tenant, key)
        items = [_standing_document(one) for one in sorted(found, key=lambda one: one.limit.key)]
        return Response(wire.page_answer(items, None))

    return await at_owner(request, local)


ROUTES: Sequence[ControllerRouterHandler] = (
    create_limit,
    list_limits,
    get_limit,
    change_limit,
    delete_limit,
    raise_limit,
    list_raises,
    customer_limits,
)
