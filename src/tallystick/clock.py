"""Time as an argument: whoever needs "now" is given a Clock, so that tests move time instead of waiting for it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the wall clock's time."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        ...


class SystemClock:
    """The machine's clock. It may jump; whoever needs a monotone time guards against that (see flows/record.py)."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class ManualClock:
    """A clock that stands still until it is moved. For tests and replays."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def move_to(self, now_us: int) -> None:
        self._now_us = now_us

    def advance(self, *, seconds: float) -> None:
        self._now_us += round(seconds * 1_000_000)
