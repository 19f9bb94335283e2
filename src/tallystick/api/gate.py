"""`/v1/check` and `/v1/reservations`: may this be used, and hold it until it is."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

import msgspec
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.forward import at_owner, body_of, limiting_of
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
    query,
)
from tallystick.api.problem import PROBLEM_TYPE, problem_body, problem_headers
from tallystick.document import Document
from tallystick.errors import NotFound, TallystickError, Unavailable
from tallystick.flows.customers import narrowed, visible
from tallystick.flows.limits.asked import AskedGate, Reserved
from tallystick.flows.limits.receipt import (
    LimitExceeded,
    LimitUnknown,
    position_token,
    reservation_document,
    reserved_document,
)
from tallystick.flows.limits.rules import Ask
from tallystick.flows.position import position_of
from tallystick.flows.usage import in_questions, wait_for_position
from tallystick.limits.reservation import TTL_S_DEFAULT, TTL_S_MAX, Dimensions, State
from tallystick.limits.standing import REASONS
from tallystick.metering.position import Vector
from tallystick.money import ZERO

Connection = Request[Any, Any, Any]

BATCH_MAX = 1000
DIMENSIONS_MAX = 16
DIMENSION_CHARACTERS_MAX = 1024

_NUMBER: Schema = {"type": ["string", "number"], "description": "An exact decimal, greater than 0."}
_CUSTOMER: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
_DIMENSIONS: Schema = {
    "type": ["object", "null"],
    "additionalProperties": {"type": ["string", "null"]},
    "description": "What it is used for, by the meter's dimensions: limits with a filter concern it where that holds.",
}
_ASK: dict[str, Schema] = {"customer": _CUSTOMER, "meter": KEY, "amount": _NUMBER, "dimensions": _DIMENSIONS}
_FIGURES = nullable(objects({"used": DECIMAL, "held": DECIMAL, "remaining": DECIMAL}))
_RECEIPT: dict[str, Schema] = {
    "allowed": {"type": "boolean"},
    "reason": {"type": "string", "enum": list(REASONS)},
    "rule": nullable(
        {"type": "string", "description": "Key of the limit that answers; null: none concerns this."}
    ),
    "limit": nullable({**DECIMAL, "description": "What may be used in all: raises and carry-over included."}),
    "used": nullable(DECIMAL),
    "held": nullable(DECIMAL),
    "remaining": nullable({**DECIMAL, "description": "Never below 0."}),
    "currency": nullable(STRING),
    "reset_at": nullable(TIME),
    "period": nullable(objects({"from": TIME, "to": TIME})),
    "enforce": nullable({"type": "string", "enum": ["hard", "soft"]}),
    "customer": STRING,
    "meter": STRING,
    "amount": DECIMAL,
    "dimensions": {"type": "object"},
    "before": _FIGURES,
    "after": _FIGURES,
    "as_of": {**TIME, "description": "Usage recorded up to this moment is counted."},
    "decided_at": TIME,
}
_RESERVATION: dict[str, Schema] = {
    "id": STRING,
    "customer": STRING,
    "meter": STRING,
    "dimensions": {"type": "object"},
    "amount": DECIMAL,
    "state": {"type": "string", "enum": [one.value for one in State if one is not State.SETTLING]},
    "settled_amount": nullable(DECIMAL),
    "created_at": TIME,
    "expires_at": TIME,
    "settled_at": nullable(TIME),
    "closed_at": nullable(TIME),
    "counted": {"type": ["boolean", "null"], "description": "Whether usage has it by now."},
    "position": nullable({"type": "string", "description": "Of the event; hand it back as `min_position`."}),
}
_RESERVED = objects({**_RECEIPT, **_RESERVATION}, required=tuple(_RESERVATION))
_ASK_EXAMPLE = {"customer": "acme", "meter": "tokens", "amount": "500"}


# -- reading --------------------------------------------------------------------------------------------------------
def _read_ask(document: Document, tenant: str) -> Ask:
    customer = document.required_text("customer", characters_max=256)
    meter = document.key("meter") or ""
    amount = document.required_decimal("amount", above=ZERO)
    return Ask(tenant, customer, meter, amount, _read_dimensions(document))


def _read_dimensions(document: Document) -> Dimensions:
    raw = document.take("dimensions")
    if raw is None:
        return ()
    if not isinstance(raw, dict) or len(cast("dict[str, Any]", raw)) > DIMENSIONS_MAX:
        document.fault(
            "invalid_value", f"must be an object of at most {DIMENSIONS_MAX} strings.", "dimensions"
        )
        return ()
    made = cast("dict[str, Any]", raw)
    for name, value in made.items():
        if value is not None and not (isinstance(value, str) and len(value) <= DIMENSION_CHARACTERS_MAX):
            document.fault(
                "invalid_value",
                f"must be a string of at most {DIMENSION_CHARACTERS_MAX} characters.",
                "dimensions",
                name,
            )
    return tuple(sorted(made.items()))


def _read_ttl(document: Document) -> int:
    return document.integer("ttl_seconds", least=1, most=TTL_S_MAX) or TTL_S_DEFAULT


def _read_position(document: Document) -> Vector | None:
    text = document.text("min_position", characters_max=4096)
    if text is None:
        return None
    try:
        return position_of(text, pointer="/min_position")
    except TallystickError:
        document.fault("invalid_position", "is not a position as we answered it.", "min_position")
        return None


def read_asks(raw: dict[str, Any], tenant: str) -> list[Ask]:
    """Of a batch of checks. Raises Invalid."""
    asks: list[Ask] = []
    for place, item in enumerate(_read_items(raw)):
        document = Document(item, "items", place)
        asks.append(_read_ask(document, tenant))
        document.finish()
    return asks


def read_reservations(raw: dict[str, Any], tenant: str) -> list[tuple[Ask, int]]:
    """Of a batch of reservations, with `ttl_seconds`. Raises Invalid."""
    asks: list[tuple[Ask, int]] = []
    for place, item in enumerate(_read_items(raw)):
        document = Document(item, "items", place)
        asks.append((_read_ask(document, tenant), _read_ttl(document)))
        document.finish()
    return asks


def _read_items(raw: dict[str, Any]) -> list[Any]:
    document = Document(raw)
    items = document.list_of("items", items_max=BATCH_MAX, required=True)
    document.finish()
    return items


def read_settlement(raw: dict[str, Any]) -> tuple[Decimal | None, dict[str, Any] | None]:
    """The amount and the event to settle with. Raises Invalid."""
    document = Document(raw)
    amount: Decimal | None = document.decimal("amount", above=ZERO)
    event = document.take("event")
    if event is not None and not isinstance(event, dict):
        document.fault("invalid_type", "must be an object.", "event")
    document.finish()
    return amount, cast("dict[str, Any] | None", event)


async def _allowed(request: Connection, tenant: str, customers: Sequence[str]) -> None:
    """A caller bound to a customer asks for what he sees. Raises Forbidden."""
    bound = caller(request).customer
    if bound is not None:
        system = wire.system_of(request)
        await in_questions(system, lambda: narrowed(system.catalog, tenant, bound, customers))


# -- answering ------------------------------------------------------------------------------------------------------
def _refused(error: LimitExceeded | LimitUnknown) -> Response[bytes]:
    return Response(
        problem_body(error, extra=error.receipt),
        status_code=error.status,
        media_type=PROBLEM_TYPE,
        headers=dict(problem_headers(error)),
    )


def problem_of(error: TallystickError) -> dict[str, Any]:
    """What stands in the place of an item that is refused."""
    receipt = error.receipt if isinstance(error, LimitExceeded | LimitUnknown) else None
    return msgspec.json.decode(problem_body(error, extra=receipt))


def document_of(made: Reserved) -> dict[str, Any]:
    """A reservation with its receipt, on the wire."""
    one = made.reservation
    return reserved_document(one, made.receipt, position=position_token(one))


# -- check ----------------------------------------------------------------------------------------------------------
@post(
    "/v1/check",
    guards=[require("limits:check")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Ask whether so much may be used",
            tag="Limits",
            description="Nothing is held. `min_position`: what was acknowledged with this position counts.",
            body=objects(
                {**_ASK, "min_position": nullable(STRING)},
                required=("customer", "meter", "amount"),
                additionalProperties=False,
            ),
            body_example=_ASK_EXAMPLE,
            answer=objects(_RECEIPT),
            errors=(404,),
        )
    },
)
async def check(request: Connection) -> Response[Any]:
    """The receipt of a use that is not made."""
    wire.check_parameters(request, ())
    system, tenant = wire.system_of(request), caller(request).tenant
    document = Document(await body_of(request))
    ask = _read_ask(document, tenant)
    position = _read_position(document)
    document.finish()
    await _allowed(request, tenant, (ask.customer,))
    await wait_for_position(system, position)

    async def local(gate: AskedGate) -> Response[Any]:
        return Response(await gate.check(ask))

    try:
        return await at_owner(request, local)
    except Unavailable as error:
        if error.code != "gate_not_ready":
            raise
        return Response(await limiting_of(request).unknown(ask))


@post(
    "/v1/check/batch",
    guards=[require("limits:check")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Ask for several uses at once",
            tag="Limits",
            description="Each by itself: what one would use does not count for the next. An item that cannot be answered is "
            "a problem document in its place.",
            body=objects({"items": array(objects(_ASK, required=("customer", "meter", "amount")))}),
            body_example={"items": [_ASK_EXAMPLE]},
            answer=objects({"items": array({"type": "object"})}),
        )
    },
)
async def check_batch(request: Connection) -> Response[Any]:
    """A receipt for each."""
    tenant = caller(request).tenant
    wire.check_parameters(request, ())
    asks = read_asks(await body_of(request), tenant)
    await _allowed(request, tenant, sorted({ask.customer for ask in asks}))

    async def local(gate: AskedGate) -> Response[Any]:
        made: list[dict[str, Any]] = []
        for ask in asks:
            try:
                made.append(await gate.check(ask))
            except TallystickError as error:
                made.append(problem_of(error))
        return Response({"items": made})

    return await at_owner(request, local)


# -- reservations ---------------------------------------------------------------------------------------------------
_NEW: dict[str, Schema] = {
    **_ASK,
    "ttl_seconds": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": TTL_S_MAX,
        "default": TTL_S_DEFAULT,
    },
}


@post(
    "/v1/reservations",
    guards=[require("limits:check")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Reserve",
            tag="Limits",
            description="Holds the amount until it is settled, released, or its time is over. Durable when it is answered. "
            "409 `limit_exceeded` brings the receipt along.",
            body=objects(_NEW, required=("customer", "meter", "amount"), additionalProperties=False),
            body_example={**_ASK_EXAMPLE, "ttl_seconds": 60},
            answer=_RESERVED,
            status=201,
            errors=(404, 409),
            creates=True,
        )
    },
)
async def reserve(request: Connection) -> Response[Any]:
    """A reservation with its receipt."""
    _, tenant = administered(request)
    wire.check_parameters(request, ())
    document = Document(await body_of(request))
    ask, ttl_s = _read_ask(document, tenant), _read_ttl(document)
    document.finish()

    async def local(gate: AskedGate) -> Response[Any]:
        try:
            made = await gate.reserve(ask, ttl_s)
        except (LimitExceeded, LimitUnknown) as error:
            return _refused(error)
        location = f"/v1/reservations/{made.reservation.id}"
        return Response(document_of(made), status_code=201, headers={"Location": location})

    return await at_owner(request, local)


@post(
    "/v1/reservations/batch",
    guards=[require("limits:check")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Reserve several",
            tag="Limits",
            description="In their order, each by itself: one that is refused is a problem document in its place, and the "
            "others stand.",
            body=objects({"items": array(objects(_NEW, required=("customer", "meter", "amount")))}),
            body_example={"items": [_ASK_EXAMPLE]},
            answer=objects({"items": array({"type": "object"})}),
            creates=True,
        )
    },
)
async def reserve_batch(request: Connection) -> Response[Any]:
    """A reservation or a problem for each."""
    _, tenant = administered(request)
    wire.check_parameters(request, ())
    asks = read_reservations(await body_of(request), tenant)

    async def local(gate: AskedGate) -> Response[Any]:
        made = await gate.reserve_each(asks)
        answers = [document_of(one) if isinstance(one, Reserved) else problem_of(one) for one in made]
        return Response({"items": answers})

    return await at_owner(request, local)


@get(
    "/v1/reservations",
    guards=[require("limits:check")],
    opt={
        "operation": operation(
            summary="List reservations",
            tag="Limits",
            parameters=[
                *PAGE,
                query("customer", "Of this customer."),
                query(
                    "state",
                    "In this state.",
                    schema={
                        "type": "string",
                        "enum": [one.value for one in State if one is not State.SETTLING],
                    },
                ),
            ],
            answer=listing(objects(_RESERVATION)),
        )
    },
)
async def list_reservations(request: Connection) -> Response[Any]:
    """In the order they were made."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    customer = fields.text("customer", characters_max=256)
    state = fields.choice("state", [one.value for one in State if one is not State.SETTLING])
    fields.finish()
    asked = None if customer is None else (customer,)
    customers = await in_questions(system, lambda: narrowed(system.catalog, who.tenant, who.customer, asked))

    async def local(gate: AskedGate) -> Response[Any]:
        page = await gate.page(who.tenant, customers=customers, state=state, cursor=cursor, limit=limit)
        items = [reservation_document(one, position=position_token(one)) for one in page.items]
        return Response(wire.page_answer(items, page.next_cursor))

    return await at_owner(request, local)


