"""What is billed once: `POST /v1/invoices`, and `/v1/customers/{key}/items` for the next invoice."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, delete, get, post
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.invoices import INVOICE, invoice_documents
from tallystick.api.openapi import (
    DECIMAL,
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
from tallystick.catalog.charging import KeptItem
from tallystick.flows.billing.one_off import add_item, create_invoice, item_document
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.customers import narrowed
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
STATUSES = ("waiting", "billed")
_NUMBER: Schema = {"type": ["string", "number"]}
_ASKED: dict[str, Schema] = {
    "name": STRING,
    "description": nullable(STRING),
    "amount": {**_NUMBER, "description": "Or a unit_amount with a quantity. Below zero: taken off."},
    "quantity": {**_NUMBER, "default": "1"},
    "unit_amount": _NUMBER,
}
_ITEM = objects(
    {
        "id": STRING,
        "customer": STRING,
        "name": STRING,
        "description": nullable(STRING),
        "quantity": DECIMAL,
        "unit_amount": DECIMAL,
        "amount": DECIMAL,
        "currency": STRING,
        "status": {"type": "string", "enum": list(STATUSES)},
        "invoice": nullable(STRING),
        "created_at": TIME,
    }
)


def _document(kept: KeptItem) -> dict[str, Any]:
    return {**item_document(kept), "created_at": wire.time_text(kept.created_at_us)}


@post(
    "/v1/invoices",
    guards=[require("billing:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Bill items",
            tag="Invoices",
            description="An invoice of items alone, with the customer's taxes and discount, final at once. `waiting`: those that "
            "wait for its next invoice in this currency, too.",
            body=objects(
                {
                    "customer": STRING,
                    "currency": STRING,
                    "items": array(objects(_ASKED, required=("name",), additionalProperties=False)),
                    "waiting": {"type": "boolean", "default": False},
                },
                required=("customer",),
                additionalProperties=False,
            ),
            body_example={"customer": "acme", "items": [{"name": "Set-up", "amount": "250.00"}]},
            answer=INVOICE,
            status=201,
            creates=True,
            errors=(404, 409),
        )
    },
)
async def create_one_off(request: Connection) -> dict[str, Any]:
    """Without a subscription."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> dict[str, Any]:
        made = create_invoice(system, tenant, raw, actor=actor, now_us=now_us)
        return invoice_documents(system, tenant, [made])[0]

    return await in_questions(system, work)


@post(
    "/v1/customers/{key:str}/items",
    guards=[require("billing:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Bill an item with the next invoice",
            tag="Invoices",
            description="It waits for the customer's next invoice in its currency, and stands in previews of it. An amount below "
            "zero is taken off.",
            body=objects({**_ASKED, "currency": STRING}, required=("name",), additionalProperties=False),
            body_example={"name": "Support hours", "quantity": "3", "unit_amount": "120.00"},
            answer=_ITEM,
            status=201,
            creates=True,
            errors=(404, 409),
        )
    },
)
async def create_item(request: Connection) -> dict[str, Any]:
    """One item."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    made = await in_questions(system, lambda: add_item(system, tenant, key, raw, actor=actor, now_us=now_us))
    return _document(made)


@get(
    "/v1/customers/{key:str}/items",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="A customer's items",
            tag="Invoices",
            parameters=[
                *PAGE,
                query("status", "In this state.", schema={"type": "string", "enum": list(STATUSES)}),
            ],
            answer=listing(_ITEM),
        )
    },
)
async def list_items(request: Connection) -> dict[str, Any]:
    """Newest first."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    status = fields.choice("status", STATUSES)
    fields.finish()
    key: str = request.path_params["key"]

    def read() -> tuple[list[dict[str, Any]], str | None]:
        narrowed(system.catalog, who.tenant, who.customer, (key,))
        system.catalog.customer(who.tenant, key)
        waiting = None if status is None else status == "waiting"
        page = billing_of(system).items(who.tenant, key, waiting=waiting, cursor=cursor, limit=limit)
        return [_document(one) for one in page.items], page.next_cursor

    items, next_cursor = await in_questions(system, read)
    return wire.page_answer(items, next_cursor)


@delete(
    "/v1/customers/{key:str}/items/{id:str}",
    guards=[require("billing:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Take an item back",
            tag="Invoices",
            description="As long as it waits.",
            status=204,
            errors=(404, 409),
        )
    },
)
async def delete_item(request: Connection) -> None:
    """Idempotent."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    name: str = request.path_params["id"]
    await in_questions(
        system, lambda: billing_of(system).remove_item(tenant, key, name, actor=actor, now_us=now_us)
    )


ROUTES: Sequence[ControllerRouterHandler] = (create_one_off, create_item, list_items, delete_item)
