"""Count requests of a web application: one event for each, for ASGI (Starlette, FastAPI, Litestar, Django) and WSGI (Flask,
Django). Metering never makes a request fail: what goes wrong is logged."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Protocol

_log = logging.getLogger("tallystick_client")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class Tracks(Protocol):
    """A Client. Its `on_full` should be "raise" or "drop" under ASGI, where waiting would hold the loop."""

    def track(self, event_type: str, subject: str, data: Mapping[str, Any] | None = None) -> str:
        """See Client.track."""
        ...


class AsgiMiddleware:
    """Wraps `application`. `subject_of` finds who is to be charged in the scope, after the request; None: nobody.

    `data` has method, path, status, duration_ms and response_bytes; `data_of` adds to it.
    """

    def __init__(
        self,
        application: Application,
        client: Tracks,
        *,
        subject_of: Callable[[Scope], str | None],
        event_type: str = "http.request",
        data_of: Callable[[Scope], Mapping[str, Any]] | None = None,
    ) -> None:
        self._application, self._client = application, client
        self._subject_of, self._event_type, self._data_of = subject_of, event_type, data_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.monotonic_ns()
        status, size = 500, 0

        async def counting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._application(scope, receive, counting)
        finally:
            _track(
                self._client,
                self._event_type,
                lambda: self._subject_of(scope),
                lambda: {} if self._data_of is None else self._data_of(scope),
                _data(scope["method"], scope["path"], status, started, size),
            )


class WsgiMiddleware:
    """As AsgiMiddleware, with the environ in place of the scope. The event is made when the answer is closed."""

    def __init__(
        self,
        application: Callable[[Environ, StartResponse], Iterable[bytes]],
        client: Tracks,
        *,
        subject_of: Callable[[Environ], str | None],
        event_type: str = "http.request",
        data_of: Callable[[Environ], Mapping[str, Any]] | None = None,
    ) -> None:
        self._application, self._client = application, client
        self._subject_of, self._event_type, self._data_of = subject_of, event_type, data_of

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        started = time.monotonic_ns()
        status = 500

        def starting(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, headers, *rest)

        def done(size: int) -> None:
            path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
            _track(
                self._client,
                self._event_type,
                lambda: self._subject_of(environ),
                lambda: {} if self._data_of is None else self._data_of(environ),
                _data(str(environ.get("REQUEST_METHOD", "")), path, status, started, size),
            )

        try:
            body = self._application(environ, starting)
        except BaseException:
            done(0)
            raise
        return _Counted(body, done)


class _Counted:
    def __init__(self, body: Iterable[bytes], done: Callable[[int], None]) -> None:
        self._body, self._done = body, done
        self._size = 0
        self._told = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            self._size += len(piece)
            yield piece

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            if not self._told:
                self._told = True
                self._done(self._size)


def _data(method: str, path: str, status: int, started_ns: int, size: int) -> dict[str, Any]:
    microseconds = (time.monotonic_ns() - started_ns) // 1000
    return {
        "method": method,
        "path": path,
        "status": status,
        "duration_ms": f"{microseconds // 1000}.{microseconds % 1000:03d}",
        "response_bytes": size,
    }


def _track(
    client: Tracks,
    event_type: str,
    subject_of: Callable[[], str | None],
    data_of: Callable[[], Mapping[str, Any]],
    data: dict[str, Any],
) -> None:
    try:
        subject = subject_of()
        if subject is not None:
            client.track(event_type, subject, {**data, **data_of()})
    except Exception:
        _log.exception("A request was not counted.")
