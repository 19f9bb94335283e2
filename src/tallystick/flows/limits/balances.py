"""What is used, as of one moment for all: asked once of the usage questions, and then moved on by what was recorded since.

Every balance is as of `moment_us`, at all times: `advance` moves all of them at once, between two awaits. A balance that
cannot be moved on by sums (a filter, a figure that does not add up, something recorded outside of the window) becomes stale
and is asked anew before it is next used.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import Struct

from tallystick.flows.fresh import News
from tallystick.flows.limits.questions import Questions
from tallystick.flows.system import System
from tallystick.flows.usage import UsageRequest
from tallystick.limits.limit import Window, conditions_of
from tallystick.limits.standing import ADDED_UP
from tallystick.metering.meter import SERIES, Meter
from tallystick.money import ZERO, exactly
from tallystick.store.interface import TouchedUsage

IDLE_S = 600.0
"""A balance that nobody asked for so long is forgotten."""
BALANCES_MAX = 200_000
_SERIES_US = 1_000_000
"""How long a figure holds that grows by itself."""
_ATTEMPTS = 3
_DELTAS = 256
_WINDOWS = {60_000_000: "minute", 3_600_000_000: "hour"}

Series = tuple[str, int, str]
"""Tenant, meter id, customer."""


class Asked(Struct, frozen=True):
    """A figure that is wanted: of a meter's readings of one customer, with a filter, in a window."""

    tenant: str
    customer: str
    meter: Meter
    filter: str | None
    window: Window

    @property
    def series(self) -> Series:
        return (self.tenant, self.meter.id, self.customer)

    @property
    def key(self) -> tuple[Series, str | None, int, int, int]:
        # A rolling window keeps its balance while its beginning moves.
        window = self.window
        begin = window.from_us if window.bucket_us is None else 0
        length = 0 if window.bucket_us is None else window.to_us - window.from_us
        return (self.series, self.filter, begin, window.to_us, (length and window.bucket_us) or 0)


Key = tuple[Series, str | None, int, int, int]


@dataclass(slots=True)
class _Balance:
    asked: Asked
    value: Decimal
    buckets: dict[int, Decimal] | None
    good_until_us: int | None
    used_s: float
    stale: bool = False

    @exactly
    def take(self, touched: TouchedUsage) -> None:
        """What was recorded of its series."""
        window = self.asked.window
        if (
            self.asked.filter is not None
            or self.asked.meter.aggregation not in ADDED_UP
            or self.asked.meter.of is not None
        ):
            self.stale = True
        elif touched.latest_us < window.from_us or touched.earliest_us >= window.to_us:
            return
        elif touched.earliest_us not in window or touched.latest_us not in window:
            self.stale = True
        elif self.buckets is None or window.bucket_us is None:
            self.value += touched.total
        else:
            first = touched.earliest_us // window.bucket_us * window.bucket_us
            if touched.latest_us >= first + window.bucket_us:
                self.stale = True
            else:
                self.buckets[first] = self.buckets.get(first, ZERO) + touched.total


@dataclass(frozen=True, slots=True)
class _Delta:
    after_us: int
    until_us: int
    meters: frozenset[int]
    unsure: frozenset[int]
    touched: Mapping[Series, TouchedUsage]


