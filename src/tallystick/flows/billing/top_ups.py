"""Invoices of credits that rules of top-up have ordered: final at once, collected, and not paid with credits themselves.

Without taxes and discount: credits pay totals with tax, so tax is due on what they pay for.
"""

from decimal import Decimal

from tallystick.billing.item import Item
from tallystick.billing.terms import NO_TERMS
from tallystick.catalog.billing import Closing, KeptInvoice
from tallystick.catalog.crediting import KeptPurchase
from tallystick.catalog.interface import Actor
from tallystick.flows.billing.closing import Report
from tallystick.flows.billing.one_off import item_documents
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.credits import credits_of
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

KIND = "top_up"
BATCH = 200
ROUNDS_MAX = 1_000


async def bill_top_ups(system: System, tenant: str | None, *, report: Report, actor: Actor) -> None:
    """An invoice for each purchase that waits for one; it is named by the purchase, so there is never a second."""
    for _ in range(ROUNDS_MAX):
        waiting = await in_questions(
            system, lambda: credits_of(system).purchases_to_bill(tenant, limit=BATCH)
        )
        if not waiting:
            return
        made = await in_questions(system, lambda waiting=waiting: _bill(system, waiting, actor))
        report.note(made)
        if not made:
            return  # somebody else bills them


def _bill(system: System, purchases: tuple[KeptPurchase, ...], actor: Actor) -> tuple[KeptInvoice, ...]:
    now_us = system.clock.now_us()
    closings = [_closing(system, purchase, now_us) for purchase in purchases]
    return billing_of(system).keep_invoices(closings, actor=actor, now_us=now_us)


def _closing(system: System, purchase: KeptPurchase, now_us: int) -> Closing:
    at_us = purchase.ordered_at_us
    currency = purchase.unit.currency
    assert currency is not None  # only money is topped up by itself
    item = Item(purchase.grant, "Credits (automatic top-up)", Decimal(1), purchase.amount)
    frozen, basis = item_documents(
        purchase.customer,
        [item],
        currency,
        NO_TERMS,
        at_us=at_us,
        position=token_of(system.recorder.position),
        kind=KIND,
    )
    invoice = KeptInvoice(
        tenant=purchase.tenant,
        id=purchase.invoice,
        customer=purchase.customer,
        subscription=purchase.invoice,
        boundary_us=at_us,
        from_us=at_us,
        to_us=at_us,
        status="finalized",
        grace_until_us=at_us,
        document=frozen,
        basis=basis,
        created_at_us=now_us,
        finalized_at_us=now_us,
        kind=KIND,
    )
    return Closing(invoice, None, None, None, collect=bool(system.settings.payments))
