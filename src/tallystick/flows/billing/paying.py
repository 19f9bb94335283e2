"""Credits on invoices: paid when an invoice is finalized, given back when it is void, foreseen in a preview.

What was paid stands in the ledger under the invoice's id, and nowhere else: the frozen document says what is due, the
ledger what of that is paid. Paying twice is paying once. A crash between finalizing and paying leaves the invoice unpaid:
nobody calls `pay` for it again, and its credits stay with the customer. Credits pay the total, tax included; each line's share of it can be paid by what its meter, charge and plan
allow. Units of a meter pay no money: they burn down by themselves (flows/credits.py).
"""

import json
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from tallystick.billing import credit
from tallystick.billing.credit import Payable
from tallystick.billing.grant import CreditUnit
from tallystick.billing.kept import plan_of
from tallystick.catalog.billing import KeptInvoice
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.credits import credits_of
from tallystick.flows.system import System
from tallystick.money import ZERO, exactly, minor_unit, split_money


def pay(system: System, tenant: str, invoices: Sequence[KeptInvoice], *, now_us: int) -> None:
    """Pay finalized invoices, the oldest first, as far as there are credits. Customers without any cost one question in
    all."""
    catalog = credits_of(system)
    by_currency: dict[str, set[str]] = {}
    currencies = {one.id: _currency(one) for one in invoices if one.status == "finalized"}
    for one in invoices:
        if one.id in currencies:
            by_currency.setdefault(currencies[one.id], set()).add(one.customer)
    with_credits = {
        (currency, customer)
        for currency, customers in by_currency.items()
        for customer in catalog.customers_with_credits(tenant, customers, CreditUnit(currency=currency))
    }
    for one in invoices:
        currency = currencies.get(one.id)
        if currency is None or (currency, one.customer) not in with_credits:
            continue
        payables = payables_of(system, tenant, json.loads(one.document))
        if payables:
            catalog.pay_with_credits(
                tenant, one.customer, currency, payables, reference=one.id, now_us=now_us
            )


class _InCurrency(msgspec.Struct):
    """Of a document, what most payments need of it: nearly all customers have no credits."""

    currency: str


def _currency(invoice: KeptInvoice) -> str:
    return msgspec.json.decode(invoice.document, type=_InCurrency).currency


def give_back(system: System, tenant: str, invoice: str, *, now_us: int) -> Decimal:
    """What was paid of an invoice that is void now. Idempotent."""
    return credits_of(system).return_credits(tenant, invoice, now_us=now_us)


def paid(system: System, tenant: str, invoices: Collection[str]) -> dict[str, Decimal]:
    """What credits have paid of each of these; absent: nothing."""
    return credits_of(system).credits_paid(tenant, invoices)


def foreseen(system: System, tenant: str, document: dict[str, Any], *, now_us: int) -> Decimal:
    """What credits would pay of an invoice if it were finalized now. Nothing is spent."""
    catalog, currency = credits_of(system), document["currency"]
    customer, unit = document["customer"], CreditUnit(currency=currency)
    if not catalog.customers_with_credits(tenant, [customer], unit):
        return ZERO
    payables = payables_of(system, tenant, document)
    held = [
        kept.holding
        for kept in catalog.credit_grants(tenant, customer, now_us=now_us)
        if kept.grant.unit == unit
    ]
    spent = credit.spend(held, payables, at_us=now_us, reference=None, quantum=minor_unit(currency))
    return spent.amount


@exactly
def payables_of(system: System, tenant: str, document: dict[str, Any]) -> list[Payable]:
    """The total of an invoice, shared out to its lines that are more than nothing, in proportion to their amounts."""
    total = Decimal(document["total"])
    lines = [line for line in document["lines"] if Decimal(line["rounded"]) > 0]
    if total <= 0 or not lines:
        return []
    shares = split_money(total, [Decimal(line["rounded"]) for line in lines], document["currency"])
    meters = _meters(system, tenant, {(line["plan"], line["version"]) for line in lines})
    return [
        Payable(
            line["id"],
            share,
            meter=meters.get((line["plan"], line["version"], line["charge"])),
            charge=line["charge"],
            plan=line["plan"],
        )
        for line, share in zip(lines, shares, strict=True)
    ]


def _meters(
    system: System, tenant: str, versions: Collection[tuple[str, int]]
) -> dict[tuple[str, int, str], str]:
    found = billing_of(system).plans_by_version(tenant, versions)
    return {
        (key, version, charge.key): charge.meter
        for (key, version), kept in found.items()
        for charge in plan_of(kept.content).every_charge()
        if charge.meter is not None
    }
