"""Invoices over HTTP: previews, closing, finalizing, what comes late, and how all of it is explained and made again."""

from decimal import Decimal
from typing import Any

import pytest
from tests.api.billing.test_plans import FEE, USAGE, plan, prepared, subscribed
from tests.api.questions.live import Tenant

JULY, AUGUST, SEPTEMBER = "2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z", "2026-09-01T00:00:00Z"


def event(name: str, n: int | str, time: str = "2026-07-05T00:00:00Z", **more: Any) -> dict[str, Any]:
    data = {"n": n, "model": more.pop("model", "m")}
    return {"id": name, "type": "llm", "subject": "acme", "time": time, "data": data, **more}


def preview(tenant: Tenant, **body: Any) -> dict[str, Any]:
    answer = tenant.post("/v1/customers/acme/invoices/preview", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def run(tenant: Tenant, at: str) -> dict[str, Any]:
    answer = tenant.post("/v1/billing/run", {"at": at})
    assert answer.status_code == 200, answer.text
    assert answer.json()["failed"] == []
    return answer.json()


def invoices(tenant: Tenant) -> list[dict[str, Any]]:
    """The oldest first."""
    return tenant.answer("/v1/invoices")["items"][::-1]


def amounts(invoice: dict[str, Any]) -> dict[str, str]:
    return {line["charge"]: line["rounded"] for line in invoice["lines"]}


def test_a_preview_counts_usage_before_a_moment_and_fees_in_full(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    tenant.record(event("a", 100), event("b", 250, "2026-07-10T00:00:00Z"))
    made = preview(tenant)
    assert (made["status"], made["number"]) == ("draft", None)
    assert made["period"] == {"from": JULY, "to": AUGUST}
    assert amounts(made) == {"base": "31.00", "tokens": "3.50"}
    assert (made["subtotal"], made["total"], made["amount_due"]) == ("34.50", "34.50", "34.50")
    assert amounts(preview(tenant, at="2026-07-08T00:00:00Z"))["tokens"] == "1.00"
    assert invoices(tenant) == []
    nobody = tenant.post("/v1/customers/none/invoices/preview", {})
    assert nobody.json()["code"] == "customer_not_found"


def test_a_period_is_closed_then_finalized_and_the_preview_at_its_end_was_the_same(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    tenant.record(event("a", 123), event("b", "0.45", model="n"))
    expected = preview(tenant, at=AUGUST)
    report = run(tenant, AUGUST)
    assert (report["closed"], report["finalized"]) == (1, 0)
    (waiting,) = invoices(tenant)
    assert (waiting["status"], waiting["number"]) == ("grace", None)
    tenant.record(event("late", 1))
    assert run(tenant, "2026-08-01T00:59:59Z")["closed"] == 0
    assert run(tenant, "2026-08-01T01:00:00Z")["finalized"] == 1
    (final,) = invoices(tenant)
    assert (final["status"], final["number"]) == ("finalized", "INV-000001")
    assert final["id"] == waiting["id"]
    # What came within the grace is in it; the rest is as the preview said.
    assert amounts(expected) == {"base": "31.00", "tokens": "1.23"}
    assert amounts(final) == {"base": "31.00", "tokens": "1.24"}
    assert tenant.post(f"/v1/invoices/{final['id']}/finalize").json() == final
    assert run(tenant, "2026-08-01T01:00:00Z")["invoices"] == []


def test_a_file_is_named_as_people_name_the_invoice_and_no_draft_is_kept(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    run(tenant, AUGUST)
    (waiting,) = invoices(tenant)
    named = tenant.get(f"/v1/invoices/{waiting['id']}.csv").headers["content-disposition"]
    assert named == f'attachment; filename="{waiting["id"]}.csv"'  # it has no number as yet
    run(tenant, "2026-08-01T01:00:00Z")
    for ending in ("csv", "pdf"):
        named = tenant.get(f"/v1/invoices/{waiting['id']}.{ending}").headers["content-disposition"]
        assert named == f'attachment; filename="INV-000001.{ending}"'
    assert tenant.answer("/v1/invoices?status=draft") == {"items": [], "next_cursor": None}
    assert tenant.get("/v1/invoices?status=drafted").status_code == 422


def test_what_changes_after_finalization_is_a_line_of_the_next_invoice(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    made = subscribed(tenant)
    tenant.record(event("a", 100), event("b", 50))
    run(tenant, "2026-08-01T01:00:00Z")
    tenant.record(event("c", 7))
    tenant.post("/v1/events/corrections", {"reason": "wrong", "retract": [{"source": "/", "id": "b"}]})
    run(tenant, "2026-09-01T01:00:00Z")
    first, second = invoices(tenant)
    late = [line for line in second["lines"] if line["kind"] == "late"]
    assert [(line["charge"], line["rounded"], line["quantity"]) for line in late] == [
        ("tokens", "-0.43", "-43")
    ]
    assert late[0]["of"] == {"invoice": first["id"], "line": first["lines"][1]["id"]}
    assert second["total"] == "30.57"
    assert amounts(tenant.answer(f"/v1/invoices/{first['id']}"))["tokens"] == "1.50"
    report = tenant.answer(f"/v1/billing/late?subscription={made['id']}")["items"]
    assert [(one["invoice"], one["amount"]) for one in report] == [(second["id"], "-0.43")]
    # What was billed late once is not billed again; what changes further is.
    tenant.record(event("d", 10))
    run(tenant, "2026-10-01T01:00:00Z")
    third = invoices(tenant)[2]
    assert [line["rounded"] for line in third["lines"] if line["kind"] == "late"] == ["0.10"]
    for one in invoices(tenant):
        checked = tenant.answer(f"/v1/invoices/{one['id']}/verify")
        assert (checked["verified"], checked["differences"]) == (True, [])


def test_an_invoice_is_made_again_byte_for_byte_whatever_happened_since(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    made = subscribed(tenant)
    tenant.record(event("a", 100))
    run(tenant, "2026-08-01T01:00:00Z")
    tenant.record(event("b", 900))
    tenant.send("PUT", "/v1/customers/acme/billing", json={"taxes": [{"name": "VAT", "percent": "19"}]})
    tenant.post(f"/v1/subscriptions/{made['id']}/cancel", {"effective": SEPTEMBER})
    tenant.send("PATCH", "/v1/meters/tokens", json={"filter": "data.model == 'x'"})
    (one,) = invoices(tenant)
    assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"] is True
    catalog = tenant.live.system.catalog
    document = catalog.invoice(tenant.key, one["id"]).document
    with catalog._database.writing() as connection:
        from sqlalchemy import text

        connection.execute(
            text("UPDATE invoices SET document = :new WHERE id = :id"),
            {"new": document.replace('"total":"32.00"', '"total":"31.00"'), "id": one["id"]},
        )
    forged = tenant.answer(f"/v1/invoices/{one['id']}/verify")
    assert forged["verified"] is False
    assert forged["differences"] == [{"place": "/total", "kept": "31.00", "recomputed": "32.00"}]


def test_a_line_is_explained_down_to_its_events(tenant: Tenant) -> None:
    prepared(tenant)
    tiers = [{"up_to": "100", "unit_amount": "0.5"}, {"up_to": None, "unit_amount": "0.1"}]
    plan(
        tenant,
        charges=[FEE, {**USAGE, "group_by": ["model"], "price": {"model": "graduated", "tiers": tiers}}],
    )
    subscribed(tenant)
    tenant.record(event("a", 90), event("b", "30.5"), event("c", 5, model="n"))
    run(tenant, AUGUST)
    (one,) = invoices(tenant)
    groups = {line["group"].get("model"): line for line in one["lines"] if line["kind"] == "usage"}
    assert {name: line["rounded"] for name, line in groups.items()} == {"m": "52.05", "n": "2.50"}
    for line in one["lines"]:
        told = tenant.answer(f"/v1/invoices/{one['id']}/lines/{line['id']}/explain")
        assert sum(Decimal(step["amount"]) for step in told["steps"]) == Decimal(line["amount"])
        for asked in told["usage"]:
            rows = sum(Decimal(row["value"]) for row in asked["rows"])
            assert rows == sum(Decimal(each["value"]) for each in asked["events"])
            assert rows == Decimal(line["quantity"]) == Decimal(asked["events_sum"])
    told = tenant.answer(f"/v1/invoices/{one['id']}/lines/{groups['m']['id']}/explain")
    assert [(step["from"], step["to"], step["quantity"]) for step in told["tiers"]] == [
        ("0", "100", "100"),
        ("100", None, "20.5"),
    ]
    assert {each["id"] for each in told["usage"][0]["events"]} == {"a", "b"}
    missing = tenant.get(f"/v1/invoices/{one['id']}/lines/none/explain")
    assert missing.json()["code"] == "line_not_found"


def test_past_periods_of_a_backdated_subscription_are_closed_one_by_one(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant, start="2026-04-15T00:00:00Z")
    tenant.record(event("a", 100, "2026-05-05T00:00:00Z"))
    report = run(tenant, "2026-07-15T12:00:00Z")
    assert (report["closed"], report["finalized"]) == (3, 3)
    assert [(one["number"], amounts(one)) for one in invoices(tenant)] == [
        ("INV-000001", {"base": "16.53", "tokens": "0.00"}),
        ("INV-000002", {"base": "31.00", "tokens": "1.00"}),
        ("INV-000003", {"base": "31.00", "tokens": "0.00"}),
    ]


def test_fees_in_advance_come_first_and_a_cancellation_gives_the_rest_back(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant, charges=[{**FEE, "timing": "advance"}, USAGE])
    made = subscribed(tenant)
    run(tenant, "2026-07-01T01:00:00Z")
    tenant.record(event("a", 100))
    cancelled = tenant.post(f"/v1/subscriptions/{made['id']}/cancel", {"effective": "2026-07-11T00:00:00Z"})
    assert cancelled.status_code == 200, cancelled.text
    run(tenant, "2026-07-11T01:00:00Z")
    first, last = invoices(tenant)
    assert [(line["charge"], line["rounded"]) for line in first["lines"]] == [("base", "31.00")]
    # 10 of 31 days were used; 21 come back.
    assert [(line["kind"], line["charge"], line["rounded"]) for line in last["lines"]] == [
        ("usage", "tokens", "1.00"),
        ("late", "base", "-21.00"),
    ]
    assert tenant.answer(f"/v1/invoices/{last['id']}/verify")["verified"] is True
    assert run(tenant, "2026-12-01T00:00:00Z")["closed"] == 0


def test_an_upgrade_within_a_period_bills_each_plan_for_its_days(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    plan(tenant, "max", charges=[{**FEE, "price": {"model": "flat", "amount": "62"}}])
    made = subscribed(tenant)
    body = {"plan": "max", "effective": "2026-07-11T00:00:00Z"}
    assert tenant.post(f"/v1/subscriptions/{made['id']}/change", body).status_code == 200
    lines = preview(tenant)["lines"]
    assert [(line["plan"], line["charge"], line["rounded"]) for line in lines] == [
        ("pro", "base", "10.00"),
        ("pro", "tokens", "0.00"),
        ("max", "base", "42.00"),
    ]


def test_commitment_minimum_discount_and_tax_add_up(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant, commitment="100", minimum="120.005")
    subscribed(tenant)
    tenant.send(
        "PUT",
        "/v1/customers/acme/billing",
        json={
            "taxes": [{"name": "VAT", "percent": "19"}, {"name": "City", "percent": "1.5"}],
            "discount_percent": "10",
        },
    )
    made = preview(tenant)
    assert [(line["kind"], line["rounded"]) for line in made["lines"]] == [
        ("fee", "31.00"),
        ("usage", "0.00"),
        ("true_up", "69.00"),
        ("minimum", "20.01"),
    ]
    assert (made["subtotal"], made["discount"]) == ("120.01", "12.00")
    assert [tax["amount"] for tax in made["taxes"]] == ["20.52", "1.62"]
    assert made["total"] == "130.15"


@pytest.mark.parametrize(("currency", "base", "tokens"), [("JPY", "31", "4"), ("BHD", "31.000", "3.505")])
def test_minor_units_are_the_currencys(tenant: Tenant, currency: str, base: str, tokens: str) -> None:
    prepared(tenant)
    plan(tenant, currency=currency)
    subscribed(tenant)
    tenant.record(event("a", "350.45"))
    made = preview(tenant)
    assert amounts(made) == {"base": base, "tokens": tokens}


def test_seats_in_arrears_cost_what_was_held_when(tenant: Tenant) -> None:
    prepared(tenant)
    seats = {"key": "seats", "price": {"model": "per_unit", "unit_amount": "31"}, "quantity": "2"}
    plan(tenant, charges=[seats])
    made = subscribed(tenant)
    body = {"charge": "seats", "quantity": "5", "effective": "2026-07-22T00:00:00Z"}
    assert tenant.post(f"/v1/subscriptions/{made['id']}/quantities", body).status_code == 200
    assert amounts(preview(tenant)) == {"seats": "92.00"}  # 2 × 21 days and 5 × 10 days


def test_a_parent_pays_for_those_below_it(tenant: Tenant) -> None:
    prepared(tenant)
    tenant.post("/v1/customers", {"key": "child", "parent": "acme"})
    plan(tenant)
    subscribed(tenant, include_children=True)
    tenant.record(event("a", 100), event("b", 11, subject="child"))
    assert amounts(preview(tenant))["tokens"] == "1.11"


def test_transactions_are_priced_one_by_one(tenant: Tenant) -> None:
    prepared(tenant)
    price = {"model": "percentage", "rate": "1", "min_per_transaction": "2", "fixed_amount": "0.5"}
    plan(tenant, charges=[{**USAGE, "price": price}])
    subscribed(tenant)
    tenant.record(event("a", 100), event("b", 1000))
    assert amounts(preview(tenant)) == {"tokens": "12.50"}


@pytest.mark.parametrize("needed", [{"group_by": ["model"]}, {"filter": {"model": {"eq": "m"}}}])
def test_a_dimension_the_meter_has_dropped_is_told(tenant: Tenant, needed: dict[str, Any]) -> None:
    """Whether events are priced one by one or together: never billed as if they had no such member."""
    prepared(tenant)
    one_by_one = {"model": "percentage", "rate": "1", "min_per_transaction": "2"}
    for key, price in (("single", one_by_one), ("together", USAGE["price"])):
        plan(tenant, key, charges=[{**USAGE, "price": price, **needed}])
    tenant.record(event("a", 100))
    made = [subscribed(tenant, plan=key) for key in ("single", "together")]
    assert tenant.send("PATCH", "/v1/meters/tokens", json={"dimensions": {}}).status_code == 200
    report = tenant.post("/v1/billing/run", {"at": AUGUST}).json()
    assert {(one["subscription"], one["code"]) for one in report["failed"]} == {
        (one["id"], "unknown_dimension") for one in made
    }


def test_a_void_invoice_keeps_its_number(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    subscribed(tenant)
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = invoices(tenant)
    voided = tenant.post(f"/v1/invoices/{one['id']}/void").json()
    assert (voided["status"], voided["number"]) == ("void", "INV-000001")
    run(tenant, "2026-09-01T01:00:00Z")
    assert [(each["number"], each["status"]) for each in invoices(tenant)] == [
        ("INV-000001", "void"),
        ("INV-000002", "finalized"),
    ]
    assert tenant.post(f"/v1/invoices/{one['id']}/finalize").json()["code"] == "invoice_void"
    assert tenant.answer("/v1/invoices?status=void")["items"][0]["id"] == one["id"]


def test_an_invoice_as_csv_and_pdf(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant, charges=[{**FEE, "name": "=Base #emph[x]"}, USAGE])
    subscribed(tenant)
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = invoices(tenant)
    table = tenant.get(f"/v1/invoices/{one['id']}.csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert "'=Base #emph[x]" in table.text
    paper = tenant.get(f"/v1/invoices/{one['id']}.pdf")
    assert paper.headers["content-type"] == "application/pdf"
    assert paper.content.startswith(b"%PDF-")


def test_whom_a_price_has_no_answer_for_holds_nobody_else_up(tenant: Tenant) -> None:
    prepared(tenant)
    cells = {"model": "matrix", "dimensions": ["model"], "cells": [{"values": ["small"], "unit_amount": "1"}]}
    plan(tenant, charges=[{**USAGE, "price": cells}])
    tenant.post("/v1/customers", {"key": "other"})
    broken, _ = subscribed(tenant), subscribed(tenant, customer="other")
    tenant.record(event("a", 5, model="large"))
    report = tenant.post("/v1/billing/run", {"at": AUGUST}).json()
    assert report["closed"] == 1
    assert [(one["subscription"], one["code"]) for one in report["failed"]] == [
        (broken["id"], "no_matching_cell")
    ]
    tenant.post("/v1/events/corrections", {"reason": "a test", "retract": [{"source": "/", "id": "a"}]})
    assert run(tenant, AUGUST)["closed"] == 1


def test_usage_below_zero_is_billed_as_none_and_shown(tenant: Tenant) -> None:
    """More was taken back in the period than was used in it: the line stands, at nothing, and the invoice is made."""
    prepared(tenant)
    flat_first = {"model": "graduated", "tiers": [{"up_to": None, "unit_amount": "1", "flat_amount": "2"}]}
    per_payment = {"model": "percentage", "rate": "10", "fixed_amount": "1"}
    charges = [FEE, {**USAGE, "price": flat_first}, {**USAGE, "key": "share", "price": per_payment}]
    plan(tenant, charges=charges)
    subscribed(tenant)
    tenant.record(event("a", 3), event("b", -8))
    foreseen = tenant.post("/v1/customers/acme/invoices/preview", {"at": AUGUST}).json()
    run(tenant, "2026-08-01T01:00:00Z")
    (one,) = invoices(tenant)
    assert foreseen["lines"] == one["lines"]
    usage = [line for line in one["lines"] if line["kind"] == "usage"]
    assert [(line["quantity"], line["rounded"]) for line in usage] == [("-5", "2.00"), ("-5", "1.00")]
    assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"]
    told = tenant.answer(f"/v1/invoices/{one['id']}/lines/{usage[0]['id']}/explain")
    assert (told["steps"][0]["kind"], told["steps"][0]["quantity"]) == ("below_zero", "-5")
    assert sum(Decimal(step["amount"]) for step in told["steps"]) == Decimal(told["amount"]) == 2
    assert tenant.get("/v1/billing/export?format=focus").status_code == 200


def test_facts_of_periods_that_are_not_final_are_needed(tenant: Tenant) -> None:
    from tallystick.flows.billing.keeper import needed_since

    prepared(tenant)
    plan(tenant)
    catalog = tenant.live.system.catalog
    assert needed_since(catalog, catalog, tenant.key, "llm") is None
    subscribed(tenant, start="2026-05-01T00:00:00Z")
    may_us, july_us = 1_777_593_600_000_000, 1_782_864_000_000_000
    assert needed_since(catalog, catalog, tenant.key, "llm") == may_us
    assert needed_since(catalog, catalog, tenant.key, "other") is None
    run(tenant, "2026-07-01T00:30:00Z")  # May is final, June in grace
    assert needed_since(catalog, catalog, tenant.key, "llm") == july_us - 30 * 86_400_000_000
    run(tenant, "2026-07-01T01:00:00Z")
    assert needed_since(catalog, catalog, tenant.key, "llm") == july_us
