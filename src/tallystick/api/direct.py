"""The usual check and reservation, answered where the bytes arrive: no task, no scope, one write.

Of 130 µs that a check took, a hundred went into carrying it through the server's and our own layers. A request that came in
one piece, on a connection with nothing else under way, in the plainest form of HTTP/1.1, is read here and decided by
api/quick.py. Everything else is handed on untouched to uvicorn's protocol, and is answered the same.
"""

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tallystick.api.hand_over import HandOver
from tallystick.api.quick import BODY_BYTES_MAX, PATHS, READING, Answer, Quick, Waiting, is_special
from tallystick.flows.gate import Gate
from tallystick.flows.limits.process import GateProcess

HEAD_BYTES_MAX = 4096
HEADS_MAX = 2_000
URGENCY_S = 0.5
URGENT_CALLS_MIN = 100
"""So many within URGENCY_S are many."""
URGENT_SWITCH_S = 0.000_2
REQUEST_ID_LENGTH_MAX = 128
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,%d}\Z" % REQUEST_ID_LENGTH_MAX)

_BEGINS = b"POST /v1/"
_HEAD = re.compile(
    rb"POST (/v1/check(?:/batch)?|/v1/reservations(?:/batch|/rsv_[0-9a-f]{24}/(?:settle|release))?) HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)+)\Z"
)
_ONCE = frozenset({b"authorization", b"content-length", b"content-type", b"host", b"x-request-id"})
_CONNECTION = frozenset({b"connection", b"upgrade", b"keep-alive", b"te", b"trailer", b"proxy-connection"})


class Head(NamedTuple):
    """What the lines before a body say. `request_id`: None where the caller gave none."""

    path: str
    authorization: bytes
    length: int
    request_id: bytes | None


class Urgency:
    """While many calls come, threads that compute give the interpreter back sooner.

    The loop takes it anew in each of its turns, and beside ingest waits for it as long as Python's switch interval is. At 50 µs
    two computing threads did 2 to 25 % less for their processor time, at 200 µs 1 to 5 %, so it is not kept when nobody
    calls (decision 0050)."""

    def __init__(self) -> None:
        self._calls = 0
        self._calm_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def called(self, loop: asyncio.AbstractEventLoop) -> None:
        self._calls += 1
        if self._timer is None:
            self._timer = loop.call_later(URGENCY_S, self._look, loop)
        if self._calls == URGENT_CALLS_MIN and self._calm_s is None:
            self._calm_s = sys.getswitchinterval()
            sys.setswitchinterval(min(URGENT_SWITCH_S, self._calm_s))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._calls < URGENT_CALLS_MIN and self._calm_s is not None:
            sys.setswitchinterval(self._calm_s)
            self._calm_s = None
        self._timer = loop.call_later(URGENCY_S, self._look, loop) if self._calls else None
        self._calls = 0


class Direct:
    """What all connections share."""

    def __init__(
        self,
        quick: Quick,
        *,
        gate: Gate,
        new_request_id: Callable[[], bytes],
        headers: list[tuple[bytes, bytes]],
        process: GateProcess | None = None,
    ) -> None:
        """`gate`: whether anything is taken in. `headers`: of every answer. `process`: connections on which calls to the gate
        come go there."""
        self.quick = quick
        self.urgency = Urgency()
        self.hand_over = None if process is None else HandOver(process, quick)
        self._gate = gate
        self._new_request_id = new_request_id
        self._headers = headers
        self._of_now: list[tuple[bytes, bytes]] = []
        self._starts: dict[tuple[int, bytes], bytes] = {}
        self._heads: dict[bytes, Head] = {}

    def head(self, raw: bytes) -> Head | None:
        """`read_head`; a caller's head mostly differs in nothing but its length, so it is read once."""
        found = self._heads.get(raw)
        if found is None:
            found = read_head(raw)
            if found is not None and found.request_id is None and found.path in PATHS:
                if len(self._heads) >= HEADS_MAX:
                    self._heads.clear()
                self._heads[raw] = found
        return found

    def protocol(self) -> type[asyncio.Protocol]:
        """For uvicorn's setting `http`."""
        return type("Connection", (DirectConnection,), {"direct": self})

    def decided(self, head: Head, body: bytes) -> tuple[Answer | Waiting, bytes] | None:
        """With the request's id; None: it is the framework's. `left` follows where it waits."""
        if head.path not in READING and self._gate.reason is not None:
            return None
        tenant = self.quick.tenant_of(head.authorization)
        if tenant is None:
            return None
        request_id = head.request_id or self._new_request_id()
        found = self.quick.decided(head.path, tenant, body, request_id)
        if found is None:
            return None
        if isinstance(found, Waiting):
            self._gate.enter()
        return found, request_id

    def left(self) -> None:
        """A reservation that waited is written, or could not be."""
        self._gate.leave()

    def encoded(self, answer: Answer, request_id: bytes, of_server: list[tuple[bytes, bytes]]) -> bytes:
        """As it goes over the wire. `of_server`: headers that change now and then."""
        if of_server is not self._of_now:
            self._of_now = of_server
            self._starts.clear()
        start = self._starts.get((answer.status, answer.media_type))
        if start is None:
            headers = [*of_server, *self._headers, (b"content-type", answer.media_type)]
            start = STATUS_LINE[answer.status] + b"".join(b"%b: %b\r\n" % header for header in headers)
            self._starts[answer.status, answer.media_type] = start
        own = b"".join(b"%b: %b\r\n" % header for header in answer.more)
        return b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b" % (
            start,
            len(answer.body),
            request_id,
            own,
            answer.body,
        )


