"""Credits that are topped up are paid for: one invoice, one charge, one grant, whatever fails in between."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.api.billing.test_invoices import run
from tests.api.billing.test_plans import plan, prepared, subscribed
from tests.api.questions.live import Live, Tenant, opened

from tallystick.billing.credit import accounts
from tallystick.errors import Invalid
from tallystick.flows.billing.collect import (
    CLAIM_US,
    LOOK_US,
    TOP_UP_ATTEMPTS_MAX,
    TOP_UP_RETRY_US,
    collect,
)
from tallystick.metering.instant import instant_text
from tallystick.payments.interface import Outgoing, Sent

RULE = {"currency": "USD", "below": "10", "amount": "50", "ceiling": "100"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory: Path = tmp_path_factory.mktemp("top_ups")
    with opened(directory, billing_sweep_s=0, payments="stripe", stripe_api_key="sk_test_none") as live:
        yield live


@pytest.fixture
def tenant(live: Live) -> Tenant:
    tenant = live.tenant()
    prepared(tenant)
    patched = tenant.send(
        "PATCH", "/v1/customers/acme", json={"external_ids": {"stripe": f"cus_{tenant.key}"}}
    )
    assert patched.status_code == 200, patched.text
    return tenant


class Killed(BaseException):
    """The process is gone."""


class Collector:
    """Charges an invoice at most once, as a payment system does; told to, it refuses, or dies after it has charged."""

    def __init__(self, tenant: Tenant) -> None:
        self.account = f"cus_{tenant.key}"
        self.charged: dict[str, Decimal] = {}
        self.sent: list[Outgoing] = []
        self.answers: list[Any] = []
        self.voided: list[str] = []

    def send(self, invoice: Outgoing) -> Sent:
        if invoice.account != self.account:
            raise Invalid("Of another test.", code="payment_refused")
        self.sent.append(invoice)
        answer = self.answers.pop(0) if self.answers else "paid"
        if answer == "refused":
            return Sent(f"in_{invoice.id}", "refused", detail="Your card was declined.")
        if answer == "open":
            return Sent(f"in_{invoice.id}", "open")
        self.charged.setdefault(invoice.id, Decimal(invoice.document["total"]))
        if answer == "killed":
            raise Killed
        return Sent(f"in_{invoice.id}", "paid")

    def look(self, invoice: Outgoing, external_id: str) -> Sent | None:
        self.charged.setdefault(invoice.id, Decimal(invoice.document["total"]))
        return Sent(external_id, "paid")

    def void(self, invoice: Outgoing, external_id: str) -> Sent:
        self.voided.append(invoice.id)
        return Sent(external_id, "paid" if invoice.id in self.charged else "void")


def rule(tenant: Tenant, **members: Any) -> dict[str, Any]:
    answer = tenant.send("PUT", "/v1/customers/acme/credits/top_up", json=RULE | members)
    assert answer.status_code == 200, answer.text
    return answer.json()


def collected(tenant: Tenant, receiver: Collector, after_us: int = 0) -> None:
    tenant.live.clock.advance(seconds=after_us / 1_000_000)
    tenant.live.run(collect(tenant.live.system, receiver))


def balance(tenant: Tenant) -> str:
    found = tenant.answer("/v1/customers/acme/credits?currency=USD")
    entries = [one.entry for one in tenant.live.system.catalog.credit_ledger(tenant.key, "acme").items]
    assert sum(accounts(entries).values()) == 0
    return found["balance"]


def bought(tenant: Tenant) -> list[dict[str, Any]]:
    return tenant.answer("/v1/invoices?kind=top_up")["items"]


def now(tenant: Tenant) -> str:
    return instant_text(tenant.live.clock.now_us())


def spend(tenant: Tenant, amount: str) -> dict[str, Any]:
    made = tenant.post("/v1/invoices", {"customer": "acme", "items": [{"name": "x", "amount": amount}]})
    assert made.status_code == 201, made.text
    return made.json()


def test_credits_count_once_they_are_paid(tenant: Tenant) -> None:
    tenant.send("PUT", "/v1/customers/acme/billing", json={"taxes": [{"name": "VAT", "percent": "19"}]})
    assert rule(tenant)["grant"] == "when_paid"
    assert (balance(tenant), bought(tenant)) == ("0.00", [])
    for _ in range(2):
        run(tenant, now(tenant))
    (one,) = bought(tenant)
    assert (one["status"], one["total"], one["tax"], one["amount_due"]) == (
        "finalized", "50.00", "0.00", "50.00",
    )  # fmt: skip
    assert one["payment"]["status"] == "pending"
    assert [line["kind"] for line in one["lines"]] == ["top_up"]
    assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"]
    receiver = Collector(tenant)
    collected(tenant, receiver)
    assert (balance(tenant), receiver.charged) == ("50.00", {one["id"]: 50})
    assert [(sent.charge, sent.again) for sent in receiver.sent] == [(True, False)]
    spend(tenant, "40")  # with tax 47.60
    run(tenant, now(tenant))
    collected(tenant, receiver)
    assert (balance(tenant), sum(receiver.charged.values())) == ("52.40", 100)
    spend(tenant, "40")
    run(tenant, now(tenant))
    assert len(bought(tenant)) == 2, "a third would pass the ceiling"
    rows = tenant.get(
        "/v1/billing/export?format=journal&from=2026-01-01T00:00:00Z&to=2028-01-01T00:00:00Z"
    ).text
    assert rows.count("customer_credits,,50.00") == 2
    note = tenant.post(f"/v1/invoices/{one['id']}/credit_notes", {"reason": "x", "amount": "1"})
    assert note.json()["code"] == "invoice_of_credits"


def test_a_refusal_gives_nothing_and_is_tried_again_a_day_later(tenant: Tenant) -> None:
    receiver = Collector(tenant)
    receiver.answers = ["refused", "refused"]
    rule(tenant)
    run(tenant, now(tenant))
    collected(tenant, receiver)
    (one,) = bought(tenant)
    payment = one["payment"]
    assert (payment["status"], payment["detail"]) == ("failed", "Your card was declined.")
    assert (balance(tenant), payment["next_attempt_at"] is not None) == ("0.00", True)
    collected(tenant, receiver, TOP_UP_RETRY_US - 1_000_000)
    assert len(receiver.sent) == 1
    run(tenant, now(tenant))
    assert len(bought(tenant)) == 1, "the one under way counts"
    collected(tenant, receiver, 1_000_000)
    assert (len(receiver.sent), receiver.sent[1].external_id) == (2, f"in_{one['id']}")
    assert len({sent.attempt for sent in receiver.sent}) == 2
    collected(tenant, receiver, TOP_UP_RETRY_US)
    assert (balance(tenant), receiver.charged) == ("50.00", {one["id"]: 50})


def test_it_is_given_up_in_the_end_and_a_person_can_pay_or_void(tenant: Tenant) -> None:
    receiver = Collector(tenant)
    receiver.answers = ["refused"] * (TOP_UP_ATTEMPTS_MAX + 1)
    rule(tenant)
    run(tenant, now(tenant))
    for _ in range(TOP_UP_ATTEMPTS_MAX + 3):
        collected(tenant, receiver, TOP_UP_RETRY_US)
    (one,) = bought(tenant)
    assert (len(receiver.sent), one["payment"]["next_attempt_at"]) == (TOP_UP_ATTEMPTS_MAX, None)
    tenant.post(f"/v1/invoices/{one['id']}/pay")
    collected(tenant, receiver)
    assert len(receiver.sent) == TOP_UP_ATTEMPTS_MAX + 1
    tenant.send("DELETE", "/v1/customers/acme/credits/top_up?currency=USD")
    collected(tenant, receiver, TOP_UP_RETRY_US * 2)
    assert len(receiver.sent) == TOP_UP_ATTEMPTS_MAX + 1, "the rule is gone"
    assert tenant.post(f"/v1/invoices/{one['id']}/void").json()["status"] == "void"
    assert (balance(tenant), receiver.charged) == ("0.00", {})


def test_a_crash_after_the_charge_gives_the_credits_and_charges_once(tenant: Tenant) -> None:
    receiver = Collector(tenant)
    receiver.answers = ["killed"]
    rule(tenant)
    run(tenant, now(tenant))
    with pytest.raises(BaseException):  # noqa: B017, PT011
        collected(tenant, receiver)
    assert (balance(tenant), len(receiver.charged)) == ("0.00", 1)
    collected(tenant, receiver, CLAIM_US)
    assert (balance(tenant), list(receiver.charged.values())) == ("50.00", [50])
    assert [sent.again for sent in receiver.sent] == [False, True]
    collected(tenant, receiver, CLAIM_US)
    assert balance(tenant) == "50.00"


def test_money_that_came_although_the_invoice_was_void_gives_credits(tenant: Tenant) -> None:
    receiver = Collector(tenant)
    receiver.answers = ["open"]
    rule(tenant)
    run(tenant, now(tenant))
    collected(tenant, receiver)
    (one,) = bought(tenant)
    assert one["payment"]["status"] == "sent"
    tenant.post(f"/v1/invoices/{one['id']}/void")
    receiver.charged[one["id"]] = Decimal(50)
    collected(tenant, receiver, LOOK_US)
    (one,) = bought(tenant)
    assert (one["status"], one["payment"]["status"], balance(tenant)) == ("void", "paid", "50.00")


def test_at_once_is_charged_behind_and_void_takes_it_back_unless_spent(tenant: Tenant) -> None:
    receiver = Collector(tenant)
    assert rule(tenant, grant="at_once")["grant"] == "at_once"
    assert balance(tenant) == "50.00"
    run(tenant, now(tenant))
    (one,) = bought(tenant)
    collected(tenant, receiver)
    assert (balance(tenant), receiver.charged) == ("50.00", {one["id"]: 50})
    spend(tenant, "5")
    refused = tenant.post(f"/v1/invoices/{one['id']}/void")
    assert (refused.status_code, refused.json()["code"]) == (409, "invoice_credits_spent")


def test_a_total_below_zero_becomes_credits(tenant: Tenant) -> None:
    """What is owed to the customer pays the next invoice; a void invoice takes it back."""
    plan(tenant)
    subscribed(tenant)
    item = {"name": "Goodwill", "amount": "-100"}
    assert tenant.post("/v1/customers/acme/items", item).status_code == 201
    preview = tenant.post("/v1/customers/acme/invoices/preview", {"at": "2026-08-01T00:00:00Z"}).json()
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = tenant.answer("/v1/invoices?kind=period&status=finalized")["items"]
    sums = ("lines", "total", "credits_applied", "credit_balance", "amount_due")
    assert {name: one[name] for name in sums} == {name: preview[name] for name in sums}
    owed = -Decimal(one["total"])
    assert owed > 0
    assert (Decimal(one["credit_balance"]), one["amount_due"], one["payment"]) == (owed, "0.00", None)
    assert Decimal(balance(tenant)) == owed
    journal = tenant.get(
        "/v1/billing/export?format=journal&from=2026-01-01T00:00:00Z&to=2028-01-01T00:00:00Z"
    ).text
    assert f"{one['number']}-credits,customer_credits,,{owed}" in journal
    again = spend(tenant, "1")
    assert again["credits_applied"] == "1.00"
    refused = tenant.post(f"/v1/invoices/{one['id']}/void")
    assert refused.json()["code"] == "invoice_credits_spent"
    tenant.post(f"/v1/invoices/{again['id']}/void")
    assert tenant.post(f"/v1/invoices/{one['id']}/void").json()["status"] == "void"
    assert balance(tenant) == "0.00"
