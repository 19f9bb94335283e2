"""Credit notes and thresholds: the peer's own cases, and what must hold for all notes of all invoices."""

import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.billing.credit_note import Asked, asked_of, left_of, note_of
from tallystick.billing.invoice import Line, document_of, sums_of
from tallystick.billing.period import Period
from tallystick.billing.progressive import Part, deductions
from tallystick.billing.terms import Tax, Terms
from tallystick.billing.threshold import Thresholds, read_thresholds
from tallystick.document import Document
from tallystick.errors import Invalid
from tallystick.money import round_money

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "lago.json"
AREAS = {"credit_note", "progressive_billing"}
D = Decimal
PERIOD = Period(0, 86_400_000_000)


def cases() -> dict[str, Any]:
    if not VECTORS.is_file():
        return {}
    listed = json.loads(VECTORS.read_text())["vectors"]
    return {one["id"]: one for one in listed if one["area"] in AREAS}


LAGO = cases()
with_vectors = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not LAGO, reason="the vectors of ../shared are not beside this checkout"),
]


def line(name: str, amount: Decimal) -> Line:
    return Line(name, "fee", "c", "n", D(1), amount, amount, (), "p", 1, PERIOD)


def invoice(amounts: list[Decimal], terms: Terms, currency: str = "USD") -> dict[str, Any]:
    lines = [line(f"l{index}", amount) for index, amount in enumerate(amounts)]
    return json.loads(
        document_of(
            customer="acme",
            subscription="s",
            period=PERIOD,
            currency=currency,
            lines=lines,
            terms=terms,
            plans=(),
            position="",
            as_of_us=0,
            program="1",
        )
    )


def note(of: dict[str, Any], earlier: list[dict[str, Any]], asked: Asked) -> dict[str, Any]:
    refundable = D(of["total"])
    assert asked_of(asked.to_wire()) == asked
    return json.loads(
        note_of(of, earlier, asked, invoice_id="i", refundable=refundable, at="now", program="1")
    )


def run_credit_note(given: Any, expect: Any) -> None:
    terms = Terms((Tax("VAT", D(given["tax_pct"])),))
    if "plan" in given:
        whole = D(given["plan"]).scaleb(-2)
        amount = round_money(whole * given["unused_days"] / given["period_days"], "USD")
    else:
        whole = amount = D(given["item_amount_cents"]).scaleb(-2)
    made = note(invoice([whole], terms), [], Asked("credit", "r", (("l0", amount),)))
    cents = {name: int(D(made[name]).scaleb(2)) for name in ("subtotal", "tax", "total")}
    assert cents["total"] == expect["credit_cents"]
    assert cents["tax"] == expect.get("tax_cents", cents["tax"])
    assert cents["subtotal"] == expect.get("item_cents", cents["subtotal"])


def run_progressive(given: Any, expect: Any) -> None:
    if "fees" in given:
        before = [0, *given["prior_invoices_cumulative"]]
        parts = [Part(str(b), "", D(b - a)) for a, b in pairwise(before)]
        assert -sum(one.rounded for one in deductions(parts, PERIOD)) == expect["credit"]
        return
    limits = Thresholds(tuple(D(one) for one in given["thresholds"]))
    used, made = D(0), []
    parts: list[Part] = []
    for units in given["usage_units"]:
        used += D(units) * D(given["unit_price"]) * 100
        billed = sum((part.amount for part in parts), D(0))
        cut = limits.crossed(used) > limits.crossed(billed)
        made.append(int(used - billed) if cut else None)
        if cut:
            parts.append(Part(str(len(parts)), "", used - billed))
    assert made == expect["interim_invoices"]
    fee = D(given["subscription_cents"])
    if "terminated_day" in given:
        fee = round_money(fee / 100 * given["terminated_day"] / given["period_days"], "USD") * 100
    taken = -sum((one.rounded for one in deductions(parts, PERIOD)), D(0))
    assert used + fee == expect.get("final_fees", used + fee)
    assert taken == expect.get("final_credit", taken)
    assert used + fee - taken == expect["final_total"]


