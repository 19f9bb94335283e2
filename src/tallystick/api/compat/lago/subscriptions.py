"""`/subscriptions`. A subscription's usage is its own in Lago, so it is a customer here, below the one it belongs to: its key
is the subscription's `external_id`, the subject of the events. Where both have one name, they are one customer."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Request, delete, get, post

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat import people
from tallystick.api.compat.lago.shape import (
    BASE,
    PAGES,
    lago_id,
    listing,
    operation_of,
    optional_time,
    page_of,
    paged,
    root_of,
    time_text,
)
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, nullable, objects, query
from tallystick.billing.subscription import State
from tallystick.catalog.billing import KeptSubscription
from tallystick.catalog.interface import Actor, Customer, CustomerChange
from tallystick.document import Document
from tallystick.errors import Conflict, NotFound
from tallystick.flows.billing import subscriptions as flow
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.customers import narrowed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.window import zone_of

Connection = Request[Any, Any, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_STATES = {State.SCHEDULED: "pending", State.ENDED: "terminated"}
_NAME, _OWNER = "lago.name", "lago.customer"


def owner_of(shown: flow.Shown) -> str:
    """The customer that a subscription belongs to in Lago."""
    return shown.subscription.metadata.get(_OWNER, shown.kept.customer)


def document(shown: flow.Shown) -> dict[str, Any]:
    """A subscription as Lago shows it."""
    kept, own = shown.kept, shown.subscription
    span = own.spans[-1]
    owner = owner_of(shown)
    status = _STATES.get(shown.state, "active")
    ended = status == "terminated"
    turn = shown.turn
    return {
        "lago_id": lago_id("subscription", kept.tenant, kept.id),
        "external_id": kept.key or kept.id,
        "lago_customer_id": lago_id("customer", kept.tenant, owner),
        "external_customer_id": owner,
        "name": own.metadata.get(_NAME),
        "plan_code": span.plan,
        "status": status,
        "billing_time": "calendar" if own.anchor_us is None else "anniversary",
        "subscription_at": time_text(own.start_us),
        "started_at": None if status == "pending" else time_text(own.start_us),
        "ending_at": None if ended else optional_time(own.end_us),
        "terminated_at": optional_time(own.end_us) if ended else None,
        "canceled_at": None,
        "trial_ended_at": optional_time(shown.trial_end_us),
        "previous_plan_code": own.spans[-2].plan if len(own.spans) > 1 else None,
        "next_plan_code": None,
        "downgrade_plan_date": None,
        "current_billing_period_started_at": None if turn is None else time_text(turn.part.from_us),
        "current_billing_period_ending_at": None if turn is None else time_text(turn.part.to_us - 1_000_000),
        "created_at": time_text(kept.created_at_us),
    }


def found(system: System, tenant: str, external_id: str) -> flow.Shown:
    """Synchronous. Raises NotFound (subscription_not_found)."""
    kept = billing_of(system).subscription(tenant, external_id)
    return flow.shown(system, kept, system.clock.now_us())


def _customer(
    system: System, tenant: str, owner: str, external_id: str, *, actor: Actor, now_us: int
) -> Customer:
    """The customer that a subscription is, below its owner; both are made where they are not there."""

    def saved(key: str, change: CustomerChange) -> Customer:
        return people.saved(system.catalog, tenant, key, change, upsert=True, actor=actor, now_us=now_us)

    try:
        parent = system.catalog.customer(tenant, owner)
    except NotFound:
        parent = saved(owner, CustomerChange())
    if external_id == owner:
        return parent
    try:
        present = system.catalog.customer(tenant, external_id)
    except NotFound:
        present = None
    if present is not None and present.parent not in (None, owner):
        raise Conflict(f"{external_id!r} belongs to another customer.", code="subscription_exists")
    return saved(
        external_id, CustomerChange(parent=owner, currency=parent.currency, timezone=parent.timezone)
    )


def _moment(fields: Fields, name: str) -> int | None:
    """A time, or a date alone: its beginning in UTC."""
    text = fields.text(name)
    if text is None:
        return None
    whole = f"{text}T00:00:00Z" if _DATE.match(text) else text
    return fields.faults.attempt(lambda: wire.parse_time(whole, f"/{name}"), None)


def _start_of_day(at_us: int, timezone: str) -> int:
    """Lago counts days, the first one whole: what happened on it before the subscription was made is its usage, too."""
    day = (
        (_EPOCH + timedelta(microseconds=at_us))
        .astimezone(zone_of(timezone))
        .replace(hour=0, minute=0, second=0, microsecond=0)
    )
    return (day - _EPOCH) // timedelta(microseconds=1)


_SUBSCRIPTION = objects(
    {
        "lago_id": STRING,
        "external_id": STRING,
        "lago_customer_id": STRING,
        "external_customer_id": STRING,
        "name": nullable(STRING),
        "plan_code": STRING,
        "status": {"type": "string", "enum": ["active", "pending", "terminated"]},
        "billing_time": {"type": "string", "enum": ["calendar", "anniversary"]},
        "subscription_at": TIME,
        "started_at": nullable(TIME),
        "created_at": TIME,
    }
)
_ONE = objects({"subscription": _SUBSCRIPTION})
_NEW = objects(
    {
        "external_customer_id": STRING,
        "plan_code": STRING,
        "external_id": STRING,
        "name": nullable(STRING),
        "billing_time": {"type": ["string", "null"], "enum": ["calendar", "anniversary", None]},
        "subscription_at": nullable(TIME),
        "ending_at": nullable(TIME),
    },
    required=("external_customer_id", "plan_code", "external_id"),
)
_EXAMPLE = {"subscription": {"external_customer_id": "acme", "plan_code": "pro", "external_id": "sub_1"}}


@post(
    f"{BASE}/subscriptions",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Begin or change a subscription (Lago)",
            body=objects({"subscription": _NEW}),
            body_example=_EXAMPLE,
            answer=_ONE,
        )
    },
)
async def create_subscription(request: Connection) -> dict[str, Any]:
    """A new one; of one that is there, another plan from now on."""
    system, tenant = administered(request)
    fields = await root_of(request, "subscription")
    owner = fields.required_text("external_customer_id", characters_max=256)
    plan = fields.required_text("plan_code", characters_max=128)
    external_id = fields.required_text("external_id", characters_max=128)
    anniversary = fields.choice("billing_time", ("calendar", "anniversary")) == "anniversary"
    begin_us, end_us = _moment(fields, "subscription_at"), _moment(fields, "ending_at")
    name = fields.text("name", characters_max=256)
    if fields.take("plan_overrides"):
        fields.fault("plan_overrides", "value_is_invalid", "plan_overrides are not supported here.")
    fields.faults.raise_any()
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptSubscription:
        try:
            present = found(system, tenant, external_id)
        except NotFound:
            present = None
        target = flow.subscribable(system, tenant, plan, None)
        if present is not None and present.state is not State.ENDED:
            if present.subscription.spans[-1].plan == plan:
                return present.kept
            return flow.change_subscription(
                system,
                tenant,
                external_id,
                Document({}),
                flow.changed_plan(target),
                action="change",
                target=target,
                actor=actor,
                now_us=now_us,
            )
        customer = _customer(system, tenant, owner, external_id, actor=actor, now_us=now_us)
        start_us = _start_of_day(now_us, customer.timezone) if begin_us is None else begin_us
        notes = {_OWNER: owner, **({} if name is None else {_NAME: name})}
        raw: dict[str, Any] = {
            "customer": customer.key,
            "plan": plan,
            "key": external_id,
            "start": wire.time_text(start_us),
            "end": wire.optional_time_text(end_us),
            "anchor": wire.time_text(start_us) if anniversary else None,
            "metadata": notes,
        }
        return flow.create_subscription(system, tenant, raw, actor=actor, now_us=now_us)

    kept = await in_questions(system, work)
    return {"subscription": document(await in_questions(system, lambda: flow.shown(system, kept, now_us)))}


@get(
    f"{BASE}/subscriptions",
    guards=[require("billing:read")],
    opt={
        "operation": operation_of(
            summary="List subscriptions (Lago)",
            parameters=[
                query("external_customer_id", "Of this customer."),
                query("plan_code", "Of this plan."),
                query("status[]", "Ignored: all that have not ended.", repeated=True),
                *PAGES,
            ],
            answer=listing("subscriptions", _SUBSCRIPTION),
        )
    },
)
async def list_subscriptions(request: Connection) -> dict[str, Any]:
    """A page of those that have not ended."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    fields.know("status[]", "status")
    page, size = page_of(fields)
    owner, plan = fields.text("external_customer_id"), fields.text("plan_code")
    fields.finish()

    def work() -> list[flow.Shown]:
        asked = None if owner is None else (owner, *system.catalog.children(who.tenant, (owner,)))
        customers = narrowed(system.catalog, who.tenant, who.customer, asked)
        now_us = system.clock.now_us()
        made: list[flow.Shown] = []
        cursor: str | None = None
        while True:
            listed = billing_of(system).subscriptions(
                who.tenant, customers=customers, plan=plan, cursor=cursor, limit=1000
            )
            made += [flow.shown(system, kept, now_us) for kept in listed.items]
            cursor = listed.next_cursor
            if cursor is None:
                return [one for one in made if one.state is not State.ENDED]

    return paged("subscriptions", [document(one) for one in await in_questions(system, work)], page, size)


