"""Billing in a catalog: invoices are kept or not as a whole, numbers have no gaps whoever races, late lines follow invoices."""

import contextlib
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tallystick.billing.kept import canonical
from tallystick.catalog.billing import (
    Closing,
    InvoiceSearch,
    KeptInvoice,
    KeptPlan,
    KeptSubscription,
    LateLine,
)
from tallystick.catalog.charging import KeptItem, NoteContent
from tallystick.errors import Conflict, NotFound

from .contract import ANN, NOW_US, code_of, new, race

T = "default"
MONTH_US = 30 * 86_400_000_000


def subscribed(catalog: Any, name: str = "sub_1", **members: Any) -> KeptSubscription:
    customer(catalog)
    kept = KeptSubscription(
        **{  # pyright: ignore[reportArgumentType]
            "tenant": T,
            "id": name,
            "key": None,
            "customer": "acme",
            "plan": "pro",
            "timezone": "UTC",
            "content": canonical({"id": name}),
            "include_children": False,
            "created_at_us": NOW_US,
            "due_us": NOW_US + MONTH_US,
            **members,
        }
    )
    return catalog.create_subscription(kept, actor=ANN, now_us=NOW_US)


def closing(
    one: KeptSubscription, number: int = 1, status: Any = "finalized", *, late: tuple[LateLine, ...] = ()
) -> Closing:
    boundary_us = NOW_US + number * MONTH_US
    invoice = KeptInvoice(
        tenant=one.tenant,
        id=f"inv_{one.id}_{number}",
        customer=one.customer,
        subscription=one.id,
        boundary_us=boundary_us,
        from_us=boundary_us - MONTH_US,
        to_us=boundary_us,
        status=status,
        grace_until_us=boundary_us + 10,
        document=canonical(
            {"total": "1.00", "currency": "USD", "subscription": one.id, "period": {}, "ü": number}
        ),
        basis="{}",
        created_at_us=NOW_US,
        finalized_at_us=NOW_US if status == "finalized" else None,
    )
    return Closing(invoice, one.content, boundary_us, boundary_us + MONTH_US, late)


def customer(catalog: Any) -> None:
    with contextlib.suppress(Conflict):
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)


def _published(_: KeptPlan) -> str:
    return "published"


def _changed(kept: KeptSubscription) -> KeptSubscription:
    return replace(kept, content="{}")


