"""The web pages as files: which paths are theirs, and what is said with them."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.api.web import PAGES, POLICY, Web
from tallystick.config import Settings
from tallystick.errors import Invalid

ROUTES = Path(__file__).parents[2] / "web" / "src" / "routes.ts"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"the API", "more_body": False})


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text('<meta content="@features@"><script src="/assets/a-1.js"></script>')
    (tmp_path / "assets" / "a-1.js").write_text("1")
    (tmp_path / "favicon.svg").write_text("<svg/>")
    return tmp_path


def get(
    directory: Path, path: str, method: str = "GET", accept: str = "*/*", **settings: Any
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=Web(inner, Settings(**settings), directory))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers={"accept": accept})

    return asyncio.run(ask())


@pytest.mark.parametrize("path", ["/", "/explore", "/customers/a%2Fb", "/meters/new?value=1"])
def test_every_path_of_a_page_is_answered_with_the_page(built: Path, path: str) -> None:
    answer = get(built, path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "/assets/a-1.js" in answer.text
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/explorer", "/v1/meters", "/health/ready", "/docs", "/assets/none.js", "/index.html"]
)
def test_every_other_path_is_the_apis(built: Path, path: str) -> None:
    assert get(built, path).text == "the API"


def test_a_person_is_told_by_a_page_that_there_is_none(built: Path) -> None:
    answer = get(built, "/explorer", accept="text/html,application/xhtml+xml")
    assert (answer.status_code, answer.headers["content-security-policy"]) == (404, POLICY)
    assert "/assets/a-1.js" in answer.text
    for path, accept in (("/v1/nothing", "text/html"), ("/explorer", "*/*")):
        assert get(built, path, accept=accept).text == "the API"


def test_only_reading_is_answered_with_a_page(built: Path) -> None:
    assert get(built, "/explore", "POST").text == "the API"


def test_hashed_files_are_kept_and_others_asked_for_again(built: Path) -> None:
    script, icon = get(built, "/assets/a-1.js"), get(built, "/favicon.svg")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in script.headers["cache-control"]
    assert icon.headers["cache-control"] == "no-cache"


def test_the_page_says_what_there_is(built: Path) -> None:
    assert 'content="billing"' in get(built, "/").text
    assert 'content=""' in get(built, "/", billing="off").text
    login = {"oidc_issuer": "https://id.example.com", "oidc_return_url": "https://t.example.com/sign-in"}
    assert 'content="billing login"' in get(built, "/", **login).text


def test_customers_pages_may_be_embedded_and_no_others(built: Path) -> None:
    policy = get(built, "/portal/invoices").headers["content-security-policy"]
    assert policy == POLICY.replace("frame-ancestors 'none'", "frame-ancestors *")
    named = get(built, "/portal", portal_frame_ancestors="'self' https://*.example.com:8443")
    assert named.headers["content-security-policy"].endswith(
        "frame-ancestors 'self' https://*.example.com:8443"
    )
    assert "frame-ancestors 'none'" in POLICY


@pytest.mark.parametrize("wrong", ["", "https://a.example; script-src *", "example.com/path", "https://a,b"])
def test_ancestors_that_browsers_would_not_understand_are_refused(built: Path, wrong: str) -> None:
    with pytest.raises(Invalid, match="TALLYSTICK_PORTAL_FRAME_ANCESTORS"):
        get(built, "/portal", portal_frame_ancestors=wrong)


def test_without_a_build_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    answer = get(tmp_path, "/")
    assert answer.status_code == 200
    assert "make web" in answer.text


def test_the_pages_and_the_server_know_the_same_paths() -> None:
    known = set(re.findall(r'path: "/([\w-]+)', ROUTES.read_text()))
    assert known <= PAGES, "api/web.py does not answer these"
