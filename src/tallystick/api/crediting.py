"""`/v1/credits`: grants of credits; what is left of them and how it came to that; automatic top-up."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from litestar import Request, delete, get, post, put
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
    DECIMAL,
    PAGE,
    STRING,
    TIME,
    Schema,
    array,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.billing.credit import Account, Entry
from tallystick.billing.grant import PRIORITY_DEFAULT, PRIORITY_MAX, CreditUnit, Source, read_grant
from tallystick.billing.top_up import GRANTED, read_top_up
from tallystick.catalog.crediting import KeptEntry, KeptGrant
from tallystick.catalog.interface import Customer
from tallystick.catalog.secret import new_id
from tallystick.flows import customers
from tallystick.flows.credits import CHARGING, Balance, credit_position, credits_of
from tallystick.flows.position import position_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import money_text, plain, round_money

Connection = Request[Any, Any, Any]


# -- on the wire ----------------------------------------------------------------------------------------------------
def amount_text(amount: Decimal, unit: CreditUnit) -> str:
    """Money with its currency's digits, units without more than they need."""
    return plain(amount) if unit.currency is None else money_text(round_money(amount, unit.currency))


def _sums(of: KeptGrant | Balance, balance: Decimal, unit: CreditUnit) -> dict[str, str]:
    return {
        "balance": amount_text(balance, unit),
        "granted": amount_text(of.granted, unit),
        "consumed": amount_text(of.consumed, unit),
        "expired": amount_text(of.expired, unit),
        "voided": amount_text(of.voided, unit),
    }


def grant_document(kept: KeptGrant, now_us: int) -> dict[str, Any]:
    """A grant with what is left of it."""
    grant = kept.grant
    status = "ended" if kept.holding.ended else "scheduled" if grant.effective_us > now_us else "active"
    return {
        "id": grant.id,
        **grant.to_wire(),
        "amount": amount_text(grant.amount, grant.unit),
        **_sums(kept, kept.holding.balance, grant.unit),
        "status": status,
        "topped_up": kept.topped_up,
        "created_at": wire.time_text(grant.created_us),
        "voided_at": wire.optional_time_text(grant.voided_us),
    }


def balance_document(balance: Balance) -> dict[str, Any]:
    """What is left in one unit."""
    return {
        "currency": balance.unit.currency,
        "meter": balance.unit.meter,
        **_sums(balance, balance.balance, balance.unit),
        "overage": amount_text(balance.overage, balance.unit),
    }


def _entry_document(
    entry: Entry, unit: CreditUnit, *, number: int | None, recorded_at_us: int | None
) -> dict[str, Any]:
    signed = entry.amount if entry.target is Account.GRANT else -entry.amount
    return {
        "id": number,
        "at": wire.time_text(entry.at_us),
        "recorded_at": wire.optional_time_text(recorded_at_us),
        "kind": entry.kind.value,
        "amount": amount_text(signed, unit),
        "currency": unit.currency,
        "meter": unit.meter,
        "grant": entry.grant,
        "from": entry.source.value,
        "to": entry.target.value,
        "reference": entry.reference,
        "line": entry.line,
    }


def entry_document(kept: KeptEntry) -> dict[str, Any]:
    """A row of the ledger."""
    return _entry_document(kept.entry, kept.unit, number=kept.number, recorded_at_us=kept.recorded_at_us)