class BillingContract:
    def test_versions_of_a_plan(self, catalog: Any) -> None:
        made = catalog.add_plan_version(T, "pro", "{}", first=True, actor=ANN, now_us=NOW_US)
        assert (made.version, made.state) == (1, "draft")
        with pytest.raises(Conflict) as error:
            catalog.add_plan_version(T, "pro", "{}", first=True, actor=ANN, now_us=NOW_US)
        assert code_of(error) == "plan_exists"
        catalog.change_plan_state(T, "pro", None, _published, actor=ANN, now_us=NOW_US)
        second = catalog.add_plan_version(T, "pro", '{"a":1}', first=False, actor=ANN, now_us=NOW_US)
        assert (second.version, second.state) == (2, "draft")
        replaced = catalog.add_plan_version(T, "pro", '{"a":2}', first=False, actor=ANN, now_us=NOW_US)
        assert (replaced.version, catalog.plan(T, "pro").content) == (2, '{"a":2}')
        assert catalog.plan(T, "pro", state="published").version == 1
        assert set(catalog.plans_by_version(T, [("pro", 1), ("pro", 9)])) == {("pro", 1)}
        assert [one.version for one in catalog.plans(T).items] == [2]
        with pytest.raises(NotFound):
            catalog.plan_versions("other", "pro")

    def test_an_invoice_is_kept_in_grace_and_then_for_good(self, catalog: Any) -> None:
        one = subscribed(catalog)
        (waiting,) = catalog.keep_invoices([closing(one, status="grace")], now_us=NOW_US)
        assert (waiting.status, waiting.sequence) == ("grace", None)
        assert catalog.invoices_in_grace(None, waiting.grace_until_us, limit=9) == (waiting,)
        assert catalog.invoices_in_grace(T, waiting.grace_until_us - 1, limit=9) == ()
        assert catalog.invoices_in_grace(T, 2**60, excluded=[waiting.id], limit=9) == ()
        # The same boundary again, under another id: it keeps the one it has.
        again = closing(one)
        again = replace(again, invoice=replace(again.invoice, id="inv_other"))
        (final,) = catalog.keep_invoices([again], now_us=NOW_US)
        assert (final.id, final.status, final.sequence) == (waiting.id, "finalized", 1)
        assert catalog.keep_invoices([closing(one, status="grace")], now_us=NOW_US + 1) == (final,)
        assert catalog.invoice(T, final.id) == final
        assert catalog.subscription(T, one.id).due_us == NOW_US + 2 * MONTH_US
        voided = catalog.void_invoice(T, final.id, actor=ANN, now_us=NOW_US)
        assert (voided.status, voided.sequence) == ("void", 1)
        assert catalog.void_invoice(T, final.id, actor=ANN, now_us=NOW_US + 5) == voided
        assert catalog.finalized_invoices(T, [one.id]) == {}
        with pytest.raises(NotFound):
            catalog.invoice("other", final.id)

    def test_of_a_changed_subscription_nothing_is_kept_and_of_the_others_all(self, catalog: Any) -> None:
        ones = [subscribed(catalog, f"sub_{number}") for number in range(5)]
        catalog.change_subscription(T, "sub_2", _changed, action="x", actor=ANN, now_us=NOW_US)
        made = catalog.keep_invoices([closing(one) for one in ones], now_us=NOW_US)
        assert [one.subscription for one in made] == ["sub_0", "sub_1", "sub_3", "sub_4"]
        assert [one.sequence for one in made] == [1, 2, 3, 4]
        assert [one.id for one in catalog.due_subscriptions(T, NOW_US + MONTH_US, limit=9)] == ["sub_2"]
        assert catalog.subscription(T, "sub_2").closed_us is None

    def test_two_boundaries_of_one_subscription_at_once(self, catalog: Any) -> None:
        one = subscribed(catalog)
        late = LateLine(T, one.id, "inv_sub_1_2", "late-1", "inv_sub_1_1", "line", "-1.50")
        made = catalog.keep_invoices([closing(one), closing(one, 2, late=(late,))], now_us=NOW_US)
        assert [invoice.sequence for invoice in made] == [1, 2]
        assert catalog.late_lines(T) == (late,)
        assert catalog.late_lines(T, ["other"]) == ()
        assert catalog.finalized_invoices(T, [one.id]) == {one.id: made}
        # An older boundary, looked at again, does not turn the clock back.
        catalog.keep_invoices([closing(one)], now_us=NOW_US)
        assert catalog.subscription(T, one.id).closed_us == NOW_US + 2 * MONTH_US
        catalog.void_invoice(T, made[1].id, actor=ANN, now_us=NOW_US)
        assert catalog.late_lines(T) == ()

    def test_numbers_have_no_gaps_whoever_races(self, catalog: Any, other: Any) -> None:
        ones = [subscribed(catalog, f"sub_{number}") for number in range(12)]

        def keep(place: int) -> Any:
            opened = catalog if place % 2 else other
            # The last of each is the first of the next: two try to finalize the same one.
            return opened.keep_invoices(
                [closing(one) for one in ones[place * 3 : place * 3 + 4]], now_us=NOW_US
            )

        race(*(lambda place=place: keep(place) for place in range(4)))
        found = catalog.invoices(T, limit=100).items
        assert sorted(one.sequence for one in found) == list(range(1, 13))
        assert len({one.subscription for one in found}) == 12

    def test_lists_go_on_where_they_ended(self, catalog: Any) -> None:
        ones = [subscribed(catalog, f"sub_{number}", key=f"key-{number}") for number in range(3)]
        catalog.keep_invoices([closing(one) for one in ones], now_us=NOW_US)
        first = catalog.invoices(T, limit=2)
        rest = catalog.invoices(T, cursor=first.next_cursor, limit=2)
        assert [one.subscription for one in (*first.items, *rest.items)] == ["sub_2", "sub_1", "sub_0"]
        assert rest.next_cursor is None
        assert catalog.invoices(T, InvoiceSearch(status="grace")).items == ()
        assert catalog.invoices(T, InvoiceSearch(customers=("nobody",))).items == ()
        assert [one.id for one in catalog.subscriptions(T, customers=["acme"]).items] == [
            one.id for one in ones
        ]
        assert catalog.subscription(T, "key-1").id == "sub_1"
        with pytest.raises(Conflict):
            subscribed(catalog, "sub_9", key="key-1")

    def test_terms_of_a_customer(self, catalog: Any) -> None:
        customer(catalog)
        assert catalog.billing_terms(T, ["acme"]) == {}
        for content in ('{"a":1}', '{"a":2}'):
            catalog.set_billing_terms(T, "acme", content, actor=ANN, now_us=NOW_US)
        assert catalog.billing_terms(T, ["acme", "nobody"]) == {"acme": '{"a":2}'}
        with pytest.raises(NotFound):
            catalog.set_billing_terms(T, "nobody", "{}", actor=ANN, now_us=NOW_US)

    def test_items_payments_and_notes_go_with_what_is_finalized(self, catalog: Any) -> None:
        one = subscribed(catalog)
        item = KeptItem(T, "item_1", "acme", "USD", "{}", NOW_US)
        catalog.add_items([item], actor=ANN, now_us=NOW_US)
        assert catalog.waiting_items(T, ["acme"]) == {"acme": (item,)}
        first, second = (replace(closing(one, number), items=("item_1",), collect=True) for number in (1, 2))
        (kept,) = catalog.keep_invoices([first], now_us=NOW_US)
        assert catalog.keep_invoices([second], now_us=NOW_US) == ()
        (billed,) = catalog.items(T, "acme", waiting=False).items
        assert billed.invoice == kept.id
        (payment,) = catalog.due_payments(NOW_US, limit=10)
        assert (payment.invoice, payment.status, payment.amount) == (kept.id, "pending", "1.00")
        sent = replace(payment, status="sent", attempts=1, next_us=None)
        assert catalog.advance_payment(payment, sent, actor=ANN, now_us=NOW_US)
        assert not catalog.advance_payment(payment, sent, actor=ANN, now_us=NOW_US)
        text = canonical({"currency": "USD", "total": "0.50"})
        content = NoteContent("credit", text, "{}", "USD", Decimal("0.50"))
        note = catalog.add_credit_note(T, kept.id, lambda *_: content, actor=ANN, now_us=NOW_US)
        assert (note.sequence, catalog.credit_notes_of(T, [kept.id])) == (1, {kept.id: (note,)})
        with pytest.raises(Conflict) as error:
            catalog.void_invoice(T, kept.id, actor=ANN, now_us=NOW_US)
        assert code_of(error) == "invoice_has_credit_notes"
        assert catalog.void_credit_note(T, note.id, actor=ANN, now_us=NOW_US).status == "void"
        catalog.void_invoice(T, kept.id, actor=ANN, now_us=NOW_US)
        assert (catalog.payment(T, kept.id).status, catalog.payment(T, kept.id).next_us) == ("void", NOW_US)
