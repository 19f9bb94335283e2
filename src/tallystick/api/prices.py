"""`POST /v1/prices/evaluate`: what a price says, without a plan, a customer or an event."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

from litestar import Request, post
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import require
from tallystick.api.openapi import DECIMAL, STRING, TIME, Schema, array, nullable, objects, operation
from tallystick.document import Document
from tallystick.errors import Invalid
from tallystick.metering.instant import instant_us
from tallystick.money import ZERO, exact, exponent_of, money_text, plain, round_money
from tallystick.rating.adjustments import Adjustments
from tallystick.rating.explain import step_json
from tallystick.rating.model import Rated, Step, Usage, dimensions_of
from tallystick.rating.price import MODELS, Price, read_price
from tallystick.rating.rate import rate

TRANSACTIONS_MAX = 10_000
PARTS_MAX = 1_000
DIMENSIONS_GIVEN_MAX = 32
CURRENCY_DEFAULT = "USD"

Connection = Request[Any, Any, Any]


def price_answer(rated: Rated, currency: str) -> dict[str, Any]:
    """What was rated, on the wire."""
    return {
        "amount": plain(exact(rated.amount)),
        "rounded": money_text(round_money(rated.amount, currency)),
        "currency": currency,
        "tiers": [tier_json(step) for step in rated.tiers],
        "steps": [step_json(step) for step in rated.steps],
    }


def tier_json(step: Step) -> dict[str, Any]:
    """A tier that was reached."""
    return {
        "from": _text(step.above),
        "to": _text(step.up_to),
        "quantity": _text(step.quantity),
        "unit_amount": _text(step.unit_amount),
        "flat_amount": _text(step.flat_amount),
        "amount": plain(step.amount),
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


# -- reading --------------------------------------------------------------------------------------------------------
def _read(raw: object) -> tuple[Price, list[Usage], Adjustments, str]:
    document = Document(raw)
    given = document.take("price")
    if given is None:
        document.fault("missing", "is required.", "price")
        price = None
    else:
        price = read_price(document.below(given, "price"))
    currency = document.text("currency", characters_max=16) or CURRENCY_DEFAULT
    try:
        exponent_of(currency)
    except Invalid as error:
        sentence = f"is {currency!r}, no ISO 4217 code that money is paid in, such as EUR."
        document.fault(error.code, sentence, "currency")
    known = frozenset[str]() if price is None else price.needs().dimensions
    # A fixed fee needs no quantity.
    flat = isinstance(given, dict) and cast("dict[str, Any]", given).get("model") == "flat"
    parts = _read_parts(document, known, needed=not flat)
    adjustments = Adjustments.read(document)
    document.finish()
    assert price is not None  # a missing one is a fault
    return price, parts, adjustments, currency


def _read_parts(document: Document, known: frozenset[str], *, needed: bool) -> list[Usage]:
    given = [name for name in ("quantity", "transactions", "usage") if document.has(name)]
    if len(given) > 1 or (needed and not given):
        document.fault("missing", "needs exactly one of quantity, transactions and usage.")
    if not document.has("usage"):
        return [_read_part(document, known)]
    parts: list[Usage] = []
    for one in document.objects("usage", items_max=PARTS_MAX):
        if one.has("quantity") == one.has("transactions"):
            one.fault("missing", "needs either quantity or transactions.")
        parts.append(_read_part(one, known))
    return parts


def _read_part(document: Document, known: frozenset[str]) -> Usage:
    quantity = document.decimal("quantity") or ZERO
    values: list[Decimal] = []
    for index, raw in enumerate(document.list_of("transactions", items_max=TRANSACTIONS_MAX)):
        value = document.decimal_at(raw, "transactions", index)
        if value is not None:
            values.append(value)
    dimensions = dimensions_of(_read_dimensions(document, known))
    at_us: int | None = None
    at = document.text("at", characters_max=64)
    if at is not None:
        try:
            at_us = instant_us(at)
        except ValueError as error:
            document.fault("invalid_time", f"is no time: {error}", "at")
    if not document.has("transactions"):
        return Usage(quantity, dimensions=dimensions, at_us=at_us)
    summed = Usage.of_transactions(values)
    return Usage(summed.quantity, summed.transactions, len(values), dimensions, at_us)


def _read_dimensions(document: Document, known: frozenset[str]) -> dict[str, str | None]:
    raw = document.take("dimensions")
    if raw is None:
        return {}
    members = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    if not isinstance(raw, dict) or len(members) > DIMENSIONS_GIVEN_MAX:
        document.fault(
            "invalid_type", f"must be an object of at most {DIMENSIONS_GIVEN_MAX} strings.", "dimensions"
        )
        return {}
    made: dict[str, str | None] = {}
    for name, value in members.items():
        if value is not None and not isinstance(value, str):
            document.fault("invalid_value", "must be a string or null.", "dimensions", name[:128])
        elif known and name not in known:
            sentence = f"is no dimension of this price, which has {', '.join(sorted(known))}."
            document.fault("unknown_dimension", sentence, "dimensions", name[:128])
        else:
            made[name] = value
    return made


# -- the route ------------------------------------------------------------------------------------------------------
PRICE: Schema = {
    "type": "object",
    "required": ["model"],
    "properties": {"model": {"type": "string", "enum": list(MODELS)}},
    "description": "A price; its members depend on `model`. See docs/reference/prices.md.",
}
_NUMBER: Schema = {
    "type": ["string", "number"],
    "description": "An exact decimal; a number is read from its text.",
}
_DIMENSIONS: Schema = {"type": "object", "additionalProperties": nullable(STRING)}
_PART: dict[str, Schema] = {
    "quantity": _NUMBER,
    "transactions": array(_NUMBER, maxItems=TRANSACTIONS_MAX),
    "dimensions": _DIMENSIONS,
    "at": TIME,
}
STEP = objects(
    {
        "kind": STRING,
        "label": array(STRING),
        "from": DECIMAL,
        "to": nullable(DECIMAL),
        "quantity": DECIMAL,
        "unit_amount": DECIMAL,
        "flat_amount": DECIMAL,
        "rate": DECIMAL,
        "amount": DECIMAL,
    },
    required=("kind", "amount"),
)
TIER = objects(
    {
        "from": DECIMAL,
        "to": nullable(DECIMAL),
        "quantity": DECIMAL,
        "unit_amount": DECIMAL,
        "flat_amount": DECIMAL,
        "amount": DECIMAL,
    }
)


@post(
    "/v1/prices/evaluate",
    guards=[require("billing:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="What a price says",
            tag="Pricing",
            description="Nothing is stored. `amount` has full precision (up to 36 digits after the point), `rounded` is half-up "
            "to the currency's minor units. `tiers` are those reached; `steps` explain the amount, and add up to it exactly.",
            body=objects(
                {
                    "price": PRICE,
                    "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "default": CURRENCY_DEFAULT},
                    **_PART,
                    "usage": array(
                        objects(_PART, required=(), additionalProperties=False),
                        maxItems=PARTS_MAX,
                        description="Instead of one quantity: parts with dimensions and times of their own.",
                    ),
                    "included": _NUMBER,
                    "discounts": array({"type": "object"}),
                    "minimum": _NUMBER,
                    "maximum": _NUMBER,
                },
                required=("price",),
                additionalProperties=False,
            ),
            body_example={
                "price": {
                    "model": "graduated",
                    "tiers": [
                        {"up_to": "100", "unit_amount": "0.05"},
                        {"up_to": None, "unit_amount": "0.04"},
                    ],
                },
                "quantity": "120",
                "currency": "USD",
            },
            answer=objects(
                {
                    "amount": DECIMAL,
                    "rounded": DECIMAL,
                    "currency": STRING,
                    "tiers": array(TIER),
                    "steps": array(STEP),
                }
            ),
        )
    },
)
async def evaluate_price(request: Connection) -> dict[str, Any]:
    """Rate what the body says."""
    wire.check_parameters(request, ())
    # In a thread: a matrix of thousands of cells takes longer to read than others should wait.
    return await asyncio.to_thread(_evaluate, await wire.json_object(request))


def _evaluate(raw: dict[str, Any]) -> dict[str, Any]:
    price, parts, adjustments, currency = _read(raw)
    return price_answer(rate(price, parts, adjustments), currency)


ROUTES: Sequence[ControllerRouterHandler] = (evaluate_price,)
