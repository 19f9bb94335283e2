"""`tallystick invoice verify`: an invoice made again byte for byte, and one that somebody has altered."""

import sqlite3
from contextlib import closing

from .conftest import Run, Server


def test_an_altered_invoice_is_found(server: Server, run: Run) -> None:
    with server.client() as client:

        def post(path: str, body: object) -> dict[str, object]:
            answer = client.post(path, json=body)
            assert answer.status_code in (200, 201), answer.text
            return answer.json()

        post("/v1/meters", {"key": "verify-calls", "event_type": "verify.call", "aggregation": "count"})
        charges = [
            {"key": "calls", "meter": "verify-calls", "price": {"model": "per_unit", "unit_amount": "2.5"}}
        ]
        post("/v1/plans", {"key": "verify", "currency": "EUR", "charges": charges})
        post("/v1/plans/verify/publish", {})
        post("/v1/customers", {"key": "verify-acme"})
        post(
            "/v1/events?wait=recorded",
            [
                {
                    "id": f"v{n}",
                    "type": "verify.call",
                    "subject": "verify-acme",
                    "time": "2026-01-05T00:00:00Z",
                }
                for n in range(3)
            ],
        )
        body = {"customer": "verify-acme", "plan": "verify", "start": "2026-01-01T00:00:00Z"}
        post("/v1/subscriptions", {**body, "end": "2026-02-01T00:00:00Z"})
        post("/v1/billing/run", {"at": "2026-02-02T00:00:00Z"})
        (invoice,) = client.get("/v1/invoices", params={"customer": "verify-acme"}).json()["items"]
    assert (invoice["status"], invoice["total"]) == ("finalized", "7.50")
    name = invoice["id"]
    same = run("invoice", "verify", name)
    assert same.returncode == 0, same.stdout + same.stderr
    assert "is the same, byte for byte" in same.stdout + same.stderr

    with closing(sqlite3.connect(server.directory / "catalog.sqlite")) as catalog:
        catalog.execute(
            'UPDATE invoices SET document = replace(document, \'"total":"7.50"\', \'"total":"7.00"\') WHERE id = ?',
            (name,),
        )
        assert catalog.total_changes == 1
        catalog.commit()
    altered = run("invoice", "verify", name)
    assert altered.returncode == 1
    said = altered.stdout + altered.stderr
    assert "is not the same" in said
    assert '/total: kept "7.00", recomputed "7.50"' in said
