"""What the gate asks of everything else: usage, money, what was recorded. Of this process, or of the one it was started by."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from tallystick.errors import Unavailable
from tallystick.flows.fresh import News
from tallystick.flows.limits.cost import Priced, price
from tallystick.flows.limits.rules import Subscribed
from tallystick.flows.recent import recorded_between
from tallystick.flows.system import System
from tallystick.flows.usage import UsageAnswer, UsageRequest, in_store, usage
from tallystick.limits.limit import Window
from tallystick.metering.meter import Meter

PUBLISHED_S_MAX = 5.0


class Questions(Protocol):
    """Every one raises Unavailable where it cannot be answered now."""

    async def usage(self, request: UsageRequest) -> UsageAnswer:
        """See flows/usage.usage."""
        ...

    async def price(
        self, tenant: str, subscribed: Sequence[Subscribed], window: Window, as_of_us: int
    ) -> Priced:
        """See flows/limits/cost.price."""
        ...

    async def recorded_between(self, after_us: int, until_us: int, meters: Collection[Meter]) -> News:
        """See flows/recent.recorded_between."""
        ...

    async def moments_of(self, positions: Sequence[int]) -> dict[int, int]:
        """When the events at these positions were recorded, microseconds by position; those alone that are."""
        ...


@dataclass(frozen=True, slots=True)
class OwnQuestions:
    """Answered by this process."""

    system: System

    async def _published(self, moment_us: int | None) -> None:
        """The gate's process is told of a moment shortly before it is published. Asked as of it before that, a question would
        be answered as of the one before."""
        recorder = self.system.recorder
        if moment_us is None or recorder.recorded_at_us >= moment_us:
            return
        if await recorder.wait_for_moment(moment_us - 1, PUBLISHED_S_MAX) is None:
            raise Unavailable("What was recorded last is not published yet.", retry_after_s=1)

    async def usage(self, request: UsageRequest) -> UsageAnswer:
        await self._published(request.as_of_us)
        return await usage(self.system, request)

    async def price(
        self, tenant: str, subscribed: Sequence[Subscribed], window: Window, as_of_us: int
    ) -> Priced:
        await self._published(as_of_us)
        return await price(self.system, tenant, subscribed, window, as_of_us)

    async def recorded_between(self, after_us: int, until_us: int, meters: Collection[Meter]) -> News:
        await self._published(until_us)
        return await recorded_between(self.system, after_us, until_us, meters=meters)

    async def moments_of(self, positions: Sequence[int]) -> dict[int, int]:
        return await in_store(self.system, lambda: self.system.store.moments_of(positions))
