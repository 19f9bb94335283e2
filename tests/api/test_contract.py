"""The published contract: complete, valid, with examples that are what they are examples of; and its page for people."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from litestar import get

from tallystick.api.auth import require
from tallystick.api.codes import CODES
from tallystick.api.cors import Cors
from tallystick.api.openapi import operation
from tallystick.catalog.scopes import SCOPES
from tallystick.errors import Invalid
from tallystick.metering.verdict import BODY_CODES

DEPRECATED = datetime(2026, 7, 1, tzinfo=UTC)
SUNSET = datetime(2027, 1, 1, tzinfo=UTC)


@get(
    "/v1/tests/old",
    guards=[require("meters:read")],
    opt={"operation": operation(summary="Old", tag="Tests", deprecated=DEPRECATED, sunset=SUNSET)},
)
async def old() -> dict[str, Any]:
    return {}


def run(coroutine: Any) -> None:
    asyncio.run(coroutine)


async def published(start: Any, **options: Any) -> dict[str, Any]:
    async with start(**options) as running:
        return (await running.client.get("/openapi.json")).json()


@pytest.fixture
def document(start: Any) -> dict[str, Any]:
    return asyncio.run(published(start, routes=None))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, said in item.items():
            yield f"{method.upper()} {path}", said


def media(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, said in operations(document):
        for kind, one in said.get("requestBody", {}).get("content", {}).items():
            yield name, f"body {kind}", one
        for status, response in said["responses"].items():
            for kind, one in response.get("content", {}).items():
                yield name, f"{status} {kind}", one


def validator(document: dict[str, Any], schema: Any) -> Draft202012Validator:
    return Draft202012Validator({"components": document["components"], **schema})


def test_every_example_is_valid(document: dict[str, Any]) -> None:
    wrong = []
    for name, place, one in media(document):
        assert "schema" in one, (name, place)
        if place.endswith("application/json"):
            assert "example" in one, (name, place)
        if "example" in one and "json" in place and "ndjson" not in place:
            errors = [
                error.message for error in validator(document, one["schema"]).iter_errors(one["example"])
            ]
            if errors:
                wrong.append((name, place, errors[:2], one["example"]))
    assert wrong == []


def test_every_schema_is_one(document: dict[str, Any]) -> None:
    for _, _, one in media(document):
        Draft202012Validator.check_schema(one["schema"])
    for _, said in operations(document):
        for parameter in said.get("parameters", ()):
            Draft202012Validator.check_schema(parameter["schema"])
            assert parameter.get("description") or parameter["in"] != "query"


def test_every_operation_says_its_scope_and_its_errors(document: dict[str, Any]) -> None:
    for name, said in operations(document):
        if said.get("security") == []:
            assert not name.split(" ")[1].startswith("/v1/"), name
            continue
        if name != "GET /v1/me":  # any valid key may ask
            ((scope,),) = [one["key"] for one in said["security"]]
            assert scope in SCOPES, name
        assert {"401", "403", "422", "429", "500", "503"} <= set(said["responses"]), name
        for response in said["responses"].values():
            reference = response.get("$ref")
            if reference:
                assert reference.rsplit("/", 1)[1] in document["components"]["responses"]


def test_whatever_creates_can_be_repeated(document: dict[str, Any]) -> None:
    for name, said in operations(document):
        # Other vendors' APIs are theirs, and know no such header unless they say so.
        ours = name.startswith("POST /v1/")
        if ours and "201" in said["responses"]:
            assert "Idempotency-Key" in {one["name"] for one in said["parameters"]}, name


def test_errors_name_their_codes(document: dict[str, Any]) -> None:
    responses = document["components"]["responses"]
    named = " ".join(response["description"] for response in responses.values())
    missing = [code for code in [*CODES, *BODY_CODES] if f"`{code}`" not in named]
    assert set(missing) <= {"method_not_allowed", "no_active_subscription"}
    for name, response in responses.items():
        if not name.startswith("Problem"):
            continue  # another vendor's
        one = response["content"]["application/problem+json"]
        assert list(validator(document, one["schema"]).iter_errors(one["example"])) == []


class Page(HTMLParser):
    """Which elements are open, what the page loads, and its text."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.anchors: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in named:
            self.anchors.append(str(named["id"]))
        self.loads.extend(str(named[name]) for name in ("src", "href") if name in named)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_for_people(start: Any) -> None:
    async def check() -> None:
        async with start(routes=None) as running:
            running.client.headers.pop("authorization")
            document = (await running.client.get("/openapi.json")).json()
            answer = await running.client.get("/docs")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "<script" not in answer.text
            page = Page()
            page.feed(answer.text)
            assert page.open == []
            assert sorted(page.anchors) == sorted(said["operationId"] for _, said in operations(document))
            assert all(load == "/openapi.json" or load[1:] in page.anchors for load in page.loads)
            for name, _ in operations(document):
                assert name.replace(" ", "") in page.text.replace(" ", "")

    run(check())


