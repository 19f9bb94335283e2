"""Credit notes and items that are billed once, over HTTP."""

import csv
import io
from decimal import Decimal
from typing import Any

from tests.api.billing.test_invoices import event, invoices, preview, run
from tests.api.billing.test_plans import plan, prepared, subscribed
from tests.api.questions.live import Tenant, faults

D = Decimal


def billed(tenant: Tenant, **terms: Any) -> dict[str, Any]:
    """July's finalized invoice: 31.00 and 1.00."""
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    if terms:
        tenant.send("PUT", "/v1/customers/acme/billing", json=terms)
    tenant.record(event("a", 100))
    run(tenant, "2026-08-01T01:00:00Z")
    return invoices(tenant)[0]


def credit(tenant: Tenant, invoice: dict[str, Any], **body: Any) -> Any:
    return tenant.post(f"/v1/invoices/{invoice['id']}/credit_notes", {"reason": "outage", **body})


def balance(tenant: Tenant) -> str:
    return tenant.answer("/v1/customers/acme/credits?currency=USD")["balance"]


def test_lines_are_given_back_with_their_tax_and_never_more_than_is_left(tenant: Tenant) -> None:
    taxes = [{"name": "VAT", "percent": "19"}, {"name": "City", "percent": "1.5"}]
    one = billed(tenant, taxes=taxes, discount_percent="10")
    base, tokens = (line["id"] for line in one["lines"])
    assert (one["subtotal"], one["discount"], one["tax"], one["total"]) == ("32.00", "3.20", "5.90", "34.70")
    made = credit(tenant, one, lines=[{"line": base, "amount": "10"}, {"line": tokens, "amount": "0.5"}])
    assert made.status_code == 201, made.text
    note = made.json()
    assert (note["number"], note["status"], note["kind"]) == ("CN-000001", "issued", "credit")
    assert (note["subtotal"], note["tax"], note["total"]) == ("10.50", "2.15", "12.65")
    assert [tax["amount"] for tax in note["taxes"]] == ["1.99", "0.16"]
    assert balance(tenant) == "12.65"
    refused = credit(tenant, one, lines=[{"line": base, "amount": "17.91"}, {"line": "none", "amount": "1"}])
    assert faults(refused) == [("/lines/0/amount", "more_than_is_left"), ("/lines/1/line", "unknown_line")]
    # All of the rest: lines and taxes of both notes add up to the invoice.
    rest = credit(tenant, one, amount="22.05").json()
    assert rest["number"] == "CN-000002"
    assert D(note["subtotal"]) + D(rest["subtotal"]) == D("28.80")
    assert D(note["tax"]) + D(rest["tax"]) == D(one["tax"])
    assert faults(credit(tenant, one, amount="0.01")) == [("/amount", "more_than_is_left")]
    assert balance(tenant) == "34.70"
    listed = tenant.answer(f"/v1/credit_notes?customer=acme&invoice={one['id']}")["items"]
    assert [each["id"] for each in listed] == [rest["id"], note["id"]]
    for each in listed:
        assert tenant.answer(f"/v1/credit_notes/{each['id']}") == each
        assert tenant.answer(f"/v1/credit_notes/{each['id']}/verify")["verified"] is True
    assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"] is True


def test_a_note_as_pdf_csv_focus_and_journal(tenant: Tenant) -> None:
    one = billed(tenant)
    note = credit(tenant, one, amount="5").json()
    refund = credit(tenant, one, amount="2", kind="refund").json()
    assert tenant.get(f"/v1/credit_notes/{note['id']}.pdf").content.startswith(b"%PDF")
    rows = list(csv.DictReader(io.StringIO(tenant.get(f"/v1/credit_notes/{note['id']}.csv").text)))
    assert sum(D(row["amount"]) for row in rows) == 5
    at = "to=2026-09-01T00:00:00Z"
    costs = list(csv.DictReader(io.StringIO(tenant.get(f"/v1/billing/export?format=focus&{at}").text)))
    assert sum(D(row["BilledCost"]) for row in costs) == D(one["total"]) - 7
    journal = list(csv.DictReader(io.StringIO(tenant.get(f"/v1/billing/export?format=journal&{at}").text)))
    for entry in {row["entry"] for row in journal}:
        own = [row for row in journal if row["entry"] == entry]
        assert sum(D(row["debit"] or 0) for row in own) == sum(D(row["credit"] or 0) for row in own)
    accounts = {(row["entry"], row["account"]): row["credit"] for row in journal}
    assert accounts[note["number"], "customer_credits"] == "5.00"
    assert accounts[refund["number"], "refunds_payable"] == "2.00"


