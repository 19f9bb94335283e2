"""Who listens to streams of this process: how many, and when to stop."""

import asyncio
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from tallystick.errors import TooManyRequests, Unavailable


class Tails:
    """Who listens, in this process. One event loop uses an instance."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()
        self._listening: Counter[str] = Counter()

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        """The server shuts down: whoever listens is told goodbye, and comes back to another."""
        self._closing.set()

    def check(self, tenant: str, most: int) -> None:
        """Raise TooManyRequests (too_many_streams), or Unavailable while the server shuts down."""
        if self.closed:
            raise Unavailable("The server is shutting down.", code="log_closed", retry_after_s=2)
        if self._listening[tenant] >= most:
            raise TooManyRequests(
                f"This tenant has {most} streams open at this server. Close one, or raise streams_per_tenant_max.",
                code="too_many_streams",
                retry_after_s=5,
            )

    @contextmanager
    def listening(self, tenant: str) -> Generator[None]:
        """Count one for as long as it listens."""
        self._listening[tenant] += 1
        try:
            yield
        finally:
            self._listening[tenant] -= 1
            if self._listening[tenant] <= 0:
                del self._listening[tenant]

    async def pause(self, seconds: float) -> None:
        """Sleep, or until `close`."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    async def until(self, waiting: "asyncio.Future[int | None]") -> int | None:
        """What `waiting` answers; None when the server shuts down first."""
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((waiting, closing), return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            for task in (waiting, closing):
                task.cancel()
