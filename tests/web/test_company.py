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
