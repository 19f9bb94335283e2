"""The pages of other installations: without billing, and with people who log in at a provider."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.api.provider import CLIENT, SECRET, Provider
from tests.faults.server import KEY, Server
from tests.web.desk import Desk, Office

pytestmark = [pytest.mark.slow, pytest.mark.engine]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(built: None, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(
        tmp_path_factory.mktemp("variants") / "data",
        billing="off",
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        oidc_roles="billing=usage:read meters:read customers:read events:read",
    )
    # Where the provider sends people back to is the server itself.
    made._settings |= {
        "oidc_redirect_url": f"{made.url}/auth/callback",
        "oidc_return_url": f"{made.url}/sign-in",
    }
    made.start()
    yield made
    made.end()


@pytest.fixture
def desk(office: Office, browser: Browser, pictures: Path) -> Iterator[Desk]:
    made = Desk(office, browser, KEY, pictures)
    yield made
    made.close()


def test_without_billing_its_pages_are_absent(desk: Desk) -> None:
    page = desk.open("/")
    navigation = page.get_by_role("navigation", name="Main")
    expect(navigation.get_by_role("link", name="Explore")).to_be_visible()
    for name in ("Invoices", "Plans and prices", "Credits"):
        expect(navigation.get_by_role("link", name=name, exact=True)).to_have_count(0)
    expect(navigation.get_by_role("heading", name="Billing")).to_have_count(0)
    desk.make("/v1/customers", {"key": "acme"})
    page = desk.open("/customers/acme")
    expect(page.get_by_role("main").get_by_role("heading", name="Usage")).to_be_visible()
    for name in ("Credits", "Invoices", "Plan", "This period so far"):
        expect(page.get_by_role("heading", name=name, exact=True)).to_have_count(0)
    for path in ("/invoices", "/plans", "/credits"):
        page.goto(f"{desk.office.url}{path}")
        expect(page.get_by_role("main")).to_contain_text("There is no such page")
    assert not [path for _, path in desk.office.asked if path.startswith(("/v1/invoices", "/v1/plans"))]


def test_who_has_logged_in_logs_out_for_good(office: Office, server: Server, browser: Browser) -> None:
    page: Page = browser.new_page()
    page.goto(f"{server.url}/sign-in")
    page.get_by_role("link", name="Log in with your company's account").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    assert "#" not in page.url
    token = page.evaluate("() => sessionStorage.getItem('tallystick-key')")
    assert token.startswith("tss_")
    with office.client(token) as client:
        assert client.get("/v1/me").json()["name"]
        with page.expect_response("**/auth/logout") as logout:
            page.get_by_role("button", name="Sign out").click()
        assert logout.value.status == 204
        expect(page.get_by_label("API key")).to_be_visible()
        assert page.evaluate("() => sessionStorage.getItem('tallystick-key')") is None
        assert client.get("/v1/me").status_code == 401, "the token is ended, not only forgotten"
    page.close()
