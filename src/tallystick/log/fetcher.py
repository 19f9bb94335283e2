"""Reading a stream in order, ahead of the reader.

Messages are read by number from any server that has them, many by one request; so a reader needs no state on the
servers, begins anywhere, and goes on when one of them is lost. Two things are not taken on trust: that nothing is
missing (the numbers are consecutive: nobody deletes single messages), and that a server which has nothing yet is not
merely behind.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from tallystick.log.interface import Block, LogDamagedError, LogTrimmedError
from tallystick.log.message import ROW_BITS, end_of, sequence_behind, unseal
from tallystick.log.nats_connection import RetryError
from tallystick.log.nats_stream import Message, NatsStream, unavailable

READ_S_MAX = 10.0
BUFFER_BYTES_MAX = 64 * 1024**2

_MESSAGES_MAX = 512
_BYTES_MAX = 8 * 1024**2
_ATTEMPT_S = 2.0
_PAUSE_S = 0.01
_PAUSE_S_MAX = 0.2
_ASK_LEADER_FROM = 3  # attempts in vain before the leader is asked what it has
_DAMAGED_ATTEMPTS_MAX = 3  # another server may have it whole
_THREAD_FROM_BYTES = 16 * 1024
_BLOCK_OVERHEAD_BYTES = 8192

_logger = structlog.get_logger("tallystick.log")


class Fetcher:
    """A buffer of decoded blocks, in order without gaps, that runs ahead of `read`. Used from one event loop."""

    def __init__(
        self, stream: NatsStream, partition: int, *, last_sequence: Callable[[], int], read_s_max: float
    ) -> None:
        self._stream = stream
        self._partition = partition
        self._last_sequence = last_sequence
        self._read_s_max = read_s_max
        self._buffer: deque[tuple[int, Block]] = deque()
        self._bytes = 0
        self._next = 1  # the sequence behind the buffer
        self._ahead: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._closing = False
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="log-decoder")

    async def read(self, after: int, *, through: int, events_max: int) -> Sequence[Block]:
        """Blocks behind position `after`; messages up to sequence `through` are known to be there."""
        async with self._lock:
            deadline_s = asyncio.get_running_loop().time() + self._read_s_max
            await self._stop_ahead()
            self._seek(sequence_behind(after))
            while (taken := self._take(after, events_max, through)) is None:
                await self._fetch(deadline_s)
            if self._next <= self._last_sequence() and self._bytes < BUFFER_BYTES_MAX:
                self._ahead = asyncio.create_task(self._fetch_ahead())
            return taken

    async def close(self) -> None:
        self._closing = True
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
        self._buffer.clear()
        self._decoder.shutdown(wait=False)

    def _seek(self, wanted: int) -> None:
        """Drop what lies before; begin anew when what is wanted is not in the buffer, nor next."""
        while self._buffer and self._buffer[0][0] < wanted:
            self._bytes -= _memory_of(self._buffer.popleft()[1])
        if self._buffer and self._buffer[0][0] > wanted:
            self._buffer.clear()
            self._bytes = 0
        if not self._buffer:
            self._next = wanted

    def _take(self, after: int, events_max: int, through: int) -> list[Block] | None:
        """At least one block, then as many as fit; None when more have to be fetched to know."""
        taken: list[Block] = []
        events = 0
        for _, candidate in self._buffer:
            block = candidate
            if block.first <= after:
                block = Block(after + 1, block.events.slice(after + 1 - block.first))
            events += block.events.num_rows
            if taken and events > events_max:
                return taken
            taken.append(block)
            if events >= events_max:
                return taken
        if self._next > through or (taken and self._bytes >= BUFFER_BYTES_MAX):
            return taken
        return None

    async def _stop_ahead(self) -> None:
        """Let the reading ahead finish; what went wrong with it will go wrong again, before the reader's eyes."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            await asyncio.gather(ahead, return_exceptions=True)

    async def _fetch_ahead(self) -> None:
        await self._fetch(asyncio.get_running_loop().time() + self._read_s_max)

    async def _fetch(self, deadline_s: float) -> None:
        """Put at least the next message into the buffer."""
        loop = asyncio.get_running_loop()
        wanted = self._next
        attempts = damaged = 0
        pause_s = _PAUSE_S
        while True:
            reason = "no server has it yet"
            try:
                messages = await self._stream.fetch(
                    wanted, messages_max=_MESSAGES_MAX, bytes_max=_BYTES_MAX, timeout_s=_ATTEMPT_S
                )
                if messages and messages[0].sequence == wanted:
                    found = await self._decoded(_consecutive(messages))
                    if self._next == wanted:
                        self._put(found)
                    return
                if messages or attempts >= _ASK_LEADER_FROM:
                    await self._refuse_what_is_gone(wanted, is_missing=bool(messages))
            except RetryError as error:
                reason = str(error)
            except LogDamagedError:
                damaged += 1
                if damaged >= _DAMAGED_ATTEMPTS_MAX:
                    raise
            attempts += 1
            if loop.time() >= deadline_s or self._closing:
                raise unavailable(f"message {wanted} cannot be read: {reason}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    async def _refuse_what_is_gone(self, wanted: int, *, is_missing: bool) -> None:
        """Ask the leader. `is_missing`: a server has later messages, but not this one."""
        state = await self._stream.state()
        if state is None:
            raise RetryError(f"the stream {self._stream.name} does not exist")
        if state.first > wanted:
            raise LogTrimmedError(
                f"The events behind position {end_of(wanted - 1)} were asked for, and those up to "
                f"{end_of(state.first - 1)} have been trimmed away."
            )
        if is_missing:
            raise self._damaged(wanted, "it is missing")

    async def _decoded(self, messages: list[Message]) -> list[tuple[int, Block]]:
        if sum(len(message.payload) for message in messages) < _THREAD_FROM_BYTES:
            return self._unsealed(messages)
        return await asyncio.get_running_loop().run_in_executor(self._decoder, self._unsealed, messages)

    def _unsealed(self, messages: list[Message]) -> list[tuple[int, Block]]:
        """What is sound before the first damaged message; that one's error when there is nothing before it."""
        found: list[tuple[int, Block]] = []
        for message in messages:
            try:
                block = unseal(message.payload, sequence=message.sequence, partition=self._partition)
            except ValueError as error:
                if found:
                    break
                raise self._damaged(message.sequence, str(error)) from error
            found.append((message.sequence, block))
        return found

    def _put(self, found: list[tuple[int, Block]]) -> None:
        self._buffer.extend(found)
        self._bytes += sum(_memory_of(block) for _, block in found)
        self._next = found[-1][0] + 1

    def _damaged(self, sequence: int, what: str) -> LogDamagedError:
        first, last = sequence << ROW_BITS, end_of(sequence)
        return LogDamagedError(
            f"The block of the positions {first} to {last} (message {sequence} of the stream {self._stream.name}) "
            f"cannot be read: {what}."
        )


def _consecutive(messages: list[Message]) -> list[Message]:
    first = messages[0].sequence
    for number, message in enumerate(messages):
        if message.sequence != first + number:
            return messages[:number]
    return messages


def _memory_of(block: Block) -> int:
    return block.events.nbytes + _BLOCK_OVERHEAD_BYTES
