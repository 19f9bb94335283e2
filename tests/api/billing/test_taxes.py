"""Taxes asked for at a service: frozen into the invoice, and never an invoice without them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.api.billing.test_invoices import invoices, run
from tests.api.billing.test_plans import plan, prepared, subscribed
from tests.api.questions.live import Live, Tenant, opened


class Taxes(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, bytes] = (200, b"")
        self.asked: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Taxes

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        assert self.headers["Authorization"] == "Bearer s3cret"
        self.server.asked.append(json.loads(body))
        status, data = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[Taxes]:
    made = Taxes()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, service: Taxes) -> Iterator[Live]:
    directory: Path = tmp_path_factory.mktemp("taxes")
    url = f"http://127.0.0.1:{service.server_port}/rates"
    with opened(directory, billing_sweep_s=0, tax_url=url, tax_secret="s3cret") as live:
        yield live


@pytest.fixture
def tenant(live: Live, service: Taxes) -> Tenant:
    tenant = live.tenant()
    prepared(tenant)
    service.asked.clear()
    service.answer = (200, b'{"taxes": [{"name": "GST", "percent": "10"}]}')
    return tenant


def test_the_answer_is_frozen_and_asked_once(tenant: Tenant, service: Taxes) -> None:
    plan(tenant)
    subscribed(tenant)
    run(tenant, "2026-08-01T00:00:00Z")
    (one,) = invoices(tenant)
    assert (one["status"], service.asked) == ("grace", []), "it may change yet"
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = invoices(tenant)
    assert (one["status"], [tax["name"] for tax in one["taxes"]]) == ("finalized", ["GST"])
    (asked,) = service.asked
    assert (asked["customer"]["key"], asked["subtotal"]) == ("acme", one["subtotal"])
    assert len(asked["lines"]) == len(one["lines"])
    service.answer = (500, b"")
    assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"]
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((503, b""), "taxes_unavailable"),
        ((200, b"{}"), "taxes_refused"),
        ((200, b'{"taxes": [{"name": "x", "percent": "-1"}]}'), "taxes_refused"),
        ((302, b""), "taxes_refused"),
        ((200, b"no JSON"), "taxes_refused"),
    ],
)
def test_without_an_answer_it_waits_and_says_why(
    tenant: Tenant, service: Taxes, answer: tuple[int, bytes], code: str
) -> None:
    plan(tenant)
    subscribed(tenant)
    service.answer = answer
    failed = tenant.post("/v1/billing/run", {"at": "2026-08-01T01:00:00Z"}).json()["failed"]
    assert [one["code"] for one in failed] == [code]
    (one,) = invoices(tenant)
    assert (one["status"], one["number"], "waits" in one["waits_for"]) == ("grace", None, True)
    assert tenant.post(f"/v1/invoices/{one['id']}/finalize").json()["code"] == code
    single = {"customer": "acme", "items": [{"name": "x", "amount": "5"}]}
    assert tenant.post("/v1/invoices", single).json()["code"] == code
    service.answer = (200, b'{"taxes": []}')
    assert tenant.post("/v1/invoices", single).json()["total"] == "5.00"
    run(tenant, "2026-08-01T01:00:00Z")
    one = tenant.answer(f"/v1/invoices/{one['id']}")
    assert (one["status"], one["taxes"], one["waits_for"]) == ("finalized", [], None)
