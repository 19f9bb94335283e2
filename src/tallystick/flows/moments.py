"""Waiting for the next published moment, without asking again and again."""

import asyncio
from collections.abc import Callable

_CLOSED_S = 0.05


class Moments:
    """Those who wait for one recording to publish. One event loop uses an instance."""

    def __init__(self, published_us: Callable[[], int]) -> None:
        self._published_us = published_us
        self._waiting: set[asyncio.Future[None]] = set()
        self._told_us = 0
        self._closed = False

    async def later_than(self, after_us: int, timeout_s: float) -> int | None:
        """A published moment behind `after_us`; None when there was none in time."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while (published_us := self._published_us()) <= after_us:
            left_s = deadline_s - asyncio.get_running_loop().time()
            if self._closed:
                # Whoever asks again and again must not keep everybody else from running.
                await asyncio.sleep(min(max(left_s, 0.0), _CLOSED_S))
                return None
            if left_s <= 0:
                return None
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await asyncio.wait_for(future, left_s)
            except TimeoutError:
                return None
            finally:
                self._waiting.discard(future)
        return published_us

    def tell(self) -> None:
        """Something may have been published."""
        published_us = self._published_us()
        if published_us > self._told_us:
            self._told_us = published_us
            self._wake()

    def close(self) -> None:
        """Nothing will be published any more: who waits is answered None."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)
