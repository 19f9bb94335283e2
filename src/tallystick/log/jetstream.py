"""The event log on NATS JetStream: one replicated stream a partition. See interface.py for the meaning of each method.

How a request becomes durable: publisher.py groups what waits into messages; the stream's leader has them synced by a
quorum of servers before it acknowledges (that needs `sync_interval: always` on each of them, see nats_stream.py), and
only then `append` returns. Why positions appear in commit order: a message's number is given by the leader, and no
server hands out a message before all with smaller numbers. Any number of processes may append to one partition and read
it; trimming is the business of the one that records it.

What a process knows of the end comes from its own acknowledgements, from the notices the stream sends of everything it
stores, and, should one be lost, from asking every second.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import structlog

from tallystick.errors import TallystickError, Unavailable
from tallystick.log.fetcher import READ_S_MAX, Fetcher
from tallystick.log.interface import Block, LogDamagedError, LogTrimmedError
from tallystick.log.message import end_of, sequence_behind
from tallystick.log.nats_connection import RetryError
from tallystick.log.nats_stream import NatsStream, StreamState, unavailable, until
from tallystick.log.nats_sync import check_sync
from tallystick.log.nats_url import NatsUrl
from tallystick.log.publisher import PUBLISH_S_MAX, ObserveCommit, Publisher, closed
from tallystick.log.tally import EventTally
from tallystick.metering.event import EventColumns
from tallystick.metering.position import Positions

WAITING_BYTES_MAX = 256 * 1024**2
OPEN_S_MAX = 20.0

_POLL_S = 1.0
_MOVE_S = 8.0  # longer than a change of leader takes
_TRIM_PAUSE_S = 1.0  # a purge is an agreement of the servers, and the recorder trims after every batch
_BEHIND_POLLS_MAX = 30  # a new leader may for a moment not have applied what it has; not for half a minute

T = TypeVar("T")

_logger = structlog.get_logger("tallystick.log")


class _Waiter(NamedTuple):
    after: int
    future: asyncio.Future[bool]


class JetStreamLog:
    """`Log` of one partition in one stream. Used from one event loop."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        partition: int = 0,
        waiting_events_max: int,
        unrecorded_events_max: int,
        positions_after: int = 0,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
        observe_commit: ObserveCommit | None = None,
        publish_s_max: float = PUBLISH_S_MAX,
        read_s_max: float = READ_S_MAX,
        open_s_max: float = OPEN_S_MAX,
    ) -> "JetStreamLog":
        """Connect, and make the stream when there is none.

        url: see nats_url.py.
        partition: which stream; part of every message, so that it cannot be read as another's.
        waiting_events_max, waiting_bytes_max, unrecorded_events_max, observe_commit: as for SqliteLog.
        positions_after: positions up to this one were given before (their events are recorded). A stream that was
        deleted, or restored from an older copy, goes on behind it and forgets what it holds before. Whoever opens a
        partition has to know this number, or a stream made anew would give positions a second time.
        publish_s_max: how long a message is sent again while no leader acknowledges, before it is refused.

        Raises: Invalid for a URL, a login or a stream that cannot be used; Unavailable when nobody answers in
        `open_s_max`; LogDamagedError when the stream belongs to another partition.
        """
        log = cls(
            NatsUrl.read(url),
            partition,
            waiting_events_max=waiting_events_max,
            unrecorded_events_max=unrecorded_events_max,
            waiting_bytes_max=waiting_bytes_max,
            observe_commit=observe_commit,
            publish_s_max=publish_s_max,
            read_s_max=read_s_max,
        )
        try:
            await log._start(positions_after, asyncio.get_running_loop().time() + open_s_max)
        except BaseException:
            await log.close()
            raise
        return log

    def __init__(
        self,
        url: NatsUrl,
        partition: int,
        *,
        waiting_events_max: int,
        unrecorded_events_max: int,
        waiting_bytes_max: int,
        observe_commit: ObserveCommit | None,
        publish_s_max: float,
        read_s_max: float,
    ) -> None:
        self._url = url
        self._partition = partition
        self._unrecorded_events_max = unrecorded_events_max
        self._first_sequence = 1
        self._last_sequence = 0
        self._trim_allowed = 0  # messages up to this sequence may go
        self._trimming = asyncio.Lock()
        self._created = ""
        self._answered_s = asyncio.get_running_loop().time()
        self._purged_s = float("-inf")
        self._polls_behind = 0
        self._is_missing = False
        self._fault: LogDamagedError | None = None
        self._tally = EventTally(0)
        self._waiters: set[_Waiter] = set()
        self._closing = False
        self._poll_task: asyncio.Task[None] | None = None
        self._publisher = Publisher(
            partition=partition,
            waiting_events_max=waiting_events_max,
            waiting_bytes_max=waiting_bytes_max,
            last_sequence=self._last,
            on_acked=self._advance,
            on_fault=self._fail,
            observe_commit=observe_commit,
            publish_s_max=publish_s_max,
        )
        self._stream = NatsStream(url, partition, on_stored=self._advance, on_ack=self._publisher.ack_arrived)
        self._fetcher = Fetcher(self._stream, partition, last_sequence=self._last, read_s_max=read_s_max)

    @property
    def end(self) -> int:
        return end_of(self._last_sequence)

    @property
    def trimmed_through(self) -> int:
        return end_of(self._first_sequence - 1)

    def behind(self, after: int) -> int:
        """Exact for messages this process has seen or been told of; others count as the mean of them."""
        sequence = sequence_behind(after)
        rest = self._tally.between(sequence, self._last_sequence)
        if sequence <= self._last_sequence:
            rest += max(1, min(end_of(sequence) - after, self._tally.between(sequence - 1, sequence)))
        return rest

    async def append(self, events: EventColumns) -> Positions:
        if len(events) == 0:
            return np.empty(0, np.uint64)
        self._refuse_when_unusable()
        if self._is_missing:
            raise unavailable(f"the stream {self._stream.name} does not exist any more")
        unrecorded = self._tally.between(self._trim_allowed, self._last_sequence)
        if unrecorded >= self._unrecorded_events_max:
            raise Unavailable(
                f"{unrecorded} events wait to be recorded, {self._unrecorded_events_max} may. Send them again later.",
                code="recorder_behind",
                retry_after_s=5,
            )
        return await self._publisher.append(events)

    async def read(self, after: int, *, events_max: int) -> Sequence[Block]:
        self._refuse_when_unusable()
        if after >= self.end:
            return []
        if after < self.trimmed_through:
            raise LogTrimmedError(
                f"The events from position {after + 1} were asked for, and those up to {self.trimmed_through} "
                "have been trimmed away."
            )
        return await self._fetcher.read(after, through=self._last_sequence, events_max=events_max)

    async def wait_for(self, after: int, *, timeout_s: float) -> bool:
        if self.end > after:
            return True
        if self._closing:
            return False
        waiter = _Waiter(after, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.future
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)

    async def trim(self, through: int) -> None:
        if self._closing:
            return
        allowed = min(sequence_behind(through) - 1, self._last_sequence)
        self._trim_allowed = max(self._trim_allowed, allowed)
        self._tally.forget_through(self._trim_allowed)
        if asyncio.get_running_loop().time() - self._purged_s < _TRIM_PAUSE_S:
            return  # the next poll does it
        async with self._trimming:
            await self._purge()

    async def close(self) -> None:
        self._closing = True
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_result(False)
        if self._poll_task is not None:
            self._poll_task.cancel()
            await asyncio.gather(self._poll_task, return_exceptions=True)
        await self._publisher.close()
        await self._fetcher.close()
        await self._stream.connection.close()

    # Opening.

    async def _start(self, positions_after: int, deadline_s: float) -> None:
        await check_sync(self._url.monitors)
        begin = sequence_behind(positions_after)
        await until(deadline_s, self._stream.connection.connect, what="the event log cannot be opened")

        async def ensure() -> StreamState:
            return await self._or_move(self._stream.ensure(first_sequence=begin), _MOVE_S / 2)

        state: StreamState = await until(deadline_s, ensure, what=f"the stream {self._stream.name}")
        if state.last < begin - 1:
            _logger.warning(
                "log_begins_anew",
                stream=self._stream.name,
                end=end_of(state.last),
                positions_after=positions_after,
            )
            await until(deadline_s, lambda: self._stream.purge(before=begin), what="the log begins anew")
            state = await until(deadline_s, ensure, what=f"the stream {self._stream.name}")
        self._created = state.created
        self._first_sequence = state.first
        self._last_sequence = max(self._last_sequence, state.last)
        self._trim_allowed = state.first - 1
        self._tally = EventTally(state.first - 1)
        await self._learn_rows(state)
        self._tally.reached(self._last_sequence)
        self._publisher.start(self._stream)
        self._poll_task = asyncio.create_task(self._poll(), name="log-poll")

    async def _learn_rows(self, state: StreamState) -> None:
        """How many events messages hold here, from the first of them; without them they count as one each."""
        if state.last < state.first:
            return
        with contextlib.suppress(TallystickError):
            for block in await self._fetcher.read(end_of(state.first - 1), through=state.first, events_max=1):
                self._tally.told(state.first, block.events.num_rows)

    # What this process learns of the stream.

    def _last(self) -> int:
        return self._last_sequence

    def _advance(self, sequence: int, rows: int) -> None:
        self._tally.told(sequence, rows)
        self._reached(sequence)

    def _reached(self, sequence: int) -> None:
        if sequence <= self._last_sequence:
            return
        self._last_sequence = sequence
        end = self.end
        for waiter in self._waiters:
            if waiter.after < end and not waiter.future.done():
                waiter.future.set_result(True)

    def _fail(self, error: LogDamagedError) -> None:
        if self._fault is None:
            _logger.error("log_damaged", stream=self._stream.name, error=error.detail)
            self._fault = error

    def _refuse_when_unusable(self) -> None:
        if self._closing:
            raise closed()
        if self._fault is not None:
            raise LogDamagedError(self._fault.detail)

    async def _poll(self) -> None:
        while not self._closing:  # nats-py swallows a cancellation now and then
            await asyncio.sleep(_POLL_S)
            try:
                known = self._last_sequence  # before asking: acknowledgements overtake the answer
                self._compare(await self._or_move(self._stream.state(), _MOVE_S), known)
                if self._trim_allowed >= self._first_sequence and not self._trimming.locked():
                    async with self._trimming:
                        await self._purge()
            except RetryError:
                continue
            except Exception:
                _logger.exception("log_poll_failed")

    async def _or_move(self, answer: Awaitable[T], patience_s: float) -> T:
        """The answer. When there has been none for so long, the next is sought at another server."""
        loop = asyncio.get_running_loop()
        try:
            found = await answer
        except RetryError:
            if loop.time() - self._answered_s > patience_s:
                self._answered_s = loop.time()
                await self._stream.connection.move()
            raise
        self._answered_s = loop.time()
        return found

    def _compare(self, state: StreamState | None, known: int) -> None:
        """With what was known before: a stream that is another one, or has gone back, is not written to."""
        if state is None:
            if not self._is_missing:
                _logger.error("log_stream_missing", stream=self._stream.name)
            self._is_missing = True
            return
        self._is_missing = False
        if state.created != self._created:
            self._fail(
                LogDamagedError(
                    f"The stream {self._stream.name} is not the one that was opened: it was made at {state.created}, "
                    f"that one at {self._created}. Nothing is accepted until the process is restarted."
                )
            )
            return
        self._polls_behind = self._polls_behind + 1 if state.last < known else 0
        if self._polls_behind > _BEHIND_POLLS_MAX:
            self._fail(
                LogDamagedError(
                    f"The stream {self._stream.name} ends with message {state.last}, but {known} was "
                    "acknowledged. Was it restored from an older copy? Nothing is accepted until the process is "
                    "restarted."
                )
            )
            return
        self._first_sequence = max(self._first_sequence, state.first)
        self._trim_allowed = max(self._trim_allowed, state.first - 1)
        self._tally.reached(state.last)
        self._reached(state.last)

    async def _purge(self) -> None:
        """Under `_trimming`. What fails is tried again by the next trim, or by the poll."""
        before = self._trim_allowed + 1
        if before <= self._first_sequence or self._fault is not None:
            return
        try:
            await self._stream.purge(before=before)
        except RetryError as error:
            _logger.warning("log_trim_failed", stream=self._stream.name, error=str(error))
            return
        self._first_sequence = max(self._first_sequence, before)
        self._purged_s = asyncio.get_running_loop().time()
