"""FOCUS rows and the journal of invoices: what the specification asks of each column, and sums that agree.

The rules are those that focus-validator 1.0.0 checks for FOCUS 1.0, restated here because it pins libraries that ours
exclude. With FOCUS_VALIDATOR naming its command, installed elsewhere, it is asked as well: in an environment of its own,
`pip install focus-validator==1.0.0 "multimethod<1.11"` (what it pins itself does not start on newer ones).
"""

import csv
import json
import os
import re
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.billing.focus import COLUMNS, Billed, focus_rows, table
from tallystick.billing.journal import postings

D = Decimal
NOT_NULL = {
    "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName",
    "ListCost", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
}  # fmt: skip
DECIMALS = {
    "BilledCost", "ConsumedQuantity", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "ListCost",
    "ListUnitPrice", "PricingQuantity",
}  # fmt: skip
ENUMS = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"Other"},
}


VALIDATORS_OWN = {
    "BillingCurrency_IsCurrencyCode", "InvoiceIssuer_Required", "Provider_Required", "Publisher_Required",
    "ResourceID_Required", "SkuPriceId_Nullable",
}  # fmt: skip
"""What focus-validator 1.0.0 finds in any FOCUS 1.0 file: it lacks its own list of currencies, asks for names of columns and
for a column (ChargeType) that only drafts of the specification had. Of its 105 other rules we break none."""


def line(name: str, kind: str, quantity: str, amount: str, rounded: str) -> dict[str, Any]:
    return {
        "id": f"l-{name}", "kind": kind, "charge": name, "name": name.title(), "plan": "pro", "version": 2,
        "period": {"from": "2026-06-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"}, "group": {"model": "gpt"},
        "quantity": quantity, "amount": amount, "rounded": rounded, "steps": [],
    }  # fmt: skip


def document() -> dict[str, Any]:
    return {
        "customer": "acme", "subscription": "sub_1", "currency": "USD",
        "period": {"from": "2026-06-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"},
        "lines": [
            line("base", "fee", "1", "49", "49.00"),
            line("tokens", "usage", "1234567", "246.9134", "246.91"),
            line("tokens", "late", "-10", "-0.50", "-0.50"),
            line("calls", "usage", "0", "0", "0.00"),
        ],
        "subtotal": "295.41", "discount": "29.54",
        "taxes": [{"name": "VAT", "percent": "19", "amount": "50.52"}],
        "tax": "50.52", "total": "316.39",
    }  # fmt: skip


def billed() -> Billed:
    meters = {("pro", 2, "tokens"): ("tokens", "token"), ("pro", 2, "calls"): ("calls", None)}
    return Billed("inv_1", "INV-000001", "Acme", document(), meters)


def test_every_column_is_what_the_specification_asks_for() -> None:
    rows = focus_rows(billed(), issuer="Us")
    assert len(rows) == 6
    for row in rows:
        assert tuple(row) == COLUMNS
        assert {column for column in NOT_NULL if not row[column]} == set()
        for column in DECIMALS:
            assert not row[column] or re.fullmatch(r"-?\d+(\.\d+)?", row[column]), column
        for column, allowed in ENUMS.items():
            assert row[column] in allowed | {""}, column
        for column in ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[column])
        assert isinstance(json.loads(row["Tags"]), dict)
        assert bool(row["ConsumedQuantity"]) == bool(row["ConsumedUnit"])
        assert bool(row["PricingQuantity"]) == bool(row["PricingUnit"])
    assert sum(D(row["BilledCost"]) for row in rows) == D(document()["total"])
    assert [row["ChargeCategory"] for row in rows] == ["Purchase", "Usage", "Usage", "Usage", "Credit", "Tax"]
    assert [row["ChargeClass"] for row in rows][2] == "Correction"
    assert rows[1]["ConsumedUnit"] == "token"


@pytest.mark.skipif("FOCUS_VALIDATOR" not in os.environ, reason="names no focus-validator command")
def test_the_validator_of_the_specification_passes_it(tmp_path: Path) -> None:
    file = tmp_path / "focus.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *table(focus_rows(billed(), issuer="Us"))])
    command = [os.environ["FOCUS_VALIDATOR"], "--data-file", str(file), "--validate-version", "1.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    failed = set(re.findall(r"^(\w+) failed:", done.stdout + done.stderr, re.MULTILINE))
    assert "Errors encountered" in done.stdout + done.stderr
    assert failed == VALIDATORS_OWN, done.stdout


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**5), st.integers(0, 10**5), st.booleans())
def test_debit_is_credit_in_every_entry(net: int, tax: int, paid: int, void: bool) -> None:
    made = postings(
        {**document(), "total": str(D(net + tax) / 100), "tax": str(D(tax) / 100)},
        number="INV-000001",
        finalized_at="2026-07-01T01:00:00Z",
        credits_applied=D(paid) / 100,
        voided_at="2026-07-09T00:00:00Z" if void else None,
    )
    for entry in {one.entry for one in made}:
        own = [one for one in made if one.entry == entry]
        assert sum(one.debit for one in own) == sum(one.credit for one in own) > 0
        assert all(one.debit >= 0 <= one.credit and not (one.debit and one.credit) for one in own)
    due = sum((one.debit - one.credit for one in made if one.account == "receivables"), D(0))
    # What a total below zero leaves is the customer's, as credits.
    assert due == (0 if void or net + tax < 0 else D(net + tax - paid) / 100)