# -- schemas --------------------------------------------------------------------------------------------------------
_NUMBER: Schema = {
    "type": ["string", "number"],
    "description": "An exact decimal; a number is read from its text.",
}
_CUSTOMER: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
_UNIT: dict[str, Schema] = {
    "currency": nullable({"type": "string", "pattern": "^[A-Z]{3}$"}),
    "meter": nullable({"type": "string", "description": "The credits are units of this meter."}),
}
_SUMS: dict[str, Schema] = {
    "balance": DECIMAL,
    "granted": DECIMAL,
    "consumed": DECIMAL,
    "expired": DECIMAL,
    "voided": DECIMAL,
}
_ROLLOVER: Schema = {
    "description": "What of the balance survives a recurrence: true (all of it), an amount (up to it), or both ends. "
    "Default: nothing.",
    "anyOf": [
        {"type": ["boolean", "string", "number", "null"]},
        objects({"min": _NUMBER, "max": nullable(_NUMBER)}, required=()),
    ],
}
_RECURRENCE: Schema = {
    "description": "When the amount (or another) is granted again: a period, or more exactly.",
    "anyOf": [
        {"type": ["string", "null"]},
        objects(
            {"every": STRING, "anchor": TIME, "timezone": STRING, "amount": _NUMBER}, required=("every",)
        ),
    ],
}
_SCOPE: Schema = {
    "type": ["object", "null"],
    "properties": {"meters": array(STRING), "charges": array(STRING), "plans": array(STRING)},
    "description": 'What money may pay: lines of these meters ("*": of any), charges and plans. Empty: all.',
}
_TERMS: dict[str, Schema] = {
    "name": nullable(STRING),
    "source": {"type": "string", "enum": [one.value for one in Source], "default": Source.PREPAID.value},
    "priority": {"type": "integer", "minimum": 0, "maximum": PRIORITY_MAX, "default": PRIORITY_DEFAULT},
    "effective_at": nullable(TIME),
    "expires_at": nullable(TIME),
    "rollover": _ROLLOVER,
    "recurrence": _RECURRENCE,
    "scope": _SCOPE,
}
GRANT = objects(
    {
        "id": STRING,
        "customer": _CUSTOMER,
        "amount": DECIMAL,
        **_UNIT,
        **_TERMS,
        **_SUMS,
        "status": {"type": "string", "enum": ["scheduled", "active", "ended"]},
        "topped_up": {"type": "boolean"},
        "created_at": TIME,
        "voided_at": nullable(TIME),
    }
)
_BALANCE = objects({**_UNIT, **_SUMS, "overage": DECIMAL})
_ENTRY = objects(
    {
        "id": nullable({"type": "integer"}),
        "at": TIME,
        "recorded_at": nullable(TIME),
        "kind": STRING,
        "amount": {**DECIMAL, "description": "What the customer gains; negative: loses."},
        **_UNIT,
        "grant": STRING,
        "from": STRING,
        "to": STRING,
        "reference": nullable(STRING),
        "line": nullable(STRING),
    }
)
_TOP_UP: dict[str, Schema] = {
    "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
    "below": {**_NUMBER, "description": "When less than this is left."},
    "amount": nullable({**_NUMBER, "description": "So many times this as bring it back there."}),
    "to": nullable({**_NUMBER, "description": "Or what is missing to this."}),
    "ceiling": {**_NUMBER, "description": "What one period may add at most."},
    "per": {"type": "string", "default": "month"},
    "expires_after": nullable(STRING),
    "priority": _TERMS["priority"],
    "grant": {
        "type": "string",
        "enum": list(GRANTED),
        "description": "when_paid: what is added has an invoice, is collected, and counts once that is paid. at_once: it counts "
        "at once, and is collected where invoices are. Default: when_paid where `payments` can collect, otherwise at_once.",
    },
}


