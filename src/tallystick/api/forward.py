"""Requests to the gate, handed on to the process of the cluster that owns it: as they came, with the caller's own key."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from litestar import Request, Response

from tallystick.api import wire
from tallystick.errors import BadRequest, Unavailable
from tallystick.flows.limits.asked import AskedGate
from tallystick.flows.limits.owner import Elsewhere, Limiting

Connection = Request[Any, Any, Any]

FORWARDED = "x-tallystick-forwarded"
_ANSWER_S_MAX = 15.0
_ON_THE_WAY = ("authorization", "content-type", "x-request-id", "if-match", "idempotency-key")
_BACK = ("content-type", "location", "retry-after", "etag")


async def body_of(request: Connection) -> dict[str, Any]:
    """The JSON object of a request, all of whose texts can be kept. Raises BadRequest (invalid_json) beside what json_object
    does."""
    raw = await wire.json_object(request)
    try:
        json.dumps(raw, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRequest("The body holds half of a surrogate pair.", code="invalid_json") from None
    return raw


def limiting_of(request: Connection) -> Limiting:
    """Raises Unavailable where there is no gate (a process that only serves for a move)."""
    limiting = wire.system_of(request).limits
    if limiting is None:
        raise _not_here()
    return limiting


async def at_owner(
    request: Connection, local: Callable[[AskedGate], Awaitable[Response[Any]]]
) -> Response[Any]:
    """The answer of the gate, here or wherever it is. Raises Unavailable (gate_not_ready)."""
    limiting = limiting_of(request)
    found = await limiting.gate()
    if not isinstance(found, Elsewhere):
        return await local(found)
    if FORWARDED in request.headers:
        raise _not_here()
    return await _forwarded(request, limiting, found)


async def _forwarded(request: Connection, limiting: Limiting, owner: Elsewhere) -> Response[Any]:
    headers = {name: request.headers[name] for name in _ON_THE_WAY if name in request.headers}
    headers[FORWARDED] = "1"
    scope: Any = request.scope
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    path = raw.partition(b"?")[0].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
    try:
        answer = await _client(request).request(
            request.method, owner.url + path, headers=headers, content=await wire.arrived(request)
        )
    except (httpx.HTTPError, RuntimeError) as error:
        # RuntimeError: the event loop's own, for a connection that is closed in the moment it is written to.
        limiting.lost_sight()
        raise _not_here() from error
    kept = {name: answer.headers[name] for name in _BACK if name in answer.headers}
    media_type = kept.pop("content-type", "application/json")
    return Response(answer.content, status_code=answer.status_code, media_type=media_type, headers=kept)


def _client(request: Connection) -> httpx.AsyncClient:
    state = request.app.state
    client: httpx.AsyncClient | None = state.get("gate_client")
    if client is None:
        client = httpx.AsyncClient(
            timeout=_ANSWER_S_MAX, limits=httpx.Limits(max_keepalive_connections=64), trust_env=False
        )
        state["gate_client"] = client
    return client


def _not_here() -> Unavailable:
    return Unavailable(
        "The process that owns the gate does not answer; another takes over within seconds. Try again.",
        code="gate_not_ready",
        retry_after_s=2,
    )
