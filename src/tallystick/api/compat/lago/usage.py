"""`/customers/{external_id}/current_usage` and `…/past_usage`: a subscription's usage and what it comes to, by charge.

Units are a usage question about the subscription's own customer; amounts are those of the invoice the period would have if
it ended with what is there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from litestar import Request, Response, get

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.lago import metrics, plans, subscriptions
from tallystick.api.compat.lago.customers import visible
from tallystick.api.compat.lago.shape import (
    BASE,
    PAGES,
    cents,
    lago_id,
    operation_of,
    page_of,
    paged,
    time_text,
    units_text,
)
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, query
from tallystick.api.problem import MethodNotAllowed
from tallystick.billing.charge import Charge
from tallystick.billing.invoice import Line
from tallystick.billing.subscription import State
from tallystick.billing.timeline import Turn, turn_at
from tallystick.catalog.billing import KeptPlan
from tallystick.errors import NotFound
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.preview import preview
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.billing.subscriptions import Shown
from tallystick.flows.derive import usage_from_events
from tallystick.flows.system import System
from tallystick.flows.usage import UsageRequest, from_readings_or_events, in_questions, prepared, usage
from tallystick.metering.meter import Aggregation
from tallystick.metering.query import Filter, Operator

Connection = Request[Any, Any, Any]

PERIODS_MAX = 24
"""Periods that past usage goes back by itself."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OLD_NAMES = ("filter_by_charge_id", "filter_by_charge_code")
_IGNORED = ("apply_taxes", "full_usage", "skip_grouping", "filter_by_presentation")


async def _subscription(request: Connection, external_id: str | None) -> Shown:
    """The subscription of the customer in the path. Raises NotFound, and MethodNotAllowed where it has none."""
    system, tenant = wire.system_of(request), caller(request).tenant
    customer = await visible(request, request.path_params["external_id"])

    def work() -> Shown | None:
        billing = billing_of(system)
        if external_id is not None:
            try:
                return subscriptions.found(system, tenant, external_id)
            except NotFound:
                return None
        keys = (customer.key, *system.catalog.children(tenant, (customer.key,)))
        listed = billing.subscriptions(tenant, customers=keys, limit=1000).items
        return subscriptions.found(system, tenant, listed[0].id) if len(listed) == 1 else None

    shown = await in_questions(system, work)
    if shown is None or customer.key not in (subscriptions.owner_of(shown), shown.kept.customer):
        raise MethodNotAllowed("The customer has no such subscription.", code="no_active_subscription")
    return shown


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What of a subscription's usage: of the charge or metric of this name, of these values of its groups."""

    name: str | None = None
    groups: tuple[tuple[str, str], ...] = ()


async def _usage_of(system: System, shown: Shown, turn: Turn, chosen: _Chosen) -> dict[str, Any]:
    """The usage of one period."""
    tenant, customer = shown.kept.tenant, shown.kept.customer
    found = await preview(system, tenant, customer, subscription=shown.kept.id, at_us=turn.part.to_us)
    lines = found.invoices[0].lines
    currency = found.invoices[0].currency
    span = shown.subscription.span_at(turn.part.from_us) or shown.subscription.spans[-1]
    plan = shown.plans[span.plan, span.version]
    kept = await in_questions(system, lambda: billing_of(system).plan(tenant, span.plan, span.version))
    charges: list[dict[str, Any]] = []
    for charge in plan.charges:
        if charge.meter is None:
            continue
        if chosen.name not in (None, charge.key, charge.meter, plans.charge_id(kept, charge.key)):
            continue
        if not {name for name, _ in chosen.groups} <= set(charge.group_by):
            continue
        own = [line for line in lines if line.charge == charge.key and line.kind == "usage"]
        charges.append(
            await _charge_usage(
                system,
                kept,
                charge,
                lines=[line for line in own if set(chosen.groups) <= set(line.group)],
                customer=customer,
                turn=turn,
                currency=currency,
                groups=chosen.groups,
            )
        )
    charges.sort(key=lambda one: one["billable_metric"]["name"])
    total = sum(one["amount_cents"] for one in charges)
    last_us = turn.part.to_us - 1_000_000
    return {
        "from_datetime": time_text(turn.part.from_us),
        "to_datetime": time_text(last_us),
        "issuing_date": (_EPOCH + timedelta(microseconds=last_us)).date().isoformat(),
        "lago_invoice_id": None,
        "currency": currency,
        "amount_cents": total,
        "total_amount_cents": total,
        "taxes_amount_cents": 0,
        "charges_usage": charges,
    }