@get(
    "/v1/reservations/{id:str}",
    guards=[require("limits:check")],
    opt={
        "operation": operation(
            summary="Read a reservation", tag="Limits", answer=objects(_RESERVATION), errors=(404,)
        )
    },
)
async def get_reservation(request: Connection) -> Response[Any]:
    """Open or closed."""
    wire.check_parameters(request, ())
    who = caller(request)
    name: str = request.path_params["id"]

    async def local(gate: AskedGate) -> Response[Any]:
        one = await gate.get(who.tenant, name)
        system = wire.system_of(request)
        if who.customer is not None:
            seen = await in_questions(system, lambda: visible(system.catalog, who.tenant, who.customer))
            if one.customer not in (seen or ()):
                raise _no_such(name)
        return Response(reservation_document(one, position=position_token(one)))

    return await at_owner(request, local)


def _no_such(name: str) -> NotFound:
    return NotFound(f"There is no reservation {name[:80]!r}.", code="reservation_not_found")


@post(
    "/v1/reservations/{id:str}/settle",
    guards=[require("limits:check")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Settle a reservation",
            tag="Limits",
            description="Records the event in the same step, once. Without `event` one is made: of the customer, with the "
            "reservation's id. Without `amount`, what the event gives to the meter, or all that is held. Less returns the "
            "rest; more is checked like a new request (409, nothing changed).",
            body=objects(
                {
                    "amount": {**_NUMBER, "type": ["string", "number", "null"]},
                    "event": {"type": ["object", "null"], "additionalProperties": True},
                },
                required=(),
                additionalProperties=False,
            ),
            body_example={"amount": "412", "event": None},
            answer=_RESERVED,
            errors=(404, 409),
        )
    },
)
async def settle(request: Connection) -> Response[Any]:
    """With what was really used."""
    _, tenant = administered(request)
    wire.check_parameters(request, ())
    amount, event = read_settlement(await body_of(request))
    name: str = request.path_params["id"]

    async def local(gate: AskedGate) -> Response[Any]:
        try:
            made = await gate.settle(tenant, name, amount, event)
        except (LimitExceeded, LimitUnknown) as error:
            return _refused(error)
        return Response(document_of(made))

    return await at_owner(request, local)


@post(
    "/v1/reservations/{id:str}/release",
    guards=[require("limits:check")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Release a reservation",
            tag="Limits",
            description="Nothing was used: the amount is free again. Doing it again changes nothing.",
            answer=_RESERVED,
            errors=(404, 409),
        )
    },
)
async def release(request: Connection) -> Response[Any]:
    """What was held is free again."""
    _, tenant = administered(request)
    wire.check_parameters(request, ())
    body = await wire.arrived(request)
    if body.strip():
        Document(wire.parse_json(body)).finish()
    name: str = request.path_params["id"]

    async def local(gate: AskedGate) -> Response[Any]:
        return Response(document_of(await gate.release(tenant, name)))

    return await at_owner(request, local)


ROUTES: Sequence[ControllerRouterHandler] = (
    check,
    check_batch,
    reserve,
    reserve_batch,
    list_reservations,
    get_reservation,
    settle,
    release,
)
