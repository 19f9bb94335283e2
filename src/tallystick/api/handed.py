"""A connection that the gate's process has been handed (flows/limits/process.py): it answers the plain calls that come on it.

What it cannot answer goes back to the process it came from, together with the connection: there is no framework here.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import cast

from tallystick.api.auth import Authenticator
from tallystick.api.direct import Direct, Head
from tallystick.api.quick import Waiting
from tallystick.errors import TallystickError
from tallystick.flows.limits.far import FarRecording

IDLE_S_MAX = 75.0
_SWEEP_S = 5.0
_PATIENCE_S = 0.1
"""A call waits so long for what was published before it came; then it goes back, and waits there."""

GiveBack = Callable[[int, bytes, int], bool]


class Handed:
    """What all connections share."""

    def __init__(
        self,
        direct: Direct,
        authenticator: Authenticator,
        recording: FarRecording,
        *,
        is_current: Callable[[], bool],
        give_back: GiveBack,
    ) -> None:
        """`is_current`: whether a call may be decided now. `give_back`: of process.sent."""
        self.direct = direct
        self.authenticator = authenticator
        self.recording = recording
        self.is_current = is_current
        self.give_back = give_back
        self.headers: list[tuple[bytes, bytes]] = []
        """Of every answer, as they are now."""
        self.connections: set[HandedConnection] = set()
        self.deciding = 0
        """Reservations that are on their way into the ledger."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(_SWEEP_S, self._sweep)

    async def take(self, connection: socket.socket, data: bytes, returns: int) -> None:
        """A connection, with what has been read of it."""
        try:
            await self._loop.connect_accepted_socket(
                lambda: HandedConnection(self, data, returns), connection
            )
        except OSError:
            connection.close()  # it was closed on its way

    def end(self) -> None:
        """Close what is idle, and the others once they are answered."""
        for one in list(self.connections):
            one.end()

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sweep(self) -> None:
        idle_since_s = time.monotonic() - IDLE_S_MAX
        for one in list(self.connections):
            if one.answered_s < idle_since_s:
                one.close()
        self._loop.call_later(_SWEEP_S, self._sweep)


class HandedConnection(asyncio.Protocol):
    """One of them. One request at a time, as HTTP/1.1 has it."""

    def __init__(self, handed: Handed, data: bytes, returns: int) -> None:
        self._handed = handed
        self._first = data
        self._returns = returns
        self._transport: asyncio.Transport | None = None
        self._raw_head = b""
        self._head: Head | None = None
        self._is_waiting = False
        self._is_full = False
        """The caller does not read its answers."""
        self._later = b""
        self._begun = b""
        """A request whose body is still on its way."""
        self._ends = False
        self.answered_s = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._handed.connections.add(self)
        first, self._first = self._first, b""
        self.data_received(first)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handed.connections.discard(self)
        self._transport = None

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._go_on()

    def close(self) -> None:
        """Nothing has come on it for long, or not all of a request."""
        if self._transport is not None and not self._is_waiting:
            self._transport.close()

    def end(self) -> None:
        """Once what is under way is answered."""
        self._ends = True
        if self._transport is not None and not self._is_waiting and not self._begun:
            self._transport.close()

    # -- reading --------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        if self._is_waiting or self._is_full:
            self._later += data
            if self._transport is not None:
                self._transport.pause_reading()
        else:
            if self._begun:
                data, self._begun = self._begun + data, b""
            if not self._is_taken(data):
                self._give_back(data)

    def _go_on(self) -> None:
        """The call under way is answered."""
        self.answered_s = time.monotonic()
        if self._transport is None or self._transport.is_closing() or self._is_waiting or self._is_full:
            return
        if self._later:
            later, self._later = self._later, b""
            self._transport.resume_reading()
            self.data_received(later)
        elif self._ends:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _is_taken(self, data: bytes, *, is_prepared: bool = False) -> bool:
        """False: it is the other process's to answer."""
        handed = self._handed
        returns, self._returns = self._returns, 0
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        raw = data[: end + 2]
        if raw != self._raw_head:
            self._raw_head, self._head = raw, handed.direct.head(raw)
        head = self._head
        if head is None or len(data) - end - 4 > head.length:
            return False
        if len(data) - end - 4 < head.length:
            # Many clients send the head and the body by themselves.
            self._begun, self._returns = data, returns
            return True
        body, decided = data[end + 4 :], None
        if handed.direct.quick.tenant_of(head.authorization) is not None and handed.is_current():
            decided = handed.direct.decided(head, body)
        if decided is None:
            self._returns = returns
            if is_prepared:
                self._returns += 1
                return False
            self._is_waiting = True
            handed.keep(asyncio.create_task(self._prepared(head, data, body)))
            return True
        handed.direct.urgency.called(asyncio.get_running_loop())
        found, request_id = decided
        if isinstance(found, Waiting):
            self._is_waiting = True
            handed.deciding += 1
            found.written.then(lambda: self._written(head, found, request_id))
        else:
            handed.direct.quick.note(head.path, found.status, request_id)
            self._send(handed.direct.encoded(found, request_id, handed.headers))
            self.answered_s = time.monotonic()
            if self._ends and self._transport is not None:
                self._transport.close()
        return True

    async def _prepared(self, head: Head, data: bytes, body: bytes) -> None:
        """Look who asks, wait for what was published by now, and have asked for what is not known; then decide."""
        handed = self._handed
        # Where one of them fails, the other process says so, with all that belongs to such an answer.
        with contextlib.suppress(TallystickError):
            caller = await handed.authenticator.authenticate(head.authorization)
            if not handed.is_current():
                await handed.recording.wait_until_current(_PATIENCE_S)
            await handed.direct.quick.prepare(caller.tenant, body)
        self._is_waiting = False
        if self._transport is None:
            return
        if self._is_taken(data, is_prepared=True):
            if not self._is_waiting:
                self._go_on()
        else:
            self._give_back(data)

    # -- answering ------------------------------------------------------------------------------------------------
    def _written(self, head: Head, waiting: Waiting, request_id: bytes) -> None:
        handed = self._handed
        self._is_waiting = False
        handed.deciding -= 1
        handed.direct.left()
        answer = handed.direct.quick.reserved(waiting, request_id)
        if self._transport is None or self._transport.is_closing():
            handed.direct.quick.note(head.path, 499, request_id)
            return
        handed.direct.quick.note(head.path, answer.status, request_id)
        self._send(handed.direct.encoded(answer, request_id, handed.headers))
        self._go_on()

    def _send(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)

    def _give_back(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.pause_reading()
        if transport.get_write_buffer_size():
            # What is still to be sent would be lost with the transport: it goes back once that is out.
            self._later = data + self._later
            self._is_waiting = True
            asyncio.get_running_loop().call_later(0.001, self._give_back_later)
            return
        descriptor = transport.get_extra_info("socket").fileno()
        if not self._handed.give_back(descriptor, data + self._later, self._returns):
            self._later = data + self._later
            self._is_waiting = True
            asyncio.get_running_loop().call_later(0.005, self._give_back_later)
            return
        self._later = b""
        transport.abort()

    def _give_back_later(self) -> None:
        self._is_waiting = False
        later, self._later = self._later, b""
        self._give_back(later)
