"""What holds for every answer: problems, ids, headers, keys, paths, HEAD, idempotency, the published contract."""

import ast
import asyncio
import json
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from litestar import Request, delete, get, post
from litestar.params import FromPath

import tallystick
from tallystick import errors
from tallystick.api import auth, codes, problem
from tallystick.api.auth import caller, require
from tallystick.api.openapi import PROBLEM, operation
from tallystick.api.rates import Rates
from tallystick.api.wire import json_object, page_of
from tallystick.catalog.interface import SYSTEM
from tallystick.config import Settings
from tallystick.errors import TallystickError

ROOT = Path(__file__).parents[2]
SAID = {"operation": operation(summary="A route of the tests", tag="Tests")}
CREATES = {"operation": operation(summary="A route that makes", tag="Tests", body={}, creates=True)}


def every_class(of: type[TallystickError]) -> list[type[TallystickError]]:
    return [of, *(found for child in of.__subclasses__() for found in every_class(child))]


# Rooms may derive classes of their own, for what only they need to know.
PUBLIC = ("tallystick.errors", "tallystick.api.problem")
CLASSES = {found.__name__: found for found in every_class(TallystickError) if found.__module__ in PUBLIC}


@get("/v1/tests/raise/{name:str}", guards=[require("meters:read")], opt=SAID)
async def raise_it(name: FromPath[str]) -> None:
    if name in CLASSES:
        raise CLASSES[name]("In words.", faults=[errors.Fault("/a", "some_code", "Why.")], retry_after_s=7)
    raise RuntimeError("SELECT secret FROM everything")


@get("/v1/tests/echo/{name:str}", guards=[require("meters:read")], opt=SAID)
async def echo(name: FromPath[str], request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"name": name, "tenant": caller(request).tenant}


@get("/v1/tests/page", guards=[require("meters:read")], opt=SAID)
async def paged(request: Request[Any, Any, Any]) -> dict[str, Any]:
    page = page_of(request)
    return {"limit": page.limit, "after": page.after}


