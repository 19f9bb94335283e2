"""A customer's own pages in a real browser: what they show is the customer's, and nothing else is to be had."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.web.checks import serious
from tests.web.desk import Desk, Office, matches
from tests.web.shop import MARKUP, opened, token

pytestmark = [pytest.mark.slow, pytest.mark.engine]

SECTIONS = ("", "/limits", "/invoices", "/credits", "/events", "/alerts")


@pytest.fixture(scope="module")
def tenant(office: Office) -> str:
    """The admin key of a tenant that sells to acme and to beta."""
    key = office.tenant()
    with office.client(key) as client:
        opened(client, f"{office.url}/health/live")
    return key


@pytest.fixture
def desk(office: Office, tenant: str, browser: Browser, pictures: Path) -> Iterator[Desk]:
    """Somebody of acme, with a token and nothing else."""
    with office.client(tenant) as client:
        made = Desk(office, browser, token(client, "acme"), pictures, kept_as="tallystick-portal-token")
    yield made
    made.close()


def test_a_token_in_the_address_opens_and_leaves_no_trace(
    office: Office, tenant: str, browser: Browser
) -> None:
    with office.client(tenant) as client:
        secret = token(client, "acme")
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{office.url}/portal#token={secret}&theme=dark")
    expect(page.get_by_role("heading", level=1)).to_have_text("Usage")
    assert secret not in page.url
    assert secret not in page.content()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Usage")
    page.get_by_role("button", name="Leave").click()
    page.get_by_label("Token").fill("nobody knows it")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_have_text("This token is not known, or no longer good.")
    page.get_by_label("Token").fill(tenant)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("main")).to_contain_text("This is a key of the company")
    context.close()


def test_every_section_shows_the_customer_and_nobody_else(desk: Desk) -> None:
    whole = 0
    for section in SECTIONS:
        page = desk.open(f"/portal{section}")
        whole += desk.check_figures()
        text = page.locator("body").inner_text()
        assert "beta" not in text.lower(), section
        assert page.locator("img, main script").count() == 0, section
    assert whole > 50
    # Not in what the pages were answered, either.
    assert not [one for one in desk.scalars if "beta" in one.lower()]
    assert "<img src=x" in desk.open("/portal").locator("body").inner_text()


def test_usage_is_the_apis_digit_for_digit(desk: Desk) -> None:
    page = desk.open("/portal?meter=tokens&range=month&by=model&window=day&zone=UTC")
    table = page.get_by_role("table", name="Tokens by day")
    shown = table.locator("[data-figure]").all_text_contents()
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).isoformat()
    usage = desk.answer(
        "/v1/meters/tokens/usage",
        customer="acme",
        include_children="true",
        window="day",
        group_by="model",
        limit=200,
        order_by="-value",
        **{"from": first},
    )
    assert sorted(shown) == sorted(row["value"] for row in usage["rows"])
    assert any("." in value for value in shown)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == len(usage["rows"]) + 1
    assert all(any(value in line for line in lines) for value in shown)


def test_an_invoice_down_to_its_events_and_as_a_file(desk: Desk) -> None:
    page = desk.open("/portal/invoices")
    page.get_by_role("table", name="Invoices").get_by_role("link").first.click()
    desk.settled()
    expect(page.locator(".totals .due")).to_be_visible()
    lines = page.get_by_role("table", name="Lines of the invoice")
    lines.get_by_role("button", name="Tokens").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("table", name="Steps of the price")).to_be_visible()
    expect(dialog.get_by_role("table", name="Events of tokens")).to_be_visible()
    desk.settled()
    assert desk.check_figures() > 20
    desk.picture("portal-line")
    page.keyboard.press("Escape")
    for name, start in (("PDF", b"%PDF"), ("CSV", b"")):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        assert Path(download.value.path()).read_bytes().startswith(start)


def test_credits_and_their_ledger(desk: Desk) -> None:
    page = desk.open("/portal/credits")
    known = desk.answer("/v1/customers/acme/credits")
    balance = page.get_by_role("table", name="Balances").locator("[data-figure]").first
    assert balance.inner_text() == known["balances"][0]["balance"]
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == len(known["ledger"]) + 1
    assert "987.65" not in page.content()


def test_an_event_of_ones_own(desk: Desk) -> None:
    page = desk.open("/portal/events")
    page.locator(".link.id").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("<script>alert(2)</script>")
    expect(page.get_by_role("table", name="What it counted for")).to_be_visible()
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    text = Path(download.value.path()).read_text()
    assert "acme-eu" in text
    assert "beta" not in text
    # Another customer's is not to be found.
    page.goto(f"{desk.office.url}/portal/events?event=call-5&source=gateway")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()


def test_alerts_and_channels_of_ones_own(desk: Desk) -> None:
    page = desk.open("/portal/alerts")
    page.get_by_role("button", name="New channel").click()
    page.get_by_label("Key").fill("mine")
    page.get_by_label("URL").fill(f"{desk.office.url}/health/live")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("dialog", name="The secret")).to_contain_text("whsec_")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="New alert").click()
    page.get_by_label("Key").fill("mine")
    page.get_by_label("When").select_option("tokens")
    page.get_by_label("Value", exact=True).fill("50.5")
    page.get_by_role("dialog").get_by_label("mine").check()
    page.get_by_role("button", name="Try over the past 30 days").click()
    expect(page.locator(".tried")).to_contain_text("fired")
    desk.check_figures()
    page.get_by_role("button", name="Create").click()
    alerts = page.get_by_role("table", name="Alerts", exact=True)
    alerts.get_by_role("button", name="mine").click()
    page.get_by_role("button", name="Mute for a day").click()
    expect(page.get_by_role("dialog")).to_contain_text("Muted until")
    page.get_by_role("button", name="Delete…").first.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("No alert yet")).to_be_visible()
    with desk.office.client(desk.key) as client:
        assert [one["key"] for one in client.get("/v1/channels").json()["items"]] == ["mine"]
    page.get_by_role("row", name="mine").get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("No channel yet")).to_be_visible()


def test_a_token_with_less_shows_less(office: Office, tenant: str, browser: Browser, pictures: Path) -> None:
    with office.client(tenant) as client:
        secret = token(client, "beta", ["usage:read", "meters:read"])
    desk = Desk(office, browser, secret, pictures, kept_as="tallystick-portal-token")
    page = desk.open("/portal")
    assert page.get_by_role("navigation").get_by_role("link").all_text_contents() == ["Usage"]
    desk.open("/portal/invoices")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
    desk.close()


@pytest.fixture
def company_site(office: Office, tmp_path: Path) -> Iterator[str]:
    """A page of another origin that embeds the portal."""
    (tmp_path / "index.html").write_text(
        "<!doctype html><title>Account</title>"
        "<style>tallystick-portal { --tallystick-accent: rgb(120, 0, 90) }</style>"
        f"<script src='{office.url}/portal.js' defer></script><tallystick-portal theme='light'></tallystick-portal>"
    )

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_embedded_in_another_page(
    office: Office, tenant: str, browser: Browser, company_site: str, pictures: Path
) -> None:
    with office.client(tenant) as client:
        made = client.post("/v1/portal_tokens", json={"customer": "acme"}).json()
        context = browser.new_context(reduced_motion="reduce")
        page = context.new_page()
        page.goto(company_site)
        page.evaluate(
            "secret => { const own = document.querySelector('tallystick-portal');"
            " own.addEventListener('tallystick-expired', () => { document.title = 'expired' });"
            " own.setAttribute('token', secret) }",
            made["token"],
        )
        frame = page.frame_locator("iframe")
        expect(frame.get_by_role("heading", level=1)).to_have_text("Usage")
        expect(frame.locator(".portal-head")).to_have_count(0)
        expect(frame.get_by_role("table", name="Usage of every meter")).to_be_visible()
        accent = frame.locator("html").evaluate("root => getComputedStyle(root).getPropertyValue('--accent')")
        assert accent == "rgb(120, 0, 90)"
        page.wait_for_function("parseFloat(document.querySelector('iframe').style.height) > 700")
        frame.get_by_role("link", name="Events").click()
        expect(frame.get_by_role("heading", level=1)).to_have_text("Events")
        expect(frame.locator(".portal-head")).to_have_count(0)
        page.screenshot(path=pictures / "portal-embedded.png")
        assert client.delete(f"/v1/portal_tokens/{made['id']}").status_code == 204
        page.wait_for_timeout(1100)  # a revoked token is refused within a second
        frame.get_by_role("link", name="Usage").click()
        page.wait_for_function("document.title === 'expired'")
        context.close()


def test_everybody_can_use_it(desk: Desk, axe: str) -> None:
    found: dict[str, list[str]] = {}
    for section in SECTIONS:
        name = f"portal{section.replace('/', '-')}"
        desk.show_as("light", 1280)
        page: Page = desk.open(f"/portal{section}")
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


def test_it_asks_public_routes_alone(office: Office, contract: dict[str, Any]) -> None:
    routes = [(method.upper(), path) for path, item in contract["paths"].items() for method in item]
    for method, path in office.asked:
        if path.startswith(("/portal", "/assets/")) or path == "/favicon.svg":
            continue
        assert any(method == one and matches(template, path) for one, template in routes), (method, path)
    assert MARKUP not in str(office.asked)