# -- grants ---------------------------------------------------------------------------------------------------------
@post(
    "/v1/credits",
    guards=[require("billing:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Grant credits",
            tag="Credits",
            description="In money, which pays invoices, or in units of a meter. They are spent by `priority` (lower first), then "
            "what expires sooner, then promotional ones before prepaid ones, then the older.",
            body=objects(
                {"customer": _CUSTOMER, "amount": _NUMBER, **_UNIT, **_TERMS},
                required=("customer", "amount"),
                additionalProperties=False,
            ),
            body_example={"customer": "acme", "amount": "100.00", "currency": "USD"},
            answer=GRANT,
            status=201,
            creates=True,
            errors=(404, 409),
        )
    },
)
async def grant_credits(request: Connection) -> dict[str, Any]:
    """A new grant, in effect now or later."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptGrant:
        draft = read_grant(raw, grant_id=new_id("credit"), created_us=now_us)
        customer = system.catalog.customer(who.tenant, draft.customer)
        if draft.unit.meter is not None:
            system.catalog.meter(who.tenant, draft.unit.meter)
        grant = read_grant(raw, grant_id=draft.id, created_us=now_us, timezone=customer.timezone)
        return credits_of(system).grant_credits(who.tenant, grant, actor=actor, now_us=now_us)

    made = await in_questions(system, work)
    return grant_document(await _current(system, who.tenant, made), now_us)


async def _current(system: System, tenant: str, kept: KeptGrant) -> KeptGrant:
    """With what is left of it after use, where it is in units of a meter."""
    if kept.grant.unit.meter is None:
        return kept
    found = await credit_position(system, tenant, kept.grant.customer, unit=kept.grant.unit)
    return next(one for one in found.grants if one.grant.id == kept.grant.id)


@get(
    "/v1/credits/{id:str}",
    guards=[require("billing:read")],
    opt={"operation": operation(summary="Read a grant", tag="Credits", answer=GRANT)},
)
async def get_credits(request: Connection) -> dict[str, Any]:
    """One grant, with what is left of it."""
    wire.check_parameters(request, ())
    system, who = wire.system_of(request), caller(request)
    now_us = system.clock.now_us()
    grant_id: str = request.path_params["id"]

    def work() -> KeptGrant:
        kept = credits_of(system).credit_grant(who.tenant, grant_id, now_us=now_us)
        customers.narrowed(system.catalog, who.tenant, who.customer, (kept.grant.customer,))
        return kept

    kept = await in_questions(system, work)
    return grant_document(await _current(system, who.tenant, kept), now_us)


@post(
    "/v1/credits/{id:str}/void",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Void a grant",
            tag="Credits",
            description="What is left of it is taken back; what was spent stays spent. Again, it changes nothing.",
            answer=GRANT,
        )
    },
)
async def void_credits(request: Connection) -> dict[str, Any]:
    """From now on it counts no more."""
    wire.check_parameters(request, ())
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    actor, now_us = actor_of(request), system.clock.now_us()
    grant_id: str = request.path_params["id"]
    kept = await in_questions(
        system,
        lambda: credits_of(system).void_credits(who.tenant, grant_id, actor=actor, now_us=now_us),
    )
    return grant_document(await _current(system, who.tenant, kept), now_us)


# -- a customer's ---------------------------------------------------------------------------------------------------
@get(
    "/v1/customers/{key:str}/credits",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="A customer's credits",
            tag="Credits",
            description="`balances`: what is left in each unit. `balance` is that of the unit asked for, else of the customer's "
            "currency, else of the only one. `ledger`, newest first: every amount leaves one account (`from`) and enters another "
            "(`to`). The ledger of a meter's units follows from usage, and stands on the first page.",
            parameters=[
                *PAGE,
                query("currency", "Only money of this currency.", example="USD"),
                query("meter", "Only units of this meter."),
                query("min_position", "Count usage up to this position at least."),
            ],
            answer=objects(
                {
                    "customer": STRING,
                    "balance": DECIMAL,
                    **_UNIT,
                    "balances": array(_BALANCE),
                    "grants": array(GRANT),
                    "ledger": array(_ENTRY),
                    "top_ups": array(objects(_TOP_UP)),
                    "next_cursor": nullable(STRING),
                }
            ),
        )
    },
)
async def customer_credits(request: Connection) -> dict[str, Any]:
    """Balances, grants and the ledger."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    currency, meter = fields.text("currency"), fields.text("meter")
    if currency is not None and meter is not None:
        fields.fault("meter", "invalid_value", "Ask for either a currency or a meter.")
    token = fields.text("min_position")
    min_position = None
    if token is not None:
        min_position = fields.faults.attempt(lambda: position_of(token, pointer="min_position"), None)
    fields.finish()
    unit = CreditUnit(currency, meter) if currency or meter else None
    now_us = system.clock.now_us()
    key: str = request.path_params["key"]

    def read() -> Customer:
        customers.narrowed(system.catalog, who.tenant, who.customer, (key,))
        return system.catalog.customer(who.tenant, key)

    customer = await in_questions(system, read)
    found = await credit_position(system, who.tenant, key, unit=unit, min_position=min_position)
    catalog = credits_of(system)
    page = await in_questions(
        system,
        lambda: catalog.credit_ledger(who.tenant, key, unit=unit, cursor=cursor, limit=limit),
    )
    rules = await in_questions(system, lambda: catalog.top_ups(who.tenant, key))
    ledger = [entry_document(entry) for entry in page.items]
    if cursor is None:
        ledger += [
            _entry_document(entry, balance.unit, number=None, recorded_at_us=None)
            for balance in found.balances
            for entry in balance.entries
        ]
        ledger.sort(key=lambda entry: entry["at"], reverse=True)
    shown = _shown(found.balances, unit, customer)
    return {
        "customer": key,
        "balance": amount_text(shown.balance, shown.unit),
        "currency": shown.unit.currency,
        "meter": shown.unit.meter,
        "balances": [balance_document(balance) for balance in found.balances],
        "grants": [grant_document(kept, now_us) for kept in found.grants],
        "ledger": ledger,
        "top_ups": [rule.to_wire() for rule in rules if unit in (None, rule.unit)],
        "next_cursor": page.next_cursor,
    }


