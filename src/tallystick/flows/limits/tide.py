"""Following the recorder: from one published moment to the next, usage and what is settled move on together."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from tallystick.flows.fresh import Followed, News
from tallystick.flows.limits.balances import Balances
from tallystick.flows.limits.stand import Stands
from tallystick.flows.limits.writer import Writer
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.limits import reservation as life
from tallystick.limits.book import Book
from tallystick.limits.reservation import Reservation
from tallystick.metering.meter import Meter
from tallystick.metering.position import Vector, partition_of

CATCH_UP_S_MAX = 2.0
"""A question waits so long for what was published when it came."""
BEHIND_S_MAX = 30.0
"""Where recording is further behind than this, usage counts as unknown."""
_STUCK_S_MAX = 5.0
_WAIT_S_MAX = 0.25
_EXPIRY_S_MIN = 0.02
"""Reservations that end within so short a time go back together. Nobody waits for that: every decision looks before it."""
_OPEN_S_MAX = 10.0


class Tide:
    """One event loop uses it."""

    def __init__(
        self,
        system: System,
        book: Book,
        balances: Balances,
        stands: Stands,
        writer: Writer,
    ) -> None:
        self._system = system
        self._questions = balances.questions
        self._book = book
        self._balances = balances
        self._stands = stands
        self._writer = writer
        self._moved = asyncio.Event()
        self._stuck_s: float | None = None
        self._judged_s = 0.0
        self._appending: dict[asyncio.Future[Any], int | None] = {}

    async def begin(self) -> None:
        """From a moment at which everything placed before is recorded, if that comes soon."""
        recorder = self._system.recorder
        placed = [position for one in self._book.open() for position in one.positions]
        by_partition: dict[int, int] = {}
        for position in placed:
            partition = partition_of(position)
            by_partition[partition] = max(by_partition.get(partition, 0), position)
        await recorder.wait_for(tuple(sorted(by_partition.values())), _OPEN_S_MAX)
        moment_us, exact = recorder.published
        covered = await self._covered(moment_us, exact)
        self._balances.moment_us = moment_us
        self._settle(covered)

    async def step(self, next_end_us: int | None) -> None:
        """Wait for the next moment (a while, or until the next reservation ends), and move on to it."""
        timeout_s = _WAIT_S_MAX
        if next_end_us is not None:
            left_s = (next_end_us - self._system.clock.now_us()) / 1e6
            timeout_s = min(timeout_s, max(_EXPIRY_S_MIN, left_s))
        self._judge()
        newer = await self._system.recorder.wait_for_moment(self._balances.moment_us, timeout_s)
        if newer is not None and not self.advance_now():
            async with self._balances.tide:
                await self._advance()
        self._stuck_s = None

    def stuck(self) -> None:
        """It could not move on."""
        self._stuck_s = self._stuck_s or time.monotonic()
        self._judge()

    def _judge(self) -> None:
        now_s = time.monotonic()
        stuck = self._stuck_s is not None and now_s - self._stuck_s > _STUCK_S_MAX
        if stuck or now_s - self._judged_s > _WAIT_S_MAX:
            self._judged_s = now_s
            self._stands.is_behind = stuck or self._system.recorder.lag().seconds > BEHIND_S_MAX

    async def catch_up(self) -> None:
        """Until what was published by now is counted here; not for long."""
        wanted_us = self._system.recorder.recorded_at_us
        if self._balances.moment_us >= wanted_us or self.advance_now():
            return
        deadline_s = time.monotonic() + CATCH_UP_S_MAX
        while self._balances.moment_us < wanted_us:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or self._stuck_s is not None:
                return
            try:
                await asyncio.wait_for(self._moved.wait(), left_s)
            except TimeoutError:
                return

    async def _advance(self) -> None:
        recorder = self._system.recorder
        before_us = self._balances.moment_us
        until_us, exact = recorder.published
        if until_us <= before_us:
            return
        unplaced = self._unplaced(exact)
        if unplaced:
            # Their positions must be known before it is said which of them usage has by now.
            await asyncio.wait(unplaced, timeout=1.0)
        meters = await self._meters()
        self._follow_fresh()
        news = None
        if meters:
            news = await self._questions.recorded_between(before_us, until_us, tuple(meters.values()))
        covered = await self._covered(until_us, exact)
        self._move(until_us, news, frozenset(meters), covered)

    def advance_now(self) -> bool:
        """Move on to what is published, without waiting: where the recorder has it all in memory. False: it cannot be done
        like that."""
        recorder, balances = self._system.recorder, self._balances
        before_us = balances.moment_us
        until_us, exact = recorder.published
        if until_us <= before_us:
            return True
        if exact is None or balances.tide.locked() or self._unplaced(exact):
            return False
        followed = self._followed()
        news = None
        if followed:
            news = None if recorder.fresh is None else recorder.fresh.between(before_us, until_us, followed)
            if news is None:
                return False
        self._move(until_us, news, followed.ids, _covered_by(self._book, exact))
        self._follow_fresh()
        return True

    def _followed(self) -> Followed:
        balances = self._balances
        return Followed(
            balances.meter_ids | balances.loading_meters,
            self._stands.cost_meters() if self._stands.follows_costs else frozenset(),
        )

    def _follow_fresh(self) -> None:
        fresh = self._system.recorder.fresh
        if fresh is not None:
            fresh.follow("limits", self._followed())

    def _move(
        self, until_us: int, news: News | None, meters: frozenset[int], covered: Iterable[Reservation]
    ) -> None:
        self._balances.advance(until_us, news, meters)
        self._stands.advance(news, frozenset() if news is None else news.unsure)
        self._settle(covered)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # -- settlements on their way into the log ------------------------------------------------------------------------
    def begins(self, appending: asyncio.Future[Any]) -> None:
        """Its positions are not known yet."""
        end = self._system.log.end
        self._appending[appending] = end if isinstance(end, int) else None

    def ends(self, appending: asyncio.Future[Any]) -> None:
        self._appending.pop(appending, None)

    def _unplaced(self, exact: Vector | None) -> set[asyncio.Future[Any]]:
        """Those that may be recorded by now: all but the ones that began when the log was at least that far."""
        if not self._appending:
            return set()
        through = None if exact is None else max(exact, default=0)
        return {
            one for one, end in self._appending.items() if through is None or end is None or end < through
        }

    async def _meters(self) -> dict[int, Meter]:
        made = self._balances.meters
        wanted = self._stands.cost_meters()
        if wanted or self._balances.loading_meters - made.keys():
            active = await in_questions(self._system, self._system.catalog.active_meters)
            loading = self._balances.loading_meters
            for meter in active:
                if (meter.tenant, meter.key) in wanted or meter.id in loading:
                    made[meter.id] = meter
        return made

    async def _covered(self, moment_us: int, exact: Vector | None) -> list[Reservation]:
        """Those settled ones that usage has as of a moment. `exact`: everything up to here, and nothing behind it, was
        recorded by then; None: the store knows."""
        if exact is not None:
            return _covered_by(self._book, exact)
        placed = list(self._book.placed())
        if not placed:
            return []
        positions = sorted({position for one in placed for position in one.positions})
        moments = await self._questions.moments_of(positions)
        never = moment_us + 1
        return [
            one
            for one in placed
            if all(moments.get(position, never) <= moment_us for position in one.positions)
        ]

    def _settle(self, covered: Iterable[Reservation]) -> None:
        for one in covered:
            present = self._book.get(one.id)
            if present is not None:
                done = life.counted(present)
                self._writer.later(done)
                self._book.put(done)


def _covered_by(book: Book, exact: Vector) -> list[Reservation]:
    through = {partition_of(position): position for position in exact}
    return [
        one
        for one in book.placed()
        if all(position <= through.get(partition_of(position), 0) for position in one.positions)
    ]
