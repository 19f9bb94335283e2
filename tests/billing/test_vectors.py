"""The peers' figures for credit notes and progressive invoices; and every case of theirs, of whatever area, is run by some test or
stands in a page of differences."""

import itertools
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.billing.test_credit import AREAS as CREDIT_AREAS
from tests.rating.test_vectors import RATING_AREAS

from tallystick.billing.credit_note import Asked, note_of
from tallystick.billing.period import Period
from tallystick.billing.progressive import Part, deductions
from tallystick.billing.proration import Share
from tallystick.billing.threshold import Thresholds
from tallystick.money import round_money
from tallystick.rating.model import Usage
from tallystick.rating.price import parse_price
from tallystick.rating.rate import rate_part

ROOT = Path(__file__).parents[2]
VECTORS = ROOT.parent / "shared" / "vectors"
METERING_TESTS = ROOT / "tests" / "metering" / "test_vectors.py"
PAGES = [ROOT / "docs" / name for name in ("pricing-differences.md", "metering-differences.md")]
CREDIT_NOTES = ["cn-mu-1", "cn-mu-2", "cn-round-1", "cn-round-4", "cn-round-5", "cn-term-1", "cn-term-2"]
PROGRESSIVE = ["pb-1", "pb-2", "pb-4"]
DEDUCTED = ["pb-cred-3"]

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors of ../shared are not beside this checkout"),
]


def cases() -> dict[str, dict[str, Any]]:
    return {
        one["id"]: one
        for file in ("lago.json", "openmeter.json")
        for one in json.loads((VECTORS / file).read_text())["vectors"]
    }


def money(cents: int) -> Decimal:
    return round_money(Decimal(cents) / 100, "USD")


def cents(amount: Decimal) -> int:
    return int(round_money(amount, "USD").scaleb(2))


@pytest.mark.parametrize("name", CREDIT_NOTES)
def test_what_is_unused_is_given_back_with_its_tax(name: str) -> None:
    given, expect = cases()[name]["given"], cases()[name]["expect"]
    if "plan" in given:
        share = Share(given["unused_days"], given["period_days"])
        item = round_money(share.of(money(given["plan"])), "USD")
        whole = money(given["plan"])
    else:
        item = whole = money(given["item_amount_cents"])
    percent = Decimal(given["tax_pct"])
    tax = round_money(whole * percent / 100, "USD")
    line = {
        "id": "fee",
        "charge": "fee",
        "name": "Fee",
        "plan": "p",
        "version": 1,
        "group": {},
        "rounded": str(whole),
    }
    invoice = {
        "customer": "c",
        "subscription": "s",
        "currency": "USD",
        "lines": [{**line, "period": {}}],
        "subtotal": str(whole),
        "discount": "0.00",
        "taxes": [{"name": "VAT", "percent": str(percent), "amount": str(tax)}],
        "total": str(whole + tax),
    }
    asked = Asked("credit", "unused", (("fee", item),))
    made = json.loads(
        note_of(invoice, [], asked, invoice_id="i", refundable=Decimal(0), at="now", program="p")
    )
    found = {
        "item_cents": cents(Decimal(made["subtotal"])),
        "tax_cents": cents(Decimal(made["tax"])),
        "credit_cents": cents(Decimal(made["total"])),
    }
    assert {key: found[key] for key in expect} == expect


@pytest.mark.parametrize("name", PROGRESSIVE)
def test_a_threshold_bills_what_came_since_the_last(name: str) -> None:
    given, expect = cases()[name]["given"], cases()[name]["expect"]
    price = parse_price({"model": "per_unit", "unit_amount": given["unit_price"]})
    thresholds = Thresholds(tuple(money(one) for one in given["thresholds"]))
    usage: list[Usage] = []
    billed: list[Usage] = []
    parts: list[Part] = []
    interim: list[int | None] = []
    crossed = 0
    for number, units in enumerate(given["usage_units"]):
        usage.append(Usage.of(units))
        whole = rate_part(price, None, usage).amount
        now = thresholds.crossed(whole)
        if now == crossed:
            interim.append(None)
            continue
        crossed = now
        amount = round_money(rate_part(price, billed or None, usage[len(billed) :]).amount, "USD")
        billed = list(usage)
        parts.append(Part(f"inv_{number}", str(number), amount))
        interim.append(cents(amount))
    fee = money(given["subscription_cents"])
    if "terminated_day" in given:
        fee = round_money(Share(given["terminated_day"], given["period_days"]).of(fee), "USD")
    fees = round_money(rate_part(price, None, usage).amount, "USD") + fee
    taken_off = deductions(parts, Period(0, 1))
    credit = sum((line.rounded for line in taken_off), Decimal(0))
    found = {
        "interim_invoices": interim,
        "final_fees": cents(fees),
        "final_credit": -cents(credit),
        "final_total": cents(fees + credit),
    }
    assert {key: found[key] for key in expect} == expect


@pytest.mark.parametrize("name", DEDUCTED)
def test_what_was_billed_within_the_period_is_taken_off_once(name: str) -> None:
    """Their interim invoices repeat what the ones before billed, and the last is credited; ours each bill what is new."""
    given, expect = cases()[name]["given"], cases()[name]["expect"]
    totals = [0, *given["prior_invoices_cumulative"]]
    parts = [Part(f"i{n}", "", money(new - old)) for n, (old, new) in enumerate(itertools.pairwise(totals))]
    assert (
        cents(-sum((line.rounded for line in deductions(parts, Period(0, 1))), Decimal(0)))
        == expect["credit"]
    )


def test_every_case_is_run_or_its_difference_is_explained() -> None:
    """Areas of rating and of credits are held complete by their own tests; of the others each case is named."""
    explained = {name for page in PAGES for name in re.findall(r"`([A-Za-z0-9-]+)`", page.read_text())}
    run = {*CREDIT_NOTES, *PROGRESSIVE, *DEDUCTED}
    run |= {name for name in cases() if f'"{name}"' in METERING_TESTS.read_text()}
    elsewhere = RATING_AREAS | CREDIT_AREAS
    missing = [
        name for name, one in cases().items() if one["area"] not in elsewhere and name not in run | explained
    ]
    assert missing == []
