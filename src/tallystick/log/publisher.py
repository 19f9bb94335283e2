"""From waiting requests to acknowledged messages: group, encode, send, send again until a quorum has it.

Requests that wait at the same time share a message. Up to `IN_FLIGHT_MAX` messages are on their way at once, handed to
one connection in the order of the requests. Only a message that had to be sent again can arrive behind a later one, so
order is certain for whoever waits for the acknowledgement before sending more; and the messages of one request that is
too large for one are sent one after the other.

A message has an id, made once: sent again within the servers' duplicate window it is stored once, and we stop sending
long before. A process frozen for longer than that window may store a message twice; identity makes that harmless.
"""

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import structlog

from tallystick.errors import Invalid, TallystickError, Unavailable
from tallystick.log import block as blocks
from tallystick.log.interface import LogDamagedError
from tallystick.log.message import (
    ROWS_MAX,
    SEQUENCE_MAX,
    TooLargeRowError,
    positions_of,
    sealed_all,
)
from tallystick.log.nats_connection import RetryError
from tallystick.log.nats_stream import Ack, NatsStream, unavailable
from tallystick.metering.event import EventColumns
from tallystick.metering.position import Positions

IN_FLIGHT_MAX = 16
PUBLISH_S_MAX = 20
"""How long a message is sent again before its requests are refused: servers need about ten seconds to agree on a new
leader, and the duplicate window is much longer."""

_ATTEMPT_S = 2.0
_RETRY_S = 0.1
_LAST_ATTEMPT_S = 1.0
_HEADER_BYTES = 512  # room for the headers within the servers' max_payload
_GROUP_BYTES_MAX = 4 * 1024**2
_THREAD_FROM_ROWS = 256  # below, handing the work to a thread costs more than the work
_FAULTS = (ValueError, TypeError, OverflowError, pa.ArrowException)

ObserveCommit = Callable[[int, int, float], None]

_logger = structlog.get_logger("tallystick.log")


class _Request(NamedTuple):
    events: EventColumns
    event_count: int
    bytes_taken: int
    arrived_s: float
    future: "asyncio.Future[Positions]"


@dataclass(slots=True)
class _Part:
    """One message: `rows` events of a group."""

    rows: int
    payload: bytes
    message_id: str
    token: str
    stored_through: int = 0
    """The stream's last sequence when it was first sent: a sequence up to it cannot be this message's."""


class _Group(NamedTuple):
    requests: list[_Request]
    parts: list[_Part]
    deadline_s: float


