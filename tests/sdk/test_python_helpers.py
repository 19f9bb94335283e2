"""The Python client's helpers: web applications, and tokens of language models."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import flask
import litestar
import pytest
from litestar.exceptions import NotFoundException
from litestar.response import Stream
from litestar.testing import TestClient

from tallystick_client import llm
from tallystick_client.middleware import AsgiMiddleware, WsgiMiddleware


class Kept:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def track(
        self,
        event_type: str,
        subject: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002
        source: str | None = None,
    ) -> str:
        self.events.append(
            {"type": event_type, "subject": subject, "data": dict(data or {}), "id": id, "source": source}
        )
        return id or "made"


OPENAI = {
    "id": "chatcmpl-1",
    "model": "gpt-5",
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "total_tokens": 140,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 30},
    },
}
RESPONSES = {
    "id": "resp_1",
    "model": "gpt-5",
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 30},
    },
}
ANTHROPIC = {
    "id": "msg_1",
    "model": "claude",
    "usage": {
        "input_tokens": 40,
        "cache_read_input_tokens": 50,
        "cache_creation_input_tokens": 10,
        "output_tokens": 40,
    },
}
BEDROCK = {
    "ResponseMetadata": {"RequestId": "r1"},
    "usage": {
        "inputTokens": 40,
        "outputTokens": 40,
        "totalTokens": 140,
        "cacheReadInputTokens": 50,
        "cacheWriteInputTokens": 10,
    },
}


def _object(value: Any) -> Any:
    return SimpleNamespace(**{k: _object(v) for k, v in value.items()}) if isinstance(value, dict) else value


@pytest.mark.parametrize("form", [lambda x: x, _object])
@pytest.mark.parametrize(
    ("answer", "provider", "cached", "written", "reasoning"),
    [
        (OPENAI, "openai", 60, 0, 30),
        (RESPONSES, "openai", 60, 0, 30),
        (ANTHROPIC, "anthropic", 50, 10, 0),
        (BEDROCK, "bedrock", 50, 10, 0),
    ],
)
def test_whole_answers(  # noqa: PLR0917 -- a table
    form: Any, answer: Any, provider: str, cached: int, written: int, reasoning: int
) -> None:
    kept = Kept()
    llm.track(kept, "acme", form(answer), model="m", data={"feature": "chat"})
    event = kept.events[0]
    assert event["data"] == {
        "provider": provider,
        "model": answer.get("model", "m"),
        "input_tokens": 100,
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": 40,
        "reasoning_tokens": reasoning,
        "total_tokens": 140,
        "feature": "chat",
    }
    assert event["id"] == (answer.get("id") or "r1")
    assert event["source"] == f"llm/{provider}"


STREAMS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"id": "chatcmpl-1", "model": "gpt-5", "choices": [{}], "usage": None},
        {"id": "chatcmpl-1", "model": "gpt-5", "choices": [], "usage": OPENAI["usage"]},
    ],
    "responses": [
        {"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5", "usage": None}},
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.completed", "response": RESPONSES},
    ],
    "anthropic": [
        {
            "type": "message_start",
            "message": {**ANTHROPIC, "usage": {**ANTHROPIC["usage"], "output_tokens": 1}},
        },
        {"type": "content_block_delta", "delta": {"text": "x"}},
        {"type": "message_delta", "usage": {"output_tokens": 20}},
        {"type": "message_delta", "usage": {"output_tokens": 40}},
        {"type": "message_stop"},
    ],
    "bedrock": [
        {"contentBlockDelta": {"delta": {"text": "x"}}},
        {"metadata": {"usage": BEDROCK["usage"], "metrics": {"latencyMs": 1}}},
    ],
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_count_once_at_their_end(name: str) -> None:
    kept = Kept()
    assert list(llm.stream(kept, "acme", iter(STREAMS[name]))) == STREAMS[name]

    async def pieces() -> Any:
        for piece in STREAMS[name]:
            yield _object(piece)

    async def main() -> None:
        async for _ in llm.astream(kept, "acme", pieces()):
            pass

    asyncio.run(main())
    assert len(kept.events) == 2
    for event in kept.events:
        assert (event["data"]["input_tokens"], event["data"]["output_tokens"]) == (100, 40)
    assert kept.events[0]["id"] == kept.events[1]["id"]


def test_an_answer_without_usage_is_no_event() -> None:
    kept = Kept()
    assert llm.track(kept, "acme", {"id": "x", "model": "y"}) is None
    assert list(llm.stream(kept, "acme", [{"delta": "x"}])) == [{"delta": "x"}]
    assert kept.events == []


def test_asgi() -> None:
    kept = Kept()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"de"})

    wrapped = AsgiMiddleware(application, kept, subject_of=lambda scope: scope.get("user"))

    async def send(message: Any) -> None:
        pass

    async def call(**scope: Any) -> None:
        await wrapped({"type": "http", "method": "GET", **scope}, None, send)  # type: ignore[arg-type]

    asyncio.run(call(path="/a", user="acme"))
    asyncio.run(call(path="/a"))
    with pytest.raises(RuntimeError):
        asyncio.run(call(path="/fails", user="acme"))
    found = [(event["data"]["status"], event["data"]["response_bytes"]) for event in kept.events]
    assert found == [(201, 5), (500, 0)]


def test_wsgi_and_metering_that_fails() -> None:
    kept = Kept()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return [b"ab", b"c"]

    for subject in ("acme", None, KeyError):

        def subject_of(environ: Any, subject: Any = subject) -> str | None:
            if subject is KeyError:
                raise KeyError
            return subject

        wrapped = WsgiMiddleware(application, kept, subject_of=subject_of, data_of=lambda _: {"more": 1})
        answer: Any = wrapped({"REQUEST_METHOD": "PUT", "PATH_INFO": "/x"}, lambda *_: None)
        assert list(answer) == [b"ab", b"c"]
        answer.close()
        answer.close()
    assert len(kept.events) == 1
    data = kept.events[0]["data"]
    assert (data["status"], data["response_bytes"], data["method"], data["more"]) == (404, 3, "PUT", 1)


def test_a_flask_application() -> None:
    kept = Kept()
    application = flask.Flask("counted")

    @application.get("/words")
    def _words() -> Any:
        return flask.Response(iter([b"some", b" words"]), status=203)

    @application.get("/fails")
    def _fails() -> Any:
        raise RuntimeError

    def subject_of(environ: Any) -> str | None:
        return environ.get("HTTP_USER")

    application.wsgi_app = WsgiMiddleware(application.wsgi_app, kept, subject_of=subject_of)
    with application.test_client() as client:
        assert client.get("/words", headers={"user": "acme"}, buffered=True).data == b"some words"
        assert client.get("/words", buffered=True).status_code == 203
        client.get("/fails", headers={"user": "acme"}, buffered=True)
    found = [(event["data"]["path"], event["data"]["status"]) for event in kept.events]
    assert found == [("/words", 203), ("/fails", 500)]
    assert kept.events[0]["data"]["response_bytes"] == 10


def test_a_litestar_application() -> None:
    kept = Kept()

    @litestar.get("/words", sync_to_thread=False)
    def words() -> Stream:
        return Stream(iter([b"some", b" words"]), status_code=203)

    @litestar.get("/missing", sync_to_thread=False)
    def missing() -> None:
        raise NotFoundException

    application = litestar.Litestar([words, missing], openapi_config=None)

    def subject_of(scope: Any) -> str | None:
        return dict(scope["headers"]).get(b"user", b"").decode() or None

    wrapped: Any = AsgiMiddleware(application, kept, subject_of=subject_of)  # type: ignore[arg-type]
    with TestClient(wrapped) as client:
        assert client.get("/words", headers={"user": "acme"}).content == b"some words"
        assert client.get("/words").status_code == 203
        client.get("/missing", headers={"user": "acme"})
    found = [(event["data"]["path"], event["data"]["status"]) for event in kept.events]
    assert found == [("/words", 203), ("/missing", 404)]
    assert kept.events[0]["data"]["response_bytes"] == 10
