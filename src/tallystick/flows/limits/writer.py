"""Group commit for the ledger: everybody who waits shares one synced transaction."""

import asyncio
import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any

import structlog

from tallystick.catalog.limiting import Ledger
from tallystick.errors import TallystickError, Unavailable
from tallystick.limits.reservation import Reservation

BATCH_MAX = 2_000

_logger = structlog.get_logger("limits")


class Written:
    """Whether a state is durable by now. Awaiting it raises what `error` is."""

    __slots__ = ("_then", "error", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self.error: Exception | None = None
        """Why it could not be written: StorageFull, Unavailable."""
        self._then: Callable[[], object] | None = None

    def then(self, callback: Callable[[], object]) -> None:
        """Call it when it is over: at once where it is. One callback, which must not raise."""
        if self.is_done:
            callback()
        else:
            assert self._then is None
            self._then = callback

    def over(self, error: Exception | None = None) -> None:
        """It is durable, or cannot be."""
        self.is_done, self.error = True, error
        callback, self._then = self._then, None
        if callback is not None:
            callback()

    def __await__(self) -> Generator[Any, None, None]:
        if not self.is_done:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda: future.done() or future.set_result(None))
            yield from future
        if self.error is not None:
            raise self.error


_Batch = list[tuple[Reservation, Written | None]]


class Writer:
    """States go into the ledger in the order they are given: what was decided because of a state is never durable without
    it. After a failure nothing is written any more, and the owner reads the ledger again (`on_failure`).

    A thread of its own commits, and tells the loop of a whole batch at once: what comes in one turn of the loop, or while
    another is committed, is a batch."""

    def __init__(self, ledger: Ledger, *, on_failure: Callable[[Exception], None]) -> None:
        self._ledger = ledger
        self._on_failure = on_failure
        self._waiting: _Batch = []
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_busy = False
        self._is_stopping = False
        self._failed: Exception | None = None
        self._ended = asyncio.Event()

    def write(self, state: Reservation) -> Written:
        """Over when it is durable; its place among the others is taken now. Raises Unavailable."""
        written = Written()
        self._put(state, written)
        return written

    def later(self, state: Reservation) -> None:
        """It goes with the next commit; lost with a crash before."""
        self._put(state, None)

    def _put(self, state: Reservation, written: Written | None) -> None:
        if self._failed is not None or self._is_stopping:
            raise Unavailable("The gate is reading its ledger again; try again.", retry_after_s=1)
        self._waiting.append((state, written))
        if not self._is_busy and self._loop is not None:
            self._is_busy = True
            self._loop.call_soon(self._next)

    async def run(self) -> None:
        """Commit until `stop`, and then what is left."""
        loop = self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._commit_all, args=(loop,), name="ledger", daemon=True).start()
        try:
            self._is_busy = True
            self._next()
            await self._ended.wait()
        finally:
            self._batches.put(None)

    def _next(self) -> None:
        """Nothing is being committed: begin with what waits."""
        if self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            self._batches.put(batch)
            return
        self._is_busy = False
        if self._is_stopping:
            self._ended.set()

    def _commit_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread."""
        while (batch := self._batches.get()) is not None:
            error: Exception | None = None
            states = {state.id: state for state, _ in batch}  # the last of each
            try:
                self._ledger.write(list(states.values()))
            except Exception as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(self._committed, batch, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _committed(self, batch: _Batch, error: Exception | None) -> None:
        if error is not None:
            self._fail(error, batch + self._waiting)
            return
        self._over(batch, None)
        self._next()

    def _over(self, batch: _Batch, error: Exception | None) -> None:
        for _, written in batch:
            if written is None:
                continue
            try:
                written.over(error)
            except Exception as failed:  # one caller's answer is no other's
                _logger.exception("answer_failed", error=repr(failed))

    def _fail(self, error: Exception, waiting: _Batch) -> None:
        _logger.warning("ledger_not_written", error=repr(error))
        self._failed, self._waiting = error, []
        known = isinstance(error, TallystickError)
        shown = error if known else Unavailable("The gate's ledger cannot be written.", retry_after_s=1)
        # First the gate is thrown away, so that nobody who is told of it finds it open.
        self._on_failure(error)
        self._over(waiting, shown)
        self._ended.set()

    def stop(self) -> None:
        """Nothing more is taken."""
        self._is_stopping = True
        if not self._is_busy and not self._waiting:
            self._ended.set()
