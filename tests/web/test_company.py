"""The company's pages for prices, invoices, credits, limits, alerts and deliveries, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.web.checks import serious
from tests.web.desk import Desk, Office
from tests.web.shop import opened

pytestmark = [pytest.mark.slow, pytest.mark.engine]

PAGES = {
    "plans": "/plans",
    "plan": "/plans/pro",
    "invoices": "/invoices",
    "credits": "/credits?customer=acme",
    "limits": "/limits?customer=acme",
    "alerts": "/alerts",
    "channels": "/channels",
    "views": "/views",
    "customer": "/customers/beta",
}


@pytest.fixture(scope="module")
def tenant(office: Office) -> str:
    key = office.tenant()
    with office.client(key) as client:
        opened(client, f"{office.url}/health/live")
    return key


@pytest.fixture
def desk(office: Office, tenant: str, browser: Browser, pictures: Path) -> Iterator[Desk]:
    made = Desk(office, browser, tenant, pictures)
    yield made
    made.close()


def test_a_quantity_costs_what_the_server_says(desk: Desk) -> None:
    page = desk.open("/plans/pro")
    box = page.locator(".calculator")
    box.get_by_label("Price", exact=True).select_option("Tokens")
    box.get_by_label("Quantity").fill("1234.000000000000000005")
    price = desk.answer("/v1/plans/pro")["charges"][1]["price"]
    body = {"price": price, "quantity": "1234.000000000000000005", "currency": "USD"}
    said = desk.make("/v1/prices/evaluate", body)
    expect(box.locator(".big [data-figure]")).to_have_text(said["rounded"])
    expect(box.locator(".result .muted [data-figure]")).to_have_text(said["amount"])
    desk.settled()
    desk.check_figures()


def test_an_invoice_is_explained_and_finalized(desk: Desk) -> None:
    page = desk.open("/invoices?customer=beta&status=grace")
    page.get_by_role("table", name="Invoices").get_by_role("link").first.click()
    desk.settled()
    page.get_by_role("table", name="Lines of the invoice").get_by_role("button", name="Tokens").first.click()
    expect(page.get_by_role("table", name="Events of tokens")).to_be_visible()
    desk.check_figures()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Finalize…").click()
    page.get_by_role("dialog").get_by_role("button", name="Finalize", exact=True).click()
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("not final")
    name = page.url.rsplit("/", 1)[1]
    kept = desk.answer(f"/v1/invoices/{name}")
    assert kept["status"] == "finalized"
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Invoice {kept['number']}")
    with page.expect_download() as download:
        page.get_by_role("button", name="PDF").click()
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")


def test_a_finalized_invoice_is_credited_and_another_voided(desk: Desk) -> None:
    kept = next(
        one for one in desk.answer("/v1/invoices", customer="beta")["items"] if one["status"] == "finalized"
    )
    note = desk.make(f"/v1/invoices/{kept['id']}/credit_notes", {"reason": "An outage", "amount": "1.25"})
    page = desk.open(f"/invoices/{kept['id']}")
    row = page.get_by_role("table", name="Credit notes").get_by_role("row", name=note["number"])
    expect(row.locator("[data-figure]")).to_have_text(note["total"])
    expect(row).to_contain_text("An outage")
    desk.check_figures()
    desk.picture("invoice-credited")
    open_one = next(
        one for one in desk.answer("/v1/invoices", customer="acme")["items"] if one["status"] == "grace"
    )
    page = desk.open(f"/invoices/{open_one['id']}")
    page.get_by_role("button", name="Void…").click()
    page.get_by_role("dialog").get_by_role("button", name="Void", exact=True).click()
    expect(page.locator(".badge", has_text="void").first).to_be_visible()
    expect(page.get_by_role("button", name="Void…")).to_have_count(0)
    assert desk.answer(f"/v1/invoices/{open_one['id']}")["status"] == "void"


def test_items_and_the_coming_invoice_of_a_customer(desk: Desk) -> None:
    item = desk.make("/v1/customers/beta/items", {"name": "Set-up", "amount": "120.50"})
    page = desk.open("/customers/beta")
    table = page.get_by_role("table", name="Single items")
    expect(table.get_by_role("row", name="Set-up").locator("[data-figure]").last).to_have_text(item["amount"])
    foreseen = desk.answer("/v1/customers/beta/invoice_forecast")
    shown = page.locator(".expected")
    expect(shown).to_contain_text("At its end probably")
    assert len(shown.locator("[data-figure]").all()) == 3
    assert foreseen["currency"] in shown.inner_text()


def test_lines_of_one_charge_are_told_apart(desk: Desk) -> None:
    rows = (
        desk.open("/customers/beta").get_by_role("table", name="Lines of the open period").get_by_role("row")
    )
    lines = desk.make("/v1/customers/beta/invoices/preview", {})["lines"]
    for model in {line["group"]["model"] for line in lines if line["group"].get("model")}:
        expect(rows.filter(has_text=f"model {model}")).to_have_count(1)


def test_a_slow_forecast_moves_nothing(desk: Desk) -> None:
    page, held = desk.page, []
    page.route("**/invoice_forecast*", lambda route: held.append(route))
    page.goto(f"{desk.office.url}/customers/beta")
    invoices = page.get_by_role("heading", name="Invoices")
    expect(page.get_by_role("table", name="Lines of the open period")).to_be_visible()
    expect(page.get_by_text("Looking ahead…")).to_be_visible()
    page.wait_for_function("() => document.querySelectorAll('[aria-busy=true]').length === 1")
    before = invoices.bounding_box()
    for route in held:
        route.continue_()
    expect(page.locator(".expected")).to_contain_text("At its end probably")
    assert invoices.bounding_box() == before


def test_a_customer_is_subscribed_and_leaves_or_stays(desk: Desk) -> None:
    desk.make("/v1/customers", {"key": "delta", "name": "Delta"})
    page = desk.open("/customers/delta")
    page.get_by_role("button", name="Subscribe").click()
    dialog = page.get_by_role("dialog", name="Subscribe")
    dialog.get_by_label("Plan").select_option("pro")
    dialog.get_by_role("button", name="Subscribe").click()
    row = page.get_by_role("table", name="Subscriptions").get_by_role("row", name="pro")
    expect(row).to_contain_text("active")
    expect(page.get_by_role("table", name="Lines of the open period")).to_contain_text("Base fee")
    row.get_by_role("button", name="End…").click()
    page.get_by_role("dialog").get_by_role("button", name="End the subscription").click()
    expect(row.get_by_role("button", name="Keep…")).to_be_visible()
    made = desk.answer("/v1/subscriptions", customer="delta")["items"][0]
    assert made["end"] == made["current_period"]["to"] is not None
    row.get_by_role("button", name="Keep…").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep").click()
    expect(row.get_by_role("button", name="End…")).to_be_visible()
    assert desk.answer("/v1/subscriptions", customer="delta")["items"][0]["end"] is None
    page = desk.open("/plans/pro")
    expect(page.get_by_role("table", name="Charges")).to_contain_text("up to 1000: 0.0123 USD each")
    desk.check_figures()


def test_a_plan_is_made_and_published(desk: Desk) -> None:
    page = desk.open("/plans")
    page.get_by_role("button", name="New plan").click()
    text = page.get_by_label("The plan").input_value()
    page.get_by_label("The plan").fill(text.replace('"pro"', '"team"').replace('"Pro"', '"Team"'))
    page.get_by_role("button", name="Save the draft").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Team")
    expect(page.locator("dl .badge")).to_have_text("draft")
    page.get_by_role("button", name="Publish…").click()
    page.get_by_role("dialog").get_by_role("button", name="Publish", exact=True).click()
    expect(page.locator("dl .badge")).to_have_text("published")
    assert desk.answer("/v1/plans/team")["status"] == "published"
    desk.settled()
    desk.check_figures()


def test_an_alert_is_tried_over_the_past_and_made(desk: Desk) -> None:
    page = desk.open("/alerts")
    page.get_by_role("button", name="New alert").click()
    dialog = page.get_by_role("dialog", name="New alert")
    dialog.get_by_label("Key", exact=True).fill("tried")
    dialog.get_by_label("When").select_option("meter tokens")
    dialog.get_by_label("Value", exact=True).fill("50.5, 100")
    dialog.get_by_label("Ops").check()
    dialog.get_by_role("button", name="Try over the past 30 days").click()
    expect(dialog.locator(".tried")).to_contain_text("fired")
    expect(dialog.get_by_role("table", name="What it would have said")).to_be_visible()
    desk.check_figures()
    dialog.get_by_role("button", name="Create").click()
    expect(dialog).to_have_count(0)
    made = desk.answer("/v1/alerts/tried")
    assert (made["owner"], made["customer"], made["condition"]["steps"]) == (None, "*", ["50.5", "100"])
    assert made["channels"] == ["ops"]


def test_a_view_is_saved_shared_and_sent(desk: Desk) -> None:
    page = desk.open(
        "/explore?meter=tokens&range=90d&window=week&group=model&filter[model]=large,small&zone=UTC"
    )
    shown = page.locator(".big [data-figure]").inner_text()
    page.get_by_role("button", name="Save view…").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Tokens by model")
    page.get_by_role("dialog").get_by_label("For").select_option("Everybody of the tenant")
    desk.picture("view-save")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    desk.settled()
    kept = desk.answer("/v1/views/tokens-by-model")
    assert kept["question"]["filter"] == {"model": {"in": ["large", "small"]}}
    assert (kept["question"]["window"], kept["visibility"]) == ("week", "shared")
    expect(page.get_by_label("Saved views")).to_have_value("tokens-by-model")
    page = desk.open(kept["path"])
    expect(page.locator(".big [data-figure]")).to_have_text(shown)
    desk.picture("explore-saved")
    page = desk.open("/explore?meter=calls")
    page.get_by_label("Saved views").select_option("Tokens by model")
    expect(page.locator(".big [data-figure]")).to_have_text(shown)
    page.get_by_role("link", name="Schedule…").click()
    dialog = page.get_by_role("dialog", name="Send tokens-by-model")
    dialog.get_by_label("Name").fill("Monthly tokens")
    dialog.get_by_label("To", exact=True).select_option("Ops")
    desk.picture("report-schedule")
    dialog.get_by_role("button", name="Schedule", exact=True).click()
    expect(dialog).to_have_count(0)
    row = page.get_by_role("table", name="Reports").get_by_role("row", name="Monthly tokens")
    expect(row).to_contain_text("day 1 of a month, 06:00")
    row.get_by_role("button", name="Send now").click()
    runs = page.get_by_role("dialog", name="Runs of monthly-tokens")
    expect(runs.get_by_role("row", name="by hand")).to_contain_text("sent", timeout=20_000)
    desk.settled()
    desk.picture("report-runs")
    with page.expect_download() as download:
        runs.get_by_role("button", name="File").click()
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")
    runs.get_by_role("link", name="Delivery").click()
    expect(page.get_by_role("dialog", name="Delivery")).to_contain_text("report.ready")
    assert desk.api.get("/v1/reports/monthly-tokens").json()["schedule"]["every"] == "month"


def test_a_formula_is_saved_and_opened(desk: Desk) -> None:
    page = desk.open("/explore?meter=tokens&formula=a+%2F+b&b=calls&range=90d")
    page.get_by_role("button", name="Save view…").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Tokens a call")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    kept = desk.answer("/v1/views/tokens-a-call")
    assert (kept["question"]["formula"], kept["question"]["meters"]) == ("a / b", {"b": "calls"})
    assert kept["visibility"] == "private"
    page = desk.open(kept["path"])
    expect(page.get_by_label("Formula").first).to_be_visible()
    row = desk.open("/views").get_by_role("row", name="Tokens a call")
    row.get_by_role("button", name="Archive…").click()
    page.get_by_role("dialog").get_by_role("button", name="Archive", exact=True).click()
    expect(row).to_have_count(0)


def test_a_limit_is_made_and_raised(desk: Desk) -> None:
    page = desk.open("/limits")
    page.get_by_role("button", name="New limit").click()
    page.get_by_label("Key", exact=True).fill("made")
    page.get_by_label("Key of the customer").last.fill("acme")
    page.get_by_role("dialog").get_by_label("Of", exact=True).select_option("calls")
    page.get_by_role("dialog").get_by_label("Amount").fill("12345.6")
    page.get_by_role("button", name="Create").click()
    row = page.get_by_role("row", name="made")
    expect(row).to_contain_text("12345.6")
    row.get_by_role("button", name="Raise…").click()
    page.get_by_label("By", exact=True).fill("10")
    page.get_by_label("Until").fill("2090-01-01T00:00")
    page.get_by_role("dialog").get_by_role("button", name="Raise", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    raised = desk.answer("/v1/limits/made/raises")["items"]
    assert [(one["customer"], one["amount"], one["until"]) for one in raised] == [
        ("acme", "10", "2090-01-01T00:00:00Z")
    ]


def test_a_channel_is_tried_and_its_delivery_read(desk: Desk) -> None:
    page = desk.open("/channels")
    page.get_by_role("row", name="Ops").first.get_by_role("button", name="Test").click()
    dialog = page.get_by_role("dialog", name="Delivery")
    expect(dialog.get_by_role("heading", name="Attempt 1")).to_be_visible(timeout=15_000)
    expect(dialog).to_contain_text("/health/live")
    dialog.get_by_role("button", name="Send again").click()
    expect(dialog.get_by_role("alert")).to_have_count(0)


def test_everybody_can_use_them_and_every_figure_is_the_apis(desk: Desk, axe: str) -> None:
    found: dict[str, list[str]] = {}
    for name, path in PAGES.items():
        desk.show_as("light", 1280)
        page = desk.open(path)
        desk.check_figures()
        assert page.locator("img, main script").count() == 0, name
        desk.picture(f"{name}-light")
        page.evaluate(axe)
        broken = serious(page)
        desk.show_as("dark", 1280)
        desk.picture(f"{name}-dark")
        broken += serious(page, "color-contrast")
        desk.show_as("light", 390)
        desk.picture(f"{name}-phone")
        desk.check_widths()
        if broken:
            found[name] = broken
    assert found == {}
