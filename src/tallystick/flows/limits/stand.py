"""How a limit stands for one use: from balances, prices, and what stands open in the book. Decides nothing, awaits only to
load what is missing."""

import time
from dataclasses import dataclass, field
from decimal import Decimal

import structlog

from tallystick.errors import TallystickError
from tallystick.flows.fresh import News
from tallystick.flows.limits.balances import IDLE_S, Asked, Balances
from tallystick.flows.limits.cost import MINUTE_US, More, Priced
from tallystick.flows.limits.questions import Questions
from tallystick.flows.limits.rules import Ask, Rule
from tallystick.flows.system import System
from tallystick.limits.book import Book
from tallystick.limits.limit import Window, accepts
from tallystick.limits.reservation import Reservation
from tallystick.limits.standing import ADDED_UP, Standing, after_use, carried_over
from tallystick.metering.meter import Meter
from tallystick.money import ZERO, exactly

UNKNOWN_S = 1.0
"""What could not be had is not asked for again for so long."""
_COSTS_MAX = 20_000

_CostKey = tuple[str, str, str, int, int]
_logger = structlog.get_logger("limits")


@dataclass(slots=True)
class _Cost:
    priced: Priced
    moment_us: int
    used_s: float
    stale: bool = False


@dataclass(slots=True)
class Stands:
    """One event loop uses it."""

    system: System
    questions: Questions
    book: Book
    balances: Balances
    is_behind: bool = False
    """Usage is so far behind what is acknowledged that it counts as unknown."""
    _costs: dict[_CostKey, _Cost] = field(default_factory=dict[_CostKey, _Cost])
    _unknown: dict[object, float] = field(default_factory=dict[object, float])

    def forget(self) -> None:
        """The catalog has changed. (Balances are of versions and of windows: they stay what they are.)"""
        self._costs.clear()
        self._unknown.clear()

    def sweep(self) -> None:
        self.balances.sweep()
        limit_s = time.monotonic() - (IDLE_S if len(self._costs) < _COSTS_MAX else 1)
        for key in [key for key, cost in self._costs.items() if cost.used_s < limit_s]:
            del self._costs[key]
        now_s = time.monotonic()
        self._unknown = {key: until_s for key, until_s in self._unknown.items() if until_s > now_s}

    @property
    def follows_costs(self) -> bool:
        return bool(self._costs)

    def cost_meters(self) -> frozenset[tuple[str, str]]:
        """Tenant and key of every meter that money depends on."""
        return frozenset((key[0], meter) for key, cost in self._costs.items() for meter in cost.priced.meters)

    def advance(self, news: News | None, unsure: frozenset[int]) -> None:
        """Something was recorded: money is asked for anew, of whom it concerns."""
        touched = set() if news is None else {(one.tenant, one.customer) for one in news.usage}
        for key, cost in self._costs.items():
            if unsure or not touched.isdisjoint((key[0], member) for member in cost.priced.members):
                cost.stale = True

    # -- what concerns a use --------------------------------------------------------------------------------------
    def concerns(self, rule: Rule, ask: Ask, meter: Meter) -> bool:
        if rule.meter is None:
            return True
        return rule.meter.key == meter.key and (
            not rule.conditions or accepts(rule.conditions, ask.customer, dict(ask.dimensions))
        )

    def counted(self, rule: Rule, own: Reservation, now_us: int, at_us: int) -> bool:
        """Whether a held reservation counts against a limit in the window of a moment."""
        if now_us not in rule.window(at_us):
            return False
        if rule.meter is None:
            return True
        return rule.meter.key == own.meter and accepts(rule.conditions, own.customer, dict(own.dimensions))

    # -- loading --------------------------------------------------------------------------------------------------
    def _asked(self, rule: Rule, ask: Ask, window: Window) -> Asked:
        assert rule.meter is not None
        return Asked(ask.tenant, ask.customer, rule.meter, rule.limit.filter, window)

    def _wanted(self, rule: Rule, ask: Ask, at_us: int) -> list[Asked]:
        window = rule.window(at_us)
        wanted = [self._asked(rule, ask, window)]
        before = self._before(rule, window)
        if before is not None:
            wanted.append(self._asked(rule, ask, before))
        return wanted

    def _before(self, rule: Rule, window: Window) -> Window | None:
        """The window whose rest is carried over; None: nothing is."""
        if rule.limit.carry_over is None:
            return None
        before = rule.limit.period.before(window, rule.timezone)
        return before if rule.created_us < before.to_us else None

    def _cost_key(self, rule: Rule, ask: Ask, window: Window) -> _CostKey:
        begin = window.from_us
        return (ask.tenant, ask.customer, rule.limit.key, begin, window.to_us)

    def is_ready(self, rule: Rule, ask: Ask, at_us: int, now_us: int) -> bool:
        if self.is_unknown((rule.limit.key, ask.tenant, ask.customer)):
            return True
        if rule.meter is None:
            found = self._costs.get(self._cost_key(rule, ask, rule.window(at_us)))
            return found is not None and not found.stale
        window = rule.window(at_us)
        if not self.balances.is_ready(self._asked(rule, ask, window), now_us):
            return False
        before = self._before(rule, window)
        return before is None or self.balances.is_ready(self._asked(rule, ask, before), now_us)

    async def load(self, rule: Rule, ask: Ask, at_us: int) -> None:
        """What cannot be had counts as unknown for a while."""
        try:
            if rule.meter is None:
                await self._load_cost(rule, ask, rule.window(at_us))
                return
            now_us = self.system.clock.now_us()
            for asked in self._wanted(rule, ask, at_us):
                if not self.balances.is_ready(asked, now_us):
                    await self.balances.load(asked)
        except TallystickError as error:
            _logger.warning("usage_unknown", limit=rule.limit.key, error=error.detail)
            self._unknown[rule.limit.key, ask.tenant, ask.customer] = time.monotonic() + UNKNOWN_S

    async def _load_cost(self, rule: Rule, ask: Ask, window: Window) -> None:
        subscribed = rule.subscribed
        for attempt in range(4):
            moment_us = self.balances.moment_us
            if attempt < 3:
                priced = await self.questions.price(ask.tenant, subscribed, window, moment_us)
            else:
                async with self.balances.tide:
                    moment_us = self.balances.moment_us
                    priced = await self.questions.price(ask.tenant, subscribed, window, moment_us)
            if moment_us == self.balances.moment_us:
                key = self._cost_key(rule, ask, window)
                self._costs[key] = _Cost(priced, moment_us, time.monotonic())
                return

    def is_unknown(self, place: tuple[str, str, str]) -> bool:
        """Of a limit, for a tenant's customer: whether usage counts as unknown at the moment."""
        if self.is_behind:
            return True
        until_s = self._unknown.get(place)
        return until_s is not None and time.monotonic() < until_s

    # -- standing -------------------------------------------------------------------------------------------------
    @exactly
    def standing(
        self,
        rule: Rule,
        ask: Ask,
        now_us: int,
        at_us: int,
        own: Reservation | None = None,
    ) -> Standing:
        """As it is, and with the amount of `ask` used at `at_us`; `own` is held no longer then."""
        window = rule.window(at_us)
        if self.is_unknown((rule.limit.key, ask.tenant, ask.customer)):
            return Standing(rule.limit, window, ZERO, ZERO, ZERO, ZERO, window.to_us, known=False)
        if rule.meter is None:
            return self._money(rule, ask, now_us, at_us, own)
        asked = self._asked(rule, ask, window)
        account = (ask.tenant, ask.customer, rule.meter.key)
        used = self.balances.figure(asked) + self.book.pending(account, window, rule.conditions)
        held = ZERO
        if now_us in window:
            held = self.book.held(account, rule.conditions)
        amount = rule.limit.amount
        if rule.raises:
            amount += sum(rule.raised(now_us), ZERO)
        before = self._before(rule, window)
        if before is not None:
            used_before = self.balances.figure(self._asked(rule, ask, before))
            used_before += self.book.pending(account, before, rule.conditions)
            amount += carried_over(rule.limit.carry_over, rule.limit.amount, used_before)
        reset_us = window.to_us
        if window.bucket_us is not None:
            first_us = self.balances.first_bucket_us(asked)
            first_us = now_us // window.bucket_us * window.bucket_us if first_us is None else first_us
            reset_us = first_us + rule.limit.period.rolling_us + window.bucket_us
        own_held = ZERO
        if own is not None and self.counted(rule, own, now_us, at_us):
            own_held = own.amount
        adds_up = rule.meter.aggregation in ADDED_UP and rule.meter.of is None
        more = ask.amount - own_held if adds_up else ask.amount
        after = after_use(used, held, more, rule.meter.aggregation)
        return Standing(rule.limit, window, amount, used, held, after, reset_us)

    @exactly
    def _money(self, rule: Rule, ask: Ask, now_us: int, at_us: int, own: Reservation | None) -> Standing:
        window = rule.window(at_us)
        cost = self._costs[self._cost_key(rule, ask, window)]
        cost.used_s = time.monotonic()
        pending: list[More] = []
        held: list[More] = []
        held_without_own: list[More] = []
        left = ZERO if own is None else own.amount
        for meter, dimensions, amount, time_us in self.book.parts(ask.tenant, ask.customer):
            if time_us is not None:
                if window.from_us < time_us + MINUTE_US and time_us < window.to_us:
                    pending.append((meter, dimensions, amount, time_us))
                continue
            if now_us not in window:
                continue
            held.append((meter, dimensions, amount, now_us))
            kept = amount
            if own is not None and (meter, dimensions) == (own.meter, own.dimensions):
                kept, left = amount - left, ZERO
            if kept > 0:
                held_without_own.append((meter, dimensions, kept, now_us))
        priced = cost.priced
        used = priced.total(ask.customer, pending)
        both = priced.total(ask.customer, [*pending, *held]) if held else used
        after = both
        if ask.amount or own is not None:
            more: list[More] = [*pending, *held_without_own]
            if ask.amount:
                more.append((ask.meter, ask.dimensions, ask.amount, at_us))
            after = priced.total(ask.customer, more)
        amount = rule.limit.amount + sum(rule.raised(now_us), Decimal(0))
        return Standing(
            rule.limit, window, amount, used, both - used, after, window.to_us, currency=priced.currency
        )
