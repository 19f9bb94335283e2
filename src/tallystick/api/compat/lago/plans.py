"""`/plans`: made, listed, read, archived. A plan of Lago's is one of ours, published at once; a charge's key is its code.

What we would bill otherwise than Lago (usage billed in advance, prorated usage, filters of a charge, commitments) is
refused, not ignored.
"""

import json
from decimal import Decimal
from typing import Any, cast

from litestar import Request, delete, get, post

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, require
from tallystick.api.compat.lago import metrics
from tallystick.api.compat.lago.shape import (
    BASE,
    PAGES,
    cents,
    lago_id,
    listing,
    operation_of,
    page_of,
    paged,
    root_of,
    time_text,
)
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects
from tallystick.billing.plan import PlanAction
from tallystick.catalog.billing import KeptPlan
from tallystick.errors import Conflict, NotFound
from tallystick.flows.billing import plans as flow
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import exponent_of, plain

Connection = Request[Any, Any, Any]

BASE_FEE = "base_fee"
NOTE = "lago."
NOTE_CHARACTERS_MAX = 1024
INTERVALS = {
    "weekly": "week",
    "monthly": "month",
    "quarterly": "quarter",
    "semiannual": "half_year",
    "yearly": "year",
}
_THEIRS = {ours: theirs for theirs, ours in INTERVALS.items()}
_RANGES = {
    "graduated": "graduated_ranges",
    "volume": "volume_ranges",
    "graduated_percentage": "graduated_percentage_ranges",
}
MODELS = ("standard", "package", "percentage", *_RANGES)


def document(plan: KeptPlan) -> dict[str, Any]:
    """A plan as Lago shows it."""
    content = json.loads(plan.content)
    notes: dict[str, str] = content.get("metadata") or {}
    currency: str = content["currency"]
    fee = next((one for one in content["charges"] if one["key"] == BASE_FEE), None)
    return {
        "lago_id": lago_id("plan", plan.tenant, plan.key),
        "name": content["name"],
        "code": plan.key,
        "description": content["description"],
        "interval": _THEIRS.get(content["billing_period"], content["billing_period"]),
        "amount_cents": 0 if fee is None else cents(Decimal(fee["price"]["amount"]), currency),
        "amount_currency": currency,
        "trial_period": content["trial_days"],
        "pay_in_advance": fee is not None and fee["timing"] == "advance",
        "bill_charges_monthly": None,
        "created_at": time_text(plan.created_at_us),
        "charges": [
            charge_document(plan, one, json.loads(notes.get(NOTE + one["key"], "{}")))
            for one in content["charges"]
            if one["meter"] is not None
        ],
        "taxes": [],
        "usage_thresholds": [],
    }


def charge_id(plan: KeptPlan, key: str) -> str:
    """Lago's id of a charge."""
    return lago_id("charge", plan.tenant, f"{plan.key}\0{key}")