@dataclass(slots=True)
class Balances:
    """One event loop uses it."""

    system: System
    questions: Questions
    moment_us: int
    _known: dict[Key, _Balance] = field(default_factory=dict[Key, _Balance])
    _by_series: dict[Series, set[Key]] = field(default_factory=dict[Series, set[Key]])
    _meters: dict[int, Meter] = field(default_factory=dict[int, Meter])
    _counts: dict[int, int] = field(default_factory=dict[int, int])
    _loading: dict[Key, "asyncio.Task[None]"] = field(default_factory=dict[Key, "asyncio.Task[None]"])
    _loading_meters: dict[int, int] = field(default_factory=dict[int, int])
    _deltas: deque[_Delta] = field(default_factory=lambda: deque[_Delta](maxlen=_DELTAS))
    tide: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the moment moves on, and by who must not see it move."""

    def __len__(self) -> int:
        return len(self._known)

    @property
    def meters(self) -> dict[int, Meter]:
        """Those whose news matter: by id."""
        return dict(self._meters)

    @property
    def meter_ids(self) -> frozenset[int]:
        return frozenset(self._meters)

    @property
    def loading_meters(self) -> frozenset[int]:
        return frozenset(self._loading_meters)

    def forget(self) -> None:
        """Definitions have changed: everything is asked anew."""
        self._known.clear()
        self._by_series.clear()
        self._meters.clear()
        self._counts.clear()
        self._deltas.clear()

    def sweep(self) -> None:
        """Forget what nobody asks for."""
        limit_s = time.monotonic() - (IDLE_S if len(self._known) < BALANCES_MAX else IDLE_S / 60)
        for key in [key for key, balance in self._known.items() if balance.used_s < limit_s]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        if self._known.pop(key, None) is None:
            return
        meter = key[0][1]
        self._counts[meter] -= 1
        if not self._counts[meter]:
            del self._counts[meter], self._meters[meter]
        keys = self._by_series.get(key[0])
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._by_series[key[0]]

    # -- asking -------------------------------------------------------------------------------------------------
    def is_ready(self, asked: Asked, now_us: int) -> bool:
        found = self._known.get(asked.key)
        return (
            found is not None
            and not found.stale
            and (found.good_until_us is None or now_us < found.good_until_us)
        )

    @exactly
    def found(self, key: Key, from_us: int, now_us: int) -> tuple[Decimal, int | None] | None:
        """`figure` and `first_bucket_us` at once, of a window that begins there; None: it is not ready."""
        found = self._known.get(key)
        if found is None or found.stale:
            return None
        if found.good_until_us is not None and now_us >= found.good_until_us:
            return None
        found.used_s = time.monotonic()
        if found.buckets is None:
            return found.value, None
        within = [(start, value) for start, value in found.buckets.items() if start >= from_us]
        total = sum((value for _, value in within), ZERO)
        return total, min((start for start, value in within if value), default=None)

    @exactly
    def figure(self, asked: Asked) -> Decimal:
        """Of one that is ready."""
        found = self._known[asked.key]
        found.used_s = time.monotonic()
        if found.buckets is None:
            return found.value
        begin = asked.window.from_us
        return sum((value for start, value in found.buckets.items() if start >= begin), ZERO)

    def first_bucket_us(self, asked: Asked) -> int | None:
        """Of a rolling window: where the oldest use in it lies."""
        found = self._known[asked.key]
        begin = asked.window.from_us
        return min(
            (start for start, value in (found.buckets or {}).items() if start >= begin and value),
            default=None,
        )

    async def load(self, asked: Asked) -> None:
        """Ask usage. Raises what that raises."""
        task = self._loading.get(asked.key)
        if task is None:
            task = asyncio.create_task(self._load(asked))
            self._loading[asked.key] = task
            task.add_done_callback(lambda done: self._loaded(asked.key, done))
        await asyncio.shield(task)

    def _loaded(self, key: Key, done: "asyncio.Task[None]") -> None:
        self._loading.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waits is told; nobody may

    async def _load(self, asked: Asked) -> None:
        meter = asked.meter.id
        self._loading_meters[meter] = self._loading_meters.get(meter, 0) + 1
        try:
            for _ in range(_ATTEMPTS):
                if await self._try(asked):
                    return
            async with self.tide:
                await self._try(asked)
        finally:
            self._loading_meters[meter] -= 1
            if not self._loading_meters[meter]:
                del self._loading_meters[meter]

    async def _try(self, asked: Asked) -> bool:
        """False: the moment has moved on meanwhile, further than can be followed."""
        moment_us, meter = self.moment_us, asked.meter
        balance = await self._ask(asked, moment_us)
        while moment_us != self.moment_us:
            delta = next((one for one in self._deltas if one.after_us == moment_us), None)
            if delta is None or meter.id not in delta.meters or meter.id in delta.unsure:
                return False
            touched = delta.touched.get(asked.series)
            if touched is not None:
                balance.take(touched)
                if balance.stale:
                    return False
            moment_us = delta.until_us
        if asked.key not in self._known:
            self._meters[meter.id] = meter
            self._counts[meter.id] = self._counts.get(meter.id, 0) + 1
        self._known[asked.key] = balance
        self._by_series.setdefault(asked.series, set()).add(asked.key)
        return True

    async def _ask(self, asked: Asked, moment_us: int) -> _Balance:
        window, meter = asked.window, asked.meter
        added_up = meter.aggregation in ADDED_UP and meter.of is None
        rolling = window.bucket_us if added_up else None
        answer = await self.questions.usage(
            UsageRequest(
                tenant=asked.tenant,
                meter=meter.key,
                from_us=window.from_us,
                to_us=window.to_us,
                window=None if rolling is None else _WINDOWS[rolling],
                customers=(asked.customer,),
                filters=conditions_of(asked.filter),
                as_of_us=moment_us,
                now_us=self.system.clock.now_us(),
                version=meter.version,
            ),
        )
        buckets = None
        value = ZERO
        if rolling is not None:
            buckets = {row.window_start_us: row.value for row in answer.rows if row.value is not None}
        elif answer.rows and answer.rows[0].value is not None:
            value = answer.rows[0].value
        grows = meter.aggregation in SERIES or (meter.of is not None and meter.of.aggregation in SERIES)
        good_until_us = self.system.clock.now_us() + _SERIES_US if grows else None
        if window.bucket_us is not None and rolling is None:
            good_until_us = (
                self.system.clock.now_us() // window.bucket_us * window.bucket_us + window.bucket_us
            )
        return _Balance(asked, value, buckets, good_until_us, time.monotonic())

    # -- moving on ----------------------------------------------------------------------------------------------
    def advance(self, until_us: int, news: News | None, meters: frozenset[int]) -> None:
        """To a later moment. `news`: of these meters, since the present one; None: none were asked for."""
        touched: dict[Series, TouchedUsage] = {}
        unsure: frozenset[int] = frozenset()
        if news is not None:
            touched = {(one.tenant, one.meter, one.customer): one for one in news.usage}
            unsure = news.unsure
        for series, one in touched.items():
            for key in self._by_series.get(series, ()):
                self._known[key].take(one)
        lost = {meter for meter in self._meters if meter in unsure or meter not in meters}
        if lost:
            for balance in self._known.values():
                if balance.asked.meter.id in lost:
                    balance.stale = True
        self._deltas.append(_Delta(self.moment_us, until_us, meters, unsure, touched))
        self.moment_us = until_us

    def touched(self, news: News | None) -> Sequence[tuple[str, str]]:
        """Tenants and customers of whom anything was recorded."""
        return [] if news is None else sorted({(one.tenant, one.customer) for one in news.usage})
