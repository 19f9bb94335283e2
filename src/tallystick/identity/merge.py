"""Which runs to merge, and merging them in bounded memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tallystick.identity.entries import Entries, empty_entries, merged
from tallystick.identity.run import Run, RunWriter

_SMALLEST_TIER_ENTRIES = 4096
_PAGES_IN_MEMORY_MAX = 640
"""Pages of all inputs together read in one go: about 130,000 entries, 2.6 MB, which stay in the processor's cache."""


def due(runs: Sequence[Run], factor: int) -> list[Run]:
    """The runs to merge next: `factor` runs of about one size, the smallest such size; [] when nothing is due.

    Sizes are tiers that grow by `factor`, so an entry is rewritten once a tier: log_factor(total / first run) times.
    """
    tiers: dict[int, list[Run]] = {}
    for run in runs:
        tier = int(math.log(max(1.0, len(run) / _SMALLEST_TIER_ENTRIES), factor))
        tiers.setdefault(tier, []).append(run)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= factor:
            return tiers[tier][:factor]
    return []


@dataclass(slots=True)
class _Cursor:
    """How far a run has been read, and what was read but not yet merged."""

    run: Run
    pages_max: int
    next_page: int = 0
    waiting: Entries = field(default_factory=empty_entries)

    def fill(self) -> None:
        if not len(self.waiting) and not self.at_end:
            self.waiting = self.run.read(self.next_page, self.pages_max)
            self.next_page += self.pages_max

    @property
    def at_end(self) -> bool:
        return self.next_page >= self.run.header.pages

    def take_through(self, limit: np.uint64) -> Entries:
        stop = int(np.searchsorted(self.waiting.key, limit, side="right"))
        taken = self.waiting.part(0, stop)
        self.waiting = self.waiting.part(stop, len(self.waiting))
        return taken


def merge_into(writer: RunWriter, runs: Sequence[Run], *, stopped: Callable[[], bool]) -> bool:
    """Write all entries of `runs` in order. False when `stopped` became true on the way, with nothing to be kept.

    Raises: IndexDamagedError when a page of an input is damaged.
    """
    total = sum(run.header.pages for run in runs)
    cursors = [_Cursor(run, max(1, run.header.pages * _PAGES_IN_MEMORY_MAX // total)) for run in runs]
    while not stopped():
        for cursor in cursors:
            cursor.fill()
        cursors = [cursor for cursor in cursors if len(cursor.waiting)]
        if not cursors:
            return True
        # Behind the last key read of a run that goes on, anything may follow; up to it everything is at hand.
        limits = [cursor.waiting.key[-1] for cursor in cursors if not cursor.at_end]
        limit = min(limits) if limits else max(cursor.waiting.key[-1] for cursor in cursors)
        parts = [cursor.take_through(limit) for cursor in cursors]
        writer.append(merged([part for part in parts if len(part)]))
    return False