@post("/v1/tests/body", guards=[require("meters:write")], opt=SAID, status_code=200)
async def body(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {name: str(value) for name, value in (await json_object(request)).items()}


MADE: list[Any] = []
GATE = {"hold": asyncio.Event(), "reached": asyncio.Event()}


@post(
    "/v1/tests/make",
    guards=[require("meters:write")],
    opt={**CREATES, "secret_members": ("secret",)},
)
async def make(request: Request[Any, Any, Any]) -> dict[str, Any]:
    document = await json_object(request)
    if document.get("wrong"):
        raise errors.Conflict("No.")
    if document.get("slow"):
        GATE["reached"].set()
        await GATE["hold"].wait()
    MADE.append(document)
    return {"number": len(MADE), "secret": "shown once"}


@delete("/v1/tests/gone", guards=[require("meters:write")], opt=SAID)
async def gone() -> None:
    return None


ROUTES = (raise_it, echo, paged, body, make, gone)


def run(coroutine: Any) -> None:
    asyncio.run(coroutine)


# -- errors ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_has_one_shape(start: Any, name: str) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            answer = await running.client.get(f"/v1/tests/raise/{name}")
            expected = CLASSES[name]
            assert answer.status_code == expected.status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "7"
            assert answer.json() == {
                "type": f"urn:tallystick:problem:{expected.default_code}",
                "title": expected.title(),
                "status": expected.status,
                "detail": "In words.",
                "code": expected.default_code,
                "errors": [{"pointer": "/a", "code": "some_code", "detail": "Why."}],
            }
            assert set(answer.json()) == set(PROBLEM["required"])

    run(check())


def test_what_nobody_expected_stays_inside(start: Any, capsys: Any) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            answer = await running.client.get("/v1/tests/raise/other", headers={"x-request-id": "abc-1"})
            assert (answer.status_code, answer.json()["code"]) == (500, "internal")
            assert answer.headers["x-request-id"] == "abc-1"
            assert "SELECT" not in answer.text
            assert "Traceback" not in answer.text

    run(check())
    logged = capsys.readouterr().out
    assert "abc-1" in logged
    assert "SELECT secret FROM everything" in logged


UNROUTED: list[tuple[str, str, int, str]] = [
    ("GET", "/explorer", 404, "route_not_found"),
    ("POST", "/", 404, "route_not_found"),
    ("GET", "/v2/anything", 404, "route_not_found"),
    ("PUT", "/v1/events", 405, "method_not_allowed"),
    ("POST", "/v1/tests/page", 405, "method_not_allowed"),
    ("BREW", "/v1/tests/page", 405, "method_not_allowed"),
    ("GET", "/v1/tests/echo/%ff", 400, "invalid_path"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), UNROUTED)
def test_routes_there_are_not(start: Any, method: str, path: str, status: int, code: str) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            # Without a key: whether a route is there is no secret.
            answer = await running.client.request(method, path, headers={"authorization": ""})
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert answer.headers["content-type"] == "application/problem+json"
            if status == 405:
                assert "OPTIONS" in answer.headers["allow"]

    run(check())


BODIES: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", {}, 400, "invalid_json"),
    (b"{", {}, 400, "invalid_json"),
    (b"\xff", {}, 400, "invalid_json"),
    (b"[" * 65 + b"]" * 65, {}, 400, "invalid_json"),
    (b"[" * 500_000, {}, 400, "invalid_json"),
    (b'{"a":NaN}', {}, 400, "invalid_json"),
    (b'{"a":{"b":1,"b":2}}', {}, 400, "duplicate_key"),
    (b"[]", {}, 422, "not_an_object"),
    (b" " * (1024 * 1024 + 1), {}, 413, "body_too_large"),
    (b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    (b"{}", {"content-encoding": "gzip"}, 415, "unsupported_encoding"),
]


@pytest.mark.parametrize(("content", "headers", "status", "code"), BODIES)
def test_bodies_that_cannot_be_taken(
    start: Any, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            answer = await running.client.post("/v1/tests/body", content=content, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text

    run(check())


def test_numbers_in_bodies_are_exact(start: Any) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            numbers = {"a": "0.1000000000000000055", "b": "12345678901234567890123", "c": "9" * 5000}
            content = ",".join(f'"{name}":{text}' for name, text in numbers.items())
            answer = await running.client.post("/v1/tests/body", content=f"{{{content}}}")
            assert {name: Decimal(text) for name, text in answer.json().items()} == {
                name: Decimal(text) for name, text in numbers.items()
            }

    run(check())


def test_a_body_that_is_too_large_is_not_read_to_its_end(start: Any) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            pieces = 0

            async def endless() -> AsyncIterator[bytes]:
                nonlocal pieces
                while True:
                    pieces += 1
                    yield b" " * 100_000

            answer = await running.client.post("/v1/tests/body", content=endless())
            assert answer.status_code == 413
            assert pieces < 20

    run(check())


def test_lists_say_what_is_wrong_with_both_parameters(start: Any) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            answer = await running.client.get("/v1/tests/page", params={"limit": "0", "cursor": "?"})
            assert answer.status_code == 422
            assert [fault["pointer"] for fault in answer.json()["errors"]] == ["limit", "cursor"]
            assert (await running.client.get("/v1/tests/page")).json() == {"limit": 100, "after": None}

    run(check())


def test_every_code_is_documented_and_the_page_is_what_the_table_says() -> None:
    documented = {*codes.CODES, *codes.BODY_CODES, *codes.EVENT_CODES}
    used = {found.default_code for found in CLASSES.values()}
    for file in (ROOT / "src/tallystick").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                used |= {
                    keyword.value.value
                    for keyword in node.keywords
                    if keyword.arg == "code"
                    and isinstance(keyword.value, ast.Constant)
                    and isinstance(keyword.value.value, str)
                }
    assert used - documented == set()
    assert (ROOT / "docs/reference/errors.md").read_text() == codes.page(), (
        "run: python -m tallystick.api.codes > docs/reference/errors.md"
    )
    statuses = {found.default_code: found.status for found in CLASSES.values() if found.status != 500}
    assert {code: codes.CODES[code][0] for code in statuses if code in codes.CODES} == {
        code: status for code, status in statuses.items() if code in codes.CODES
    }


# -- headers, paths, methods ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1/events", "/v1/tests/page", "/nowhere"])
def test_request_ids_and_headers(start: Any, path: str) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            method = "POST" if path == "/v1/events" else "GET"
            made = await running.client.request(method, path)
            again = await running.client.request(method, path, headers={"x-request-id": "mine:1"})
            refused = await running.client.request(method, path, headers={"x-request-id": "no spaces"})
            assert again.headers["x-request-id"] == "mine:1"
            assert len({made.headers["x-request-id"], refused.headers["x-request-id"], "no spaces"}) == 3
            for answer in (made, again):
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["cache-control"] == "no-store"

    run(check())


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "50%", "ä ö", "..", "+", "a?b#c", "//"])
def test_names_in_paths_arrive_whole(start: Any, name: str) -> None:
    from urllib.parse import quote

    async def check() -> None:
        async with start(ROUTES) as running:
            for _ in range(2):  # the router keeps what it parsed
                answer = await running.client.get(
                    f"/v1/tests/echo/{quote(name, safe='.') if name != '..' else '%2E%2E'}"
                )
                assert answer.json() == {"name": name, "tenant": "default"}

    run(check())


def test_head_and_options(start: Any) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            full = await running.client.get("/v1/tests/page")
            head = await running.client.head("/v1/tests/page")
            assert head.status_code == 200
            assert head.content == b""
            assert head.headers["content-length"] == str(len(full.content))
            options = await running.client.options("/v1/events")
            assert options.status_code == 204
            assert "POST" in options.headers["allow"]
            assert (await running.client.delete("/v1/tests/gone")).status_code == 204

    run(check())


# -- keys -----------------------------------------------------------------------------------------------------------
class SomeKeys:
    """A catalog of keys that counts, and can be down."""

    def __init__(self) -> None:
        self.number = 1
        self.asked = 0
        self.down = False
        self.valid = {"good": frozenset({"admin"})}
        self.used: list[Any] = []

    def revision(self, topic: str = "all") -> int:
        assert topic == "keys"
        if self.down:
            raise errors.Unavailable("down")
        return self.number

    def authenticate(self, secret: str, *, now_us: int) -> Any:
        if self.down:
            raise errors.Unavailable("down")
        self.asked += 1
        found = self.valid.get(secret)
        return None if found is None else auth.Caller("default", found, secret, secret, None, 100)

    def note_used(self, key_ids: Any, *, at_us: int) -> None:
        if self.down:
            raise errors.Unavailable("down")
        self.used.append((sorted(key_ids), at_us))


def test_keys_are_kept_and_let_go_of(monkeypatch: Any) -> None:
    now_s, now_us = 1000.0, 50

    async def check() -> None:
        nonlocal now_s, now_us
        monkeypatch.setattr(time, "monotonic", lambda: now_s)
        keys = SomeKeys()
        authenticator = auth.Authenticator(keys, now_us=lambda: now_us, rates=Rates(Settings()))

        for _ in range(3):
            assert (await authenticator.authenticate("Bearer good")).key_id == "good"
        assert keys.asked == 1
        assert authenticator.kept(b"Bearer good") is not None
        assert authenticator.kept(b"Bearer bad") is None

        # The catalog is down: what is kept goes on, what is not known cannot be answered.
        keys.down = True
        now_s += 50
        await authenticator.note_used()
        assert (await authenticator.authenticate("bearer good")).key_id == "good"
        with pytest.raises(errors.Unavailable):
            await authenticator.authenticate("Bearer bad")
        keys.down = False
        assert keys.used == []
        await authenticator.note_used()
        await authenticator.note_used()
        assert keys.used == [(["good"], 50)]

        # Revoked: within a second it is refused.
        keys.valid.clear()
        keys.number += 1
        now_s += 0.9
        assert authenticator.kept(b"Bearer good") is None
        with pytest.raises(errors.Unauthenticated):
            await authenticator.authenticate("Bearer good")

        # A wrong key that is tried again and again does not ask the catalog each time.
        asked = keys.asked
        for _ in range(3):
            with pytest.raises(errors.Unauthenticated):
                await authenticator.authenticate("Bearer good")
        assert keys.asked == asked

        # Expired while it was kept.
        keys.valid["good"] = frozenset({"admin"})
        keys.number += 1
        now_s += 5
        assert await authenticator.authenticate("Bearer good")
        now_us = 100
        assert authenticator.kept(b"Bearer good") is None
        with pytest.raises(errors.Unauthenticated) as refused:
            await authenticator.authenticate("Bearer good")
        assert refused.value.code == "key_expired"

    run(check())


def test_a_revoked_key_is_refused_by_every_route(start: Any, monkeypatch: Any) -> None:
    async def check() -> None:
        async with start(ROUTES) as running:
            secret = await asyncio.to_thread(running.key, "meters:read", "events:write")
            headers = {"authorization": f"Bearer {secret}"}
            assert (await running.client.get("/v1/tests/page", headers=headers)).status_code == 200
            assert (await running.client.post("/v1/tests/body", headers=headers)).status_code == 403
            catalog = running.system.catalog
            (key,) = [key for key in catalog.api_keys("default").items if key.name == "test"]
            catalog.revoke_api_key("default", key.id, actor=SYSTEM, now_us=running.clock.now_us())
            real = time.monotonic
            monkeypatch.setattr(time, "monotonic", lambda: real() + 1)
            for method, path in (("GET", "/v1/tests/page"), ("POST", "/v1/events")):
                answer = await running.client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unknown_key")
                assert answer.headers["www-authenticate"].startswith("Bearer")

    run(check())


# -- Idempotency-Key ------------------------------------------------------------------------------------------------
def test_the_same_request_again_is_answered_and_not_done_again(start: Any) -> None:
    async def check() -> None:
        MADE.clear()
        async with start(ROUTES) as running:
            headers = {"idempotency-key": "k1"}
            first = await running.client.post("/v1/tests/make", json={"a": 1}, headers=headers)
            assert first.json() == {"number": 1, "secret": "shown once"}
            assert "idempotent-replayed" not in first.headers
            second = await running.client.post("/v1/tests/make", json={"a": 1}, headers=headers)
            assert second.status_code == first.status_code == 201
            assert second.headers["idempotent-replayed"] == "true"
            assert second.json() == {"number": 1, "secret": None}
            assert len(MADE) == 1

            other = await running.client.post("/v1/tests/make", json={"a": 2}, headers=headers)
            assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
            refused = await running.client.post(
                "/v1/tests/make", json={"a": 1}, headers={"idempotency-key": "x" * 256}
            )
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_idempotency_key")
            unknown = await running.client.post(
                "/v1/tests/make", json={"a": 1}, headers={**headers, "authorization": "Bearer no"}
            )
            assert unknown.status_code == 401
            assert len(MADE) == 1

    run(check())


def test_answers_are_forgotten_after_a_day(start: Any, monkeypatch: Any) -> None:
    async def check() -> None:
        monkeypatch.setattr("tallystick.api.idempotency.FORGET_EVERY_S", 0.0)
        async with start(ROUTES) as running:
            for number in range(3):
                headers = {"idempotency-key": f"day-{number}"}
                await running.client.post("/v1/tests/make", json={}, headers=headers)
            running.clock.advance(seconds=25 * 3600)
            await running.client.post("/v1/tests/make", json={}, headers={"idempotency-key": "later"})
            left = await asyncio.to_thread(
                running.system.catalog.forget_idempotent, now_us=running.clock.now_us()
            )
            assert left == 0

    run(check())


def test_a_refusal_leaves_the_key_free(start: Any) -> None:
    async def check() -> None:
        MADE.clear()
        async with start(ROUTES) as running:
            headers = {"idempotency-key": "k2"}
            wrong = await running.client.post("/v1/tests/make", json={"wrong": True}, headers=headers)
            assert wrong.status_code == 409
            right = await running.client.post("/v1/tests/make", json={"a": 1}, headers=headers)
            assert right.status_code == 201

    run(check())


def test_while_the_first_runs_the_second_is_told_so(start: Any) -> None:
    async def check() -> None:
        MADE.clear()
        GATE["hold"], GATE["reached"] = asyncio.Event(), asyncio.Event()
        async with start(ROUTES) as running:
            options: Any = {"json": {"slow": True}, "headers": {"idempotency-key": "k3"}}
            first = asyncio.create_task(running.client.post("/v1/tests/make", **options))
            await asyncio.wait_for(GATE["reached"].wait(), 5)
            second = await running.client.post("/v1/tests/make", **options)
            assert (second.status_code, second.json()["code"]) == (409, "idempotency_key_in_use")
            GATE["hold"].set()
            assert (await first).status_code == 201
            assert len(MADE) == 1

    run(check())


# -- health and the contract ----------------------------------------------------------------------------------------
def test_readiness_needs_only_the_log(start: Any) -> None:
    async def check() -> None:
        async with start() as running:

            def fail() -> None:
                raise errors.Unavailable("The store does not answer.")

            running.client.headers.pop("authorization")
            assert (await running.client.get("/health/live")).json() == {"status": "ok"}
            running.system.store.ping = fail  # type: ignore[method-assign]
            answer = await running.client.get("/health/ready")
            assert answer.status_code == 200
            document = answer.json()
            assert document["status"] == "degraded"
            assert document["components"]["store"] == {
                "status": "down",
                "detail": "The store does not answer.",
            }
            assert document["components"]["log"] == {"status": "ok"}
            assert document["recorder_lag"] == {"events": 0, "seconds": 0.0}

    run(check())


def test_the_contract_names_every_route_of_the_system(start: Any) -> None:
    async def check() -> None:
        async with start(routes=None) as running:
            running.client.headers.pop("authorization")
            document = (await running.client.get("/openapi.json")).json()
            assert document["openapi"] == "3.1.0"
            assert document["info"]["version"] == tallystick.__version__
            events = document["paths"]["/v1/events"]["post"]
            assert set(events["requestBody"]["content"]) == {
                "application/cloudevents+json",
                "application/cloudevents-batch+json",
                "application/json",
                "application/x-ndjson",
                "text/csv",
            }
            assert {"200", "202", "400", "401", "403", "408", "413", "415", "422", "503", "507"} <= set(
                events["responses"]
            )
            identifiers = [
                said["operationId"] for item in document["paths"].values() for said in item.values()
            ]
            assert len(identifiers) == len(set(identifiers))
            text = json.dumps(document)
            for path, item in document["paths"].items():
                for method, said in item.items():
                    assert said["summary"], (method, path)
                    if path.startswith("/v1/"):
                        scoped = "Needs the scope" in said["description"]
                        assert scoped or path == "/v1/me", (method, path)
                        assert {"401", "403"} <= set(said["responses"])
                    named = {p["name"] for p in said.get("parameters", ()) if p["in"] == "path"}
                    assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert "x-creates" not in text

    run(check())


def test_an_undocumented_route_does_not_start(start: Any) -> None:
    @get("/v1/tests/silent", guards=[require("meters:read")])
    async def silent() -> None:
        return None

    async def check() -> None:
        with pytest.raises(LookupError, match="/v1/tests/silent"):
            async with start((silent,)):
                pass

    run(check())


def test_problems_of_the_framework_are_ours() -> None:
    from litestar.exceptions import HTTPException, ValidationException

    found = problem.translated(
        ValidationException("bad", extra=[{"key": "limit", "message": "Expected int"}])
    )
    assert (found.status, found.faults[0].pointer) == (422, "limit")
    for status in (400, 401, 403, 404, 405, 413, 415, 429, 503):
        assert problem.translated(HTTPException("x", status_code=status)).status == status
    assert problem.translated(HTTPException("x", status_code=418)).status == 500
