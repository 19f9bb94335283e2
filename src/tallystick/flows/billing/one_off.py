"""Items that are billed once: they wait for the customer's next invoice, or have an invoice of their own."""

import json
from collections.abc import Sequence
from decimal import Decimal

from tallystick import __version__
from tallystick.billing.invoice import document_of
from tallystick.billing.item import ITEMS_MAX, KIND, Item, item_lines, item_of, read_currency, read_item
from tallystick.billing.kept import canonical, plan_of, subscription_of
from tallystick.billing.period import Period
from tallystick.billing.terms import NO_TERMS, Terms, parse_terms
from tallystick.catalog.billing import Closing, KeptInvoice
from tallystick.catalog.charging import KeptItem
from tallystick.catalog.interface import Actor, Customer
from tallystick.catalog.secret import new_id
from tallystick.document import Document
from tallystick.errors import Conflict, Fault, Invalid
from tallystick.flows.billing.closing import new_invoice_id
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.paying import payables_of
from tallystick.flows.billing.taxing import with_rates
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.money import plain

CURRENCY_DEFAULT = "USD"


def add_item(
    system: System, tenant: str, customer: str, raw: object, *, actor: Actor, now_us: int
) -> KeptItem:
    """Put an item aside for the next invoice in its currency. Raises Invalid with every fault, NotFound. Synchronous."""
    document = Document(raw)
    currency = read_currency(document)
    item = read_item(document, new_id("item"))
    document.finish()
    who = system.catalog.customer(tenant, customer)
    made = _kept(tenant, who, item, currency or currency_of(system, tenant, who), now_us)
    billing_of(system).add_items([made], actor=actor, now_us=now_us)
    return made


def currency_of(system: System, tenant: str, customer: Customer) -> str:
    """The customer's own; otherwise that of what it first subscribed to; otherwise USD."""
    if customer.currency is not None:
        return customer.currency
    billing = billing_of(system)
    page = billing.subscriptions(tenant, customers=(customer.key,), limit=1)
    for kept in page.items:
        first = subscription_of(kept.content).spans[0]
        return plan_of(billing.plan(tenant, first.plan, first.version).content).currency
    return CURRENCY_DEFAULT


def create_invoice(system: System, tenant: str, raw: object, *, actor: Actor, now_us: int) -> KeptInvoice:
    """An invoice of items alone, finalized at once: there is no usage to wait for. Synchronous.

    Raises Invalid with every fault (negative_total: give money back by a credit note), NotFound (customer_not_found),
    Conflict (changed_meanwhile)."""
    document = Document(raw)
    customer = document.required_text("customer", characters_max=256)
    currency = read_currency(document)
    waiting = document.boolean("waiting") or False
    items: list[Item] = []
    for one in document.objects("items", items_max=ITEMS_MAX, required=not waiting):
        items.append(read_item(one, new_id("item")))  # noqa: PERF401  (a comprehension would close it too late)
    document.finish()
    who = system.catalog.customer(tenant, customer)
    currency = currency or currency_of(system, tenant, who)
    billing = billing_of(system)
    there = billing.waiting_items(tenant, [customer]).get(customer, ()) if waiting else ()
    there = tuple(one for one in there if one.currency == currency)[:ITEMS_MAX]
    items += [item_of(json.loads(one.content)) for one in there]
    if not items:
        raise _invalid(
            "/items", "missing", f"No items of the customer wait in {currency}; name some in items."
        )
    text = billing.billing_terms(tenant, (customer,)).get(customer)
    terms = NO_TERMS if text is None else parse_terms(json.loads(text))
    frozen, basis = item_documents(
        customer, items, currency, terms, at_us=now_us, position=token_of(system.recorder.position)
    )
    if system.taxes is not None:
        terms = with_rates(system, tenant, customer, terms, json.loads(frozen))
        frozen, basis = item_documents(
            customer, items, currency, terms, at_us=now_us, position=token_of(system.recorder.position)
        )
    if Decimal(json.loads(frozen)["total"]) < 0:
        detail = "An invoice of items alone must not be below zero. A credit note gives money back."
        raise _invalid("/items", "negative_total", detail)
    name = new_invoice_id()
    invoice = KeptInvoice(
        tenant=tenant,
        id=name,
        customer=customer,
        subscription=name,
        boundary_us=now_us,
        from_us=now_us,
        to_us=now_us,
        status="finalized",
        grace_until_us=now_us,
        document=frozen,
        basis=basis,
        created_at_us=now_us,
        finalized_at_us=now_us,
        kind="one_off",
    )
    closing = Closing(
        invoice,
        None,
        None,
        None,
        items=tuple(one.id for one in there),
        payables=lambda: payables_of({}, json.loads(frozen)),
        collect=bool(system.settings.payments),
    )
    made = billing.keep_invoices([closing], actor=actor, now_us=now_us)
    if not made:
        detail = "The items that wait were changed at this moment. Try again."
        raise Conflict(detail, code="changed_meanwhile")
    return made[0]


def one_off_again(invoice: KeptInvoice) -> str:
    """The document of an invoice without a period (one_off, top_up), made again from its basis."""
    basis, frozen = json.loads(invoice.basis), json.loads(invoice.document)
    made, _ = item_documents(
        basis["customer"],
        [item_of(one) for one in basis["items"]],
        basis["currency"],
        parse_terms(basis["terms"]),
        at_us=basis["at_us"],
        position=frozen["position"],
        program=frozen["program"],
        kind=KIND if invoice.kind == "one_off" else invoice.kind,
    )
    return made


def item_documents(
    customer: str,
    items: Sequence[Item],
    currency: str,
    terms: Terms,
    *,
    at_us: int,
    position: str,
    program: str = __version__,
    kind: str = KIND,
) -> tuple[str, str]:
    """The frozen text, and what it follows from."""
    period = Period(at_us, at_us)
    document = document_of(
        customer=customer,
        subscription=None,
        period=period,
        currency=currency,
        lines=item_lines(items, currency, period, kind=kind),
        terms=terms,
        plans=(),
        position=position,
        as_of_us=at_us,
        program=program,
    )
    basis = canonical(
        {
            "customer": customer,
            "currency": currency,
            "items": [item.to_wire() for item in items],
            "terms": terms.to_wire(),
            "at_us": at_us,
        }
    )
    return document, basis


def _kept(tenant: str, customer: Customer, item: Item, currency: str, now_us: int) -> KeptItem:
    return KeptItem(tenant, item.id, customer.key, currency, canonical(item.to_wire()), now_us)


def _invalid(pointer: str, code: str, detail: str) -> Invalid:
    return Invalid(detail, code=code, faults=[Fault(pointer, code, detail)])


def item_document(kept: KeptItem) -> dict[str, object]:
    """An item as it is shown. `amount` is exact; it is rounded on its invoice."""
    item = item_of(json.loads(kept.content))
    return {
        **item.to_wire(),
        "customer": kept.customer,
        "currency": kept.currency,
        "amount": plain(item.amount),
        "status": "waiting" if kept.invoice is None else "billed",
        "invoice": kept.invoice,
    }
