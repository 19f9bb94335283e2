"""`/v1/credit_notes`: money of finalized invoices that is given back."""

import json
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
from tallystick.billing.credit_note import KINDS
from tallystick.catalog.charging import KeptNote
from tallystick.catalog.credit_notes import note_number
from tallystick.flows.billing.notes import create_note, verify_note
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.render import credit_note_csv, credit_note_pdf
from tallystick.flows.customers import narrowed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
_NUMBER: Schema = {"type": ["string", "number"]}


def note_document(note: KeptNote) -> dict[str, Any]:
    """A credit note on the wire."""
    return {
        "id": note.id,
        "number": note_number(note.sequence),
        "status": note.status,
        **json.loads(note.document),
        "grant": note.grant,
        "created_at": wire.time_text(note.created_at_us),
        "voided_at": wire.optional_time_text(note.voided_at_us),
    }


_NOTE = objects(
    {
        "id": STRING,
        "number": STRING,
        "status": {"type": "string", "enum": ["issued", "void"]},
        "invoice": STRING,
        "customer": STRING,
        "subscription": nullable(STRING),
        "currency": STRING,
        "kind": {"type": "string", "enum": list(KINDS)},
        "reason": STRING,
        "late": {"type": "boolean", "description": "Made because usage has changed."},
        "lines": array(
            objects(
                {
                    "line": STRING,
                    "charge": STRING,
                    "name": STRING,
                    "plan": STRING,
                    "version": {"type": "integer"},
                    "group": {"type": "object", "additionalProperties": nullable(STRING)},
                    "period": objects({"from": TIME, "to": TIME}),
                    "amount": DECIMAL,
                }
            )
        ),
        "subtotal": DECIMAL,
        "taxes": array(objects({"name": STRING, "percent": DECIMAL, "amount": DECIMAL})),
        "tax": DECIMAL,
        "total": DECIMAL,
        "at": TIME,
        "program": STRING,
        "grant": {**nullable(STRING), "description": "The credits it gave (kind credit)."},
        "created_at": TIME,
        "voided_at": nullable(TIME),
    }
)


@post(
    "/v1/invoices/{id:str}/credit_notes",
    guards=[require("billing:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Credit an invoice",
            tag="Credit notes",
            description="Gives back `lines` (amounts before tax, each at most what is left of the line after its share of the "
            "discount; tax is added in proportion), or an `amount` of the whole, tax included. `credit` grants the customer "
            "credits; `refund` is for money that is paid back, at most what was paid with money.",
            body=objects(
                {
                    "reason": STRING,
                    "kind": {"type": "string", "enum": list(KINDS), "default": KINDS[0]},
                    "amount": _NUMBER,
                    "lines": array(objects({"line": STRING, "amount": _NUMBER})),
                },
                required=("reason",),
                additionalProperties=False,
            ),
            body_example={"reason": "Outage on 3 July", "amount": "10.00"},
            answer=_NOTE,
            status=201,
            creates=True,
            errors=(404, 409),
        )
    },
)
async def create_credit_note(request: Connection) -> dict[str, Any]:
    """Numbered without gaps; it never changes."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    name: str = request.path_params["id"]
    made = await in_questions(
        system, lambda: create_note(system, tenant, name, raw, actor=actor, now_us=now_us)
    )
    return note_document(made)


@get(
    "/v1/credit_notes",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="List credit notes",
            tag="Credit notes",
            parameters=[
                *PAGE,
                query("customer", "Of this customer."),
                query("invoice", "Of this invoice (its id)."),
            ],
            answer=listing(_NOTE),
        )
    },
)
async def list_credit_notes(request: Connection) -> dict[str, Any]:
    """Newest first."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    customer, invoice = fields.text("customer"), fields.text("invoice")
    fields.finish()

    def read() -> tuple[list[dict[str, Any]], str | None]:
        asked = None if customer is None else (customer,)
        customers = narrowed(system.catalog, who.tenant, who.customer, asked)
        page = billing_of(system).credit_notes(
            who.tenant, customers=customers, invoice=invoice, cursor=cursor, limit=limit
        )
        return [note_document(one) for one in page.items], page.next_cursor

    items, next_cursor = await in_questions(system, read)
    return wire.page_answer(items, next_cursor)


async def _visible(request: Connection, name: str) -> tuple[System, KeptNote]:
    system, who = wire.system_of(request), caller(request)

    def read() -> KeptNote:
        found = billing_of(system).credit_note(who.tenant, name)
        narrowed(system.catalog, who.tenant, who.customer, (found.customer,))
        return found

    return system, await in_questions(system, read)


@get(
    "/v1/credit_notes/{id:str}",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Read a credit note",
            tag="Credit notes",
            description="With `.pdf`, `.csv` or `.json` behind the id, as a file of that kind.",
            answer=_NOTE,
        )
    },
)
async def get_credit_note(request: Connection) -> Response[Any]:
    """As JSON, or as the file that the ending names."""
    wire.check_parameters(request, ())
    name, _, ending = str(request.path_params["id"]).partition(".")
    if ending not in ("", "json", "pdf", "csv"):
        name = str(request.path_params["id"])
    system, note = await _visible(request, name)
    document = note_document(note)
    if ending not in ("pdf", "csv"):
        return Response(document)
    headers = {"Content-Disposition": f'attachment; filename="{document["number"]}.{ending}"'}
    if ending == "csv":
        text = credit_note_csv(document).encode()
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)
    tenant = caller(request).tenant

    def render() -> bytes:
        customer = system.catalog.customer(tenant, note.customer)
        invoice = billing_of(system).invoice(tenant, note.invoice)
        return credit_note_pdf(document, customer.name or customer.key, customer.email, invoice)

    return Response(await in_questions(system, render), media_type="application/pdf", headers=headers)


@get(
    "/v1/credit_notes/{id:str}/verify",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Make a credit note again",
            tag="Credit notes",
            description="From its invoice, what was asked for, and the notes there were; compared byte for byte.",
            answer=objects({"id": STRING, "number": STRING, "verified": {"type": "boolean"}}),
        )
    },
)
async def verify_credit_note(request: Connection) -> dict[str, Any]:
    """Whether it is the same."""
    wire.check_parameters(request, ())
    system, note = await _visible(request, request.path_params["id"])
    tenant = caller(request).tenant
    made = await in_questions(system, lambda: verify_note(system, tenant, note.id))
    return {"id": note.id, "number": note_number(note.sequence), "verified": made.same}


@post(
    "/v1/credit_notes/{id:str}/void",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Void a credit note",
            tag="Credit notes",
            description="It keeps its number. The credits it gave are taken back: refused where some of them are spent.",
            answer=_NOTE,
            errors=(409,),
        )
    },
)
async def void_credit_note(request: Connection) -> dict[str, Any]:
    """Idempotent."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    name: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system, lambda: billing_of(system).void_credit_note(tenant, name, actor=actor, now_us=now_us)
    )
    return note_document(made)


ROUTES: Sequence[ControllerRouterHandler] = (
    create_credit_note,
    list_credit_notes,
    get_credit_note,
    verify_credit_note,
    void_credit_note,
)
