"""`POST /v1/pricing/backtest`: what customers would have paid under other prices."""

import csv
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

from litestar import Request, Response, post
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.formats import chosen
from tallystick.api.openapi import DECIMAL, STRING, TIME, Schema, array, nullable, objects, operation
from tallystick.billing.plan import Plan, parse_plan
from tallystick.document import Document
from tallystick.errors import Invalid, TallystickError
from tallystick.flows import customers
from tallystick.flows.billing.backtest import PLANS_MAX, Backtest, Compared, Progress, backtest, stored_plan
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.instant import instant_us
from tallystick.money import ZERO, money_text, plain, quotient, round_money

Connection = Request[Any, Any, Any]

CUSTOMERS_MAX = 100_000
_JSON, _CSV, _LINES = "application/json", "text/csv", "application/x-ndjson"
_HUNDRED = Decimal(100)


# -- on the wire ----------------------------------------------------------------------------------------------------
def item_document(one: Compared) -> dict[str, Any]:
    """One customer in one currency."""
    percent = None if not one.old else plain(_percent(one.difference, one.old))
    return {
        "customer": one.customer,
        "currency": one.currency,
        "periods": one.periods,
        "old": money_text(round_money(one.old, one.currency)),
        "new": money_text(round_money(one.new, one.currency)),
        "difference": money_text(round_money(one.difference, one.currency)),
        "percent": percent,
        "failed": one.failed,
    }


def _percent(part: Decimal, whole: Decimal) -> Decimal:
    return quotient(part * _HUNDRED, whole).quantize(Decimal("0.01"))


