"""`GET /v1/customers/{key}/invoice_forecast`: the coming invoice, of usage that is known."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.api.billing.test_plans import FEE, USAGE, plan, prepared, subscribed
from tests.api.questions.live import Live, Tenant, faults

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)
PATH = "/v1/customers/acme/invoice_forecast"


def used(
    tenant: Tenant, *, days: int = 28, amount: int = 100, model: str = "m", customer: str = "acme"
) -> None:
    """So much every day at noon, the last time yesterday."""
    events: list[dict[str, Any]] = []
    for day in range(1, days + 1):
        at = (NOW - timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ")
        data = {"n": amount + day % 3 - 1, "model": model}
        events.append(
            {"id": f"{customer}{model}{day}", "type": "llm", "subject": customer, "time": at, "data": data}
        )
    tenant.record(*events)


def test_fees_stand_and_usage_goes_on(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    used(tenant)
    answer = tenant.answer(PATH)
    # 14 days of 100 so far, 17 to come (today's is still out), a cent each, and 31.00.
    assert abs(Decimal(answer["so_far"]) - Decimal("45.00")) <= Decimal("0.02")
    assert abs(Decimal(answer["total"]) - Decimal("62.00")) < 1
    assert (
        Decimal(answer["so_far"])
        <= Decimal(answer["low"])
        <= Decimal(answer["total"])
        <= Decimal(answer["high"])
    )
    assert Decimal(answer["high"]) - Decimal(answer["low"]) < 6
    assert answer["invoice"]["total"] == answer["total"]
    assert answer["invoice"]["status"] == "draft"
    assert answer["period"] == {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"}
    (ahead,) = answer["ahead"]
    assert (ahead["meter"], ahead["reason"]) == ("tokens", None)
    assert abs(Decimal(ahead["value"]) - 1700) < 100
    assert answer["approximate"] is True
    preview = tenant.post("/v1/customers/acme/invoices/preview", {}).json()
    assert preview["total"] == answer["so_far"]
    assert faults(tenant.get(f"{PATH}?level=5&at=now")) == [
        ("level", "invalid_number"),
        ("at", "unknown_parameter"),
    ]


def test_tiers_and_dimensions_are_rated_by_the_same_engine(tenant: Tenant) -> None:
    prepared(tenant)
    tiers = {
        "model": "graduated",
        "tiers": [{"up_to": "1500", "unit_amount": "0"}, {"up_to": None, "unit_amount": "0.10"}],
    }
    cells = {
        "model": "matrix",
        "dimensions": ["model"],
        "cells": [{"values": ["m"], "unit_amount": "0.01"}, {"values": ["big"], "unit_amount": "1"}],
        "default": "0",
    }
    plan(
        tenant, charges=[{**USAGE, "key": "tiers", "price": tiers}, {**USAGE, "key": "cells", "price": cells}]
    )
    subscribed(tenant)
    used(tenant, amount=90)
    used(tenant, amount=10, model="big")
    lines = {}
    for line in tenant.answer(PATH)["invoice"]["lines"]:
        lines[line["charge"]] = lines.get(line["charge"], Decimal(0)) + Decimal(line["rounded"])
    # 3,100 in all: 1,600 beyond the free ones; 2,790 of the small model and 310 of the big one.
    assert abs(lines["tiers"] - 160) < 10
    assert abs(lines["cells"] - (Decimal("27.9") + 310)) < 20


def test_what_cannot_be_foreseen_says_so(tenant: Tenant) -> None:
    prepared(tenant)
    tenant.meter(key="peak", event_type="llm", aggregation="max", value="$.n")
    plan(
        tenant,
        charges=[
            FEE,
            {**USAGE, "key": "peak", "meter": "peak", "price": {"model": "per_unit", "unit_amount": "1"}},
        ],
    )
    subscribed(tenant)
    empty = tenant.answer(PATH)
    assert [one["reason"] for one in empty["ahead"]] == ["no_history"]
    assert empty["total"] == empty["low"] == empty["high"] == empty["so_far"] == "31.00"
    used(tenant)
    answer = tenant.answer(PATH)
    assert [one["reason"] for one in answer["ahead"]] == ["not_additive"]
    assert answer["total"] == answer["so_far"] == "132.00"


def test_a_price_by_transaction_meets_more_of_them(tenant: Tenant) -> None:
    prepared(tenant)
    fee = {"model": "percentage", "rate": "0", "fixed_amount": "0.50"}
    plan(tenant, charges=[{**USAGE, "key": "each", "price": fee}, {**USAGE, "key": "units"}])
    subscribed(tenant)
    used(tenant)
    lines = {line["charge"]: Decimal(line["rounded"]) for line in tenant.answer(PATH)["invoice"]["lines"]}
    assert abs(lines["each"] - Decimal("15.50")) <= 1  # 31 transactions
    assert abs(lines["units"] - 31) < 1


def test_a_token_sees_its_own_and_billing_off_has_none(tenant: Tenant, live: Live) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    tenant.post("/v1/customers", {"key": "beta"})

    def token(customer: str) -> Tenant:
        made = tenant.post("/v1/portal_tokens", {"customer": customer, "scopes": ["billing:read"]})
        return Tenant(live, tenant.key, made.json()["token"])

    assert token("acme").get(PATH).status_code == 200
    assert token("beta").get(PATH).status_code == 403
    assert tenant.get("/v1/customers/none/invoice_forecast").status_code == 404
    assert tenant.get("/v1/customers/beta/invoice_forecast").json()["code"] == "no_subscription"
