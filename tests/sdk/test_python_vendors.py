"""Tokens of language models, read from what the vendors' own libraries make of their wire forms."""

import asyncio
import json
import struct
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import anthropic
import boto3
import httpx2
import openai
import pytest
from botocore.awsrequest import AWSResponse
from tests.sdk.test_python_helpers import Kept

from tallystick_client import llm

pytestmark = pytest.mark.slow

OPENAI_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 25},
}
RESPONSE = {
    "id": "one",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "completed",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 10},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 25},
        "total_tokens": 140,
    },
}
ANTHROPIC_USAGE = {
    "input_tokens": 40,
    "cache_read_input_tokens": 50,
    "cache_creation_input_tokens": 10,
    "output_tokens": 40,
    "output_tokens_details": {"thinking_tokens": 25},
}
MESSAGE = {"id": "one", "type": "message", "role": "assistant", "model": "m", "content": []}
BEDROCK_USAGE = {
    "inputTokens": 40,
    "outputTokens": 40,
    "totalTokens": 140,
    "cacheReadInputTokens": 50,
    "cacheWriteInputTokens": 10,
}
READ = {"input_tokens": 100, "cached_input_tokens": 50, "cache_write_tokens": 10}
WRITTEN = {"output_tokens": 40, "reasoning_tokens": 25, "total_tokens": 140}
SAY = [{"role": "user", "content": "Hi"}]


def _events(*events: dict[str, Any], named: bool) -> httpx2.Response:
    lines = [
        (f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events
    ]
    text = "".join(lines) + ("" if named else "data: [DONE]\n\n")
    return httpx2.Response(200, text=text, headers={"content-type": "text/event-stream"})


def _answer(request: httpx2.Request) -> httpx2.Response:
    """What the vendors' servers answer, in the parts that say something of tokens."""
    asked = json.loads(request.content)
    path, streamed = request.url.path, asked.get("stream", False)
    if path.endswith("/chat/completions"):
        base = {"id": "one", "created": 1, "model": "m"}
        if not streamed:
            whole = {**base, "object": "chat.completion", "choices": [], "usage": OPENAI_USAGE}
            return httpx2.Response(200, json=whole)
        chunk = {**base, "object": "chat.completion.chunk"}
        said = [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]
        return _events(
            {**chunk, "choices": said, "usage": None},
            {**chunk, "choices": [], "usage": OPENAI_USAGE},
            named=False,
        )
    if path.endswith("/responses"):
        if not streamed:
            return httpx2.Response(200, json=RESPONSE)
        begun = {**RESPONSE, "status": "in_progress", "usage": None}
        return _events(
            {"type": "response.created", "sequence_number": 0, "response": begun},
            {"type": "response.completed", "sequence_number": 1, "response": RESPONSE},
            named=True,
        )
    if not streamed:
        return httpx2.Response(200, json={**MESSAGE, "stop_reason": "end_turn", "usage": ANTHROPIC_USAGE})
    begun = {**ANTHROPIC_USAGE, "output_tokens": 1, "output_tokens_details": None}
    return _events(
        {"type": "message_start", "message": {**MESSAGE, "usage": begun}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 25}},
        },
        {"type": "message_stop"},
        named=True,
    )


@pytest.fixture
def kept() -> Kept:
    return Kept()


def _assert_one(kept: Kept, provider: str, *, own_id: str | None = "one", reasoning: int = 25) -> None:
    assert len(kept.events) == 1
    event = kept.events[0]
    wanted = {"provider": provider, "model": "m", **READ, **WRITTEN, "reasoning_tokens": reasoning}
    assert (event["id"], event["data"]) == (own_id, wanted)