async def _charge_usage(
    system: System,
    plan: KeptPlan,
    charge: Charge,
    *,
    lines: Sequence[Line],
    customer: str,
    turn: Turn,
    currency: str,
    groups: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    assert charge.meter is not None
    tenant, key = plan.tenant, charge.meter
    meter = await in_questions(system, lambda: system.catalog.meter(tenant, key))
    question = UsageRequest(
        tenant=tenant,
        meter=key,
        from_us=turn.part.from_us,
        to_us=turn.part.to_us,
        customers=(customer,),
        filters=(
            *filters_of(charge.filter),
            *(Filter(name, Operator.EQ, (value,)) for name, value in groups),
        ),
    )
    total = _one((await usage(system, question)).rows)
    count = await _events(system, question)
    grouped: list[dict[str, Any]] = []
    if charge.group_by:
        by_group = replace(question, group_by=charge.group_by)
        counts = {row.group: row.value for row in await _counted(system, by_group)}
        amounts = {tuple(value for _, value in line.group): line.amount for line in lines}
        for row in (await usage(system, by_group)).rows:
            units = units_text(row.value or Decimal(0))
            grouped.append(
                {
                    "amount_cents": cents(amounts.get(row.group, Decimal(0)), currency),
                    "events_count": int(counts.get(row.group) or 0),
                    "units": units,
                    "total_aggregated_units": units,
                    "grouped_by": dict(zip(charge.group_by, row.group, strict=True)),
                    "pricing_unit_details": None,
                    "filters": [],
                    "presentation_breakdowns": [],
                }
            )
    units = units_text(total)
    return {
        "units": units,
        "total_aggregated_units": units,
        "events_count": count,
        "amount_cents": cents(sum((line.rounded for line in lines), Decimal(0)), currency),
        "amount_currency": currency,
        "pricing_unit_details": None,
        "charge": {
            "lago_id": plans.charge_id(plan, charge.key),
            "code": charge.key,
            "charge_model": plans.model_of(charge.to_wire()),
            "invoice_display_name": None,
        },
        "billable_metric": {
            "lago_id": lago_id("billable_metric", tenant, key),
            "name": meter.name,
            "code": key,
            "aggregation_type": metrics.aggregation_of(meter),
        },
        "filters": [],
        "grouped_usage": grouped,
        "presentation_breakdowns": [],
    }


def _one(rows: Sequence[Any]) -> Decimal:
    return rows[0].value or Decimal(0) if rows else Decimal(0)


async def _events(system: System, question: UsageRequest) -> int:
    return int(_one(await _counted(system, question)))


async def _counted(system: System, question: UsageRequest) -> list[Any]:
    """How many events gave a reading, whatever the meter makes of them."""
    meter, asked, _ = await prepared(system, question)
    counted = replace(asked, meter=replace(meter, aggregation=Aggregation.COUNT))
    rows_max = system.settings.usage_rows_max
    rows, _ = await from_readings_or_events(
        system,
        counted,
        lambda: (system.store.usage(counted, rows_max=rows_max), "readings"),
        lambda: usage_from_events(system.store, counted, rows_max=rows_max),
    )
    return list(rows)


_USAGE = objects(
    {
        "from_datetime": TIME,
        "to_datetime": TIME,
        "issuing_date": {"type": "string", "format": "date"},
        "lago_invoice_id": nullable(STRING),
        "currency": STRING,
        "amount_cents": {"type": "integer"},
        "total_amount_cents": {"type": "integer"},
        "taxes_amount_cents": {"type": "integer"},
        "charges_usage": array({"type": "object"}),
    }
)
_SUBSCRIPTION = query("external_subscription_id", "Of this subscription; absent: of the only one.")
_CHOSEN = [
    query("billable_metric_code", "Of this metric alone."),
    query("charge_code", "Of this charge alone."),
    query("charge_id", "Of this charge alone."),
]


def _chosen(fields: Fields) -> _Chosen:
    fields.know(*_IGNORED)
    names = ("billable_metric_code", "charge_code", "charge_id", *_OLD_NAMES)
    groups: dict[str, str] = {}
    for parameter in list(fields.names()):
        if parameter.startswith("group[") and parameter.endswith("]"):
            groups[parameter[len("group[") : -1]] = fields.text(parameter) or ""
    written = fields.text("filter_by_group")
    if written is not None:
        try:
            found: Any = json.loads(written)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            groups |= {name: str(value) for name, value in cast("dict[str, Any]", found).items()}
        else:
            fields.fault("filter_by_group", "invalid_value", "filter_by_group must be a JSON object.")
    name = next((value for name in names if (value := fields.text(name)) is not None), None)
    return _Chosen(name, tuple(groups.items()))


@get(
    f"{BASE}/customers/{{external_id:str}}/current_usage",
    guards=[require("usage:read")],
    opt={
        "operation": operation_of(
            summary="Current usage (Lago)",
            parameters=[
                _SUBSCRIPTION,
                *_CHOSEN,
                query("group[name]", "Of charges by this group, with this value of it alone."),
                query("filter_by_group", "The same as a JSON object."),
                *(query(name, "As its newer name.") for name in _OLD_NAMES),
                *(query(name, "Ignored.") for name in _IGNORED),
            ],
            answer=objects({"customer_usage": _USAGE}),
        )
    },
)
async def current_usage(request: Connection) -> Response[Any]:
    """Of the period that is open."""
    system = wire.system_of(request)
    fields = Fields.of_query(request)
    external_id = fields.text("external_subscription_id")
    chosen = _chosen(fields)
    fields.finish()
    shown = await _subscription(request, external_id)
    if shown.turn is None or shown.state in (State.ENDED, State.SCHEDULED):
        raise MethodNotAllowed("The subscription is not active.", code="no_active_subscription")
    await taking.caught_up(system)
    return Response({"customer_usage": await _usage_of(system, shown, shown.turn, chosen)}, status_code=200)


@get(
    f"{BASE}/customers/{{external_id:str}}/past_usage",
    guards=[require("usage:read")],
    opt={
        "operation": operation_of(
            summary="Past usage (Lago)",
            description=f"The periods that have ended, the latest first, at most {PERIODS_MAX}.",
            parameters=[
                _SUBSCRIPTION,
                query("billable_metric_code", "Of this metric alone."),
                query("periods_count", "So many periods.", schema={"type": "integer", "minimum": 1}),
                *PAGES,
            ],
            answer=objects({"usage_periods": array(_USAGE), "meta": {"type": "object"}}),
        )
    },
)
async def past_usage(request: Connection) -> Response[Any]:
    """Of the periods before."""
    system = wire.system_of(request)
    fields = Fields.of_query(request)
    external_id = fields.text("external_subscription_id")
    chosen = _Chosen(fields.text("billable_metric_code"))
    most = fields.integer("periods_count", least=1, most=PERIODS_MAX) or PERIODS_MAX
    page, size = page_of(fields)
    fields.finish()
    shown = await _subscription(request, external_id)
    await taking.caught_up(system)
    now_us = system.clock.now_us()
    moment_us = shown.turn.part.from_us if shown.turn is not None else shown.subscription.end_us or now_us
    periods: list[dict[str, Any]] = []
    while len(periods) < most and moment_us > shown.subscription.start_us:
        turn = turn_at(shown.subscription, shown.plans, shown.kept.timezone, moment_us - 1)
        if turn is None:
            break
        periods.append(await _usage_of(system, shown, turn, chosen))
        moment_us = turn.part.from_us
    return Response(paged("usage_periods", periods, page, size), status_code=200)


ROUTES = [current_usage, past_usage]
