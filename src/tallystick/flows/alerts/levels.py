"""Figures that grow within a window: usage at or above a value, a percentage of a limit, a percentage above the window before.

All alerts that ask the same share a question. A sum or a count goes on from what was recorded since, without asking; and of
each customer it is known between which figures nothing changes, so that most of what is recorded is done with a look-up.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from typing import Any

import structlog

from tallystick.alerting.evaluate import quiet_range
from tallystick.alerting.rule import Condition, Operation, SubjectKind
from tallystick.alerting.window import AlertWindow, WindowKind
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.errors import Invalid
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.figures import Measured, Scopes, figures, group_of
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.limits import WatchedLimit, limits_for
from tallystick.flows.alerts.tick import Tick, named_customers
from tallystick.metering.meter import Aggregation
from tallystick.money import ZERO, exactly, plain, product, quotient
from tallystick.store.interface import TouchedUsage

_DAY_US = 86_400_000_000
_WINDOWS_MAX = 1000
"""Windows one customer may have been touched in between two looks; of more, the last ones."""
_KEPT_MAX = 1_000_000
_REFRESH_US = 60_000_000
_LEAST = Decimal("1e-18")
_SHOWN = Context(prec=120)

_logger = structlog.get_logger("alerts")


@dataclass(frozen=True, slots=True)
class Watch:
    """What one question is about."""

    measured: Measured
    window: AlertWindow
    timezone: str | None

    @property
    def adds_up(self) -> bool:
        """Whether what was recorded since can be added to what was known."""
        meter = self.measured.meter
        return (
            meter.aggregation in (Aggregation.SUM, Aggregation.COUNT)
            and meter.of is None
            and self.measured.filter is None
            and not self.measured.group_by
        )


@dataclass(frozen=True, slots=True)
class Level:
    """An alert, and the limit it looks at."""

    alert: Armed
    limit: WatchedLimit | None = None


@dataclass(slots=True)
class _Known:
    """Figures of one window, as of the last look."""

    period: Period
    by_customer: dict[str, Scopes] = field(default_factory=dict[str, Scopes])


_Key = tuple[Watch, int, str, str]


class Levels:
    """See above."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._watches: dict[Watch, list[Level]] = {}
        self._known: dict[tuple[Watch, int], _Known] = {}
        self._quiet: dict[_Key, tuple[Decimal | None, Decimal | None]] = {}
        self._asked: list[tuple[Finding, _Key]] = []
        self._refreshed_us = 0
        self.faults: dict[str, str] = {}

    @property
    def meters(self) -> set[int]:
        return {watch.measured.meter.id for watch in self._watches}

    def arm(
        self, alerts: Sequence[Armed], limits: dict[str, tuple[WatchedLimit, ...]]
    ) -> list[tuple[Armed, WatchedLimit]]:
        """`limits`: by tenant. Answers the alerts that look at a limit over a rolling window, which are another's."""
        self.forget()
        self._watches = {}
        rolling: list[tuple[Armed, WatchedLimit]] = []
        for alert in alerts:
            rule, meter = alert.rule, alert.meter
            if meter is None or rule.subject.kind is not SubjectKind.METER:
                continue
            if rule.condition.operation is Operation.PERCENT_OF_LIMIT:
                for limit in limits_for(rule, limits.get(alert.kept.tenant, ())):
                    if limit.window.kind is WindowKind.ROLLING:
                        rolling.append((alert, limit))
                        continue
                    measured = Measured(meter, limit.filter or rule.filter, rule.group_by)
                    self._add(Watch(measured, limit.window, rule.timezone), Level(alert, limit))
            elif rule.of_windows and rule.window is not None:
                measured = Measured(meter, rule.filter, rule.group_by)
                self._add(Watch(measured, rule.window, rule.timezone), Level(alert))
        return rolling

    def _add(self, watch: Watch, level: Level) -> None:
        self._watches.setdefault(watch, []).append(level)

    def forget(self) -> None:
        """What was known may not be true any more."""
        self._known.clear()
        self._quiet.clear()
        self._asked.clear()

    async def look(self, tick: Tick) -> list[Finding]:
        """What has reached something, or fallen below it."""
        self._tidy(tick)
        self._asked = []
        self.faults = {}
        for watch, levels in self._watches.items():
            try:
                await self._look_at(tick, watch, levels)
            except Invalid as error:
                # Its facts are deleted, or its dimension is: the others go on.
                for level in levels:
                    self.faults[level.alert.kept.id] = error.detail
        return [finding for finding, _ in self._asked]

    async def _look_at(self, tick: Tick, watch: Watch, levels: list[Level]) -> None:
        meter = watch.measured.meter
        names = named_customers([level.alert for level in levels])
        rows = tick.rows(meter.id, names)
        fresh = meter.id in tick.unsure or not all(level.alert.kept.begun for level in levels)
        if not rows and not fresh:
            return
        customers = {row.customer for row in rows}
        if fresh:
            customers |= await self._all_of(tick, watch) if names is None else names
        periods = await self._calendar.periods(
            meter.tenant, customers, watch.window, watch.timezone, tick.now_us
        )
        checks: defaultdict[Period, set[str]] = defaultdict(set)
        asks: defaultdict[Period, set[str]] = defaultdict(set)
        for row in rows:
            self._touch(tick, watch, row, periods.get(row.customer), checks=checks, asks=asks)
        if fresh:
            for customer, period in periods.items():
                asks[period].add(customer)
        befores: dict[Period, Period] = {}
        if any(level.alert.rule.condition.operation is Operation.PERCENT_CHANGE for level in levels):
            for period in {*checks, *asks}:
                some = next(iter(checks[period] | asks[period]), "")
                zone = watch.timezone or self._calendar.zone_kept(meter.tenant, some)
                before = befores[period] = watch.window.before(period, zone)
                known = self._known.get((watch, before.from_us))
                asks[before] |= {
                    customer
                    for customer in checks[period] | asks[period]
                    if known is None or customer not in known.by_customer
                }
        for period, wanted in asks.items():
            await self._ask(tick, watch, period, wanted)
            if period not in befores.values() or period in checks:
                checks[period] |= wanted
        plans = await self._plans(meter.tenant, levels, customers)
        for period, wanted in checks.items():
            before = befores.get(period)
            self._check(tick, watch, levels, (period, before), customers=wanted, plans=plans)

    async def _all_of(self, tick: Tick, watch: Watch) -> set[str]:
        """Everybody who may have used something in the present window, whatever his zone."""
        if watch.window.kind is WindowKind.BILLING:
            about = Period(tick.now_us - 366 * _DAY_US, tick.now_us + _DAY_US)
        else:
            present = watch.window.at(tick.now_us, watch.timezone or "UTC")
            about = Period(present.from_us - 2 * _DAY_US, present.to_us + 2 * _DAY_US)
        measured = Measured(watch.measured.meter)
        try:
            return set(await figures(tick.system, measured, about, None, tick.moment_us))
        except Invalid as error:
            if error.code != "past_retention" or watch.window.kind is not WindowKind.BILLING:
                raise
            near = Period(tick.now_us - _DAY_US, tick.now_us + _DAY_US)
            return set(await figures(tick.system, measured, near, None, tick.moment_us))

    def _touch(
        self,
        tick: Tick,
        watch: Watch,
        row: TouchedUsage,
        present: Period | None,
        *,
        checks: defaultdict[Period, set[str]],
        asks: defaultdict[Period, set[str]],
    ) -> None:
        """Note in which windows a customer's figure has changed."""
        if present is not None and present.from_us <= row.earliest_us and row.latest_us < present.to_us:
            known = self._known.get((watch, present.from_us))
            scopes = None if known is None else known.by_customer.get(row.customer)
            if scopes is not None and watch.adds_up:
                scopes[""] = _sum(scopes[""] or ZERO, row.total)
                checks[present].add(row.customer)
            else:
                asks[present].add(row.customer)
            return
        if watch.window.kind is WindowKind.BILLING:
            if present is not None and row.latest_us >= present.from_us:
                asks[present].add(row.customer)
            return
        if present is None:
            return
        for period in self._windows(tick, watch, row, present):
            asks[period].add(row.customer)

    def _windows(self, tick: Tick, watch: Watch, row: TouchedUsage, present: Period) -> Iterator[Period]:
        """Those that were touched and were not over for longer than themselves when it was recorded."""
        zone = watch.timezone
        if zone is None:
            zone = self._calendar.zone_kept(row.tenant, row.customer)
        earliest = max(row.earliest_us, tick.after_us - 2 * present.length_us)
        period = watch.window.at(earliest, zone)
        for _ in range(_WINDOWS_MAX):
            if period.from_us > row.latest_us:
                return
            if period.to_us > tick.after_us - period.length_us:
                yield period
            period = watch.window.at(period.to_us, zone)

    async def _ask(self, tick: Tick, watch: Watch, period: Period, customers: set[str]) -> None:
        if not customers:
            return
        found = await figures(tick.system, watch.measured, period, customers, tick.moment_us)
        known = self._known.setdefault((watch, period.from_us), _Known(period))
        for customer in customers:
            before = known.by_customer.get(customer, {})
            # A group that has gone counts as nothing: what has fired for it is to recover.
            gone: Scopes = dict.fromkeys(before, watch.measured.zero)
            known.by_customer[customer] = {**watch.measured.nothing, **gone, **found.get(customer, {})}

    async def _plans(self, tenant: str, levels: list[Level], customers: set[str]) -> dict[str, set[str]]:
        plans = {level.limit.plan for level in levels if level.limit is not None}
        return {
            plan: await self._calendar.on_plan(tenant, plan, customers) for plan in plans if plan is not None
        }

    def _check(
        self,
        tick: Tick,
        watch: Watch,
        levels: list[Level],
        periods: tuple[Period, Period | None],
        *,
        customers: set[str],
        plans: dict[str, set[str]],
    ) -> None:
        period, before = periods
        known = self._known[watch, period.from_us]
        earlier = None if before is None else self._known.get((watch, before.from_us))
        for customer in customers:
            for scope, value in known.by_customer[customer].items():
                key = (watch, period.from_us, customer, scope)
                quiet = self._quiet.get(key)
                if quiet is not None and value is not None and _within(value, quiet):
                    continue
                self._quiet.pop(key, None)
                base = None if earlier is None else earlier.by_customer.get(customer, {}).get(scope)
                for level in levels:
                    if not level.alert.concerns(customer):
                        continue
                    if level.limit is not None and not _limited(level.limit, customer, plans):
                        continue
                    made = level_finding(level, period, customer, (scope, value, base), tick.now_us)
                    if made is not None:
                        self._asked.append((made, key))

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """Remember between which figures nothing changes."""
        states = {id(finding): state for finding, state in results}
        for finding, key in self._asked:
            state = states.get(id(finding))
            operation = finding.alert.rule.condition.operation
            if state is None or operation is Operation.PERCENT_CHANGE:
                self._quiet[key] = (Decimal(1), ZERO)  # holds no figure: always to be looked at
                continue
            least, above = quiet_range(finding.condition, min(state.level, len(finding.condition.steps)))
            if state.closed:
                least = None
            now = self._quiet.get(key, (None, None))
            self._quiet[key] = (_greater(now[0], least), _smaller(now[1], above))
        self._asked = []

    def _tidy(self, tick: Tick) -> None:
        """Let go of windows that are over, and now and then of everything, so that nothing wrong stays."""
        count = sum(len(known.by_customer) for known in self._known.values())
        if tick.now_us - self._refreshed_us > _REFRESH_US or count + len(self._quiet) > _KEPT_MAX:
            self._refreshed_us = tick.now_us
            self.forget()


