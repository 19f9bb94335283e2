"""Finalized invoices are sent to be paid, once, whatever fails in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.billing.test_invoices import invoices, run
from tests.api.billing.test_plans import plan, prepared, subscribed
from tests.api.questions.live import Live, Tenant, opened

from tallystick.errors import Invalid, Unavailable
from tallystick.flows.billing.collect import CLAIM_US, LOOK_US, RETRIES_US, collect
from tallystick.payments.interface import Outgoing, Sent


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory: Path = tmp_path_factory.mktemp("billing")
    settings = {"billing_sweep_s": 0, "payments": "stripe", "stripe_api_key": "sk_test_none"}
    with opened(directory, **settings) as live:
        yield live


@pytest.fixture
def tenant(live: Live) -> Tenant:
    return live.tenant()


class Receiver:
    """Remembers what it was asked of its own invoice, makes nothing twice, and fails when it is told to."""

    def __init__(self, own: dict[str, Any]) -> None:
        self.own = own["id"]
        self.made: dict[str, Outgoing] = {}
        self.asked: list[str] = []
        self.failures: list[Exception] = []
        self.status = "open"

    def _ask(self, what: str, invoice: Outgoing) -> None:
        if invoice.id != self.own:
            return  # of another test
        self.asked.append(what)
        if self.failures:
            raise self.failures.pop(0)

    def send(self, invoice: Outgoing) -> Sent:
        if invoice.id == self.own:
            self.made.setdefault(invoice.id, invoice)
        self._ask("send", invoice)
        return Sent(f"in_{invoice.id}", self.status, "https://pay.example")

    def look(self, invoice: Outgoing, external_id: str) -> Sent | None:
        self._ask("look", invoice)
        return Sent(external_id, self.status)

    def void(self, invoice: Outgoing, external_id: str) -> Sent:
        self._ask("void", invoice)
        return Sent(external_id, "void")


def step(tenant: Tenant, receiver: Receiver, after_us: int = 0) -> dict[str, Any]:
    """Let time pass, collect what is due, and show the payment."""
    tenant.live.clock.advance(seconds=after_us / 1_000_000)
    tenant.live.run(collect(tenant.live.system, receiver))
    payment: dict[str, Any] = invoices(tenant)[0]["payment"]
    return payment


def billed(tenant: Tenant) -> dict[str, Any]:
    prepared(tenant)
    patched = tenant.send(
        "PATCH", "/v1/customers/acme", json={"external_ids": {"stripe": f"cus_{tenant.key}"}}
    )
    assert patched.status_code == 200, patched.text
    tenant.post("/v1/credits", {"customer": "acme", "amount": "1", "currency": "USD"})
    plan(tenant)
    subscribed(tenant)
    run(tenant, "2026-08-01T01:00:00Z")
    return invoices(tenant)[0]


def test_an_invoice_is_sent_until_it_arrives_and_looked_at_until_it_is_paid(tenant: Tenant) -> None:
    one = billed(tenant)
    receiver = Receiver(one)
    assert (one["payment"]["status"], one["payment"]["amount"]) == ("pending", "30.00")
    receiver.failures = [Unavailable("The network is down."), RuntimeError("a bug")]
    told = step(tenant, receiver)
    assert (told["status"], told["detail"], told["attempts"]) == ("pending", "The network is down.", 1)
    assert step(tenant, receiver)["attempts"] == 1, "not before its time"
    assert step(tenant, receiver, RETRIES_US[0])["attempts"] == 2
    sent = step(tenant, receiver, RETRIES_US[1])
    assert (sent["status"], sent["url"], sent["external_id"]) == (
        "sent",
        "https://pay.example",
        f"in_{one['id']}",
    )
    (outgoing,) = receiver.made.values()
    assert (outgoing.account, outgoing.credits_applied) == (f"cus_{tenant.key}", 1)
    assert step(tenant, receiver, LOOK_US)["status"] == "sent"
    receiver.status = "paid"
    assert step(tenant, receiver, LOOK_US)["status"] == "paid"
    assert step(tenant, receiver, LOOK_US)["next_attempt_at"] is None
    assert receiver.asked == ["send", "send", "send", "look", "look"]
    assert tenant.post(f"/v1/invoices/{one['id']}/pay").json()["payment"]["status"] == "paid"


def test_a_crash_between_claim_and_answer_sends_again_under_the_same_name(tenant: Tenant) -> None:
    one = billed(tenant)
    receiver = Receiver(one)
    catalog = tenant.live.system.catalog

    class Killed(BaseException):
        pass

    receiver.failures = [Killed()]  # type: ignore[list-item]
    with pytest.raises(BaseException):  # noqa: B017, PT011
        step(tenant, receiver)
    assert catalog.payment(tenant.key, one["id"]).status == "pending"
    assert step(tenant, receiver, CLAIM_US)["status"] == "sent"
    assert len(receiver.made) == 1


def test_a_refusal_waits_for_a_person_and_a_void_invoice_is_taken_back(tenant: Tenant) -> None:
    one = billed(tenant)
    receiver = Receiver(one)
    receiver.failures = [Invalid("No such customer.", code="payment_refused")]
    told = step(tenant, receiver)
    assert (told["status"], told["detail"], told["next_attempt_at"]) == ("failed", "No such customer.", None)
    again = tenant.post(f"/v1/invoices/{one['id']}/pay").json()
    assert again["payment"]["status"] == "pending"
    assert step(tenant, receiver)["status"] == "sent"
    tenant.post(f"/v1/invoices/{one['id']}/void")
    assert step(tenant, receiver)["status"] == "void"
    assert receiver.asked == ["send", "send", "void"]
    assert step(tenant, receiver, LOOK_US)["next_attempt_at"] is None


def test_a_customer_without_an_account_is_named(tenant: Tenant) -> None:
    prepared(tenant)
    made = tenant.post("/v1/invoices", {"customer": "acme", "items": [{"name": "x", "amount": "5"}]}).json()
    told = step(tenant, Receiver(made))
    assert (told["status"], "external_ids.stripe" in told["detail"]) == ("failed", True)
    free = tenant.post("/v1/invoices", {"customer": "acme", "items": [{"name": "x", "amount": "0"}]}).json()
    assert (made["payment"]["status"], free["payment"]) == ("pending", None)
    assert tenant.post(f"/v1/invoices/{free['id']}/pay").json()["code"] == "no_payment"