def charge_document(plan: KeptPlan, charge: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """`sent`: the model and the properties as they were sent, where they are kept."""
    return {
        "lago_id": charge_id(plan, charge["key"]),
        "lago_billable_metric_id": lago_id("billable_metric", plan.tenant, charge["meter"]),
        "billable_metric_code": charge["meter"],
        "code": charge["key"],
        "created_at": time_text(plan.created_at_us),
        "charge_model": sent.get("charge_model") or model_of(charge),
        "pay_in_advance": False,
        "prorated": False,
        "invoiceable": True,
        "invoice_display_name": sent.get("invoice_display_name"),
        "min_amount_cents": 0,
        "properties": sent.get("properties", {}),
        "filters": [],
        "taxes": [],
    }


def model_of(charge: dict[str, Any]) -> str:
    """Lago's word for a price of ours."""
    model = charge["price"]["model"]
    return "standard" if model in ("per_unit", "flat") else model


class _ChargeReader:
    """Reads the charges of a plan; faults are left in `fields`."""

    def __init__(self, system: System, tenant: str, fields: Fields, currency: str) -> None:
        self._system = system
        self._tenant = tenant
        self._fields = fields
        self._currency = currency
        self.notes: dict[str, str] = {}

    def read(self, given: Any) -> list[dict[str, Any]]:
        """Synchronous: it looks metrics up."""
        made: list[dict[str, Any]] = []
        for index, one in enumerate(cast("list[Any]", given) if isinstance(given, list) else []):
            if not isinstance(one, dict):
                self._fault(index, "charges", "value_is_invalid")
                continue
            members = {
                name: value for name, value in cast("dict[str, Any]", one).items() if value is not None
            }
            charge = self._charge(index, members, {charge["key"] for charge in made})
            if charge is not None:
                made.append(charge)
        return made

    def _fault(self, index: int, name: str, code: str) -> None:
        self._fields.fault(
            "charges", code, f"charges: {name} of number {index} is not valid.", str(index), name
        )

    def _charge(self, index: int, given: dict[str, Any], taken: set[str]) -> dict[str, Any] | None:
        metric = given.get("billable_metric_id") or given.get("billable_metric_code")
        try:
            meter = metrics.found(self._system, self._tenant, str(metric))
        except NotFound:
            self._fault(index, "billable_metric_id", "value_is_invalid")
            return None
        for name in ("pay_in_advance", "prorated", "filters", "applied_pricing_unit"):
            if given.get(name):
                self._fault(index, name, "value_is_invalid")
        key = str(given.get("code") or meter.key)
        while key in taken:
            key += "_2"
        properties: dict[str, Any] = given.get("properties") or {}
        model = given.get("charge_model")
        price = _price(str(model), properties)
        if price is None:
            self._fault(index, "charge_model", "value_is_invalid")
            return None
        sent = {
            "charge_model": model,
            "invoice_display_name": given.get("invoice_display_name"),
            "properties": properties,
        }
        written = json.dumps(sent, ensure_ascii=False, separators=(",", ":"), default=str)
        if len(written) <= NOTE_CHARACTERS_MAX:
            self.notes[NOTE + key] = written
        least = given.get("min_amount_cents")
        groups = properties.get("pricing_group_keys") or properties.get("grouped_by") or []
        return {
            "key": key,
            "name": given.get("invoice_display_name") or meter.name,
            "meter": meter.key,
            "price": price,
            "group_by": groups,
            "minimum": _amount(least, self._currency) if least else None,
        }


def _price(model: str, properties: dict[str, Any]) -> dict[str, Any] | None:
    """Our price for a charge model and its properties; None where there is none."""
    if model == "standard":
        return {"model": "per_unit", "unit_amount": properties.get("amount", "0")}
    if model == "package":
        return {
            "model": "package",
            "package_size": properties.get("package_size"),
            "amount": properties.get("amount"),
            "free_units": properties.get("free_units"),
        }
    if model == "percentage":
        return {
            "model": "percentage",
            "rate": properties.get("rate"),
            "fixed_amount": properties.get("fixed_amount"),
            "free_transactions": properties.get("free_units_per_events"),
            "free_amount": properties.get("free_units_per_total_aggregation"),
            "min_per_transaction": properties.get("per_transaction_min_amount"),
            "max_per_transaction": properties.get("per_transaction_max_amount"),
        }
    if model not in _RANGES:
        return None
    ranges: Any = properties.get(_RANGES[model])
    per = ("rate", "rate") if model == "graduated_percentage" else ("unit_amount", "per_unit_amount")
    return {
        "model": model,
        "tiers": [
            {
                "up_to": one.get("to_value"),
                per[0]: one.get(per[1]),
                "flat_amount": one.get("flat_amount"),
            }
            for one in cast("list[Any]", ranges if isinstance(ranges, list) else [])
            if isinstance(one, dict)
        ],
    }


def _amount(given: Any, currency: str) -> str:
    """Whole smallest units as an amount."""
    return plain(Decimal(str(given)).scaleb(-exponent_of(currency)))


_CHARGE = objects(
    {
        "billable_metric_id": STRING,
        "code": nullable(STRING),
        "charge_model": {"type": "string", "enum": list(MODELS)},
        "invoice_display_name": nullable(STRING),
        "min_amount_cents": {"type": ["integer", "null"]},
        "properties": {"type": "object"},
    },
    required=("billable_metric_id", "charge_model"),
)
_MEMBERS: dict[str, dict[str, Any]] = {
    "name": STRING,
    "code": STRING,
    "interval": {"type": "string", "enum": list(INTERVALS)},
    "amount_cents": {"type": "integer"},
    "amount_currency": STRING,
    "description": nullable(STRING),
    "trial_period": {"type": ["number", "null"]},
    "pay_in_advance": {"type": ["boolean", "null"]},
}
_PLAN = objects({"lago_id": STRING, **_MEMBERS, "created_at": TIME, "charges": array({"type": "object"})})
_ONE = objects({"plan": _PLAN})
_EXAMPLE = {
    "plan": {
        "name": "Pro",
        "code": "pro",
        "interval": "monthly",
        "amount_cents": 4900,
        "amount_currency": "USD",
        "charges": [
            {"billable_metric_id": "…", "charge_model": "standard", "properties": {"amount": "0.02"}}
        ],
    }
}


@post(
    f"{BASE}/plans",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Create a plan (Lago)",
            body=objects(
                {"plan": objects({**_MEMBERS, "charges": array(_CHARGE)}, required=("name", "code"))}
            ),
            body_example=_EXAMPLE,
            answer=_ONE,
        )
    },
)
async def create_plan(request: Connection) -> dict[str, Any]:
    """A plan that can be subscribed to."""
    system, tenant = administered(request)
    fields = await root_of(request, "plan")
    raw: dict[str, Any] = {
        "key": fields.required_text("code", characters_max=128),
        "name": fields.required_text("name", characters_max=256),
        "description": fields.text("description"),
        "currency": fields.text("amount_currency") or "USD",
        "billing_period": INTERVALS.get(fields.choice("interval", tuple(INTERVALS)) or "monthly"),
        "trial_days": fields.take("trial_period"),
    }
    amount = fields.integer("amount_cents", least=0, most=10**15)
    in_advance = fields.boolean("pay_in_advance")
    for name in ("minimum_commitment", "usage_thresholds", "fixed_charges", "bill_charges_monthly"):
        if fields.take(name):
            fields.fault(name, "value_is_invalid", f"{name} is not supported here.")
    charges = fields.take("charges")
    fields.faults.raise_any()
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptPlan:
        _check_new(system, tenant, raw["key"])
        reader = _ChargeReader(system, tenant, fields, raw["currency"])
        made = reader.read(charges)
        if amount:
            fee: dict[str, Any] = {
                "key": BASE_FEE,
                "name": raw["name"],
                "price": {"model": "flat", "amount": _amount(amount, raw["currency"])},
                "timing": "advance" if in_advance else "arrears",
            }
            made.insert(0, fee)
        fields.faults.raise_any()
        content = {**raw, "charges": made, "metadata": reader.notes}
        flow.create_plan(system, tenant, content, actor=actor, now_us=now_us)
        return flow.advance_plan(
            system, tenant, raw["key"], None, PlanAction.PUBLISH, actor=actor, now_us=now_us
        )

    return {"plan": document(await in_questions(system, work))}