def totals_of(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """By currency: sums, and how many would have paid less, more, the same."""
    made: list[dict[str, Any]] = []
    for currency in sorted({one.currency for one in compared}):
        own = [one for one in compared if one.currency == currency]
        old, new = sum((one.old for one in own), ZERO), sum((one.new for one in own), ZERO)
        made.append(
            {
                "currency": currency,
                "customers": len(own),
                "old": money_text(round_money(old, currency)),
                "new": money_text(round_money(new, currency)),
                "difference": money_text(round_money(new - old, currency)),
                "percent": plain(_percent(new - old, old)) if old else None,
                "winners": sum(one.difference < 0 for one in own),
                "losers": sum(one.difference > 0 for one in own),
                "unchanged": sum(one.difference == 0 for one in own),
                "failed": sum(one.failed is not None for one in own),
            }
        )
    return made


# -- reading --------------------------------------------------------------------------------------------------------
def _read(system: System, tenant: str, raw: dict[str, Any]) -> Backtest:
    document = Document(raw)
    from_us, to_us = (_time(document, name) for name in ("from", "to"))
    if from_us is not None and to_us is not None and to_us <= from_us:
        document.fault("empty_range", "must be later than from.", "to")
    named = document.texts("customers", items_max=CUSTOMERS_MAX) if document.has("customers") else None
    document.take("customers")
    plans: dict[str, Plan] = {}
    for index, given in enumerate(document.list_of("plans", items_max=PLANS_MAX, required=True)):
        plan = _plan(document, index, given, system, tenant)
        if plan is None:
            continue
        if plan.key in plans:
            document.fault("repeated", f"is the key of another plan, {plan.key!r}.", "plans", index, "key")
        plans[plan.key] = plan
    document.finish()
    assert from_us is not None  # a missing one is a fault
    assert to_us is not None
    return Backtest(from_us, to_us, plans, named)


def _time(document: Document, name: str) -> int | None:
    text = document.required_text(name, characters_max=64)
    try:
        return instant_us(text) if text else None
    except ValueError as error:
        document.fault("invalid_time", f"is no time: {error}", name)
        return None


def _plan(document: Document, index: int, given: Any, system: System, tenant: str) -> Plan | None:
    """A whole plan, or `{"key", "version"}` of one that is kept."""
    if isinstance(given, dict) and set(given) <= {"key", "version"}:
        inner = document.below(given, "plans", index)
        key, version = inner.key("key"), inner.integer("version", least=1, most=10**9)
        return None if key is None else stored_plan(system, tenant, key, version)
    try:
        return parse_plan(given)
    except Invalid as error:
        for fault in error.faults:
            document.fault(fault.code, f"{fault.pointer}: {fault.detail}", "plans", index)
        return None


# -- the route ------------------------------------------------------------------------------------------------------
_ITEM_PROPERTIES: dict[str, Schema] = {
    "customer": STRING,
    "currency": STRING,
    "periods": {"type": "integer"},
    "old": DECIMAL,
    "new": DECIMAL,
    "difference": DECIMAL,
    "percent": nullable(DECIMAL),
    "failed": nullable({"type": "string", "description": "Why periods are missing in the figures."}),
}
_TOTAL = objects(
    {
        "currency": STRING,
        "customers": {"type": "integer"},
        "old": DECIMAL,
        "new": DECIMAL,
        "difference": DECIMAL,
        "percent": nullable(DECIMAL),
        "winners": {"type": "integer"},
        "losers": {"type": "integer"},
        "unchanged": {"type": "integer"},
        "failed": {"type": "integer"},
    }
)
_TEXT = {"schema": {"type": "string"}}


@post(
    "/v1/pricing/backtest",
    guards=[require("billing:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Rate the past under other prices",
            tag="Pricing",
            description="Every billing period that ends within (`from`, `to`], of all customers or some, is rated twice: with the "
            "prices there were, and with the plans given in place of those with the same keys. Nothing is stored. Totals are with "
            "discounts and taxes, before credits. Items: the greatest gain for a customer first. `application/x-ndjson` tells the "
            "progress: lines with `progress`, then `item`, then `totals`.",
            body=objects(
                {
                    "from": TIME,
                    "to": TIME,
                    "plans": array(
                        {"type": "object"},
                        description="Whole plans, or `{key, version}` of one that is kept.",
                    ),
                    "customers": nullable(array(STRING)),
                },
                required=("from", "to", "plans"),
                additionalProperties=False,
            ),
            body_example={
                "from": "2026-01-01T00:00:00Z",
                "to": "2026-07-01T00:00:00Z",
                "plans": [{"key": "pro", "version": 2}],
            },
            answer=objects({"totals": array(_TOTAL), "items": array(objects(_ITEM_PROPERTIES))}),
            answer_types={_CSV: _TEXT, _LINES: _TEXT},
            errors=(404, 406),
        )
    },
)
async def post_backtest(request: Connection) -> Response[Any] | Stream:
    """Old beside new."""
    wire.check_parameters(request, ())
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    kind = chosen(request.headers.get("accept"), (_JSON, _CSV, _LINES))
    raw = await wire.json_object(request)
    what = await in_questions(system, lambda: _read(system, who.tenant, raw))
    found = backtest(system, who.tenant, what)
    if kind == _LINES:
        first = await anext(found)  # what is wrong with the request is an error, not a line
        return Stream(_lines(first, found), media_type=_LINES)
    compared: tuple[Compared, ...] = ()
    async for step in found:
        if not isinstance(step, Progress):
            compared = step
    if kind == _CSV:
        return Response(_table(compared), media_type=_CSV)
    return Response(
        {"totals": totals_of(compared), "items": [item_document(one) for one in compared]}, media_type=_JSON
    )


def _table(compared: Sequence[Compared]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_ITEM_PROPERTIES)
    writer.writerows(item_document(one).values() for one in compared)
    return out.getvalue()


async def _lines(
    first: Progress | tuple[Compared, ...], rest: AsyncIterator[Progress | tuple[Compared, ...]]
) -> AsyncGenerator[bytes]:
    def told(step: Progress | tuple[Compared, ...]) -> bytes:
        if isinstance(step, Progress):
            return _line({"progress": {"done": step.done, "of": step.of}})
        items = b"".join(_line({"item": item_document(one)}) for one in step)
        return items + _line({"totals": totals_of(step)})

    yield told(first)
    try:
        async for step in rest:
            yield told(step)
    except TallystickError as error:  # the status is sent already
        yield _line({"error": {"code": error.code, "detail": error.detail}})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


ROUTES: Sequence[ControllerRouterHandler] = (post_backtest,)
