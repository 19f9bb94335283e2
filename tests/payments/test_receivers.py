"""Receivers of invoices: Stripe, against a local server that speaks its API, and a journal in a file."""

import csv
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tallystick.errors import Invalid, Unavailable
from tallystick.payments.interface import Outgoing
from tallystick.payments.journal_file import JournalFile

stripe_invoices = pytest.importorskip("tallystick.payments.stripe_invoices")

D = Decimal
KEY = "sk_test_local"


class Stripe(ThreadingHTTPServer):
    """The part of Stripe's API that invoices need: form-encoded requests, idempotency keys, errors in its form."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.invoices: dict[str, dict[str, Any]] = {}
        self.items: list[dict[str, Any]] = []
        self.requests = 0
        self.failures = 0
        self.declines = 0
        self.charges = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        parts = path.strip("/").split("/")
        if form.get("customer") == "cus_none":
            error = {
                "type": "invalid_request_error",
                "code": "resource_missing",
                "message": "No such customer",
            }
            return 400, {"error": error}
        if parts == ["v1", "invoices"]:
            made = {"id": f"in_{len(self.invoices)}", "object": "invoice", "status": "draft", "form": form}
            self.invoices[made["id"]] = made
            return 200, made
        if parts == ["v1", "invoiceitems"]:
            self.items.append(form)
            return 200, {"id": f"ii_{len(self.items)}", "object": "invoiceitem"}
        present = self.invoices[parts[2]]
        if len(parts) == 3:
            return 200, present
        if parts[3] == "pay" and self.declines:
            self.declines -= 1
            return 402, {"error": {"type": "card_error", "code": "card_declined", "message": "Declined."}}
        if parts[3] != "finalize" and present["status"] != "open":
            error = {"type": "invalid_request_error", "message": f"It is {present['status']}."}
            return 400, {"error": error}
        self.charges += parts[3] == "pay"
        status = {"finalize": "open", "void": "void", "pay": "paid"}[parts[3]]
        self.invoices[parts[2]] |= {"status": status, "hosted_invoice_url": f"https://pay.example/{parts[2]}"}
        return 200, self.invoices[parts[2]]


class Handler(BaseHTTPRequestHandler):
    server: Stripe

    def do_GET(self) -> None:
        path, _, asked = self.path.partition("?")
        parts = path.strip("/").split("/")
        if parts == ["v1", "invoiceitems"]:
            wanted = parse_qs(asked)["invoice"][0]
            found = [one for one in self.server.items if one["invoice"] == wanted]
            items = [
                {"id": f"ii_{index}", "object": "invoiceitem", "metadata": _metadata(one)}
                for index, one in enumerate(found)
            ]
            made: dict[str, Any] = {"object": "list", "data": items, "has_more": False, "url": path}
        elif parts == ["v1", "invoices"]:
            ones = [one | {"metadata": _metadata(one["form"])} for one in self.server.invoices.values()]
            made = {"object": "list", "data": ones, "has_more": False, "url": path}
        else:
            made = self.server.invoices[parts[2]]
        self._send(200, made)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        form = {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}
        self.server.requests += 1
        key = self.headers["Idempotency-Key"]
        if self.headers["Authorization"] != f"Bearer {KEY}":
            status, made = 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key"}}
        elif key in self.server.answers:
            status, made = self.server.answers[key]
        else:
            status, made = self.server.answers[key] = self.server.answer(self.path, form)
        if self.server.failures:
            self.server.failures -= 1  # done, and the answer is lost
            status, made = 500, {"error": {"type": "api_error", "message": "lost"}}
        self._send(status, made)

    def _send(self, status: int, made: dict[str, Any]) -> None:
        data = json.dumps(made).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def _metadata(form: dict[str, str]) -> dict[str, str]:
    return {name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")}


@pytest.fixture
def server() -> Iterator[Stripe]:
    made = Stripe()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def invoice(**members: Any) -> Outgoing:
    document = {
        "currency": "USD", "customer": "acme",
        "lines": [
            {"id": "a", "name": "Base", "rounded": "49.00"},
            {"id": "b", "name": "Nothing", "rounded": "0.00"},
            {"id": "c", "name": "Late", "rounded": "-0.50"},
        ],
        "discount": "4.85", "taxes": [{"name": "VAT", "percent": "19", "amount": "8.29"}],
        "tax": "8.29", "total": "51.94",
    }  # fmt: skip
    values = {
        "id": "inv_1", "number": "INV-000001", "account": "cus_1", "finalized_at": "2026-07-01T01:00:00Z",
        "document": document, "credits_applied": D("10.00"), **members,
    }  # fmt: skip
    return Outgoing(**values)


def test_stripe_is_asked_for_what_is_still_to_be_paid(server: Stripe) -> None:
    receiver = stripe_invoices.StripeInvoices(KEY, base_url=server.url)
    sent = receiver.send(invoice())
    assert (sent.external_id, sent.status, sent.url) == ("in_0", "open", "https://pay.example/in_0")
    assert sum(int(item["amount"]) for item in server.items) == 4194
    assert [item["metadata[tallystick_line]"] for item in server.items] == [
        "a", "c", "discount", "tax-0", "credits",
    ]  # fmt: skip
    assert {item["invoice"] for item in server.items} == {"in_0"}
    form = server.invoices["in_0"]["form"]
    assert (form["customer"], form["currency"], form["metadata[tallystick_invoice]"]) == (
        "cus_1",
        "usd",
        "inv_1",
    )
    assert receiver.void(invoice(), "in_0").status == "void"


def test_what_is_sent_twice_is_made_once(server: Stripe) -> None:
    receiver = stripe_invoices.StripeInvoices(KEY, base_url=server.url)
    server.failures = 1
    receiver.send(invoice())
    requests = server.requests
    assert requests == 8, "one answer was lost, and asked for again"
    assert receiver.send(invoice()).external_id == "in_0"
    assert (len(server.invoices), len(server.items)) == (1, 5)


def test_after_stripe_forgot_the_keys_what_was_begun_is_gone_on_with(server: Stripe) -> None:
    receiver = stripe_invoices.StripeInvoices(KEY, base_url=server.url)
    receiver.send(invoice())
    server.answers.clear()
    server.invoices["in_0"]["status"] = "draft"
    del server.items[2:]
    assert receiver.send(invoice(again=True)).external_id == "in_0"
    assert (len(server.invoices), sum(int(item["amount"]) for item in server.items)) == (1, 4194)
    server.answers.clear()
    assert receiver.send(invoice(again=True)).status == "open"
    assert (len(server.invoices), len(server.items)) == (1, 5)
    assert receiver.look(invoice(), "in_0").status == "open"


def test_a_charge_is_made_once_and_a_refusal_can_be_tried_again(server: Stripe) -> None:
    receiver = stripe_invoices.StripeInvoices(KEY, base_url=server.url)
    server.declines = 1
    refused = receiver.send(invoice(charge=True, attempt="1"))
    assert (refused.status, refused.external_id, server.charges) == ("refused", "in_0", 0)
    assert "Declined" in (refused.detail or "")
    assert server.invoices["in_0"]["form"]["collection_method"] == "charge_automatically"
    tried = invoice(charge=True, again=True, attempt="2", external_id="in_0")
    assert receiver.send(tried).status == "paid"
    server.answers.clear()
    late = invoice(charge=True, again=True, attempt="3")
    assert (receiver.send(late).status, server.charges) == ("paid", 1)
    assert receiver.void(invoice(), "in_0").status == "paid", "it cannot be taken back any more"


def test_refusals_and_silence_are_told_apart(server: Stripe) -> None:
    with pytest.raises(Invalid) as refused:
        stripe_invoices.StripeInvoices(KEY, base_url=server.url).send(invoice(account="cus_none"))
    assert (refused.value.code, "No such customer" in refused.value.detail) == ("payment_refused", True)
    with pytest.raises(Invalid):
        stripe_invoices.StripeInvoices("sk_test_other", base_url=server.url).send(invoice())
    server.failures = 3
    with pytest.raises(Unavailable):
        stripe_invoices.StripeInvoices(KEY, base_url=server.url).send(invoice())


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("12.50", "USD", 1250),
        ("500", "JPY", 500),
        ("12", "ISK", 1200),
        ("1.230", "BHD", 1230),
        ("-1", "EUR", -100),
    ],
)
def test_amounts_are_in_minor_units(amount: str, currency: str, expected: int) -> None:
    assert stripe_invoices.stripe_amount(D(amount), currency) == expected


def test_an_amount_that_stripe_does_not_have_is_refused() -> None:
    with pytest.raises(Invalid):
        stripe_invoices.stripe_amount(D("1.234"), "BHD")


def test_a_journal_file_has_every_entry_once(tmp_path: Path) -> None:
    receiver = JournalFile(tmp_path / "journal.csv")
    receiver.send(invoice())
    receiver.send(invoice())
    receiver.void(invoice(voided_at="2026-07-02T00:00:00Z"), "INV-000001")
    with (tmp_path / "journal.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["entry"], row["account"], row["debit"], row["credit"]) for row in rows] == [
        ("INV-000001", "receivables", "51.94", ""),
        ("INV-000001", "revenue", "", "43.65"),
        ("INV-000001", "taxes_payable", "", "8.29"),
        ("INV-000001-credits", "customer_credits", "10.00", ""),
        ("INV-000001-credits", "receivables", "", "10.00"),
        ("INV-000001-void", "receivables", "", "51.94"),
        ("INV-000001-void", "revenue", "43.65", ""),
        ("INV-000001-void", "taxes_payable", "8.29", ""),
    ]
