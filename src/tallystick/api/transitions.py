"""`/v1/transitions`: what has happened to alerts, with the evidence."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, get
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import PAGE, STRING, TIME, listing, nullable, objects, operation, query
from tallystick.catalog.alerting import Transition, TransitionSearch
from tallystick.errors import Forbidden
from tallystick.flows.alerts.definitions import alerts_of
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]


def transition_document(one: Transition) -> dict[str, Any]:
    """A transition: what has happened, and everything it was decided by."""
    return {
        "id": one.id,
        "kind": one.kind,
        "alert": one.alert,
        "owner": one.owner,
        "customer": one.customer or None,
        "at": wire.time_text(one.at_us),
        "muted": one.muted,
        **one.content,
    }


TRANSITION = objects(
    {
        "id": STRING,
        "kind": {"type": "string", "enum": ["fired", "recovered"]},
        "alert": STRING,
        "owner": nullable(STRING),
        "customer": nullable(STRING),
        "at": TIME,
        "muted": {"type": "boolean"},
        "summary": STRING,
        "reason": {"type": "string", "enum": ["threshold", "window_ended"]},
        "value": nullable(STRING),
        "threshold": nullable(STRING),
        "step": nullable(STRING),
        "window": {"type": ["object", "null"]},
        "group": {"type": ["object", "null"]},
        "as_of": nullable(TIME),
        "position": nullable(STRING),
    },
    required=("id", "kind", "alert", "customer", "at"),
    additionalProperties=True,
)


@get(
    "/v1/transitions",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="What has happened to alerts",
            tag="Alerts",
            description="Newest first. A customer's token: of alerts that the customer has set for itself.",
            parameters=[
                *PAGE,
                query("alert", "Of this alert."),
                query("customer", "About this customer."),
                query("kind", "Of this kind.", schema={"type": "string", "enum": ["fired", "recovered"]}),
                query("from", "From this moment on.", schema=TIME),
                query("to", "Before this moment.", schema=TIME),
            ],
            answer=listing(TRANSITION),
        )
    },
)
async def list_transitions(request: Connection) -> dict[str, Any]:
    """A page of them."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    search = TransitionSearch(
        alert=fields.text("alert"),
        customer=fields.text("customer", characters_max=256),
        kind=fields.choice("kind", ("fired", "recovered")),
        owner=who.customer,
        from_us=fields.time_us("from"),
        to_us=fields.time_us("to"),
    )
    fields.finish()
    if who.customer is not None and search.customer not in (None, who.customer):
        raise Forbidden("This token may not see that customer.", code="other_customer")
    page = await in_questions(
        system, lambda: alerts_of(system).transitions(who.tenant, search, cursor=cursor, limit=limit)
    )
    return wire.page_answer(map(transition_document, page.items), page.next_cursor)


ROUTES: Sequence[ControllerRouterHandler] = (list_transitions,)
