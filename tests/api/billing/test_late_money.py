"""Invoices within a period, money that is due after invoices are final, and who is told of invoices."""

from decimal import Decimal
from typing import Any

import pytest
from tests.api.billing.test_invoices import event, invoices, preview, run
from tests.api.billing.test_plans import FEE, USAGE, plan, prepared, subscribed
from tests.api.questions.live import Tenant

from tallystick.flows.billing import gather
from tallystick.flows.usage import usage

D = Decimal


def verified(tenant: Tenant) -> None:
    for one in invoices(tenant):
        checked = tenant.answer(f"/v1/invoices/{one['id']}/verify")
        assert (checked["verified"], checked["differences"]) == (True, []), one["kind"]


@pytest.mark.parametrize("where", ["plan", "subscription"])
def test_a_threshold_cuts_an_invoice_and_the_last_one_takes_it_off(tenant: Tenant, where: str) -> None:
    prepared(tenant)
    limits = ["2", {"amount": "5"}]
    plan(
        tenant,
        charges=[FEE, {**USAGE, "minimum": "1.5"}],
        **({"thresholds": limits} if where == "plan" else {}),
    )
    subscribed(tenant, **({"thresholds": limits} if where == "subscription" else {}))
    for day, expected in ((2, 1), (3, 1), (4, 2)):
        tenant.record(event(f"e{day}", 200, f"2026-07-0{day}T00:00:00Z"))
        run(tenant, f"2026-07-0{day}T12:00:00Z")
        run(tenant, f"2026-07-0{day}T13:00:00Z")
        assert len(invoices(tenant)) == expected
    first, second = invoices(tenant)
    assert [(one["kind"], one["status"], one["total"]) for one in (first, second)] == [
        ("threshold", "finalized", "2.00"),
        ("threshold", "finalized", "4.00"),
    ]
    assert second["period"] == {"from": "2026-07-01T00:00:00Z", "to": "2026-07-04T12:00:00Z"}
    assert [(line["kind"], line["rounded"]) for line in second["lines"]] == [
        ("usage", "6.00"),
        ("progressive", "-2.00"),
    ]
    told = tenant.answer(f"/v1/invoices/{second['id']}/lines/{second['lines'][0]['id']}/explain")
    assert {each["id"] for each in told["usage"][0]["events"]} == {"e2", "e3", "e4"}
    tenant.record(event("late", 100, "2026-07-01T00:00:00Z"), event("next", 50))
    expected = preview(tenant, at="2026-08-01T00:00:00Z")
    run(tenant, "2026-08-01T01:00:00Z")
    last = invoices(tenant)[2]
    assert last["lines"] == expected["lines"]
    assert [(line["kind"], line["rounded"]) for line in last["lines"]] == [
        ("fee", "31.00"),
        ("usage", "7.50"),
        ("progressive", "-2.00"),
        ("progressive", "-4.00"),
    ]
    assert sum(D(one["total"]) for one in invoices(tenant)) == D("38.50")
    verified(tenant)
    run(tenant, "2026-09-01T01:00:00Z")
    assert invoices(tenant)[3]["total"] == "32.50"  # the fee, and the charge's minimum
    assert all(line["kind"] != "late" for line in invoices(tenant)[3]["lines"])


def test_a_void_invoice_within_a_period_is_billed_at_its_end(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant, thresholds=["2"])
    subscribed(tenant)
    tenant.record(event("a", 300, "2026-07-02T00:00:00Z"))
    run(tenant, "2026-07-03T00:00:00Z")
    (one,) = invoices(tenant)
    tenant.post(f"/v1/invoices/{one['id']}/void")
    run(tenant, "2026-08-01T01:00:00Z")
    assert invoices(tenant)[1]["total"] == "34.00"