def test_a_refund_is_at_most_what_was_paid_with_money(tenant: Tenant) -> None:
    prepared(tenant)
    tenant.post("/v1/credits", {"customer": "acme", "amount": "30", "currency": "USD"})
    plan(tenant)
    subscribed(tenant)
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = invoices(tenant)
    assert (one["total"], one["credits_applied"], one["amount_due"]) == ("31.00", "30.00", "1.00")
    assert faults(credit(tenant, one, amount="1.01", kind="refund")) == [("/amount", "more_than_is_left")]
    assert credit(tenant, one, amount="1", kind="refund").json()["grant"] is None
    assert faults(credit(tenant, one, amount="0.01", kind="refund")) == [("/amount", "more_than_is_left")]
    assert credit(tenant, one, amount="30").status_code == 201


def test_a_void_note_takes_its_credits_back_as_long_as_none_is_spent(tenant: Tenant) -> None:
    one = billed(tenant)
    first = credit(tenant, one, amount="20").json()
    voided = tenant.post(f"/v1/credit_notes/{first['id']}/void").json()
    assert (voided["status"], voided["number"], balance(tenant)) == ("void", "CN-000001", "0.00")
    assert tenant.post(f"/v1/credit_notes/{first['id']}/void").json() == voided
    second = credit(tenant, one, amount="32").json()
    assert second["number"] == "CN-000002"
    assert tenant.post(f"/v1/invoices/{one['id']}/void").json()["code"] == "invoice_has_credit_notes"
    run(tenant, "2026-09-01T01:00:00Z")
    assert balance(tenant) == "1.00"
    refused = tenant.post(f"/v1/credit_notes/{second['id']}/void")
    assert (refused.status_code, refused.json()["code"]) == (409, "credit_note_spent")


def test_what_cannot_be_credited(tenant: Tenant) -> None:
    one = billed(tenant)
    assert faults(credit(tenant, one)) == [("/amount", "missing")]
    assert faults(credit(tenant, one, amount="1.001")) == [("/amount", "too_precise")]
    assert faults(credit(tenant, one, amount="0", kind="gift")) == [
        ("/kind", "invalid_value"),
        ("/amount", "too_small"),
    ]
    run(tenant, "2026-09-01T00:00:00Z")
    waiting = invoices(tenant)[1]
    assert credit(tenant, waiting, amount="1").json()["code"] == "invoice_not_final"
    assert tenant.get("/v1/credit_notes/none").json()["code"] == "credit_note_not_found"


# -- items ----------------------------------------------------------------------------------------------------------
def item(tenant: Tenant, **body: Any) -> dict[str, Any]:
    made = tenant.post("/v1/customers/acme/items", body)
    assert made.status_code == 201, made.text
    return made.json()