def _shown(balances: Sequence[Balance], asked: CreditUnit | None, customer: Customer) -> Balance:
    own = CreditUnit(currency=customer.currency or "USD")
    by_unit = {balance.unit: balance for balance in balances}
    zero = Decimal(0)
    if asked is not None:
        return by_unit.get(asked, Balance(asked, zero, zero, zero, zero, zero))
    if own not in by_unit and balances:
        return balances[0]
    return by_unit.get(own, Balance(own, zero, zero, zero, zero, zero))


# -- automatic top-up -----------------------------------------------------------------------------------------------
@put(
    "/v1/customers/{key:str}/credits/top_up",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Top credits up by themselves",
            tag="Credits",
            description="When less than `below` is left, prepaid credits are granted: so many times `amount` as bring it back, or "
            "what is missing `to` a level, and no more than `ceiling` in a calendar period. One rule a currency; it counts at once.",
            body=objects(_TOP_UP, required=("currency", "below", "ceiling"), additionalProperties=False),
            body_example={"currency": "USD", "below": "10", "amount": "50", "ceiling": "200"},
            answer=objects(_TOP_UP),
            errors=(404,),
        )
    },
)
async def set_top_up(request: Connection) -> dict[str, Any]:
    """In place of the rule there was for this currency."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    payments = system.settings.payments
    rule = read_top_up(await wire.json_object(request), collects=bool(payments), charges=payments in CHARGING)
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    await in_questions(
        system,
        lambda: credits_of(system).set_top_up(who.tenant, key, rule, actor=actor, now_us=now_us),
    )
    return rule.to_wire()


@delete(
    "/v1/customers/{key:str}/credits/top_up",
    guards=[require("billing:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Top credits up no more",
            tag="Credits",
            parameters=[query("currency", "The rule of this currency.", required=True, example="USD")],
            status=204,
        )
    },
)
async def delete_top_up(request: Connection) -> None:
    """What was granted stays."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    fields = Fields.of_query(request)
    currency = fields.required_text("currency", characters_max=16)
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    key: str = request.path_params["key"]
    await in_questions(
        system,
        lambda: credits_of(system).delete_top_up(
            who.tenant, key, CreditUnit(currency=currency), actor=actor, now_us=now_us
        ),
    )


ROUTES: Sequence[ControllerRouterHandler] = (
    grant_credits,
    get_credits,
    void_credits,
    customer_credits,
    set_top_up,
    delete_top_up,
)