class TestVectors:
    pytestmark = with_vectors

    @pytest.mark.parametrize("name", sorted(LAGO))
    def test_lago(self, name: str) -> None:
        one = LAGO[name]
        run = run_credit_note if one["area"] == "credit_note" else run_progressive
        run(one["given"], one["expect"])


@st.composite
def bills(draw: st.DrawFn) -> tuple[dict[str, Any], list[Asked]]:
    currency = draw(st.sampled_from(["USD", "JPY", "BHD"]))
    amount = st.integers(-3_000, 9_000).map(lambda cents: round_money(D(cents) / 100, currency))
    taxes = draw(st.lists(st.sampled_from(["19", "7.7", "0.5", "33.333"]), max_size=3))
    terms = Terms(
        tuple(Tax(f"t{index}", D(percent)) for index, percent in enumerate(taxes)),
        D(draw(st.sampled_from(["0", "10", "33.3"]))),
    )
    lines = draw(st.lists(amount, min_size=1, max_size=5))
    asked: list[Asked] = []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            asked.append(Asked("credit", "r", amount=abs(draw(amount))))
        else:
            named = draw(st.sets(st.integers(0, len(lines) - 1), min_size=1))
            asked.append(
                Asked("credit", "r", tuple((f"l{index}", abs(draw(amount)) / 4) for index in sorted(named)))
            )
    return invoice(lines, terms, currency), asked


@given(bills())
def test_no_notes_give_back_more_than_was_billed_and_all_of_it_can_be(
    bill: tuple[dict[str, Any], list[Asked]],
) -> None:
    of, wanted = bill
    notes: list[dict[str, Any]] = []
    for asked in wanted:
        left = left_of(of, notes)
        try:
            made = note(of, notes, asked)
        except Invalid as error:
            if error.code not in ("more_than_is_left", "too_precise", "unknown_line"):
                raise
            continue
        assert sum(D(one["amount"]) for one in made["lines"]) == D(made["subtotal"])
        assert D(made["subtotal"]) + D(made["tax"]) == D(made["total"]) <= left.total
        notes.append(made)
    left = left_of(of, notes)
    assert all(amount >= 0 for amount in left.lines.values())
    assert all(amount >= 0 for amount in left.taxes) or D(of["total"]) < 0
    if left.total > 0:
        rest = note(of, notes, Asked("credit", "r", amount=left.total))
        notes.append(rest)
    if D(of["total"]) > 0:
        assert sum(D(one["total"]) for one in notes) == D(of["total"])
        assert sum(D(one["tax"]) for one in notes) == D(of["tax"])


def test_sums_of_the_helper_are_those_of_invoices() -> None:
    terms = Terms((Tax("VAT", D(19)),), D(10))
    assert sums_of([line("a", D("10.00"))], terms, "USD").total == D(invoice([D("10.00")], terms)["total"])


@pytest.mark.parametrize(
    ("raw", "amount", "expected"),
    [
        (["100", "500"], "99.99", 0),
        (["100", "500"], "100", 1),
        (["100", {"amount": "500"}], "9999", 2),
        (["100", {"amount": "50", "recurring": True}], "149.99", 1),
        (["100", {"amount": "50", "recurring": True}], "250", 4),
        ([{"amount": "50", "recurring": True}], "125", 2),
    ],
)
def test_thresholds_are_crossed(raw: list[Any], amount: str, expected: int) -> None:
    document = Document({"thresholds": raw})
    made = read_thresholds(document)
    document.finish()
    assert made.crossed(D(amount)) == expected
    assert read_thresholds(Document({"thresholds": made.to_wire()})) == made


def test_every_fault_of_thresholds_is_named() -> None:
    document = Document({"thresholds": [{"amount": "5", "recurring": True}, "5", "5", {"at": 1}, 0]})
    read_thresholds(document)
    assert [(fault.pointer, fault.code) for fault in document.faults] == [
        ("/thresholds/0", "not_ascending"),
        ("/thresholds/2", "not_ascending"),
        ("/thresholds/3/amount", "missing"),
        ("/thresholds/3/at", "unknown_member"),
        ("/thresholds/4", "too_small"),
    ]