def read_head(raw: bytes) -> Head | None:
    """Of everything up to the blank line; None where there is anything in it that is not plain."""
    found = _HEAD.match(raw) if len(raw) <= HEAD_BYTES_MAX else None
    if found is None:
        return None
    seen: dict[bytes, bytes] = {}
    for line in found[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in _CONNECTION and (name != b"connection" or value.lower() != b"keep-alive"):
            return None
        if is_special(name, value) or (name in _ONCE and name in seen):
            return None
        seen[name] = value
    length = seen.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 6 or int(length) > BODY_BYTES_MAX:
        return None
    given = seen.get(b"x-request-id")
    return Head(
        found[1].decode(),
        seen.get(b"authorization", b""),
        int(length),
        given if given is not None and REQUEST_ID.match(given) else None,
    )


class DirectConnection(HttpToolsProtocol):
    """One connection. What is not taken here reaches the parser byte for byte, in its order."""

    direct: ClassVar[Direct]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.first = b""
        """Of a connection that has come back from the gate's process: what was read of it there."""
        self.returns = 0
        """How often in a row it came back with a call that could not be answered there."""
        self.kept_calls = 0
        """So many calls are answered here, before it is handed over again."""
        self._within = False
        """The parser has begun a message and not ended it: what comes next is no request of its own."""
        self._raw_head = b""
        self._head: Head | None = None
        self._is_waiting = False
        self._later = b""
        self._ends = False
        self._answered_s = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.first:
            first, self.first = self.first, b""
            self.data_received(first)

    def data_received(self, data: bytes) -> None:
        if self._is_waiting:
            # One answer after the other; and no more is read than what is on its way.
            self._later += data
            self.flow.pause_reading()
        elif self._within or data[:9] != _BEGINS or not self._is_taken(data):
            super().data_received(data)

    def _is_taken(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n")
        if end < 0 or self.transport.is_closing() or self.flow.write_paused:
            return False
        if self.cycle and not self.cycle.response_complete:
            return False
        raw = data[: end + 2]
        if raw != self._raw_head:
            self._raw_head, self._head = raw, self.direct.head(raw)
        head = self._head
        if head is None or len(data) - end - 4 > head.length:
            return False
        if self.direct.hand_over is not None:
            return self.direct.hand_over.is_taken(self, head.authorization, data)
        if len(data) - end - 4 < head.length:
            return False
        decided = self.direct.decided(head, data[end + 4 :])
        if decided is None:
            return False
        self.direct.urgency.called(self.loop)
        found, request_id = decided
        if isinstance(found, Waiting):
            self._is_waiting = True

            found.written.then(lambda: self._written(head, found, request_id))
        else:
            self._send(head, found, request_id)
        return True

    def _written(self, head: Head, waiting: Waiting, request_id: bytes) -> None:
        self._is_waiting = False
        self.direct.left()
        answer = self.direct.quick.reserved(waiting, request_id)
        if self.transport.is_closing():
            self.direct.quick.note(head.path, 499, request_id)
            return
        self._send(head, answer, request_id)
        if self._ends:
            self.transport.close()
        elif self._later:
            later, self._later = self._later, b""
            self.flow.resume_reading()
            self.data_received(later)

    def _send(self, head: Head, answer: Answer, request_id: bytes) -> None:
        self.direct.quick.note(head.path, answer.status, request_id)
        self.server_state.total_requests += 1
        self.transport.write(self.direct.encoded(answer, request_id, self.server_state.default_headers))
        self._answered_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    # -- uvicorn's ------------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._within = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._within = False
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        # Set once and not with each answer: whether it was quiet for so long is seen when it is over.
        left_s = self._answered_s + self.timeout_keep_alive - self.loop.time()
        if self._is_waiting or left_s > 0:
            self._look_again_in(max(left_s, 1.0))
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        if self._is_waiting:
            self._ends = True
        else:
            super().shutdown()
