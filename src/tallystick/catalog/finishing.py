"""What follows from finalizing an invoice, in the transaction that does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from tallystick.billing.grant import CreditUnit, Grant, Source
from tallystick.billing.invoice import add
from tallystick.catalog.billing import Closing, KeptInvoice
from tallystick.catalog.billing_events import anybody_listens, tell_invoice, tell_payment
from tallystick.catalog.charging import KeptPayment
from tallystick.catalog.credit_ledger import grant_within, holders, pay_within
from tallystick.catalog.credit_notes import issue_late
from tallystick.catalog.database import Change
from tallystick.catalog.invoice_rows import read_invoice
from tallystick.catalog.payments import begin_payment
from tallystick.money import ZERO, money_text, round_money


class _Sums(msgspec.Struct):
    """Of a document, what most invoices need of it here: nearly all customers have no credits."""

    currency: str
    total: str


@dataclass(frozen=True, slots=True)
class Finished:
    """An invoice as it is kept now; whether it was made, and whether it was finalized, in this transaction."""

    closing: Closing
    invoice: KeptInvoice
    created: bool = False
    finalized: bool = False


def settle_kept(change: Change, kept: Sequence[Finished]) -> None:
    """What follows from finalizing, in the same transaction: credits pay, the rest is to be collected, channels are told.

    So no crash can leave an invoice that is finalized and not paid, for later credits to pay it."""
    connection, now_us = change.connection, change.now_us
    for one in kept:
        if one.finalized:
            for late in one.closing.notes:
                issue_late(change, read_invoice(connection, one.invoice.tenant, late.invoice), late)
    by_unit: dict[tuple[str, str], list[tuple[Finished, Decimal]]] = {}
    for one in kept:
        if one.finalized:
            frozen = msgspec.json.decode(one.invoice.document, type=_Sums)
            by_unit.setdefault((one.invoice.tenant, frozen.currency), []).append((one, Decimal(frozen.total)))
    for (tenant, currency), ones in by_unit.items():
        unit = CreditUnit(currency=currency)
        with_credits = holders(connection, tenant, {one.invoice.customer for one, _ in ones}, unit)
        for one, total in ones:
            paid = ZERO
            if total < 0:
                _owe(change, one.invoice, currency, -total)
                with_credits.add(one.invoice.customer)
            if one.invoice.customer in with_credits:
                paid = _pay(change, one, currency)
            due = add(total, -paid)
            if one.closing.collect and due > 0:
                _collect(change, one.invoice, currency, due)
    listened: dict[str, bool] = {}
    for one in kept:
        tenant = one.invoice.tenant
        if not (one.created or one.finalized):
            continue
        if tenant not in listened:
            listened[tenant] = anybody_listens(connection, tenant)
        if listened[tenant]:
            for what, happened in (("created", one.created), ("finalized", one.finalized)):
                if happened:
                    tell_invoice(connection, one.invoice, what, now_us=now_us)


def balance_grant(invoice: str) -> str:
    """The id of the credits that a total below zero becomes."""
    return f"credit_{invoice.removeprefix('inv_')}"


def _owe(change: Change, invoice: KeptInvoice, currency: str, amount: Decimal) -> None:
    """What is owed to the customer pays later invoices."""
    grant = Grant(
        id=balance_grant(invoice.id),
        customer=invoice.customer,
        unit=CreditUnit(currency=currency),
        amount=amount,
        effective_us=change.now_us,
        created_us=change.now_us,
        source=Source.PREPAID,
        name=f"Balance of INV-{invoice.sequence:06d}",
    )
    grant_within(change.connection, invoice.tenant, grant, now_us=change.now_us)


def _pay(change: Change, one: Finished, currency: str) -> Decimal:
    payables = () if one.closing.payables is None else one.closing.payables()
    if not payables:
        return ZERO
    invoice = one.invoice
    return pay_within(
        change.connection,
        invoice.tenant,
        invoice.customer,
        currency,
        payables,
        reference=invoice.id,
        now_us=change.now_us,
    ).amount


def _collect(change: Change, invoice: KeptInvoice, currency: str, due: Decimal) -> None:
    now_us = change.now_us
    payment = KeptPayment(
        tenant=invoice.tenant,
        invoice=invoice.id,
        customer=invoice.customer,
        status="pending",
        amount=money_text(round_money(due, currency)),
        currency=currency,
        attempts=0,
        next_us=now_us,
        created_at_us=now_us,
        changed_at_us=now_us,
    )
    begin_payment(change.connection, payment)
    tell_payment(change.connection, payment, now_us=now_us)
