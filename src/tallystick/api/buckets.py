"""Token buckets: how much may come in how much time. In memory: every server counts for itself."""

import time
from collections.abc import Callable, Hashable


class Buckets:
    """A bucket for each key. It holds `burst` and fills at `rate_per_s`; taking more than it holds is refused.

    A bucket that is full says nothing, so it need not be kept: at most `keys_max` are, and when there would be more,
    those that have filled up are dropped first, then all of them."""

    def __init__(
        self,
        rate_per_s: float,
        burst: float,
        *,
        keys_max: int = 10_000,
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._keys_max = keys_max
        self._monotonic_s = monotonic_s or time.monotonic
        self._full_at_s: dict[Hashable, float] = {}
        """Key → when its bucket is full again: all there is to know of it."""

    def wait_s(self, key: Hashable) -> float:
        """How long until the bucket holds something; 0: it does."""
        full_at_s = self._full_at_s.get(key)
        if full_at_s is None:
            return 0.0
        missing_s = full_at_s - self._monotonic_s()
        # Empty for as long as more is missing than a whole bucket less one.
        return max(0.0, missing_s - (self._burst - 1) / self._rate_per_s)

    def take(self, key: Hashable, amount: float = 1.0) -> None:
        """Take it, also beyond what the bucket holds: the debt is waited for before the next."""
        now_s = self._monotonic_s()
        full_at_s = self._full_at_s.get(key)
        if full_at_s is None and len(self._full_at_s) >= self._keys_max:
            self._make_room(now_s)
        if full_at_s is None or full_at_s < now_s:
            full_at_s = now_s
        self._full_at_s[key] = full_at_s + amount / self._rate_per_s

    def _make_room(self, now_s: float) -> None:
        self._full_at_s = {key: at_s for key, at_s in self._full_at_s.items() if at_s > now_s}
        if len(self._full_at_s) >= self._keys_max:
            self._full_at_s.clear()