def test_items_wait_for_the_next_invoice_and_are_billed_once(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    support = item(tenant, name="Support", quantity="2.5", unit_amount="10.001")
    item(tenant, name="Goodwill", amount="-3")
    gone = item(tenant, name="Mistake", amount="99")
    other = item(tenant, name="In euro", amount="7", currency="EUR")
    assert tenant.send("DELETE", f"/v1/customers/acme/items/{gone['id']}").status_code == 204
    expected = preview(tenant, at="2026-08-01T00:00:00Z")
    assert [(line["name"], line["rounded"]) for line in expected["lines"] if line["kind"] == "item"] == [
        ("Support", "25.00"),
        ("Goodwill", "-3.00"),
    ]
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = invoices(tenant)
    assert (one["lines"], one["total"]) == (expected["lines"], "53.00")
    billed_items = tenant.answer("/v1/customers/acme/items?status=billed")["items"]
    assert {(each["id"] == support["id"], each["invoice"]) for each in billed_items} == {
        (True, one["id"]),
        (False, one["id"]),
    }
    waiting = tenant.answer("/v1/customers/acme/items?status=waiting")["items"]
    assert [each["id"] for each in waiting] == [other["id"]]
    refused = tenant.send("DELETE", f"/v1/customers/acme/items/{support['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "item_billed")
    run(tenant, "2026-09-01T01:00:00Z")
    assert invoices(tenant)[1]["total"] == "31.00"
    assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"] is True
    line = next(each for each in one["lines"] if each["kind"] == "item")
    told = tenant.answer(f"/v1/invoices/{one['id']}/lines/{line['id']}/explain")
    assert (told["price"], told["steps"][0]["amount"]) == (None, line["amount"])
    # Two periods later what was on it is no change of it.
    assert [each["kind"] for each in invoices(tenant)[1]["lines"]] == ["fee", "usage"]


def test_an_invoice_of_items_alone(tenant: Tenant) -> None:
    prepared(tenant)
    tenant.post("/v1/credits", {"customer": "acme", "amount": "50", "currency": "EUR"})
    tenant.send("PUT", "/v1/customers/acme/billing", json={"taxes": [{"name": "VAT", "percent": "20"}]})
    item(tenant, name="Waits", amount="1", currency="EUR")
    body = {
        "customer": "acme",
        "currency": "EUR",
        "items": [{"name": "Set-up", "amount": "100"}, {"name": "Rebate", "amount": "-10"}],
        "waiting": True,
    }
    made = tenant.post("/v1/invoices", body)
    assert made.status_code == 201, made.text
    one = made.json()
    assert (one["kind"], one["status"], one["subscription"], one["number"]) == (
        "one_off",
        "finalized",
        None,
        "INV-000001",
    )
    assert (one["subtotal"], one["tax"], one["total"]) == ("91.00", "18.20", "109.20")
    assert (one["credits_applied"], one["amount_due"]) == ("50.00", "59.20")
    assert tenant.answer(f"/v1/invoices/{one['id']}") == one
    assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"] is True
    assert tenant.get(f"/v1/invoices/{one['id']}.pdf").content.startswith(b"%PDF")
    rows = csv.DictReader(io.StringIO(tenant.get("/v1/billing/export?format=focus").text))
    assert sum(D(row["BilledCost"]) for row in rows) == D("109.20")
    refused = tenant.post("/v1/invoices", {"customer": "acme", "items": [{"name": "x", "amount": "-1"}]})
    assert faults(refused) == [("/items", "negative_total")]
    bad = tenant.post("/v1/invoices", {"customer": "acme", "items": [{"quantity": "2", "amount": "1"}]})
    assert faults(bad) == [("/items/0/name", "missing"), ("/items/0/quantity", "invalid_value")]
    tenant.post(f"/v1/invoices/{one['id']}/void")
    assert tenant.answer("/v1/customers/acme/credits?currency=EUR")["balance"] == "50.00"


def test_customers_and_tenants_see_their_own_alone(tenant: Tenant) -> None:
    one = billed(tenant)
    note = credit(tenant, one, amount="1").json()
    item(tenant, name="x", amount="1")
    tenant.post("/v1/customers", {"key": "beta"})
    tokens = {
        key: tenant.post("/v1/portal_tokens", {"customer": key, "scopes": ["billing:read"]}).json()["token"]
        for key in ("acme", "beta")
    }
    acme, beta = (Tenant(tenant.live, tenant.key, tokens[key]) for key in ("acme", "beta"))
    assert [each["id"] for each in acme.answer("/v1/credit_notes")["items"]] == [note["id"]]
    assert acme.answer(f"/v1/credit_notes/{note['id']}") == note
    assert len(acme.answer("/v1/customers/acme/items")["items"]) == 1
    assert beta.answer("/v1/credit_notes")["items"] == []
    for path in (f"/v1/credit_notes/{note['id']}", f"/v1/credit_notes/{note['id']}.pdf"):
        assert beta.get(path).status_code == 403
    assert beta.get("/v1/customers/acme/items").status_code == 403
    assert acme.post(f"/v1/credit_notes/{note['id']}/void").status_code == 403
    stranger = tenant.live.tenant()
    assert stranger.get(f"/v1/credit_notes/{note['id']}").status_code == 404
    refused = stranger.post(f"/v1/invoices/{one['id']}/credit_notes", {"reason": "r", "amount": "1"})
    assert refused.status_code == 404
    assert stranger.get("/v1/customers/acme/items").status_code == 404