def level_finding(
    level: Level,
    period: Period,
    customer: str,
    figure: tuple[str, Decimal | None, Decimal | None],
    now_us: int,
) -> Finding | None:
    """`figure`: the group, the figure, and that of the window before. None: it cannot be compared."""
    scope, value, base = figure
    rule, limit = level.alert.rule, level.limit
    evidence: dict[str, Any] = {
        "value": None if value is None else plain(value),
        "group": group_of(scope),
    }
    condition = rule.condition
    if limit is not None:
        amount = limit.amount_for(customer)
        condition = of_amount(condition, amount)
        evidence |= {"limit": limit.key, "limit_amount": plain(amount), "percent": percent(value, amount)}
        if condition.limit is None:
            scope = canonical({"limit": limit.key, **(group_of(scope) or {})})
    elif condition.operation is Operation.PERCENT_CHANGE:
        if base is None or not base:
            return None
        condition = _above(condition, base)
        evidence |= {"previous": plain(base), "percent": change(value, base)}
    return Finding(
        alert=level.alert,
        place=level.alert.place(customer, window_start_us=period.from_us, scope=scope),
        condition=condition,
        figure=value,
        window=period,
        over=period.to_us <= now_us,
        evidence=evidence,
    )


def _limited(limit: WatchedLimit, customer: str, plans: dict[str, set[str]]) -> bool:
    if limit.plan is not None:
        return customer in plans.get(limit.plan, ())
    return limit.customer in (None, "*", customer)


