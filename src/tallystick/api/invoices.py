"""`/v1/invoices`, previews and the run: what customers owe, from the open period to the frozen document."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from litestar import Request, get, post, put
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
    DECIMAL,
    PAGE,
    POSITION,
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
from tallystick.billing.kept import canonical
from tallystick.billing.terms import NO_TERMS, parse_terms
from tallystick.catalog.billing import InvoiceSearch, KeptInvoice
from tallystick.catalog.charging import KeptPayment
from tallystick.errors import Conflict
from tallystick.flows.billing import run as billing_run
from tallystick.flows.billing.explain import Asked, Explained, explain_line
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.paying import foreseen, paid
from tallystick.flows.billing.prepare import number_of
from tallystick.flows.billing.preview import preview
from tallystick.flows.billing.render import invoice_csv, invoice_pdf
from tallystick.flows.billing.verify import verify
from tallystick.flows.customers import narrowed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import ZERO, exactly, money_text, plain, round_money

Connection = Request[Any, Any, Any]
STATUSES = ("grace", "finalized", "void")
KINDS = ("period", "one_off", "threshold", "closing", "top_up")


def invoice_document(
    invoice: KeptInvoice, applied: Decimal = ZERO, payment: KeptPayment | None = None
) -> dict[str, Any]:
    """An invoice on the wire. `applied`: what credits have paid of it."""
    return {
        "id": invoice.id,
        "number": number_of(invoice),
        "kind": invoice.kind,
        "status": invoice.status,
        **_members(json.loads(invoice.document), applied),
        "grace_until": wire.time_text(invoice.grace_until_us),
        "created_at": wire.time_text(invoice.created_at_us),
        "finalized_at": wire.optional_time_text(invoice.finalized_at_us),
        "voided_at": wire.optional_time_text(invoice.voided_at_us),
        "payment": None if payment is None else payment_document(payment),
        "waits_for": invoice.waits_for,
    }


def payment_document(payment: KeptPayment) -> dict[str, Any]:
    """How far the collecting of what is due has come."""
    return {
        "status": payment.status,
        "amount": payment.amount,
        "attempts": payment.attempts,
        "external_id": payment.external_id,
        "url": payment.url,
        "detail": payment.detail,
        "next_attempt_at": wire.optional_time_text(payment.next_us),
    }


def preview_document(frozen: Mapping[str, Any], applied: Decimal) -> dict[str, Any]:
    """As `invoice_document`, of an invoice that is not kept. `applied`: what credits would pay."""
    unset = dict.fromkeys(("grace_until", "created_at", "finalized_at", "voided_at", "payment", "waits_for"))
    return {
        "id": None,
        "number": None,
        "kind": "period",
        "status": "draft",
        **_members(frozen, applied),
        **unset,
    }


@exactly
def _members(frozen: Mapping[str, Any], paid: Decimal) -> dict[str, Any]:
    lines = [{name: value for name, value in line.items() if name != "steps"} for line in frozen["lines"]]
    applied, total = round_money(paid, frozen["currency"]), Decimal(frozen["total"])
    return {
        **frozen,
        "lines": lines,
        "credits_applied": money_text(applied),
        "credit_balance": money_text(round_money(max(ZERO, -total), frozen["currency"])),
        "amount_due": money_text(round_money(max(ZERO, total - applied), frozen["currency"])),
    }


def invoice_documents(system: System, tenant: str, invoices: Sequence[KeptInvoice]) -> list[dict[str, Any]]:
    """Invoices on the wire, with what is paid of them. Synchronous."""
    names = [one.id for one in invoices]
    applied, payments = paid(system, tenant, names), billing_of(system).payments_of(tenant, names)
    return [invoice_document(one, applied.get(one.id, ZERO), payments.get(one.id)) for one in invoices]


async def _document(system: System, tenant: str, invoice: KeptInvoice) -> dict[str, Any]:
    return (await in_questions(system, lambda: invoice_documents(system, tenant, [invoice])))[0]


_LINE = objects(
    {
        "id": STRING,
        "kind": {
            "type": "string",
            "enum": [
                "usage",
                "fee",
                "true_up",
                "overage",
                "minimum",
                "item",
                "progressive",
                "late",
                "top_up",
            ],
        },
        "charge": STRING,
        "name": STRING,
        "plan": STRING,
        "version": {"type": "integer"},
        "period": objects({"from": TIME, "to": TIME}),
        "group": {"type": "object", "additionalProperties": nullable(STRING)},
        "quantity": DECIMAL,
        "amount": DECIMAL,
        "rounded": DECIMAL,
        "add_on": STRING,
        "of": objects({"invoice": STRING, "line": nullable(STRING)}),
    },
    required=("id", "kind", "charge", "name", "period", "group", "quantity", "amount", "rounded"),
)
INVOICE = objects(
    {
        "id": nullable(STRING),
        "number": nullable(STRING),
        "kind": {"type": "string", "enum": list(KINDS)},
        "status": {"type": "string", "enum": ["draft", *STATUSES]},
        "customer": STRING,
        "subscription": nullable(STRING),
        "period": objects({"from": TIME, "to": TIME}),
        "currency": STRING,
        "lines": array(_LINE),
        "subtotal": DECIMAL,
        "discount": DECIMAL,
        "taxes": array(objects({"name": STRING, "percent": DECIMAL, "amount": DECIMAL})),
        "tax": DECIMAL,
        "total": DECIMAL,
        "credits_applied": DECIMAL,
        "credit_balance": {
            **DECIMAL,
            "description": "Of a total below zero: what becomes credits of the customer when it is finalized.",
        },
        "amount_due": DECIMAL,
        "plans": array(STRING),
        "position": POSITION,
        "as_of": TIME,
        "program": STRING,
        "grace_until": nullable(TIME),
        "created_at": nullable(TIME),
        "finalized_at": nullable(TIME),
        "voided_at": nullable(TIME),
        "waits_for": {**nullable(STRING), "description": "Why it is not final although its grace is over."},
        "payment": {
            **nullable(
                objects(
                    {
                        "status": {"type": "string", "enum": ["pending", "sent", "paid", "failed", "void"]},
                        "amount": DECIMAL,
                        "attempts": {"type": "integer"},
                        "external_id": nullable(STRING),
                        "url": nullable(STRING),
                        "detail": nullable(STRING),
                        "next_attempt_at": nullable(TIME),
                    }
                )
            ),
            "description": "How far collecting what is due has come (setting `payments`).",
        },
    }
)


# -- preview --------------------------------------------------------------------------------------------------------
@post(
    "/v1/customers/{key:str}/invoices/preview",
    guards=[require("billing:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="The open period's invoice",
            tag="Invoices",
            description="Usage before `at` (now) counts, as known at `as_of`; fixed fees stand in full. Of several "
            "subscriptions the oldest stands first, the others in `others`; `subscription` asks for one.",
            body=objects(
                {"at": nullable(TIME), "as_of": nullable(TIME), "subscription": nullable(STRING)},
                required=(),
                additionalProperties=False,
            ),
            body_required=False,
            body_example={"at": None, "as_of": None},
            answer=objects({**INVOICE["properties"], "others": array(INVOICE)}, required=INVOICE["required"]),
        )
    },
)
async def preview_invoice(request: Connection) -> dict[str, Any]:
    """Nothing is kept."""
    system, who = wire.system_of(request), caller(request)
    wire.check_parameters(request, ())
    fields = await Fields.of_body(request) if await wire.arrived(request) else Fields({}, body=True)
    at_us, as_of_us = fields.time_us("at"), fields.time_us("as_of")
    subscription = fields.text("subscription")
    fields.finish()
    key: str = request.path_params["key"]
    await in_questions(system, lambda: narrowed(system.catalog, who.tenant, who.customer, (key,)))
    found = await preview(system, who.tenant, key, subscription=subscription, at_us=at_us, as_of_us=as_of_us)
    frozen = [json.loads(one.document) for one in found.invoices]
    now_us = system.clock.now_us()
    applied = await in_questions(
        system, lambda: [foreseen(system, who.tenant, one, now_us=now_us) for one in frozen]
    )
    first, *others = [preview_document(one, sum_) for one, sum_ in zip(frozen, applied, strict=True)]
    return {**first, "others": others} if others else first


# -- invoices -------------------------------------------------------------------------------------------------------
@get(
    "/v1/invoices",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="List invoices",
            tag="Invoices",
            parameters=[
                *PAGE,
                query("customer", "Of this customer."),
                query("subscription", "Of this subscription (its id)."),
                query(
                    "status",
                    "In this state. Drafts are not kept: `POST /v1/customers/{key}/invoices/preview` makes one.",
                    schema={"type": "string", "enum": ["draft", *STATUSES]},
                ),
                query("kind", "Of this kind.", schema={"type": "string", "enum": list(KINDS)}),
            ],
            answer=listing(INVOICE),
        )
    },
)
async def list_invoices(request: Connection) -> dict[str, Any]:
    """Newest first."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    customer, subscription = fields.text("customer"), fields.text("subscription")
    status, kind = fields.choice("status", ("draft", *STATUSES)), fields.choice("kind", KINDS)
    fields.finish()
    if status == "draft":  # a draft is a preview, made anew whenever it is asked for; none is kept
        return wire.page_answer((), None)

    def read() -> tuple[list[dict[str, Any]], str | None]:
        asked = None if customer is None else (customer,)
        customers = narrowed(system.catalog, who.tenant, who.customer, asked)
        page = billing_of(system).invoices(
            who.tenant, InvoiceSearch(customers, subscription, status, kind), cursor=cursor, limit=limit
        )
        return invoice_documents(system, who.tenant, page.items), page.next_cursor

    items, next_cursor = await in_questions(system, read)
    return wire.page_answer(items, next_cursor)


