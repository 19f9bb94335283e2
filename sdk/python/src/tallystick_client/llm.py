"""Tokens of language models: what OpenAI, Anthropic and Amazon Bedrock answer, read into one shape.

`input_tokens` are all tokens read, those from a cache included; `cached_input_tokens` were read from the cache,
`cache_write_tokens` written into it; `output_tokens` are all written, `reasoning_tokens` those of them not shown. The
three count differently: OpenAI's prompt_tokens include cached ones, Anthropic's and Bedrock's do not.

Answers may be the vendors' own objects or plain dicts; nothing of the vendors is imported.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

EVENT_TYPE = "llm.completion"


@dataclass(slots=True)
class Tokens:
    """Usage of one answer, and what it was of."""

    provider: str = ""
    model: str = ""
    response_id: str = ""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    found: bool = False
    """Whether there was any usage to read: an OpenAI stream has it only with stream_options.include_usage."""

    @property
    def data(self) -> dict[str, Any]:
        """As `data` of an event."""
        return {
            "provider": self.provider,
            "model": self.model,
            "input_tokens": self.input_tokens,
            "cached_input_tokens": self.cached_input_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
        }


class Tracks(Protocol):
    """A Client."""

    def track(
        self,
        event_type: str,
        subject: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the contract's word
        source: str | None = None,
    ) -> str:
        """See Client.track."""
        ...


def _get(thing: Any, *names: str) -> Any:
    """A member, and a member of that; None where there is none."""
    for name in names:
        if isinstance(thing, Mapping):
            thing = cast("Mapping[str, Any]", thing).get(name)
        else:
            thing = getattr(thing, name, None)
        if thing is None:
            return None
    return thing


def _count(thing: Any, *names: str) -> int:
    found = _get(thing, *names)
    return found if isinstance(found, int) and found > 0 else 0


def read(answer: Any, tokens: Tokens | None = None, *, model: str = "") -> Tokens:
    """What an answer, or one piece of a stream, says of tokens; pieces add to what `tokens` holds. `model` for Bedrock,
    whose answers do not name it."""
    tokens = tokens or Tokens(model=model)
    usage = _get(answer, "usage")
    if usage is None:
        usage = _get(answer, "response", "usage")  # OpenAI's Responses stream: response.completed
    if _get(answer, "message", "usage") is not None:  # Anthropic's stream: message_start
        answer = _get(answer, "message")
        usage = _get(answer, "usage")
    if usage is None and _get(answer, "metadata", "usage") is not None:  # Bedrock's ConverseStream
        usage = _get(answer, "metadata", "usage")
    name = _get(answer, "model") or _get(answer, "response", "model")
    if isinstance(name, str):
        tokens.model = name
    response_id = (
        _get(answer, "id") or _get(answer, "response", "id") or _get(answer, "ResponseMetadata", "RequestId")
    )
    if isinstance(response_id, str):
        tokens.response_id = response_id
    if usage is not None:
        _usage(usage, tokens)
    return tokens


def _usage(usage: Any, tokens: Tokens) -> None:
    tokens.found = True
    if _get(usage, "inputTokens") is not None or _get(usage, "outputTokens") is not None:
        tokens.provider = "bedrock"
        _beside(usage, tokens, "inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
        tokens.output_tokens = _count(usage, "outputTokens")
    elif _get(usage, "prompt_tokens") is not None:
        _openai(usage, tokens, "prompt_tokens", "completion_tokens")
    elif _get(usage, "input_tokens_details") is not None:
        # not output_tokens_details: Anthropic's answers have those too
        _openai(usage, tokens, "input_tokens", "output_tokens")
    else:
        tokens.provider = "anthropic"
        _beside(usage, tokens, "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        # message_start and each message_delta carry the count so far, not a difference
        tokens.output_tokens = max(tokens.output_tokens, _count(usage, "output_tokens"))
        thinking = _count(usage, "output_tokens_details", "thinking_tokens")
        tokens.reasoning_tokens = max(tokens.reasoning_tokens, thinking)


def _openai(usage: Any, tokens: Tokens, read_: str, written: str) -> None:
    tokens.provider = "openai"
    tokens.input_tokens = _count(usage, read_)
    tokens.cached_input_tokens = _count(usage, f"{read_}_details", "cached_tokens")
    tokens.cache_write_tokens = _count(usage, f"{read_}_details", "cache_write_tokens")
    tokens.output_tokens = _count(usage, written)
    tokens.reasoning_tokens = _count(usage, f"{written}_details", "reasoning_tokens")


def _beside(usage: Any, tokens: Tokens, fresh: str, read_: str, written: str) -> None:
    """Tokens that are counted beside those of the cache. A later piece of a stream may repeat some of the three."""
    beside = tokens.input_tokens - tokens.cached_input_tokens - tokens.cache_write_tokens
    if _get(usage, fresh) is not None:
        beside = _count(usage, fresh)
    if _get(usage, read_) is not None:
        tokens.cached_input_tokens = _count(usage, read_)
    if _get(usage, written) is not None:
        tokens.cache_write_tokens = _count(usage, written)
    tokens.input_tokens = beside + tokens.cached_input_tokens + tokens.cache_write_tokens


def track(
    client: Tracks,
    subject: str,
    answer: Any,
    *,
    model: str = "",
    data: Mapping[str, Any] | None = None,
    event_type: str = EVENT_TYPE,
) -> str | None:
    """Track the tokens of a whole answer; the event's id, None when it has no usage. The answer's own id makes the
    identity, so that an answer tracked twice counts once."""
    return _tell(client, subject, read(answer, model=model), data, event_type)


def stream(
    client: Tracks,
    subject: str,
    pieces: Iterable[Any],
    *,
    model: str = "",
    data: Mapping[str, Any] | None = None,
    event_type: str = EVENT_TYPE,
) -> Iterator[Any]:
    """Pass a stream on, and track its tokens at its end, also when the reader stops early."""
    tokens = Tokens(model=model)
    try:
        for piece in pieces:
            read(piece, tokens)
            yield piece
    finally:
        _tell(client, subject, tokens, data, event_type)


async def astream(
    client: Tracks,
    subject: str,
    pieces: AsyncIterable[Any],
    *,
    model: str = "",
    data: Mapping[str, Any] | None = None,
    event_type: str = EVENT_TYPE,
) -> AsyncIterator[Any]:
    """As `stream`, for an asynchronous one; with a Client, whose `track` does not wait but for a full spool."""
    tokens = Tokens(model=model)
    try:
        async for piece in pieces:
            read(piece, tokens)
            yield piece
    finally:
        _tell(client, subject, tokens, data, event_type)


def _tell(
    client: Tracks, subject: str, tokens: Tokens, data: Mapping[str, Any] | None, event_type: str
) -> str | None:
    if not tokens.found:
        return None
    return client.track(
        event_type,
        subject,
        {**tokens.data, **(data or {})},
        id=tokens.response_id or None,
        source=f"llm/{tokens.provider}" if tokens.response_id else None,
    )