def test_a_route_that_is_deprecated_says_so(start: Any) -> None:
    async def check() -> None:
        async with start((old,)) as running:
            answer = await running.client.get("/v1/tests/old")
            assert answer.headers["deprecation"] == "@1782864000"
            assert answer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"
            refused = await running.client.get("/v1/tests/old", headers={"authorization": "Bearer x"})
            assert (refused.status_code, "sunset" in refused.headers) == (401, True)
            assert "deprecation" not in (await running.client.get("/health/live")).headers
            document = (await running.client.get("/openapi.json")).json()
            said = document["paths"]["/v1/tests/old"]["get"]
            assert said["deprecated"] is True
            assert {"Deprecation", "Sunset"} <= set(said["responses"]["200"]["headers"])
            assert "Deprecated." in (await running.client.get("/docs")).text

    run(check())


# -- CORS -----------------------------------------------------------------------------------------------------------
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


def test_pages_of_named_origins_may_call(start: Any) -> None:
    async def check() -> None:
        async with start(cors_origins="https://portal.example.com, http://localhost:5173") as running:
            ours = {"origin": "https://portal.example.com"}
            theirs = {"origin": "https://evil.example"}
            for path in ("/v1/events", "/health/live"):
                asked = await running.client.request("OPTIONS", path, headers={**ours, **PREFLIGHT})
                assert asked.status_code == 204
                assert asked.headers["access-control-allow-origin"] == ours["origin"]
                assert "Authorization" in asked.headers["access-control-allow-headers"]
                assert "access-control-allow-credentials" not in asked.headers
                refused = await running.client.request("OPTIONS", path, headers={**theirs, **PREFLIGHT})
                assert "access-control-allow-origin" not in refused.headers
                assert refused.headers["vary"] == "Origin"
            for request in (
                running.client.post("/v1/events", json=[], headers=ours),
                running.client.get("/health/live", headers=ours),
                running.client.get("/v1/nothing", headers=ours),
            ):
                answer = await request
                assert answer.headers["access-control-allow-origin"] == ours["origin"]
                assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
            other = await running.client.get("/health/live", headers=theirs)
            assert "access-control-allow-origin" not in other.headers

    run(check())


def test_without_the_setting_no_page_may(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            asked = await running.client.request(
                "OPTIONS", "/v1/events", headers={"origin": "https://a.example", **PREFLIGHT}
            )
            assert "access-control-allow-origin" not in asked.headers

    run(check())


def test_origins() -> None:
    assert Cors("*").headers([(b"origin", b"https://a")])[0] == (b"access-control-allow-origin", b"*")
    assert Cors("*").headers([]) == []
    assert not Cors(" ").on
    for wrong in ("portal.example.com", "https://a/", "ftp://a", "https://"):
        with pytest.raises(Invalid):
            Cors(wrong)


def test_the_document_stays_readable(document: dict[str, Any]) -> None:
    assert len(json.dumps(document)) < 1_000_000
