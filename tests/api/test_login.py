"""People log in at a real provider on loopback, and get a token that ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from tallystick.api import keys
from tallystick.api.login import Sealed, login_routes, read_roles
from tallystick.config import Settings
from tallystick.errors import Invalid

from .provider import CLIENT, SECRET, Provider

CALLBACK = "https://tallystick.example/auth/callback"


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.stop()


@asynccontextmanager
async def running(start: Any, provider: Provider, **settings: Any) -> AsyncIterator[Any]:
    wanted = {
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET,
        "oidc_redirect_url": CALLBACK,
        "oidc_roles": "billing=billing:read usage:read; admins=admin",
        **settings,
    }
    async with start([*login_routes(Settings(**wanted)), *keys.ROUTES], **wanted) as found:
        found.client.headers.pop("authorization")
        yield found


async def log_in(found: Any, provider: Provider, **changes: str) -> httpx.Response:
    sent = await found.client.get("/auth/login")
    assert sent.status_code == 303, sent.text
    cookie = sent.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "Secure" in cookie
    back = {**provider.log_in(sent.headers["location"]), **changes}
    headers = {"cookie": cookie.partition(";")[0]}
    return await found.client.get("/auth/callback", params=back, headers=headers)


def run(coroutine: Any) -> None:
    asyncio.run(coroutine)


def test_a_person_logs_in_and_out(start: Any, provider: Provider) -> None:
    async def check() -> None:
        async with running(start, provider) as found:
            answer = await log_in(found, provider)
            assert answer.status_code == 200, answer.text
            assert answer.json()["name"] == "ann@example.org"
            assert answer.json()["scopes"] == ["usage:read", "billing:read"]
            token = {"authorization": f"Bearer {answer.json()['token']}"}
            assert (await found.client.get("/v1/api_keys", headers=token)).json()["code"] == "missing_scope"
            audited = found.system.catalog.audit("default").items[0]
            assert (audited.action, audited.actor) == ("session_token.create", "ann@example.org")
            provider.person["groups"] = "admins"
            admin = {"authorization": f"Bearer {(await log_in(found, provider)).json()['token']}"}
            assert (await found.client.get("/v1/api_keys", headers=admin)).status_code == 200
            assert (await found.client.post("/auth/logout", headers=admin)).status_code == 204
            found.clock.advance(seconds=3600)
            assert (await found.client.get("/v1/api_keys", headers=token)).status_code == 401
            assert (await found.client.post("/auth/logout")).status_code == 401

    run(check())


def test_a_page_is_given_the_token_behind_the_hash(start: Any, provider: Provider) -> None:
    async def check() -> None:
        page = "https://pages.example/in"
        async with running(start, provider, oidc_return_url=page) as found:
            answer = await log_in(found, provider)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith(f"{page}#token=tss_")

    run(check())


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"nonce": "other"}, 401, "login_failed"),
    ({"aud": "somebody-else"}, 401, "login_failed"),
    ({"iss": "https://evil.example"}, 401, "login_failed"),
    ({"exp": 1_000_000_000}, 401, "login_failed"),
    ({"groups": ["visitors"]}, 403, "no_role"),
    ({"groups": []}, 403, "no_role"),
]


@pytest.mark.parametrize(("claims", "status", "code"), WRONG)
def test_what_is_not_believed(
    start: Any, provider: Provider, claims: dict[str, Any], status: int, code: str
) -> None:
    async def check() -> None:
        async with running(start, provider) as found:
            provider.claims = claims
            answer = await log_in(found, provider)
            assert (answer.status_code, answer.json()["code"]) == (status, code)

    run(check())


def test_codes_states_and_keys(start: Any, provider: Provider) -> None:
    async def check() -> None:
        async with running(start, provider) as found:
            assert (await log_in(found, provider, code="made up")).json()["code"] == "login_failed"
            assert (await log_in(found, provider, state="other")).json()["code"] == "login_unknown"
            bare = await found.client.get("/auth/callback", params={"code": "x", "state": "y"})
            assert bare.json()["code"] == "login_unknown"
            assert (await log_in(found, provider)).status_code == 200
            provider.rotate()
            assert (await log_in(found, provider)).status_code == 200
            provider.key = ECKey.generate_key("P-256", {"kid": "1"})  # signed by somebody else
            assert (await log_in(found, provider)).json()["code"] == "login_failed"

    run(check())


def test_a_provider_that_is_down(start: Any, provider: Provider) -> None:
    async def check() -> None:
        async with running(start, provider, oidc_issuer="http://127.0.0.1:9") as found:
            answer = await found.client.get("/auth/login")
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)

    run(check())


def test_settings() -> None:
    assert read_roles("a=admin; b = usage:read meters:* ;") == {
        "a": ("admin",),
        "b": ("usage:read", "meters:*"),
    }
    with pytest.raises(Invalid) as refused:
        read_roles("a; b=root; =admin")
    assert len(refused.value.faults) == 3
    assert login_routes(Settings()) == []
    with pytest.raises(Invalid, match="oidc_client_id"):
        login_routes(Settings(oidc_issuer="https://id.example"))


def test_state_is_sealed_and_ends() -> None:
    sealed = Sealed("s")
    text = sealed.seal({"state": "a"}, now_us=5)
    assert sealed.open(text, now_us=6) == {"state": "a", "at": 5}
    assert sealed.open(text, now_us=601_000_000) is None
    assert Sealed("t").open(text, now_us=6) is None
    for wrong in ("", ".", "ü.ü", text[:-1], "x" + text):
        assert sealed.open(wrong, now_us=6) is None
