"""HTTP over connections that are kept, with the standard library. Knows nothing of events."""

import email.utils
import http.client
import json
import random
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tallystick_client.errors import TallystickError, Unreachable, problem_of

_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_IDLE_MAX = 16
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_RETRY_AFTER_S_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_s(self) -> float | None:
        """When to come again, as the server says: seconds, or a date."""
        text = self.headers.get("retry-after", "").strip()
        if not text:
            return None
        if text.isdigit() and len(text) < 9:
            return min(float(text), _RETRY_AFTER_S_MAX)
        try:
            at = email.utils.parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError):
            return None
        return min(max(at - time.time(), 0.0), _RETRY_AFTER_S_MAX)

    def json(self) -> Any:
        """The document. Raises the Problem a refusal is, and Unreachable for an answer that is no JSON (a proxy's)."""
        if self.status >= 400:
            raise problem_of(self.status, self.body, self.retry_after_s)
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Unreachable(f"The answer (HTTP {self.status}) is no JSON: is there a proxy?") from error


class Delays:
    """How long to wait before each further attempt: doubling, anywhere in the upper half, and never before the server
    says so."""

    def __init__(self, s_min: float, s_max: float) -> None:
        self._s_min, self._s_max = s_min, s_max
        self._failures = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """One more failure."""
        span = min(self._s_max, self._s_min * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return max(span * random.uniform(0.5, 1.0), retry_after_s or 0.0)  # noqa: S311 -- not a secret

    def reset(self) -> None:
        """It worked."""
        self._failures = 0


class Transport:
    """Requests to one server. Safe for many threads."""

    def __init__(
        self, url: str, key: str | None, *, timeout_s: float, ssl_context: ssl.SSLContext | None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise TallystickError(f"{url!r} is not the address of a server; https://host[:port] is.")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._context = ssl_context or (ssl.create_default_context() if self._secure else None)
        self._headers = {"user-agent": "tallystick-client-python/0.1.0", "accept": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, one answer, whatever its status. A kept connection that the server had closed is replaced once:
        every request of this package may be carried out twice. Raises Unreachable."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._on(connection, method, path, body, headers)
            except (http.client.RemoteDisconnected, ConnectionError):
                pass
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{method} {path}: {error or type(error).__name__}.") from error
        try:
            return self._on(self._new(), method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}.") from error

    def _new(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=self._context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _on(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        kept = False
        try:
            connection.request(
                method, self._prefix + path, body=body, headers={**self._headers, **(headers or {})}
            )
            response = connection.getresponse()
            found = response.read(_ANSWER_BYTES_MAX + 1)
            if len(found) > _ANSWER_BYTES_MAX:
                raise Unreachable(f"{method} {path}: the answer is larger than {_ANSWER_BYTES_MAX} bytes.")
            kept = not response.will_close
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, found)
        finally:
            with self._lock:
                kept = kept and len(self._idle) < _IDLE_MAX
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()

    def forget(self) -> None:
        """In a forked child: the sockets are the parent's too."""
        self._lock = threading.Lock()
        self.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
