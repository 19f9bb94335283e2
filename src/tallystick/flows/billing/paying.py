"""Credits on invoices: paid when an invoice is finalized, given back when it is void, foreseen in a preview.

What was paid stands in the ledger under the invoice's id, and nowhere else: the frozen document says what is due, the
ledger what of that is paid. The catalog pays in the transaction that finalizes (catalog/finishing.py), so that later
credits never pay an earlier invoice. Credits pay the total, tax included; each line's share of it can be paid by what its
meter, charge and plan allow. Units of a meter pay no money: they burn down by themselves (flows/credits.py).
"""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from tallystick.billing import credit
from tallystick.billing.credit import Payable
from tallystick.billing.grant import CreditUnit
from tallystick.billing.kept import plan_of
from tallystick.billing.timeline import Plans
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.credits import credits_of
from tallystick.flows.system import System
from tallystick.money import ZERO, exactly, minor_unit, split_money


def paid(system: System, tenant: str, invoices: Collection[str]) -> dict[str, Decimal]:
    """What credits have paid of each of these; absent: nothing."""
    return credits_of(system).credits_paid(tenant, invoices)


def foreseen(system: System, tenant: str, document: dict[str, Any], *, now_us: int) -> Decimal:
    """What credits would pay of an invoice if it were finalized now. Nothing is spent."""
    catalog, currency = credits_of(system), document["currency"]
    customer, unit = document["customer"], CreditUnit(currency=currency)
    if not catalog.customers_with_credits(tenant, [customer], unit):
        return ZERO
    payables = payables_of(_plans(system, tenant, document), document)
    held = [
        kept.holding
        for kept in catalog.credit_grants(tenant, customer, now_us=now_us)
        if kept.grant.unit == unit
    ]
    spent = credit.spend(held, payables, at_us=now_us, reference=None, quantum=minor_unit(currency))
    return spent.amount


@exactly
def payables_of(plans: Plans, document: Mapping[str, Any]) -> list[Payable]:
    """The total of an invoice, shared out to its lines that are more than nothing, in proportion to their amounts."""
    total = Decimal(document["total"])
    lines = [line for line in document["lines"] if Decimal(line["rounded"]) > 0]
    if total <= 0 or not lines:
        return []
    shares = split_money(total, [Decimal(line["rounded"]) for line in lines], document["currency"])
    meters = {
        (key, version, charge.key): charge.meter
        for (key, version), plan in plans.items()
        for charge in plan.every_charge()
    }
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


def _plans(system: System, tenant: str, document: Mapping[str, Any]) -> Plans:
    versions = {(line["plan"], line["version"]) for line in document["lines"]}
    found = billing_of(system).plans_by_version(tenant, versions)
    return {place: plan_of(kept.content) for place, kept in found.items()}
