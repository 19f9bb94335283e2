"""Credits on invoices, and invoices for other systems: what was billed, paid with credits and undone, in balance."""

import csv
import io
from decimal import Decimal

from .live import Tenant, faults
from .test_backtest import begun

D = Decimal


def exported(tenant: Tenant, kind: str) -> list[dict[str, str]]:
    answer = tenant.get(f"/v1/billing/export?format={kind}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_credits_pay_invoices_and_come_back_from_void_ones(tenant: Tenant) -> None:
    begun(tenant, 3)
    grant = {"customer": "c2", "amount": "25", "currency": "USD"}
    assert tenant.post("/v1/credits", grant).status_code == 201
    preview = tenant.post("/v1/customers/c2/invoices/preview", {}).json()
    assert (preview["credits_applied"], preview["amount_due"]) == ("10.00", "0.00")
    assert tenant.post("/v1/billing/run", {"at": "2026-07-01T02:00:00Z"}).status_code == 200
    own = tenant.answer("/v1/invoices?customer=c2")["items"]
    by_begin = {one["period"]["from"][:10]: one for one in own}
    figures = {
        begin: (one["total"], one["credits_applied"], one["amount_due"]) for begin, one in by_begin.items()
    }
    assert figures == {
        "2026-04-01": ("10.00", "10.00", "0.00"),
        "2026-05-01": ("12.00", "12.00", "0.00"),
        "2026-06-01": ("10.00", "3.00", "7.00"),
    }
    assert tenant.answer("/v1/customers/c2/credits")["balance"] == "0.00"
    again = tenant.post("/v1/billing/run", {"at": "2026-07-01T02:00:00Z"})
    assert again.json().get("finalized") in (0, None)
    voided = tenant.post(f"/v1/invoices/{by_begin['2026-05-01']['id']}/void")
    assert voided.json()["credits_applied"] == "0.00"
    credits_now = tenant.answer("/v1/customers/c2/credits")
    assert credits_now["balance"] == "12.00"
    assert sum(D(entry["amount"]) for entry in credits_now["ledger"]) == 12

    rows = exported(tenant, "journal")
    for entry in {row["entry"] for row in rows}:
        of = [row for row in rows if row["entry"] == entry]
        assert sum(D(row["debit"] or 0) for row in of) == sum(D(row["credit"] or 0) for row in of)
    due = {
        key: sum(
            D(row["debit"] or 0) - D(row["credit"] or 0)
            for row in rows
            if row["account"] == "receivables" and row["customer"] == key
        )
        for key in ("c0", "c1", "c2")
    }
    assert due == {"c0": 30, "c1": 31, "c2": 7}

    costs = exported(tenant, "focus")
    assert sum(D(row["BilledCost"]) for row in costs) == 30 + 31 + 20
    calls = [row for row in costs if row["SkuId"] == "pro/calls" and row["ConsumedQuantity"] != "0"]
    assert {(row["BillingAccountId"], row["ConsumedQuantity"]) for row in calls} == {("c1", "1")}


def test_what_to_write_must_be_said(tenant: Tenant) -> None:
    assert faults(tenant.get("/v1/billing/export")) == [("format", "missing")]
    assert faults(tenant.get("/v1/billing/export?format=pdf")) == [("format", "invalid_value")]
