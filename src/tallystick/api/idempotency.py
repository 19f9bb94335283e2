"""`Idempotency-Key`: the same request a second time answers what the first one did, and does nothing.

A route takes part by saying `creates=True` of itself (api/openapi.py). Answers of success are kept for 24 hours; a
refusal created nothing, so the key stays free and the request may be mended and sent again. Members named in the route's
`opt={"secret_members": (…)}` are kept as null: a secret is shown once, and never stored.
"""

import asyncio
import hashlib
import json
import re
from time import monotonic
from typing import Any

from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.api.auth import caller
from tallystick.api.wire import BODY_TIME_S_MAX, invalid, system_of
from tallystick.catalog.interface import IdempotencyKey, StoredAnswer

KEY_LENGTH_MAX = 255
ANSWER_BYTES_MAX = 1024 * 1024
FORGET_EVERY_S = 60.0
"""At most 10,000 are deleted at a time, so some 160 a second may be made for ever."""

_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_LENGTH_MAX}}}\Z")
_KEPT_HEADERS = frozenset({b"content-type", b"location", b"etag"})


def idempotent(app: ASGIApp) -> ASGIApp:
    """Litestar middleware."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        handler: Any = scope.get("route_handler")
        if scope["type"] != "http" or scope["method"] != "POST" or not _creates(handler):
            await app(scope, receive, send)
            return
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        key = request.headers.get("idempotency-key")
        if key is None:
            await app(scope, receive, send)
            return
        await handler.authorize_connection(connection=request)  # before the body is looked at
        if not _KEY.match(key):
            raise invalid(
                "Idempotency-Key",
                "invalid_idempotency_key",
                f"Idempotency-Key: 1 to {KEY_LENGTH_MAX} visible ASCII characters are needed.",
            )
        await _run(app, handler, request, key, send)

    return handle


def _creates(handler: Any) -> bool:
    return bool(handler is not None and handler.opt.get("operation", {}).get("x-creates"))


async def _run(app: ASGIApp, handler: Any, request: Request[Any, Any, Any], key: str, send: Send) -> None:
    system = system_of(request)
    catalog = system.catalog
    who = caller(request)
    body = await _body(request)
    scope = request.scope
    identity = IdempotencyKey(who.tenant, who.key_id, f"POST {scope['path_template']}", key)
    digest = hashlib.sha256()
    for part in (scope["path"].encode(), scope.get("query_string", b""), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    await _forget_old(request)
    kept = await asyncio.to_thread(
        catalog.take_idempotent, identity, digest.digest(), now_us=system.clock.now_us()
    )
    if kept is not None:
        await _replay(kept, send)
        return

    start: Message | None = None
    pieces: list[bytes] = []

    async def receive_again() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def capture(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
        elif message["type"] == "http.response.body":
            pieces.append(message.get("body", b""))

    finished = False
    try:
        await app(scope, receive_again, capture)
        answer = b"".join(pieces)
        if start is not None and 200 <= start["status"] < 300 and len(answer) <= ANSWER_BYTES_MAX:
            stored = StoredAnswer(
                start["status"],
                tuple(
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in start["headers"]
                    if name.lower() in _KEPT_HEADERS
                ),
                _without_secrets(answer, handler.opt.get("secret_members", ())),
            )
            # Shielded: when the client hangs up now, the work is done all the same, and must not be done twice.
            await asyncio.shield(
                asyncio.to_thread(catalog.finish_idempotent, identity, stored, now_us=system.clock.now_us())
            )
            finished = True
    finally:
        if not finished:
            await asyncio.shield(asyncio.to_thread(catalog.release_idempotent, identity))
    if start is not None:
        await send(start)
        await send({"type": "http.response.body", "body": b"".join(pieces), "more_body": False})


async def _forget_old(request: Request[Any, Any, Any]) -> None:
    """Delete answers that are past their day, now and then: nothing else would."""
    state, now_s = request.app.state, monotonic()
    if now_s - state.get("idempotent_forgotten_at_s", float("-inf")) < FORGET_EVERY_S:
        return
    state["idempotent_forgotten_at_s"] = now_s
    system = system_of(request)
    await asyncio.to_thread(system.catalog.forget_idempotent, now_us=system.clock.now_us())


async def _body(request: Request[Any, Any, Any]) -> bytes:
    from tallystick.api.problem import RequestTimeout

    try:
        async with asyncio.timeout(BODY_TIME_S_MAX):
            return await request.body()
    except TimeoutError:
        raise RequestTimeout(f"The body did not arrive within {BODY_TIME_S_MAX} s.") from None


def _without_secrets(answer: bytes, members: tuple[str, ...]) -> bytes:
    if not members:
        return answer
    document: dict[str, Any] = json.loads(answer)
    document.update({name: None for name in members if name in document})
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def _replay(kept: StoredAnswer, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept.headers]
    headers.append((b"content-length", b"%d" % len(kept.body)))
    headers.append((b"idempotent-replayed", b"true"))
    await send({"type": "http.response.start", "status": kept.status, "headers": headers})
    await send({"type": "http.response.body", "body": kept.body, "more_body": False})
