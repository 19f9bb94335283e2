"""News of billing, told to channels in the transaction that makes it true."""

import json
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, select

from tallystick.catalog import channel_tables
from tallystick.catalog.billing import KeptInvoice
from tallystick.catalog.charging import KeptNote, KeptPayment
from tallystick.catalog.delivering import Notice
from tallystick.catalog.notices import enqueue
from tallystick.money import money_text, round_money

_Told = tuple[str, dict[str, Any]]
"""A sentence, and the data."""


def anybody_listens(connection: Connection, tenant: str) -> bool:
    """Whether any channel of the tenant subscribes to anything: thousands of invoices need not ask one by one."""
    column = channel_tables.channels.c
    query = select(column.number).where(column.tenant == tenant, column.subscribes).limit(1)
    return connection.execute(query).one_or_none() is not None


def tell_invoice(connection: Connection, invoice: KeptInvoice, what: str, *, now_us: int) -> None:
    """`invoice.created`, `invoice.finalized`, `invoice.voided`."""
    document = json.loads(invoice.document)
    number = None if invoice.sequence is None else f"INV-{invoice.sequence:06d}"
    data = {
        "invoice": invoice.id,
        "number": number,
        "kind": invoice.kind,
        "status": invoice.status,
        "customer": invoice.customer,
        "subscription": document["subscription"],
        "period": document["period"],
        "currency": document["currency"],
        "total": document["total"],
    }
    summary = f"Invoice {number or invoice.id} of {invoice.customer}: {what}, {document['total']} {document['currency']}"
    _tell(
        connection,
        invoice.tenant,
        invoice.customer,
        kind=f"invoice.{what}",
        place=invoice.id,
        told=(summary, data),
        now_us=now_us,
    )


def tell_payment(connection: Connection, payment: KeptPayment, *, now_us: int) -> None:
    """`invoice.payment_pending`, `invoice.payment_sent`, `invoice.payment_paid`, `invoice.payment_failed`."""
    data = {
        "invoice": payment.invoice,
        "customer": payment.customer,
        "status": payment.status,
        "amount": payment.amount,
        "currency": payment.currency,
        "url": payment.url,
        "detail": payment.detail,
    }
    kind = f"invoice.payment_{payment.status}"
    summary = f"Payment of {payment.amount} {payment.currency} by {payment.customer}: {payment.status}"
    place = f"{payment.invoice}/{payment.attempts}"
    _tell(
        connection,
        payment.tenant,
        payment.customer,
        kind=kind,
        place=place,
        told=(summary, data),
        now_us=now_us,
    )


def tell_note(connection: Connection, note: KeptNote, what: str, *, now_us: int) -> None:
    """`credit_note.created`, `credit_note.voided`."""
    document = json.loads(note.document)
    data = {
        "credit_note": note.id,
        "number": f"CN-{note.sequence:06d}",
        "invoice": note.invoice,
        "customer": note.customer,
        "kind": note.kind,
        "currency": document["currency"],
        "total": document["total"],
    }
    summary = f"Credit note CN-{note.sequence:06d} of {note.customer}: {what}, {document['total']} {document['currency']}"
    _tell(
        connection,
        note.tenant,
        note.customer,
        kind=f"credit_note.{what}",
        place=note.id,
        told=(summary, data),
        now_us=now_us,
    )


def tell_credits(
    connection: Connection,
    tenant: str,
    customer: str,
    what: str,
    *,
    place: str,
    currency: str,
    amount: Decimal,
    now_us: int,
    more: dict[str, Any] | None = None,
) -> None:
    """`credits.depleted` (`amount`: 0), `credits.top_up` (`amount`: what was added), `credits.top_up_failed` (`amount`: what
    was not paid)."""
    data = {
        "customer": customer,
        "currency": currency,
        "amount": money_text(round_money(amount, currency)),
        **(more or {}),
    }
    summary = f"Credits of {customer}: {what} ({money_text(round_money(amount, currency))} {currency})"
    _tell(
        connection, tenant, customer, kind=f"credits.{what}", place=place, told=(summary, data), now_us=now_us
    )


def _tell(
    connection: Connection, tenant: str, customer: str, *, kind: str, place: str, told: _Told, now_us: int
) -> None:
    notice = Notice(
        tenant=tenant,
        id=f"{kind}/{place}",
        kind=kind,
        summary=told[0][:500],
        data=told[1],
        at_us=now_us,
        customer=customer,
    )
    enqueue(connection, notice, now_us=now_us)
