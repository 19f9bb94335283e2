"""The outermost layer: what holds for every answer, whoever made it.

Request ids, headers, the counting of requests, the access log, paths with `%2F`, HEAD, and the last resort when
something fails outside the framework. Requests to the ingest route go past the framework.
"""

import itertools
import secrets
from collections.abc import Sequence
from time import perf_counter
from typing import Any
from urllib.parse import unquote_to_bytes

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.api import quick
from tallystick.api.cors import Cors
from tallystick.api.direct import REQUEST_ID, Direct
from tallystick.api.forwarded import Proxies
from tallystick.api.ingest import INGEST_PATH
from tallystick.api.problem import PROBLEM_TYPE, Internal, problem_body, problem_headers
from tallystick.errors import BadRequest, TallystickError, Unavailable
from tallystick.flows.gate import Gate
from tallystick.metrics import Metrics
from tallystick.observe import logger

_log = logger(__name__)

# Answers are data, never a page: nothing in them may be guessed to be one, framed, or kept by a shared cache.
_UNLESS_SET: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Shell:
    """ASGI application around `inner` (the framework) and `ingest`."""

    def __init__(
        self,
        inner: ASGIApp,
        ingest: ASGIApp,
        *,
        metrics: Metrics,
        cors: Cors,
        gate: Gate,
        proxies: Proxies,
        gate_quick: quick.Quick | None = None,
    ) -> None:
        self._quick = gate_quick
        self._gate = gate
        self._proxies = proxies if proxies.any else None
        self._inner = inner
        self._cors = cors
        self._ingest = ingest
        self._requests = metrics.http_requests
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._proxies is not None and scope["type"] == "http" and scope["client"]:
            peer, port = scope["client"]
            scope["client"] = (self._proxies.client_of(peer, scope["headers"]), port)
        if (
            scope["type"] == "http"
            and scope["method"] not in _READING
            and not _may_when_closed(scope["method"], scope["path"])
        ):
            if self._gate.reason is not None:
                closed = Unavailable(self._gate.reason, code="moved", retry_after_s=2)
                await _send_problem(closed, send, [(b"x-request-id", self._request_id(scope))])
                return
            self._gate.enter()
            try:
                await self._let_in(scope, receive, send)
            finally:
                self._gate.leave()
        else:
            await self._let_in(scope, receive, send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
        elif scope["method"] == "POST" and _is_ingest(scope["path"]):
            fast: Any = scope
            fast["tallystick_request_id"] = self._request_id(scope).decode()
            if self._cors.on:
                send = _with_headers(send, self._cors.headers(scope["headers"]))
            await self._ingest(scope, receive, send)
        elif self._quick is not None and scope["method"] == "POST" and quick.route_of(scope["path"]):
            headers = [*_UNLESS_SET, *(self._cors.headers(scope["headers"]) if self._cors.on else ())]
            request_id = self._request_id(scope)
            rest = await self._quick.handled(scope, receive, send, request_id=request_id, more=headers)
            if rest is not None:
                await self._other(scope, rest, send)
        else:
            await self._other(scope, receive, send)

    def _request_id(self, scope: Scope) -> bytes:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and REQUEST_ID.match(value):
                return value
        return self._new_request_id()

    def _new_request_id(self) -> bytes:
        return b"%b-%x" % (self._prefix, next(self._numbers))

    def direct(self) -> Direct | None:
        """For a server whose connections can use it (app.server_config); None: every request is to come through here."""
        if self._quick is None or self._cors.on:
            return None
        return Direct(
            self._quick,
            gate=self._gate,
            new_request_id=self._new_request_id,
            headers=_UNLESS_SET,
            process=self._quick.process,
        )

    async def _other(self, outer: Any, receive: Receive, send: Send) -> None:
        started = perf_counter()
        request_id = self._request_id(outer)
        scope: Any = dict(outer)
        method = outer["method"]
        bodyless = method == "HEAD"
        if bodyless:
            scope["method"] = "GET"  # the same answer, without its body (RFC 9110 section 9.3.2)
        scope["tallystick_request_id"] = request_id.decode()
        answered: int | None = None
        of_origin: list[tuple[bytes, bytes]] = []
        preflight: list[tuple[bytes, bytes]] | None = None
        if self._cors.on:
            of_origin = self._cors.headers(outer["headers"])
            if method == "OPTIONS":
                preflight = self._cors.preflight(outer["headers"])

        async def send_on(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = list(message["headers"])
                present = {name.lower() for name, _ in headers}
                added = [(b"x-request-id", request_id), *_UNLESS_SET]
                if b"content-security-policy" in present:
                    present.add(b"x-frame-options")  # the route's own policy says who may frame it
                headers.extend(header for header in added if header[0] not in present)
                headers.extend(of_origin if preflight is None else preflight)
                headers.extend(_said_headers(scope))
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body" and bodyless:
                message = {**message, "body": b""}
            await send(message)

        try:
            try:
                if preflight is not None:
                    await send_on({"type": "http.response.start", "status": 204, "headers": []})
                    await send_on({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                scope["path"] = routed_path(outer)
                await self._inner(scope, receive, send_on)
            except BadRequest as error:
                await _send_problem(error, send_on)
            except Exception as error:
                if answered is not None:
                    raise
                scope["tallystick_cause"] = error
                await _send_problem(
                    Internal("An unexpected error. The log has the cause under this request's id."), send_on
                )
        finally:
            # Only templates become labels: what a client may invent would have no bound.
            route = scope.get("path_template") or "unknown"
            shown_method = method if method in _METHODS else "other"
            self._requests.labels(route, shown_method, answered or 499).inc()
            cause = scope.get("tallystick_cause")
            if cause is not None:
                _log.error("request failed", request_id=request_id.decode(), route=route, exc_info=cause)
            _log.info(
                "request",
                method=shown_method,
                route=route,
                status=answered or 499,
                seconds=round(perf_counter() - started, 6),
                request_id=request_id.decode(),
            )


def gate_direct(gate_quick: quick.Quick, gate: Gate) -> Direct:
    """For the gate's own process, which has no framework and no shell around it."""
    prefix, numbers = secrets.token_hex(6).encode(), itertools.count(1)
    return Direct(
        gate_quick, gate=gate, new_request_id=lambda: b"%b-%x" % (prefix, next(numbers)), headers=_UNLESS_SET
    )


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return send_on


def _said_headers(scope: Any) -> list[tuple[bytes, bytes]]:
    """What the route says of itself in every answer: Deprecation and Sunset (api/openapi.py)."""
    handler = scope.get("route_handler")
    if handler is None:
        return []
    return handler.opt.get("operation", {}).get("x-headers", [])


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_QUESTIONS = (
    "/usage",
    "/usage/batch",
    "/usage/sparse",
    "/usage/sparse/batch",
    "/query",
    "/evaluate",
    "/preview",
    "/meter_preview",
    "/correction_preview",
    "/v1/check",
    "/v1/check/batch",
)


def _may_when_closed(method: str, path: str) -> bool:
    """POSTs that change nothing, and the move itself."""
    path = path.rstrip("/")
    return method == "POST" and (path == "/v1/admin/move" or path.endswith(_QUESTIONS))


def _is_ingest(path: str) -> bool:
    # As the router has it: a slash at the end changes nothing.
    return path == INGEST_PATH or (path.startswith(INGEST_PATH) and path.rstrip("/") == INGEST_PATH)


def routed_path(scope: Any) -> str:
    """The path for the router: segments decoded, but `/` and `%` within one still encoded, so that a key with a slash
    stays one segment. `decoded_parameters` (api/app.py) takes the rest off behind the router."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    raw = raw.partition(b"?")[0]
    if b"%" not in raw:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest("The path is not UTF-8.", code="invalid_path") from None
    try:
        segments = [unquote_to_bytes(segment).decode("utf-8") for segment in raw.split(b"/")]
    except UnicodeDecodeError:
        raise BadRequest("The path is not UTF-8.", code="invalid_path") from None
    return "/".join(segment.replace("%", "%25").replace("/", "%2F") for segment in segments)


async def _send_problem(error: TallystickError, send: Send, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    body = problem_body(error)
    said = [(name.encode(), value.encode("latin-1")) for name, value in problem_headers(error)]
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [
                (b"content-type", PROBLEM_TYPE.encode()),
                (b"content-length", b"%d" % len(body)),
                *said,
                *more,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