@pytest.mark.parametrize("ask", ["chat", "responses"])
@pytest.mark.parametrize("streamed", [False, True])
def test_openai(kept: Kept, ask: str, *, streamed: bool) -> None:
    http = httpx2.Client(transport=httpx2.MockTransport(_answer))
    client: Any = openai.OpenAI(api_key="k", base_url="http://openai.test/v1", http_client=http)
    if ask == "chat":
        more = {"stream_options": {"include_usage": True}} if streamed else {}
        answer = client.chat.completions.create(model="m", messages=SAY, stream=streamed, **more)
    else:
        answer = client.responses.create(model="m", input="Hi", stream=streamed)
    if streamed:
        assert len(list(llm.stream(kept, "acme", answer))) == 2
    else:
        llm.track(kept, "acme", answer)
    _assert_one(kept, "openai")


@pytest.mark.parametrize("way", ["whole", "pieces", "helper", "async"])
def test_anthropic(kept: Kept, way: str) -> None:
    transport = httpx2.MockTransport(_answer)
    settings: Any = {"api_key": "k", "base_url": "http://anthropic.test"}
    asked: Any = {"model": "m", "max_tokens": 10, "messages": SAY}
    client = anthropic.Anthropic(**settings, http_client=httpx2.Client(transport=transport))
    if way == "whole":
        llm.track(kept, "acme", client.messages.create(**asked))
    elif way == "pieces":
        assert len(list(llm.stream(kept, "acme", client.messages.create(**asked, stream=True)))) == 6
    elif way == "helper":
        with client.messages.stream(**asked) as stream:
            for _ in llm.stream(kept, "acme", stream):
                pass
    else:

        async def main() -> None:
            http = httpx2.AsyncClient(transport=transport)
            client = anthropic.AsyncAnthropic(**settings, http_client=http)
            async for _ in llm.astream(kept, "acme", await client.messages.create(**asked, stream=True)):
                pass
            await client.close()

        asyncio.run(main())
    _assert_one(kept, "anthropic")


class _Raw:
    """A body as urllib3 gives it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body

    def read(self, *_: Any) -> bytes:
        return self._body

    def close(self) -> None:
        pass


def _message(kind: str, payload: dict[str, Any]) -> bytes:
    """One message of application/vnd.amazon.eventstream."""
    headers = b""
    for name, value in (
        (":message-type", "event"),
        (":event-type", kind),
        (":content-type", "application/json"),
    ):
        headers += struct.pack(">B", len(name)) + name.encode()
        headers += struct.pack(">BH", 7, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    framed = prelude + struct.pack(">I", crc32(prelude)) + headers + body
    return framed + struct.pack(">I", crc32(framed))


@pytest.mark.parametrize("streamed", [False, True])
def test_bedrock(kept: Kept, *, streamed: bool) -> None:
    client: Any = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
        endpoint_url="http://bedrock.test",
    )

    def answer(request: Any, **_: Any) -> AWSResponse:
        if streamed:
            body = _message("contentBlockDelta", {"delta": {"text": "Hi"}, "contentBlockIndex": 0})
            body += _message("metadata", {"usage": BEDROCK_USAGE, "metrics": {"latencyMs": 1}})
            return AWSResponse(
                request.url, 200, {"content-type": "application/vnd.amazon.eventstream"}, _Raw(body)
            )
        said = {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}
        whole = {
            "output": said,
            "stopReason": "end_turn",
            "usage": BEDROCK_USAGE,
            "metrics": {"latencyMs": 1},
        }
        headers = {"content-type": "application/json", "x-amzn-requestid": "one"}
        return AWSResponse(request.url, 200, headers, _Raw(json.dumps(whole).encode()))

    client.meta.events.register("before-send.bedrock-runtime", answer)
    said = [{"role": "user", "content": [{"text": "Hi"}]}]
    if streamed:
        pieces = client.converse_stream(modelId="m", messages=said)["stream"]
        assert len(list(llm.stream(kept, "acme", pieces, model="m"))) == 2
    else:
        llm.track(kept, "acme", client.converse(modelId="m", messages=said), model="m")
    _assert_one(kept, "bedrock", own_id=None if streamed else "one", reasoning=0)
