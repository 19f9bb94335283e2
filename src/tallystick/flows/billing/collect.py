"""Finalized invoices go to the payment system by themselves: sent, looked at until they are paid, taken back when void.

What is to be collected was written down in the transaction that finalized the invoice. Each attempt first claims its row
(compare and set), so two workers never send one attempt; a crash in between leaves a claim that runs out, and the invoice
is sent again under the same name, of which the receiver makes nothing new.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import structlog

from tallystick.catalog.charging import KeptPayment
from tallystick.catalog.interface import SYSTEM
from tallystick.errors import Invalid, TallystickError
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.paying import paid
from tallystick.flows.billing.prepare import number_of
from tallystick.flows.credits import credits_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.instant import instant_text
from tallystick.money import ZERO
from tallystick.payments.interface import InvoiceReceiver, Outgoing, Sent

AT_ONCE = 4
PAGE = 100
CLAIM_US = 600_000_000
LOOK_US = 3_600_000_000
RETRIES_US = (60_000_000, 300_000_000, 1_800_000_000, 7_200_000_000, 21_600_000_000)
"""After that, a day apart."""
DAY_US = 86_400_000_000
ATTEMPTS_MAX = 30
TOP_UP_RETRY_US = DAY_US
TOP_UP_ATTEMPTS_MAX = 7
"""Credits that were refused are tried again a day later, so often; then they wait for a person."""
_FAILED = ("void", "uncollectible", "failed", "refused")

_logger = structlog.get_logger("payments")


async def collect(
    system: System, receiver: InvoiceReceiver, *, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Do what is due; how many payments were looked at. One that fails is tried again later, and keeps no other."""
    billing = billing_of(system)
    limit = asyncio.Semaphore(AT_ONCE)
    now_us = system.clock.now_us()
    due = await in_questions(system, lambda: billing.due_payments(now_us, limit=PAGE))

    async def one(payment: KeptPayment) -> None:
        async with limit:
            if not stopped():
                await _advance(system, receiver, payment)

    await asyncio.gather(*(one(payment) for payment in due))
    return len(due)


async def _advance(system: System, receiver: InvoiceReceiver, present: KeptPayment) -> None:
    now_us = system.clock.now_us()
    again = present.attempts > 0 or present.changed_at_us != present.created_at_us
    claimed = replace(
        present,
        status="pending" if present.status == "failed" else present.status,
        attempts=present.attempts + 1,
        next_us=now_us + CLAIM_US,
    )
    if not await _keep(system, present, claimed):
        return
    try:
        made = await _act(system, receiver, claimed, now_us, again=again)
    except Invalid as error:
        status = "void" if present.status == "void" else "failed"
        made = replace(claimed, status=status, next_us=None, detail=error.detail)
    except TallystickError as error:
        made = _later(claimed, error.detail, now_us)
    except Exception as error:
        _logger.warning("payment_broke", tenant=present.tenant, invoice=present.invoice, error=repr(error))
        made = _later(claimed, "The payment system's adapter failed.", now_us)
    if made.status == "failed" and await _is_tried_again(system, made):
        made = replace(made, next_us=now_us + TOP_UP_RETRY_US)
    if await _keep(system, claimed, made) or made.external_id is None:
        return
    # The invoice became void while it was being sent: over there it is to be taken back.
    billing = billing_of(system)
    now = await in_questions(system, lambda: billing.payment(present.tenant, present.invoice))
    if now is not None and now.status == "void" and now.external_id is None:
        await _keep(system, now, replace(now, external_id=made.external_id, next_us=now_us))


async def _is_tried_again(system: System, payment: KeptPayment) -> bool:
    """Of what was refused: credits alone, as long as their rule is there. An invoice waits for a person."""

    def read() -> bool:
        kept = credits_of(system)
        purchase = kept.purchase(payment.tenant, payment.invoice)
        if purchase is None or payment.attempts >= TOP_UP_ATTEMPTS_MAX:
            return False
        return any(rule.unit == purchase.unit for rule in kept.top_ups(payment.tenant, payment.customer))

    return await in_questions(system, read)


async def _act(
    system: System, receiver: InvoiceReceiver, payment: KeptPayment, now_us: int, *, again: bool
) -> KeptPayment:
    outgoing = await in_questions(system, lambda: _outgoing(system, payment, again=again))
    external_id = payment.external_id
    if payment.status == "void":
        if external_id is not None:
            taken = await asyncio.to_thread(receiver.void, outgoing, external_id)
            if taken.status == "paid":
                detail = "It was paid before it could be taken back: give the money back over there."
                return replace(payment, status="paid", next_us=None, detail=detail)
        return replace(payment, next_us=None, detail=None)
    if payment.status == "sent" and external_id is not None:
        found = await asyncio.to_thread(receiver.look, outgoing, external_id)
    else:
        found = await asyncio.to_thread(receiver.send, outgoing)
    if found is None:
        return replace(payment, next_us=None)
    return _told(payment, found, now_us)


def _told(payment: KeptPayment, found: Sent, now_us: int) -> KeptPayment:
    made = replace(payment, external_id=found.external_id, url=found.url or payment.url, detail=None)
    if found.status == "paid":
        return replace(made, status="paid", next_us=None)
    if found.status in _FAILED:
        detail = found.detail or f"The payment system says: {found.status}."
        return replace(made, status="failed", next_us=None, detail=detail)
    return replace(made, status="sent", next_us=now_us + LOOK_US)


def _later(payment: KeptPayment, detail: str, now_us: int) -> KeptPayment:
    if payment.attempts >= ATTEMPTS_MAX and payment.status == "pending":
        return replace(payment, status="failed", next_us=None, detail=detail)
    index = payment.attempts - 1
    wait_us = RETRIES_US[index] if index < len(RETRIES_US) else DAY_US
    return replace(payment, next_us=now_us + wait_us, detail=detail)


async def _keep(system: System, present: KeptPayment, made: KeptPayment) -> bool:
    billing, now_us = billing_of(system), system.clock.now_us()
    return await in_questions(
        system, lambda: billing.advance_payment(present, made, actor=SYSTEM, now_us=now_us)
    )


def _outgoing(system: System, payment: KeptPayment, *, again: bool) -> Outgoing:
    """Raises Invalid (payment_refused) where the customer has no account over there."""
    tenant = payment.tenant
    invoice = billing_of(system).invoice(tenant, payment.invoice)
    customer = system.catalog.customer(tenant, payment.customer)
    where = system.settings.payments
    account = customer.key if where == "journal" else customer.external_ids.get(where)
    if account is None:
        detail = (
            f"The customer has no account at {where}: set external_ids.{where}, then pay the invoice again."
        )
        raise Invalid(detail, code="payment_refused")
    assert invoice.finalized_at_us is not None  # it was made by finalizing
    return Outgoing(
        id=invoice.id,
        number=number_of(invoice) or invoice.id,
        account=account,
        finalized_at=instant_text(invoice.finalized_at_us),
        document=json.loads(invoice.document),
        credits_applied=paid(system, tenant, [invoice.id]).get(invoice.id, ZERO),
        voided_at=None if invoice.voided_at_us is None else instant_text(invoice.voided_at_us),
        charge=invoice.kind == "top_up",
        again=again,
        attempt=f"{payment.attempts}-{payment.next_us}",
        external_id=payment.external_id,
    )