async def _visible(request: Connection, name: str) -> tuple[System, KeptInvoice]:
    system, who = wire.system_of(request), caller(request)

    def read() -> KeptInvoice:
        found = billing_of(system).invoice(who.tenant, name)
        narrowed(system.catalog, who.tenant, who.customer, (found.customer,))
        return found

    return system, await in_questions(system, read)


@get(
    "/v1/invoices/{id:str}",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Read an invoice",
            tag="Invoices",
            description="With `.pdf`, `.csv` or `.json` behind the id, as a file of that kind.",
            answer=INVOICE,
        )
    },
)
async def get_invoice(request: Connection) -> Response[Any]:
    """As JSON, or as the file that the ending names."""
    wire.check_parameters(request, ())
    name, _, ending = str(request.path_params["id"]).partition(".")
    if ending not in ("", "json", "pdf", "csv"):
        name = str(request.path_params["id"])
    system, invoice = await _visible(request, name)
    document = await _document(system, caller(request).tenant, invoice)
    if ending in ("", "json"):
        return Response(document)
    tenant = caller(request).tenant
    file_name = f"{number_of(invoice) or invoice.id}.{ending}"
    headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
    if ending == "csv":
        return Response(invoice_csv(document).encode(), media_type="text/csv; charset=utf-8", headers=headers)

    def render() -> bytes:
        customer = system.catalog.customer(tenant, invoice.customer)
        return invoice_pdf(document, customer.name or customer.key, customer.email)

    return Response(await in_questions(system, render), media_type="application/pdf", headers=headers)


