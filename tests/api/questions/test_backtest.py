"""What if: the past rated again under other prices gives what it was billed, and what it would have been."""

import csv
import io
import json
import time
from typing import Any

from .live import Tenant, faults

RANGE = {"from": "2026-04-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"}


def plan(unit_amount: str, fee: str = "10", **members: Any) -> dict[str, Any]:
    return {
        "key": "pro",
        "currency": "USD",
        "charges": [
            {"key": "base", "price": {"model": "flat", "amount": fee}},
            {"key": "calls", "meter": "calls", "price": {"model": "per_unit", "unit_amount": unit_amount}},
        ],
        **members,
    }


def begun(tenant: Tenant, customers: int) -> None:
    """Customer number n makes n calls in May, June has none; all since the first of April."""
    tenant.meter(key="calls", event_type="call", aggregation="count")
    assert tenant.post("/v1/plans", plan("1")).status_code == 201
    assert tenant.post("/v1/plans/pro/publish").status_code in (200, 201)
    events: list[dict[str, Any]] = []
    for number in range(customers):
        key = f"c{number}"
        tenant.post("/v1/customers", {"key": key})
        body = {"customer": key, "plan": "pro", "start": RANGE["from"]}
        answer = tenant.post("/v1/subscriptions", body)
        assert answer.status_code == 201, answer.text
        events += [
            {"id": f"{key}-{n}", "type": "call", "subject": key, "time": "2026-05-03T04:00:00Z"}
            for n in range(number)
        ]
    if events:
        tenant.record(*events)


def test_old_and_new_are_told_for_every_customer(tenant: Tenant) -> None:
    begun(tenant, 4)
    body = {**RANGE, "plans": [plan("3", fee="8")]}
    answer = tenant.post("/v1/pricing/backtest", body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    figures = {one["customer"]: (one["old"], one["new"], one["difference"]) for one in found["items"]}
    assert figures == {
        "c0": ("30.00", "24.00", "-6.00"),
        "c1": ("31.00", "27.00", "-4.00"),
        "c2": ("32.00", "30.00", "-2.00"),
        "c3": ("33.00", "33.00", "0.00"),
    }
    (totals,) = found["totals"]
    counts = (totals["winners"], totals["losers"], totals["unchanged"], totals["failed"])
    assert counts == (3, 0, 1, 0)
    assert (totals["old"], totals["new"], totals["difference"]) == ("126.00", "114.00", "-12.00")
    rows = list(
        csv.DictReader(
            io.StringIO(tenant.post("/v1/pricing/backtest", body, headers={"accept": "text/csv"}).text)
        )
    )
    assert [row["customer"] for row in rows] == ["c0", "c1", "c2", "c3"]
    assert rows[0]["difference"] == "-6.00"
    lines = tenant.post("/v1/pricing/backtest", body, headers={"accept": "application/x-ndjson"}).text
    told = [json.loads(line) for line in lines.splitlines()]
    assert told[0] == {"progress": {"done": 0, "of": 4}}
    assert [next(iter(line)) for line in told] == ["progress"] * 2 + ["item"] * 4 + ["totals"]
    one = tenant.post("/v1/pricing/backtest", {**body, "customers": ["c2"]}).json()
    assert [item["customer"] for item in one["items"]] == ["c2"]


def test_what_was_billed_is_what_it_says_was_paid(tenant: Tenant) -> None:
    begun(tenant, 3)
    run = tenant.post("/v1/billing/run", {"at": "2026-07-01T02:00:00Z"})
    assert run.status_code == 200, run.text
    billed: dict[str, float] = {}
    for invoice in tenant.answer("/v1/invoices")["items"]:
        billed[invoice["customer"]] = billed.get(invoice["customer"], 0) + float(invoice["total"])
    kept = {**RANGE, "plans": [{"key": "pro", "version": 1}]}
    found = tenant.post("/v1/pricing/backtest", kept).json()
    assert {one["customer"]: float(one["old"]) for one in found["items"]} == billed
    assert {one["difference"] for one in found["items"]} == {"0.00"}


def test_what_cannot_be_compared_is_refused(tenant: Tenant) -> None:
    begun(tenant, 1)

    def refused(*plans: Any, **members: Any) -> list[tuple[str, str]]:
        return faults(tenant.post("/v1/pricing/backtest", {**RANGE, "plans": list(plans), **members}))

    assert refused(plan("1", billing_period="year")) == [("/plans", "period_differs")]
    assert refused(plan("1", currency="EUR")) == [("/plans", "currency_mismatch")]
    assert refused() == [("/plans", "missing")]
    assert refused(plan("1"), plan("2")) == [("/plans/1/key", "repeated")]
    assert refused({"key": "pro", "colour": 1})[0][0] == "/plans/0"
    assert refused(plan("1"), to=RANGE["from"]) == [("/to", "empty_range")]
    nobody = {**plan("1"), "key": "other"}
    assert tenant.post("/v1/pricing/backtest", {**RANGE, "plans": [nobody]}).status_code == 404


def test_hundreds_of_customers_a_second(tenant: Tenant) -> None:
    begun(tenant, 60)
    begin = time.perf_counter()
    found = tenant.post("/v1/pricing/backtest", {**RANGE, "plans": [plan("3")]}).json()
    assert len(found["items"]) == 60
    assert time.perf_counter() - begin < 5
