"""`/v1/deliveries`: what was sent to channels, what waits to be, and what came back."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
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
from tallystick.catalog.delivering import DELIVERY_STATUSES, Attempt, Delivery, DeliverySearch
from tallystick.flows.customers import narrowed, visible
from tallystick.flows.outbox import outbox_of
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]


def delivery_document(delivery: Delivery, attempts: Sequence[Attempt] | None = None) -> dict[str, Any]:
    """A delivery on the wire; with what was sent and what came back, when its attempts are given."""
    pending = delivery.status == "pending"
    document: dict[str, Any] = {
        "id": delivery.id,
        "channel": delivery.channel,
        "kind": delivery.kind,
        "customer": delivery.customer,
        "summary": delivery.summary,
        "status": delivery.status,
        "attempt_count": delivery.attempts,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "created_at": wire.time_text(delivery.created_at_us),
        "next_attempt_at": wire.time_text(delivery.due_at_us) if pending else None,
        "finished_at": wire.optional_time_text(delivery.finished_at_us),
    }
    if attempts is not None:
        document["payload"] = msgspec.json.decode(delivery.body)
        document["attempts"] = [_attempt_document(one) for one in attempts]
    return document


def _attempt_document(attempt: Attempt) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "at": wire.time_text(attempt.at_us),
        "duration_ms": attempt.duration_us // 1000,
        "target": attempt.target,
        "request_headers": dict(attempt.request_headers),
        "status": attempt.status,
        "answer_headers": dict(attempt.answer_headers),
        "answer": attempt.answer,
        "error": attempt.error,
        "detail": attempt.detail,
    }


_HEADERS: Schema = {"type": "object", "additionalProperties": STRING}
_PROPERTIES: dict[str, Schema] = {
    "id": {"type": "string", "description": "The same at every attempt: `webhook-id`."},
    "channel": STRING,
    "kind": {"type": "string", "description": "Such as `alert.fired`."},
    "customer": nullable({"type": "string", "description": "Whom it is about."}),
    "summary": STRING,
    "status": {
        "type": "string",
        "enum": list(DELIVERY_STATUSES),
        "description": "`dead`: given up; it can be sent again.",
    },
    "attempt_count": {"type": "integer"},
    "last_status": {"type": ["integer", "null"]},
    "last_error": nullable(
        {"type": "string", "description": "See docs/howto/webhooks.md: timed_out, status, address_refused …"}
    ),
    "created_at": TIME,
    "next_attempt_at": nullable(TIME),
    "finished_at": nullable(TIME),
}
_ATTEMPT = objects(
    {
        "attempt": {"type": "integer"},
        "at": TIME,
        "duration_ms": {"type": "integer"},
        "target": STRING,
        "request_headers": _HEADERS,
        "status": {"type": ["integer", "null"]},
        "answer_headers": _HEADERS,
        "answer": {"type": "string", "description": "Its first 4 KiB."},
        "error": nullable(STRING),
        "detail": nullable(STRING),
    }
)
DELIVERY = objects(_PROPERTIES)
DELIVERY_WITH_ATTEMPTS = objects(
    {
        **_PROPERTIES,
        "payload": {"type": "object", "additionalProperties": True, "description": "What is sent."},
        "attempts": array(_ATTEMPT, description="The latest, oldest first."),
    }
)


@get(
    "/v1/deliveries",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="List deliveries",
            tag="Channels",
            description="Newest first. A customer's token sees those of its own channels.",
            parameters=[
                query("channel", "To this channel."),
                query(
                    "status", "In this status.", schema={"type": "string", "enum": list(DELIVERY_STATUSES)}
                ),
                query("kind", "Of this kind."),
                query("customer", "About this customer."),
                *PAGE,
            ],
            answer=listing(DELIVERY),
        )
    },
)
async def list_deliveries(request: Connection) -> dict[str, Any]:
    """A page of them."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    channel, kind, customer = fields.text("channel"), fields.text("kind"), fields.text("customer")
    status = fields.choice("status", DELIVERY_STATUSES)
    limit, cursor = fields.catalog_page()
    fields.finish()
    outbox = outbox_of(system)

    def work() -> dict[str, Any]:
        if customer is not None:
            narrowed(system.catalog, who.tenant, who.customer, (customer,))
        search = DeliverySearch(
            channel=channel,
            status=status,
            kind=kind,
            customer=customer,
            owners=visible(system.catalog, who.tenant, who.customer),
        )
        page = outbox.catalog.deliveries(who.tenant, search, cursor=cursor, limit=limit)
        return wire.page_answer(map(delivery_document, page.items), page.next_cursor)

    return await in_questions(system, work)


@get(
    "/v1/deliveries/{id:str}",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="Read a delivery", tag="Channels", answer=DELIVERY_WITH_ATTEMPTS, errors=(404,)
        )
    },
)
async def get_delivery(request: Connection) -> dict[str, Any]:
    """What is sent, each attempt, and what came back."""
    system, who = wire.system_of(request), caller(request)
    wire.check_parameters(request, ())
    name: str = request.path_params["id"]
    outbox = outbox_of(system)

    def work() -> dict[str, Any]:
        owners = visible(system.catalog, who.tenant, who.customer)
        found = outbox.catalog.delivery(who.tenant, name, owners=owners)
        return delivery_document(found, outbox.catalog.delivery_attempts(found))

    return await in_questions(system, work)


@post(
    "/v1/deliveries/{id:str}/resend",
    guards=[require("alerts:write")],
    status_code=202,
    opt={
        "operation": operation(
            summary="Send a delivery again",
            tag="Channels",
            description="Now, under the same id and with the same payload, whatever has become of it.",
            answer=DELIVERY,
            status=202,
            errors=(404, 409),
            creates=True,
        )
    },
)
async def resend_delivery(request: Connection) -> Response[dict[str, Any]]:
    """It is pending again."""
    system, who = wire.system_of(request), caller(request)
    wire.check_parameters(request, ())
    name: str = request.path_params["id"]
    outbox, actor, now_us = outbox_of(system), actor_of(request), system.clock.now_us()

    def work() -> Delivery:
        owners = visible(system.catalog, who.tenant, who.customer)
        return outbox.catalog.resend_delivery(who.tenant, name, owners=owners, actor=actor, now_us=now_us)

    return Response(delivery_document(await in_questions(system, work)), status_code=202)


ROUTES: Sequence[ControllerRouterHandler] = (list_deliveries, get_delivery, resend_delivery)
