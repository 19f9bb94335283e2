"""The rest of Tallystick as the gate's process sees it: across a link (link.py), at whose other end host.py answers.

What was recorded comes by itself, moment by moment, with what the meters that the gate follows got in between. A published
moment stands on the board before anybody can be told of it: whoever decides sees there that news is still on its way.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from tallystick.flows.fresh import Followed, Fresh, News
from tallystick.flows.limits.board import Board
from tallystick.flows.limits.cost import Priced
from tallystick.flows.limits.link import Link
from tallystick.flows.limits.rules import Subscribed
from tallystick.flows.moments import Moments
from tallystick.flows.recording import Lag
from tallystick.flows.usage import UsageAnswer, UsageRequest
from tallystick.limits.limit import Window
from tallystick.metering.event import EventColumns
from tallystick.metering.meter import Meter
from tallystick.metering.position import Positions, Vector
from tallystick.money import exactly
from tallystick.store.interface import TouchedUsage

TILES_MAX = 64
SILENT_S_MAX = 5.0
"""Where nothing comes for so long, recording counts as being behind since then: news comes every second."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is told of a published moment. `news`: of `followed`, since the one before; None: that has to be asked for."""

    after_us: int
    until_us: int
    exact: Vector | None
    followed: Followed
    news: News | None
    lag: Lag


class FarFresh(Fresh):
    """What came with the moments. Nothing is put here by a recorder."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._own: Followed | None = None
        self._came: deque[Moment] = deque(maxlen=TILES_MAX)

    def follow(self, who: str, followed: Followed) -> None:
        if followed != self._own:
            self._own = followed
            self._link.tell("follow", followed)

    def came(self, moment: Moment) -> None:
        self._came.append(moment)

    def between(self, after_us: int, until_us: int, followed: Followed) -> News | None:
        reached_us = after_us
        found: list[News] = []
        for moment in self._came:
            if moment.after_us == reached_us and moment.until_us <= until_us:
                if moment.news is None or not followed <= moment.followed:
                    return None
                found.append(moment.news)
                reached_us = moment.until_us
        if reached_us != until_us or not found:
            return None
        return found[0] if len(found) == 1 else _together(found)


@exactly
def _together(found: Sequence[News]) -> News:
    """Of moments that follow each other."""
    sums: dict[tuple[str, int, str], TouchedUsage] = {}
    for one in (touched for news in found for touched in news.usage):
        key = (one.tenant, one.meter, one.customer)
        other = sums.get(key)
        sums[key] = (
            one
            if other is None
            else TouchedUsage(
                *key,
                min(one.earliest_us, other.earliest_us),
                max(one.latest_us, other.latest_us),
                one.readings + other.readings,
                one.total + other.total,
            )
        )
    unsure = frozenset[int]().union(*(news.unsure for news in found))
    return News(found[0].after_us, found[-1].until_us, tuple(sums.values()), unsure)


class FarRecording:
    """As much of flows/recording.Recording as the gate asks."""

    def __init__(self, link: Link, board: Board) -> None:
        self._link = link
        self._board = board
        self._published: tuple[int, Vector | None] = (0, None)
        self._lag = Lag(0, 0.0)
        self._heard_s = time.monotonic()
        self._moments = Moments(lambda: self._published[0])
        self.fresh = FarFresh(link)
        self.began = asyncio.Event()
        """The first moment has come."""

    def came(self, moment: Moment) -> None:
        """For the link: a moment, or the same one again as a sign of life."""
        self._heard_s = time.monotonic()
        self._lag = moment.lag
        if moment.until_us > self._published[0]:
            self.fresh.came(moment)
            self._published = (moment.until_us, moment.exact)
            self._moments.tell()
        self.began.set()

    @property
    def is_current(self) -> bool:
        """Whether everything published by now has come."""
        return self._published[0] >= self._board.published_us

    async def wait_until_current(self, timeout_s: float) -> None:
        """Not for longer than that."""
        await self.wait_for_moment(self._board.published_us - 1, timeout_s)

    @property
    def published(self) -> tuple[int, Vector | None]:
        return self._published

    @property
    def recorded_at_us(self) -> int:
        return max(self._published[0], self._board.published_us)

    def lag(self) -> Lag:
        silent_s = time.monotonic() - self._heard_s
        return self._lag if silent_s < SILENT_S_MAX else Lag(self._lag.events, self._lag.seconds + silent_s)

    async def wait_for(self, position: Vector, timeout_s: float) -> bool:
        return await self._link.ask("wait_for", position, timeout_s)

    async def wait_for_moment(self, after_us: int, timeout_s: float) -> int | None:
        return await self._moments.later_than(after_us, timeout_s)


class FarLog:
    """Takes what is settled. See log/interface.EventLog."""

    def __init__(self, link: Link, board: Board) -> None:
        self._link = link
        self._board = board

    @property
    def end(self) -> int:
        return self._board.log_end

    async def append(self, events: EventColumns) -> Positions:
        return np.array(await self._link.ask("append", events), np.uint64)

    async def close(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class FarQuestions:
    """See flows/limits/questions.Questions."""

    link: Link

    async def usage(self, request: UsageRequest) -> UsageAnswer:
        return await self.link.ask("usage", request)

    async def price(
        self, tenant: str, subscribed: Sequence[Subscribed], window: Window, as_of_us: int
    ) -> Priced:
        return await self.link.ask("price", tenant, tuple(subscribed), window, as_of_us)

    async def recorded_between(self, after_us: int, until_us: int, meters: Collection[Meter]) -> News:
        return await self.link.ask("recorded_between", after_us, until_us, tuple(meters))

    async def moments_of(self, positions: Sequence[int]) -> dict[int, int]:
        return cast("dict[int, int]", await self.link.ask("moments_of", list(positions)))
