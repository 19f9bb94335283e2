"""Invoices as a bookkeeper's journal: debit and credit of every entry are equal, to the minor unit.

Finalizing debits receivables, and credits revenue (after the discount) and taxes. Credits that paid it debit the customer's
credits, a liability, and credit receivables. Voiding is the same with the sides exchanged. An amount below zero changes
sides, so that no column ever has a negative number. Credits that are bought are no revenue yet: they credit the customer's
credits; and so does what a total below zero leaves the customer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.money import ZERO, exactly, money_text, round_money

COLUMNS = ("date", "entry", "account", "debit", "credit", "currency", "customer", "memo")
RECEIVABLES, REVENUE, TAXES, CREDITS = "receivables", "revenue", "taxes_payable", "customer_credits"
REFUNDS = "refunds_payable"
TOP_UP = "top_up"
"""The kind of their line."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One row. One of `debit` and `credit` is 0."""

    date: str
    entry: str
    account: str
    debit: Decimal
    credit: Decimal
    currency: str
    customer: str
    memo: str

    def cells(self) -> tuple[str, ...]:
        """In the order of `COLUMNS`; 0 is an empty cell."""
        debit, credit = (
            money_text(round_money(amount, self.currency)) if amount else ""
            for amount in (self.debit, self.credit)
        )
        return (self.date, self.entry, self.account, debit, credit, self.currency, self.customer, self.memo)


@exactly
def postings(
    document: Mapping[str, Any],
    *,
    number: str,
    finalized_at: str,
    credits_applied: Decimal = ZERO,
    voided_at: str | None = None,
) -> list[Posting]:
    """The entries of one finalized invoice; where it is void, the opposite ones too (its credits are given back already)."""
    total, tax = Decimal(document["total"]), Decimal(document["tax"])
    bought = sum((Decimal(line["rounded"]) for line in document["lines"] if line.get("kind") == TOP_UP), ZERO)
    amounts = [(RECEIVABLES, total), (REVENUE, tax - total + bought), (CREDITS, -bought), (TAXES, -tax)]
    made = _entry(document, number, finalized_at, amounts, f"Invoice {number}")
    if voided_at is not None:
        opposite = [(account, -amount) for account, amount in amounts]
        return made + _entry(document, f"{number}-void", voided_at, opposite, f"Void of invoice {number}")
    moved = credits_applied if total >= 0 else total
    paid = [(CREDITS, moved), (RECEIVABLES, -moved)]
    return made + _entry(document, f"{number}-credits", finalized_at, paid, f"Credits on invoice {number}")


@exactly
def note_postings(
    document: Mapping[str, Any], *, number: str, created_at: str, voided_at: str | None = None
) -> list[Posting]:
    """The entries of one credit note: revenue and taxes become less, by what the customer has as credits or is refunded."""
    total, tax = Decimal(document["total"]), Decimal(document["tax"])
    given = CREDITS if document["kind"] == "credit" else REFUNDS
    amounts = [(REVENUE, total - tax), (TAXES, tax), (given, -total)]
    made = _entry(document, number, created_at, amounts, f"Credit note {number}")
    if voided_at is not None:
        opposite = [(account, -amount) for account, amount in amounts]
        made += _entry(document, f"{number}-void", voided_at, opposite, f"Void of credit note {number}")
    return made


def _entry(
    document: Mapping[str, Any], entry: str, at: str, amounts: list[tuple[str, Decimal]], memo: str
) -> list[Posting]:
    return [
        Posting(
            at[:10],
            entry,
            account,
            max(amount, ZERO),
            max(-amount, ZERO),
            document["currency"],
            document["customer"],
            memo,
        )
        for account, amount in amounts
        if amount
    ]
