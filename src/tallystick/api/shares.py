"""Fair shares of the way in: what one tenant sends at once does not make another one wait.

All requests that are being read, decoded and committed hold some bytes. A tenant may hold its share of all there are,
that is all of them divided by the tenants that hold any. A request beyond that is not refused but waits, its body unread,
until earlier ones of the same tenant are done: the flood is slowed by its own weight (TCP holds it back), and a tenant
that sends little finds the way as short as the others' shares leave it.
"""

import asyncio
from collections import deque

from tallystick.errors import TooManyRequests

HELD_BYTES_MAX = 16 * 1024 * 1024
REQUEST_BYTES = 16 * 1024
"""What a request weighs beside its body: a thousand small ones fill the way as a few large ones do."""
UNKNOWN_BYTES = 256 * 1024
"""What a body weighs whose length is not told."""
COMPRESSED_FACTOR = 4
WAIT_S_MAX = 10.0
WAITING_MAX = 5_000


def weight_of(length: bytes | None, *, compressed: bool) -> int:
    """What a request holds, by its Content-Length."""
    size = int(length) if length is not None and length.isdigit() and len(length) < 12 else UNKNOWN_BYTES
    return min(REQUEST_BYTES + size * (COMPRESSED_FACTOR if compressed else 1), HELD_BYTES_MAX)


class Shares:
    """Who holds how much. One event loop uses an instance."""

    def __init__(self, held_bytes_max: int = HELD_BYTES_MAX) -> None:
        self._held_bytes_max = held_bytes_max
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    def enter(self, tenant: str, weight: int) -> bool:
        """Hold it, if there is room in the tenant's share now; False: `wait` for it."""
        if tenant in self._waiting or not self._fits(tenant, weight):
            return False
        self._held[tenant] = self._held.get(tenant, 0) + weight
        return True

    async def wait(self, tenant: str, weight: int) -> None:
        """Hold it once there is room. Raises TooManyRequests after WAIT_S_MAX, or when too many wait already."""
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= WAITING_MAX:
            raise _too_many()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append((weight, turn))
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(tenant, weight)  # its turn had come at the same moment
            else:
                turn.cancel()
                self._admit(tenant)
            if isinstance(error, TimeoutError):
                raise _too_many() from None
            raise

    def leave(self, tenant: str, weight: int) -> None:
        """Let go of it; whoever waits for the room comes in."""
        left = self._held[tenant] - weight
        if left > 0:
            self._held[tenant] = left
            if tenant in self._waiting:
                self._admit(tenant)
        else:
            del self._held[tenant]
            # One tenant less: everybody's share has grown.
            for other in list(self._waiting):
                self._admit(other)

    def _fits(self, tenant: str, weight: int) -> bool:
        held = self._held.get(tenant)
        # Whoever holds nothing may always come in: a request larger than a share must not wait for ever.
        return held is None or held + weight <= self._held_bytes_max // len(self._held)

    def _admit(self, tenant: str) -> None:
        queue = self._waiting.get(tenant)
        while queue:
            weight, turn = queue[0]
            if turn.done():
                queue.popleft()
                continue
            if not self._fits(tenant, weight):
                return
            queue.popleft()
            self._held[tenant] = self._held.get(tenant, 0) + weight
            turn.set_result(None)
        self._waiting.pop(tenant, None)


def _too_many() -> TooManyRequests:
    return TooManyRequests(
        "Too much of this tenant waits to be written. Send less at once.",
        code="share_exceeded",
        retry_after_s=1,
    )