@post(
    "/v1/invoices/{id:str}/finalize",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Finalize an invoice",
            tag="Invoices",
            description="Before its grace is over. From then on it never changes.",
            answer=INVOICE,
            errors=(409,),
        )
    },
)
async def finalize_invoice(request: Connection) -> dict[str, Any]:
    """Idempotent."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    name: str = request.path_params["id"]
    made = await billing_run.finalize(system, tenant, name, actor=actor_of(request))
    return await _document(system, tenant, made)


@post(
    "/v1/invoices/{id:str}/void",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Void an invoice",
            tag="Invoices",
            description="It keeps its number and its document, and nothing is due by it.",
            answer=INVOICE,
            errors=(409,),
        )
    },
)
async def void_invoice(request: Connection) -> dict[str, Any]:
    """Idempotent."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    name: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system, lambda: billing_run.void(system, tenant, name, actor=actor, now_us=now_us)
    )
    return await _document(system, tenant, made)


@post(
    "/v1/invoices/{id:str}/pay",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Collect an invoice again",
            tag="Invoices",
            description="What is due is sent to the payment system at the next look, also where that has failed before.",
            answer=INVOICE,
            errors=(409,),
        )
    },
)
async def pay_invoice(request: Connection) -> dict[str, Any]:
    """Idempotent; one that is paid stays paid."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    name: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> dict[str, Any]:
        billing = billing_of(system)
        invoice = billing.invoice(tenant, name)
        payment = billing.payment(tenant, name)
        if payment is None:
            detail = "Nothing of the invoice is collected: see the setting payments."
            raise Conflict(detail, code="no_payment")
        if payment.status in ("pending", "failed"):
            again = replace(payment, status="pending", attempts=0, next_us=now_us, detail=None)
            billing.advance_payment(payment, again, actor=actor, now_us=now_us)
        return invoice_documents(system, tenant, [invoice])[0]

    return await in_questions(system, work)


@get(
    "/v1/invoices/{id:str}/verify",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Make an invoice again",
            tag="Invoices",
            description="From the facts as they were known then, and compare it byte for byte.",
            answer=objects(
                {
                    "id": STRING,
                    "number": nullable(STRING),
                    "verified": {"type": "boolean"},
                    "as_of": TIME,
                    "program": STRING,
                    "differences": array(objects({"place": STRING, "kept": {}, "recomputed": {}})),
                }
            ),
        )
    },
)
async def verify_invoice(request: Connection) -> dict[str, Any]:
    """What differs, when something does."""
    wire.check_parameters(request, ())
    system, invoice = await _visible(request, request.path_params["id"])
    made = await verify(system, caller(request).tenant, invoice.id)
    frozen = json.loads(invoice.document)
    return {
        "id": invoice.id,
        "number": number_of(invoice),
        "verified": made.same,
        "as_of": frozen["as_of"],
        "program": frozen["program"],
        "differences": [
            {"place": place, "kept": kept, "recomputed": recomputed}
            for place, kept, recomputed in made.differences
        ],
    }


# -- explain --------------------------------------------------------------------------------------------------------
def explained_document(told: Explained) -> dict[str, Any]:
    """The explanation of a line on the wire."""
    line = told.line
    return {
        "invoice": told.invoice.id,
        "line": {name: value for name, value in line.items() if name != "steps"},
        "amount": line["amount"],
        "rounded": line["rounded"],
        "price": None
        if told.item is None
        else {
            "plan": told.item.plan,
            "version": told.item.version,
            "charge": told.item.charge.key,
            "share": f"{told.item.share.numerator}/{told.item.share.denominator}",
            **{"price": told.item.charge.price.to_wire()},
        },
        "steps": line["steps"],
        "tiers": [step for step in line["steps"] if step["kind"] == "tier"],
        "usage": [_asked_document(one) for one in told.asked],
        "lines": list(told.lines),
        "as_of": wire.time_text(told.as_of_us),
    }


def _asked_document(one: Asked) -> dict[str, Any]:
    question = one.question
    return {
        "meter": question.meter,
        "version": one.meter.version,
        "aggregation": str(one.meter.aggregation),
        "filter": None if question.filter is None else json.loads(question.filter),
        "from": wire.time_text(question.from_us),
        "to": wire.time_text(question.to_us),
        "window": question.window,
        "rows": [
            {
                "window_start": wire.time_text(question.from_us if part.at_us is None else part.at_us),
                "group": dict(part.dimensions),
                "value": plain(part.quantity),
            }
            for part in one.usage
        ],
        "events": [
            {
                "source": each.event.source,
                "id": each.event.id,
                "time": wire.time_text(each.event.time_us),
                "customer": each.event.customer,
                "subject": each.event.subject,
                "value": plain(each.reading.value),
            }
            for each in one.events
        ],
        "events_complete": one.complete,
        "events_sum": None if one.events_sum is None else plain(one.events_sum),
    }


@get(
    "/v1/invoices/{id:str}/lines/{line:str}/explain",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Why a line is what it is",
            tag="Invoices",
            description="Its price's version, the steps (their amounts add up to the line's), the usage, and the events "
            "(at most 1,000 a question, the latest) whose values add up to the quantity.",
            answer={"type": "object", "additionalProperties": True},
        )
    },
)
async def explain(request: Connection) -> dict[str, Any]:
    """Down to the events."""
    wire.check_parameters(request, ())
    system, invoice = await _visible(request, request.path_params["id"])
    told = await explain_line(system, caller(request).tenant, invoice.id, request.path_params["line"])
    return explained_document(told)


# -- the run --------------------------------------------------------------------------------------------------------
@post(
    "/v1/billing/run",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Close what is due",
            tag="Invoices",
            description="What the clock would do at `at` (now): invoices for the periods that have ended, and finalized "
            "ones where the grace is over. Doing it again changes nothing.",
            body=objects({"at": nullable(TIME)}, required=(), additionalProperties=False),
            body_required=False,
            body_example={"at": "2026-08-01T00:00:00Z"},
            answer=objects(
                {
                    "at": TIME,
                    "closed": {"type": "integer"},
                    "finalized": {"type": "integer"},
                    "invoices": array(STRING),
                    "failed": array(objects({"subscription": STRING, "code": STRING, "detail": STRING})),
                }
            ),
        )
    },
)
async def run_billing(request: Connection) -> dict[str, Any]:
    """Periods of this tenant."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    fields = await Fields.of_body(request) if await wire.arrived(request) else Fields({}, body=True)
    at_us = fields.time_us("at")
    fields.finish()
    report = await billing_run.run(
        system, tenant, system.clock.now_us() if at_us is None else at_us, actor=actor_of(request)
    )
    return {
        "at": wire.time_text(report.at_us),
        "closed": report.closed,
        "finalized": report.finalized,
        "invoices": report.invoices,
        "failed": [
            {"subscription": one.subscription, "code": one.code, "detail": one.detail}
            for one in report.failed
        ],
    }


