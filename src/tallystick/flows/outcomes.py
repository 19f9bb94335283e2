"""What became of the last batches, and who waits to hear of it.

The recorder's thread adds a batch before it publishes that the batch is recorded; those who wait are woken in the event loop."""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tallystick.flows.recording import Outcome
from tallystick.metering.position import Positions

_KEPT = 1024


def no_positions() -> Positions:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One batch done."""

    positions: Positions
    duplicates: Positions = field(default_factory=no_positions)
    conflicts: Positions = field(default_factory=no_positions)
    statuses: Sequence[str] = ()  # of an action: one for each of its positions
    quarantined: Positions = field(default_factory=no_positions)


class Outcomes:
    """Of one recorder. `recorded` answers the position up to which everything is recorded."""

    def __init__(self, recorded: Callable[[], int]) -> None:
        self._recorded = recorded
        self._batches: deque[Recorded] = deque(maxlen=_KEPT)
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = itertools.count()

    def add(self, batch: Recorded) -> None:
        """Called from the recorder's thread, before anybody can see that the batch is recorded."""
        self._batches.append(batch)

    async def reached(self, position: int, timeout_s: float) -> bool:
        """Wait until everything up to `position` is recorded. False when the time ran out first."""
        if position <= self._recorded():
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position, next(self._tickets), future))
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapq.heapify(self._waiting)
            return False
        return True

    def tell(self) -> None:
        """More may be recorded: wake those who waited for it."""
        while self._waiting and self._waiting[0][0] <= self._recorded():
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Nothing more will be recorded here."""
        for _, _, future in self._waiting:
            future.cancel()

    def outcome(self, positions: Positions) -> Outcome:
        """Which of these recorded events were duplicates, conflicts, of nobody: by their place in `positions`."""
        duplicate = conflict = quarantined = np.zeros(len(positions), np.bool_)
        for batch in self._of(positions):
            duplicate = duplicate | np.isin(positions, batch.duplicates)
            conflict = conflict | np.isin(positions, batch.conflicts)
            quarantined = quarantined | np.isin(positions, batch.quarantined)
        return Outcome(*(np.flatnonzero(rows).tolist() for rows in (duplicate, conflict, quarantined)))

    def statuses(self, positions: Positions) -> list[str]:
        """What became of the rows of an action at these positions, as far as it is known."""
        found: dict[int, str] = {}
        for batch in self._of(positions):
            found.update(zip(batch.positions.tolist(), batch.statuses, strict=False))
        return [found[at] for at in positions.tolist() if at in found]

    def _of(self, positions: Positions) -> list[Recorded]:
        if len(positions) == 0:
            return []
        low, high = positions.min(), positions.max()
        # The recorder's thread may add meanwhile.
        return [
            batch
            for batch in tuple(self._batches)
            if batch.positions[-1] >= low and batch.positions[0] <= high
        ]
