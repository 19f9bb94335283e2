"""Group commit for the ledger: everybody who waits shares one synced transaction."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from tallystick.catalog.limiting import Ledger
from tallystick.errors import TallystickError, Unavailable
from tallystick.limits.reservation import Reservation

BATCH_MAX = 2_000

_logger = structlog.get_logger("limits")


class Writer:
    """States go into the ledger in the order they are given: what was decided because of a state is never durable without
    it. After a failure nothing is written any more, and the owner reads the ledger again (`on_failure`)."""

    def __init__(self, ledger: Ledger, *, on_failure: Callable[[Exception], None]) -> None:
        self._ledger = ledger
        self._on_failure = on_failure
        self._waiting: list[tuple[Reservation, asyncio.Future[None] | None]] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._failed: Exception | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    def write(self, state: Reservation) -> "asyncio.Future[None]":
        """Done when it is durable; its place among the others is taken now. Raises StorageFull, Unavailable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(state, future)
        return future

    def later(self, state: Reservation) -> None:
        """It goes with the next commit; lost with a crash before."""
        self._put(state, None)

    def _put(self, state: Reservation, future: asyncio.Future[None] | None) -> None:
        if self._failed is not None or self._stopping:
            raise Unavailable("The gate is reading its ledger again; try again.", retry_after_s=1)
        self._waiting.append((state, future))
        self._wake.set()

    async def run(self) -> None:
        """Commit until `stop`, and then what is left."""
        loop = asyncio.get_running_loop()
        while self._waiting or not self._stopping:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            states = {state.id: state for state, _ in batch}  # the last of each
            try:
                await loop.run_in_executor(self._thread, self._ledger.write, list(states.values()))
            except Exception as error:
                self._fail(error, batch + self._waiting)
                break
            for _, future in batch:
                if future is not None and not future.done():
                    future.set_result(None)
        self._thread.shutdown(wait=False)

    def _fail(self, error: Exception, waiting: list[tuple[Reservation, asyncio.Future[None] | None]]) -> None:
        _logger.warning("ledger_not_written", error=repr(error))
        self._failed, self._waiting = error, []
        known = isinstance(error, TallystickError)
        shown = error if known else Unavailable("The gate's ledger cannot be written.", retry_after_s=1)
        for _, future in waiting:
            if future is not None and not future.done():
                future.set_exception(shown)
        self._on_failure(error)

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