def test_what_is_due_back_becomes_a_credit_note(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant, late="credit_note")
    made = subscribed(tenant)
    tenant.send(
        "PUT",
        "/v1/customers/acme/billing",
        json={"taxes": [{"name": "VAT", "percent": "20"}], "discount_percent": "10"},
    )
    tenant.record(event("a", 1000), event("b", 500))
    run(tenant, "2026-08-01T01:00:00Z")
    retract = {"reason": "wrong", "retract": [{"source": "/", "id": "b"}]}
    assert tenant.post("/v1/events/corrections", retract).status_code == 200
    (before,) = tenant.answer(f"/v1/billing/late?subscription={made['id']}")["invoices"]
    assert (before["billed"], before["settled"], before["now"], before["difference"]) == (
        "46.00",
        "0.00",
        "41.00",
        "-5.00",
    )
    run(tenant, "2026-09-01T01:00:00Z")
    first, second = invoices(tenant)
    assert [line["kind"] for line in second["lines"]] == ["fee", "usage"]
    (note,) = tenant.answer("/v1/credit_notes")["items"]
    assert (note["invoice"], note["late"], note["subtotal"], note["total"]) == (
        first["id"],
        True,
        "4.50",
        "5.40",
    )
    assert tenant.answer(f"/v1/credit_notes/{note['id']}/verify")["verified"] is True
    assert tenant.post(f"/v1/credit_notes/{note['id']}/void").json()["code"] == "credit_note_late"
    report = {one["invoice"]: one for one in tenant.answer("/v1/billing/late?customer=acme")["invoices"]}
    assert (report[first["id"]]["settled"], report[first["id"]]["difference"]) == ("-5.00", "0.00")
    # It is settled: what comes again is billed, and nothing is given back twice.
    tenant.record(event("d", 30))
    run(tenant, "2026-10-01T01:00:00Z")
    third = invoices(tenant)[2]
    assert [(line["kind"], line["rounded"]) for line in third["lines"]] == [
        ("fee", "31.00"),
        ("usage", "0.00"),
        ("late", "0.30"),
    ]
    assert len(tenant.answer("/v1/credit_notes")["items"]) == 1
    verified(tenant)


def test_money_that_is_late_for_an_ended_subscription_has_an_invoice(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant, end="2026-08-01T00:00:00Z")
    tenant.record(event("a", 100))
    run(tenant, "2026-08-01T01:00:00Z")
    tenant.record(event("b", 20))
    assert run(tenant, "2026-08-15T00:00:00Z")["closed"] == 0
    assert run(tenant, "2026-12-01T00:00:00Z")["closed"] == 1
    _, last = invoices(tenant)
    assert (last["kind"], last["status"], last["total"]) == ("closing", "finalized", "0.20")
    assert last["period"] == {"from": "2026-08-01T00:00:00Z", "to": "2026-09-01T00:00:00Z"}
    verified(tenant)
    tenant.record(event("c", 20))
    assert run(tenant, "2027-12-01T00:00:00Z")["closed"] == 0


def test_periods_closed_at_once_are_asked_for_once(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded between them, so none can have changed; what is recorded afterwards is billed all the same."""
    asked = 0

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await usage(*arguments)

    prepared(tenant)
    plan(tenant, billing_period="day", charges=[USAGE])
    subscribed(tenant, end="2026-07-09T00:00:00Z")
    tenant.record(event("a", 100))
    monkeypatch.setattr(gather, "usage", counted)
    assert run(tenant, "2026-07-09T02:00:00Z")["finalized"] == 8
    assert asked == 8
    tenant.record(event("b", 20), event("c", 5, "2026-07-08T00:00:00Z"))
    run(tenant, "2026-07-10T00:00:00Z")
    late = [line["rounded"] for line in invoices(tenant)[-1]["lines"]]
    assert sorted(late) == ["0.05", "0.20"]
    verified(tenant)


def test_channels_are_told_of_invoices(tenant: Tenant) -> None:
    made = tenant.post(
        "/v1/channels",
        {
            "key": "books",
            "name": "Books",
            "type": "webhook",
            "url": "https://example.com/hook",
            "events": ["invoice.*", "credit_note.*", "credits.*"],
        },
    )
    assert made.status_code == 201, made.text
    prepared(tenant)
    tenant.post("/v1/credits", {"customer": "acme", "amount": "5", "currency": "USD"})
    plan(tenant)
    subscribed(tenant)
    run(tenant, "2026-08-01T00:00:00Z")
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = invoices(tenant)
    note: Any = tenant.post(f"/v1/invoices/{one['id']}/credit_notes", {"reason": "r", "amount": "1"}).json()
    tenant.post(f"/v1/credit_notes/{note['id']}/void")
    tenant.post(f"/v1/invoices/{one['id']}/void")
    told = [each["kind"] for each in tenant.answer("/v1/deliveries")["items"]]
    assert sorted(told) == [
        "credit_note.created",
        "credit_note.voided",
        "credits.depleted",
        "invoice.created",
        "invoice.finalized",
        "invoice.voided",
    ]