# -- terms ----------------------------------------------------------------------------------------------------------
_NUMBER: Schema = {"type": ["string", "number"]}
_TERMS = objects(
    {
        "taxes": array(objects({"name": STRING, "percent": _NUMBER})),
        "discount_percent": _NUMBER,
    },
    required=(),
    additionalProperties=False,
)


@put(
    "/v1/customers/{key:str}/billing",
    guards=[require("billing:write")],
    opt={
        "operation": operation(
            summary="Set a customer's terms",
            tag="Invoices",
            description="Taxes, and a discount in percent, of every invoice that is not finalized yet.",
            body=_TERMS,
            body_example={"taxes": [{"name": "VAT", "percent": "19"}]},
            answer=_TERMS,
        )
    },
)
async def set_terms(request: Connection) -> dict[str, Any]:
    """Replaces what there was."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    terms = parse_terms(await wire.json_object(request)).to_wire()
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    await in_questions(
        system,
        lambda: billing_of(system).set_billing_terms(
            tenant, key, canonical(terms), actor=actor, now_us=now_us
        ),
    )
    return terms


@get(
    "/v1/customers/{key:str}/billing",
    guards=[require("billing:read")],
    opt={"operation": operation(summary="A customer's terms", tag="Invoices", answer=_TERMS)},
)
async def get_terms(request: Connection) -> dict[str, Any]:
    """Without any: no taxes, no discount."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]

    def read() -> dict[str, Any]:
        system.catalog.customer(tenant, key)
        found = billing_of(system).billing_terms(tenant, (key,))
        return json.loads(found[key]) if key in found else NO_TERMS.to_wire()

    return await in_questions(system, read)


ROUTES: Sequence[ControllerRouterHandler] = (
    preview_invoice,
    list_invoices,
    get_invoice,
    finalize_invoice,
    void_invoice,
    pay_invoice,
    verify_invoice,
    explain,
    run_billing,
    set_terms,
    get_terms,
)
