"""`GET /v1/billing/late`: money that came, or became less, after invoices were finalized."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, get
from litestar.types import ControllerRouterHandler

from tallystick.api.access import administered
from tallystick.api.auth import require
from tallystick.api.fields import Fields
from tallystick.api.openapi import DECIMAL, PAGE, STRING, array, nullable, objects, operation, query
from tallystick.flows.billing.late import LateMoney, late_money
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.prepare import number_of
from tallystick.flows.usage import in_questions
from tallystick.money import money_text, round_money

Connection = Request[Any, Any, Any]


def _document(one: LateMoney) -> dict[str, Any]:
    def text(amount: Any) -> str:
        return money_text(round_money(amount, one.currency))

    return {
        "invoice": one.invoice.id,
        "number": number_of(one.invoice),
        "customer": one.invoice.customer,
        "subscription": one.invoice.subscription,
        "currency": one.currency,
        "billed": text(one.billed),
        "settled": text(one.settled),
        "now": text(one.now),
        "difference": text(one.difference),
    }


@get(
    "/v1/billing/late",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Late money",
            tag="Invoices",
            description="`items`: what was billed on later invoices because finalized lines had changed (the first page has them, at "
            "most 10,000). `invoices`: for each finalized invoice of a period, newest first, before discount and tax: what it billed, "
            "what was settled for it later, what it would be now, and the difference that a coming invoice or note is to settle.",
            parameters=[
                *PAGE,
                query("subscription", "Of this subscription (its id)."),
                query("customer", "Of this customer."),
            ],
            answer=objects(
                {
                    "items": array(
                        objects(
                            {
                                "subscription": STRING,
                                "invoice": STRING,
                                "line": STRING,
                                "of": objects({"invoice": STRING, "line": STRING}),
                                "amount": DECIMAL,
                            }
                        )
                    ),
                    "invoices": array(
                        objects(
                            {
                                "invoice": STRING,
                                "number": nullable(STRING),
                                "customer": STRING,
                                "subscription": STRING,
                                "currency": STRING,
                                "billed": DECIMAL,
                                "settled": DECIMAL,
                                "now": DECIMAL,
                                "difference": DECIMAL,
                            }
                        )
                    ),
                    "next_cursor": nullable(STRING),
                }
            ),
        )
    },
)
async def list_late(request: Connection) -> dict[str, Any]:
    """Of all customers, or of one."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    subscription, customer = fields.text("subscription"), fields.text("customer")
    fields.finish()
    customers = None if customer is None else (customer,)
    page = await late_money(
        system, tenant, customers=customers, subscription=subscription, cursor=cursor, limit=limit
    )

    def read() -> list[dict[str, Any]]:
        billing = billing_of(system)
        subscriptions = None if subscription is None else [subscription]
        if customer is not None:
            own = billing.subscriptions(tenant, customers=[customer], limit=1000).items
            subscriptions = [one.id for one in own if subscription in (None, one.id)]
        return [
            {
                "subscription": one.subscription,
                "invoice": one.invoice,
                "line": one.line,
                "of": {"invoice": one.of_invoice, "line": one.of_line},
                "amount": one.amount,
            }
            for one in billing.late_lines(tenant, subscriptions, limit=10_000)
        ]

    items = await in_questions(system, read) if cursor is None else []
    return {
        "items": items,
        "invoices": [_document(one) for one in page.items],
        "next_cursor": page.next_cursor,
    }


ROUTES: Sequence[ControllerRouterHandler] = (list_late,)