@exactly
def of_amount(condition: Condition, amount: Decimal) -> Condition:
    """Steps in percent of an amount, as figures. Of nothing, whatever is used is too much."""
    share = amount.scaleb(-2)
    steps = tuple(step * share if amount else _LEAST for step in condition.steps)
    return replace(condition, steps=steps, margin=condition.margin * share)


@exactly
def _above(condition: Condition, base: Decimal) -> Condition:
    share = abs(base).scaleb(-2)
    return replace(
        condition,
        steps=tuple(base + step * share for step in condition.steps),
        margin=condition.margin * share,
    )


def percent(value: Decimal | None, amount: Decimal) -> str | None:
    """To two digits, for people; what decides is exact."""
    if value is None or not amount:
        return None
    return plain(rounded(quotient(product(value, Decimal(100)), amount), 2))


def change(value: Decimal | None, base: Decimal) -> str | None:
    """By how many percent it differs, for people."""
    return None if value is None else percent(_sum(value, -base), abs(base))


def rounded(value: Decimal, digits: int) -> Decimal:
    """Half-even to so many digits after the point: for people only."""
    return value.quantize(Decimal(1).scaleb(-digits), context=_SHOWN)


@exactly
def _sum(one: Decimal, other: Decimal) -> Decimal:
    return one + other


def _within(value: Decimal, quiet: tuple[Decimal | None, Decimal | None]) -> bool:
    least, above = quiet
    return (least is None or value >= least) and (above is None or value < above)


def _greater(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return other if one is None else one if other is None else max(one, other)


def _smaller(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return other if one is None else one if other is None else min(one, other)
