"""Invoices at Stripe: one item a line, credits and everything else that is no line as items of their own, then finalized.

The items add up to what is still to be paid. Every request carries an idempotency key made of the invoice's id, so that
one that is repeated (by us, or by Stripe's library after an error of the network) makes nothing twice.
Amounts: Stripe's minor units (docs.stripe.com/currencies): 0 digits as ISO 4217 says, but for ISK and UGX, which have two
there; of three digits the last must be 0.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import stripe

from tallystick.errors import Invalid, Unavailable
from tallystick.money import exponent_of, money_text
from tallystick.payments.interface import Outgoing, Sent

RETRIES_MAX = 2
INVOICES_SEEN_MAX = 1_000
"""Of a customer, the newest first, among which one is looked for that was made already."""
_TWO_DIGITS_AT_STRIPE = frozenset({"ISK", "UGX"})


def stripe_amount(amount: Decimal, currency: str) -> int:
    """In Stripe's minor units. Raises Invalid (payment_refused) where Stripe has no such amount."""
    digits = 2 if currency in _TWO_DIGITS_AT_STRIPE else exponent_of(currency)
    scaled = amount.scaleb(digits)
    made = int(scaled)
    if made != scaled or (digits == 3 and made % 10):
        detail = f"Stripe has no amount of {money_text(amount)} {currency}."
        raise Invalid(detail, code="payment_refused")
    return made


class StripeInvoices:
    """`api_key` is a secret one. `base_url` is another only in tests. `account` of an invoice is `cus_…`."""

    def __init__(self, api_key: str, *, base_url: str | None = None, days_until_due: int = 30) -> None:
        addresses: Any = {} if base_url is None else {"base_addresses": {"api": base_url}}
        self._client = stripe.StripeClient(api_key, max_network_retries=RETRIES_MAX, **addresses)
        self._days_until_due = days_until_due

    def send(self, invoice: Outgoing) -> Sent:
        try:
            made_id = invoice.external_id or (self._found(invoice) if invoice.again else None)
            known = made_id is not None
            made_id = made_id or self._create(invoice)
            done = self._client.v1.invoices.retrieve(made_id) if known else None
            if done is None or done.status == "draft":
                self._fill(invoice, made_id, known=known)
                done = self._client.v1.invoices.finalize_invoice(
                    made_id,
                    {"auto_advance": not invoice.charge},
                    {"idempotency_key": f"{invoice.id}-finalize"},
                )
            if invoice.charge and done.status == "open":
                return self._charge(invoice, made_id)
        except stripe.StripeError as error:
            raise _ours(error) from error
        return Sent(made_id, str(done.status), done.hosted_invoice_url)

    def _found(self, invoice: Outgoing) -> str | None:
        """What an earlier attempt made of it, whose answer was lost. (Stripe forgets idempotency keys after a day.)"""
        known = self._client.v1.invoices.list({"customer": invoice.account, "limit": 100})
        for index, one in enumerate(known.auto_paging_iter()):
            if _named(one.metadata, "tallystick_invoice") == invoice.id:
                return str(one.id)
            if index >= INVOICES_SEEN_MAX:
                break
        return None

    def _create(self, invoice: Outgoing) -> str:
        asked: Any = {
            "customer": invoice.account,
            "currency": invoice.currency.lower(),
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "description": invoice.number,
            "metadata": {"tallystick_invoice": invoice.id, "tallystick_number": invoice.number},
        }
        if invoice.charge:
            asked["collection_method"] = "charge_automatically"
        else:
            asked |= {"collection_method": "send_invoice", "days_until_due": self._days_until_due}
        made = self._client.v1.invoices.create(asked, {"idempotency_key": f"{invoice.id}-invoice"})
        return str(made.id)

    def _fill(self, invoice: Outgoing, made_id: str, *, known: bool) -> None:
        there: set[str] = set()
        if known:
            items = self._client.v1.invoice_items.list({"invoice": made_id, "limit": 100})
            there = {_named(one.metadata, "tallystick_line") for one in items.auto_paging_iter()}
        for name, description, amount in _items(invoice):
            if name in there:
                continue
            self._client.v1.invoice_items.create(
                {
                    "customer": invoice.account,
                    "invoice": made_id,
                    "currency": invoice.currency.lower(),
                    "amount": stripe_amount(amount, invoice.currency),
                    "description": description,
                    "metadata": {"tallystick_line": name},
                },
                {"idempotency_key": f"{invoice.id}-{name}"},
            )

    def _charge(self, invoice: Outgoing, made_id: str) -> Sent:
        """An invoice is paid once at Stripe, whatever the key; another key for each attempt, since a refusal is repeated
        under the same."""
        try:
            done = self._client.v1.invoices.pay(
                made_id, {}, {"idempotency_key": f"{invoice.id}-pay-{invoice.attempt}"}
            )
        except stripe.CardError as error:
            reason = error.user_message or error.code or "the means of payment was refused"
            return Sent(made_id, "refused", detail=f"Stripe: {reason}")
        return Sent(made_id, str(done.status), done.hosted_invoice_url)

    def look(self, invoice: Outgoing, external_id: str) -> Sent:
        try:
            found = self._client.v1.invoices.retrieve(external_id)
        except stripe.StripeError as error:
            raise _ours(error) from error
        return Sent(external_id, str(found.status), found.hosted_invoice_url)

    def void(self, invoice: Outgoing, external_id: str) -> Sent:
        try:
            done = self._client.v1.invoices.void_invoice(
                external_id, {}, {"idempotency_key": f"{invoice.id}-void"}
            )
        except stripe.InvalidRequestError as error:
            found = self.look(invoice, external_id)
            if found.status not in ("paid", "void"):
                raise _ours(error) from error
            return found
        except stripe.StripeError as error:
            raise _ours(error) from error
        return Sent(external_id, str(done.status), done.hosted_invoice_url)


def _items(invoice: Outgoing) -> Iterator[tuple[str, str, Decimal]]:
    """(name, description, amount) of everything that adds up to what is to be paid."""
    document = invoice.document
    for line in document["lines"]:
        if Decimal(line["rounded"]):
            yield line["id"], line["name"], Decimal(line["rounded"])
    if Decimal(document["discount"]):
        yield "discount", "Discount", -Decimal(document["discount"])
    for index, tax in enumerate(document["taxes"]):
        if Decimal(tax["amount"]):
            yield f"tax-{index}", f"{tax['name']} {tax['percent']} %", Decimal(tax["amount"])
    if invoice.credits_applied:
        yield "credits", "Credits", -invoice.credits_applied


def _named(metadata: Any, name: str) -> str:
    return str(metadata[name]) if metadata and name in metadata else ""


def _ours(error: stripe.StripeError) -> Invalid | Unavailable:
    """What is wrong with the request stays wrong; everything else may be right in a while."""
    if isinstance(error, stripe.InvalidRequestError | stripe.AuthenticationError | stripe.PermissionError):
        return Invalid(f"Stripe refuses: {error.user_message or error.code}", code="payment_refused")
    return Unavailable("Stripe does not answer. Send the invoice again later.", retry_after_s=60)