class Publisher:
    """Bounded queue and window of one stream. Used from one event loop."""

    def __init__(
        self,
        *,
        partition: int,
        waiting_events_max: int,
        waiting_bytes_max: int,
        last_sequence: Callable[[], int],
        on_acked: Callable[[int, int], None],
        on_fault: Callable[[LogDamagedError], None],
        observe_commit: ObserveCommit | None,
        publish_s_max: float,
    ) -> None:
        """last_sequence: of the stream, as far as known here. on_acked: (sequence, rows). on_fault: the stream is not
        the one we knew."""
        self._partition = partition
        self._waiting_events_max = waiting_events_max
        self._waiting_bytes_max = waiting_bytes_max
        self._last_sequence = last_sequence
        self._on_acked = on_acked
        self._on_fault = on_fault
        self._observe_commit = observe_commit
        self._publish_s_max = publish_s_max
        self._stream: NatsStream | None = None
        self._waiting: deque[_Request] = deque()
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._window = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._in_flight: set[asyncio.Task[None]] = set()
        self._acks: dict[str, asyncio.Future[Ack]] = {}
        self._writer = uuid.uuid4().hex
        self._count = 0
        self._is_down = False
        self._closing = False
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="log-encoder")
        self._pump_task: asyncio.Task[None] | None = None

    def start(self, stream: NatsStream) -> None:
        self._stream = stream
        self._encoder.submit(blocks.warm_up)
        self._pump_task = asyncio.create_task(self._pump(), name="log-publisher")

    async def append(self, events: EventColumns) -> Positions:
        """See `Log.append`; `events` is not empty."""
        count = len(events)
        blocks.check_lengths(events)
        bytes_taken = blocks.bytes_of(events)
        self._refuse_what_is_too_much(count, bytes_taken)
        loop = asyncio.get_running_loop()
        request = _Request(events, count, bytes_taken, loop.time(), loop.create_future())
        self._waiting.append(request)
        self._waiting_events += count
        self._waiting_bytes += bytes_taken
        self._arrived.set()
        return await request.future

    def ack_arrived(self, token: str, outcome: Ack | Exception) -> None:
        future = self._acks.get(token)
        if future is None or future.done():
            return
        if isinstance(outcome, Ack):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    async def close(self) -> None:
        """What is on its way is finished, what waits is refused."""
        self._closing = True
        self._arrived.set()
        if self._pump_task is not None:
            await asyncio.gather(self._pump_task, return_exceptions=True)
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        self._encoder.shutdown(wait=False)

    def _refuse_what_is_too_much(self, count: int, bytes_taken: int) -> None:
        if self._closing:
            raise closed()
        if self._is_down and self._in_flight:
            # One message at a time finds out whether the stream is back; nobody else need wait for it.
            raise unavailable("nobody acknowledges; it is tried again")
        if self._waiting and (
            self._waiting_events + count > self._waiting_events_max
            or self._waiting_bytes + bytes_taken > self._waiting_bytes_max
        ):
            raise Unavailable(
                f"{self._waiting_events} events wait for the event log, with these it would be more than may. "
                "Send them again later.",
                code="log_busy",
                retry_after_s=1,
            )

    # Grouping and sending, one after the other.

    async def _pump(self) -> None:
        while True:
            await self._window.acquire()
            while not self._waiting and not self._closing:
                self._arrived.clear()
                await self._arrived.wait()
            if self._closing:
                break
            requests = self._take_waiting()
            try:
                group = await self._group_of(requests)
                if group is None:
                    self._window.release()
                    continue
                sent_s = await self._send_first(group)
            except Exception as error:
                _logger.exception("log_publish_failed")
                _fail(requests, unavailable(str(error)))
                self._window.release()
                continue
            task = asyncio.create_task(self._finish(group, sent_s))
            self._in_flight.add(task)
            task.add_done_callback(self._finished)
        self._window.release()
        rest = list(self._waiting)
        self._waiting.clear()
        self._waiting_events = self._waiting_bytes = 0
        _fail(rest, closed())

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._in_flight.discard(task)
        self._window.release()

    def _take_waiting(self) -> list[_Request]:
        taken: list[_Request] = []
        events = size = 0
        while self._waiting:
            request = self._waiting[0]
            events += request.event_count
            size += request.bytes_taken
            if taken and (events > ROWS_MAX or size > _GROUP_BYTES_MAX):
                break
            taken.append(self._waiting.popleft())
            self._waiting_events -= request.event_count
            self._waiting_bytes -= request.bytes_taken
        return taken

    async def _group_of(self, requests: list[_Request]) -> _Group | None:
        """Requests that cannot be stored are refused alone, and do not take the others with them."""
        assert self._stream is not None
        payload_max = self._stream.connection.max_payload - _HEADER_BYTES
        loop = asyncio.get_running_loop()
        while requests:
            rows = sum(request.event_count for request in requests)
            try:
                columns = [request.events for request in requests]
                if rows < _THREAD_FROM_ROWS:
                    sealed = sealed_all(columns, self._partition, payload_max)
                else:
                    sealed = await loop.run_in_executor(
                        self._encoder, sealed_all, columns, self._partition, payload_max
                    )
            except TooLargeRowError as error:
                requests = _without_row(requests, error)
            except _FAULTS:
                requests = _sound(requests)
            else:
                oldest_s = min(request.arrived_s for request in requests)
                deadline_s = max(oldest_s + self._publish_s_max, loop.time() + _LAST_ATTEMPT_S)
                return _Group(requests, [self._part(*each) for each in sealed], deadline_s)
        return None

    def _part(self, rows: int, payload: bytes) -> _Part:
        self._count += 1
        return _Part(rows, payload, f"{self._writer}-{self._count}", str(self._count))

    async def _send_first(self, group: _Group) -> float | None:
        """Hand the first message to the connection, in the order of the groups. None when that did not work."""
        try:
            await self._send(group.parts[0])
        except RetryError:
            return None
        return asyncio.get_running_loop().time()

    async def _send(self, part: _Part) -> None:
        assert self._stream is not None
        part.stored_through = part.stored_through or self._last_sequence()
        self._acks[part.token] = asyncio.get_running_loop().create_future()
        await self._stream.send(part.payload, message_id=part.message_id, rows=part.rows, token=part.token)

    # Each group on its own, until it is stored or the time is up.

    async def _finish(self, group: _Group, sent_s: float | None) -> None:
        started_s = time.monotonic()
        found: list[Positions] = []
        failure: TallystickError | None = None
        for part in group.parts:
            try:
                ack = await self._stored(part, sent_s, group.deadline_s)
                self._check_sequence(part, ack)
            except TallystickError as error:
                failure = error
                break
            except Exception as error:
                _logger.exception("log_publish_failed")
                failure = unavailable(str(error))
                break
            finally:
                self._acks.pop(part.token, None)
            sent_s = None
            self._on_acked(ack.sequence, part.rows)
            found.append(positions_of(ack.sequence, part.rows))
        if failure is None and self._observe_commit is not None:
            rows = sum(part.rows for part in group.parts)
            self._observe_commit(len(group.requests), rows, time.monotonic() - started_s)
        _settle(group.requests, found, failure)

    async def _stored(self, part: _Part, sent_s: float | None, deadline_s: float) -> Ack:
        """`sent_s`: when it was sent already. Raises StorageFull, Invalid, or Unavailable when the time is up."""
        loop = asyncio.get_running_loop()
        reason = "no acknowledgement in time"
        while True:
            try:
                if sent_s is None:
                    sent_s = loop.time()
                    await self._send(part)
                async with asyncio.timeout_at(min(sent_s + _ATTEMPT_S, max(deadline_s, loop.time()))):
                    ack = await self._acks[part.token]
            except TimeoutError:
                reason = "no acknowledgement in time"
            except RetryError as error:
                reason = str(error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._is_down = False
                return ack
            if loop.time() >= deadline_s:
                if not self._is_down:
                    _logger.error("log_publish_given_up", reason=reason)
                self._is_down = True
                raise unavailable(f"{reason}; the events may be stored, send them again")
            sent_s = None

    def _check_sequence(self, part: _Part, ack: Ack) -> None:
        if ack.sequence > SEQUENCE_MAX:
            raise unavailable("the positions of this partition are used up")
        if ack.sequence <= part.stored_through and not ack.is_duplicate:
            error = LogDamagedError(
                f"Message {ack.sequence} of partition {self._partition} was given anew, while {part.stored_through} "
                "were acknowledged before. Was the stream deleted, or restored from an older copy? Nothing is accepted "
                "until the process is restarted."
            )
            self._on_fault(error)
            raise error


def _sound(requests: list[_Request]) -> list[_Request]:
    sound: list[_Request] = []
    for request in requests:
        try:
            blocks.batch_of([request.events])
        except _FAULTS as error:
            _fail([request], Invalid(f"The events cannot be stored: {error}"))
        else:
            sound.append(request)
    if len(sound) == len(requests):
        raise RuntimeError("requests that are sound alone are not so together")
    return sound


def _without_row(requests: list[_Request], error: TooLargeRowError) -> list[_Request]:
    first = 0
    for number, request in enumerate(requests):
        if first <= error.row < first + request.event_count:
            _fail([request], Invalid(f"The events cannot be stored: {error.detail}."))
            return requests[:number] + requests[number + 1 :]
        first += request.event_count
    raise RuntimeError("a row of no request")


def _settle(
    requests: Sequence[_Request], found: Sequence[Positions], failure: TallystickError | None
) -> None:
    """Each request whose rows are all stored gets its positions; with a failure the others get that."""
    positions = np.concatenate(found) if found else np.empty(0, np.uint64)
    first = 0
    for request in requests:
        end = first + request.event_count
        if end <= len(positions):
            if not request.future.done():
                request.future.set_result(positions[first:end])
        elif failure is not None:
            _fail([request], failure)
        first = end


def _fail(requests: Sequence[_Request], error: TallystickError) -> None:
    for request in requests:
        with contextlib.suppress(asyncio.InvalidStateError):
            # One exception object for each request: raising adds a traceback to it.
            request.future.set_exception(
                type(error)(
                    error.detail, code=error.code, faults=error.faults, retry_after_s=error.retry_after_s
                )
            )


def closed() -> Unavailable:
    return Unavailable(
        "The event log is closed: the process is about to end.", code="log_closed", retry_after_s=1
    )