@get(
    f"{BASE}/subscriptions/{{external_id:str}}",
    guards=[require("billing:read")],
    opt={"operation": operation_of(summary="Read a subscription (Lago)", answer=_ONE)},
)
async def get_subscription(request: Connection) -> dict[str, Any]:
    """By its external id."""
    system, who = wire.system_of(request), caller(request)

    def work() -> flow.Shown:
        shown = found(system, who.tenant, request.path_params["external_id"])
        narrowed(system.catalog, who.tenant, who.customer, (shown.kept.customer,))
        return shown

    return {"subscription": document(await in_questions(system, work))}


@delete(
    f"{BASE}/subscriptions/{{external_id:str}}",
    guards=[require("billing:write")],
    status_code=200,
    opt={"operation": operation_of(summary="End a subscription (Lago)", answer=_ONE)},
)
async def delete_subscription(request: Connection) -> dict[str, Any]:
    """It ends now."""
    system, tenant = administered(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> flow.Shown:
        kept = flow.change_subscription(
            system,
            tenant,
            request.path_params["external_id"],
            Document({}),
            flow.cancelled,
            action="cancel",
            actor=actor,
            now_us=now_us,
        )
        return flow.shown(system, kept, now_us)

    return {"subscription": document(await in_questions(system, work))}


ROUTES = [create_subscription, list_subscriptions, get_subscription, delete_subscription]