def _check_new(system: System, tenant: str, key: str) -> None:
    try:
        present = billing_of(system).plan(tenant, key, None)
    except NotFound:
        return
    if present.state != "archived":
        raise Conflict(f"There is a plan {key!r} already.", code="plan_exists")


def found(system: System, tenant: str, code: str) -> KeptPlan:
    """The newest version, not archived. Synchronous."""
    plan = billing_of(system).plan(tenant, code, None)
    if plan.state == "archived":
        raise NotFound(f"There is no plan {code[:128]!r}.", code="plan_not_found")
    return plan


@get(
    f"{BASE}/plans",
    guards=[require("billing:read")],
    opt={
        "operation": operation_of(
            summary="List plans (Lago)", parameters=PAGES, answer=listing("plans", _PLAN)
        )
    },
)
async def list_plans(request: Connection) -> dict[str, Any]:
    """A page of them."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    page, size = page_of(fields)
    fields.finish()

    def work() -> list[KeptPlan]:
        made: list[KeptPlan] = []
        cursor: str | None = None
        while True:
            listed = billing_of(system).plans(tenant, cursor=cursor, limit=1000)
            made += [one for one in listed.items if one.state != "archived"]
            cursor = listed.next_cursor
            if cursor is None:
                return made

    return paged("plans", [document(one) for one in await in_questions(system, work)], page, size)


@get(
    f"{BASE}/plans/{{code:str}}",
    guards=[require("billing:read")],
    opt={"operation": operation_of(summary="Read a plan (Lago)", answer=_ONE)},
)
async def get_plan(request: Connection) -> dict[str, Any]:
    """By its code."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    return {
        "plan": document(
            await in_questions(system, lambda: found(system, tenant, request.path_params["code"]))
        )
    }


@delete(
    f"{BASE}/plans/{{code:str}}",
    guards=[require("billing:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Delete a plan (Lago)",
            description="It is archived: who has it keeps it.",
            answer=_ONE,
        )
    },
)
async def delete_plan(request: Connection) -> dict[str, Any]:
    """Archive it, and show it once more."""
    system, tenant = administered(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptPlan:
        plan = found(system, tenant, request.path_params["code"])
        flow.advance_plan(
            system, tenant, plan.key, plan.version, PlanAction.ARCHIVE, actor=actor, now_us=now_us
        )
        return plan

    return {"plan": document(await in_questions(system, work))}


ROUTES = [create_plan, list_plans, get_plan, delete_plan]
