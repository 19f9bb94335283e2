"""Figures over a rolling window: at or above, at or below, a rate, a change against the stretch before, a share of a limit.

They change when something is recorded, and with time alone, because what was used leaves the window. So those that fire
are asked again every sixtieth of the window (a second at least, a minute at most); and so is everybody who was active,
where low figures fire, or where a figure may rise by itself: levels that hold, averages (of sums, from which something below
zero may go, not more than once a minute).
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

from tallystick.alerting.rule import PER_US, Condition, Direction, Operation, SubjectKind
from tallystick.alerting.window import AlertWindow, WindowKind
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.errors import Invalid
from tallystick.flows.alerts.figures import Measured, Scopes, figures, group_of
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.limits import WatchedLimit
from tallystick.flows.alerts.tick import Tick, has_come, named_customers
from tallystick.flows.alerts.watched import change, of_amount, percent, rounded
from tallystick.metering.meter import Aggregation, Meter
from tallystick.money import exactly, plain, product, quotient

_SECOND_US = 1_000_000
_MINUTE_US = 60_000_000
_OF_STRETCHES = frozenset({Operation.LTE, Operation.PERCENT_CHANGE})
"""Those that are asked of everybody who was active in the stretch before, too."""
_NEVER_RISE = frozenset(
    {
        Aggregation.COUNT,
        Aggregation.UNIQUE_COUNT,
        Aggregation.MAX,
        Aggregation.LATEST,
        Aggregation.REGISTER,
        Aggregation.DURATION,
    }
)
"""What leaves the window takes from these figures alone. (A duration with a timeout may rise all the same.)"""


@dataclass(slots=True)
class Rolling:
    """The alerts of one question."""

    measured: Measured
    window: AlertWindow
    alerts: list[tuple[Armed, WatchedLimit | None]] = field(
        default_factory=list[tuple[Armed, WatchedLimit | None]]
    )
    due_us: int = 0
    rises_us: int = 0
    is_stale: bool = False
    firing: set[str] = field(default_factory=set[str])

    @property
    def length_us(self) -> int:
        assert self.window.length_us is not None  # it is rolling
        return self.window.length_us

    @property
    def looks_back(self) -> bool:
        return any(alert.rule.condition.operation in _OF_STRETCHES for alert, _ in self.alerts)


class Rollings:
    """See above."""

    def __init__(self) -> None:
        self._rollings: list[Rolling] = []
        self._of_alert: dict[str, Rolling] = {}
        self.faults: dict[str, str] = {}

    @property
    def meters(self) -> set[int]:
        return {one.measured.meter.id for one in self._rollings}

    def arm(
        self,
        alerts: Sequence[Armed],
        limits: Sequence[tuple[Armed, WatchedLimit]],
        firing: Sequence[KeptState],
    ) -> None:
        """`limits`: those that look at a limit over a rolling window."""
        grouped: dict[tuple[Measured, AlertWindow], Rolling] = {}
        self._of_alert = {}

        def add(alert: Armed, measured: Measured, window: AlertWindow, limit: WatchedLimit | None) -> None:
            one = grouped.setdefault((measured, window), Rolling(measured, window))
            one.alerts.append((alert, limit))
            self._of_alert[alert.kept.id] = one

        for alert in alerts:
            rule, meter = alert.rule, alert.meter
            if (
                meter is not None
                and rule.subject.kind is SubjectKind.METER
                and rule.window is not None
                and rule.window.kind is WindowKind.ROLLING
                and rule.condition.operation not in (Operation.SILENCE, Operation.PERCENT_OF_LIMIT)
            ):
                add(alert, Measured(meter, rule.filter, rule.group_by), rule.window, None)
        for alert, limit in limits:
            assert alert.meter is not None
            measured = Measured(alert.meter, limit.filter or alert.rule.filter, alert.rule.group_by)
            add(alert, measured, limit.window, limit)
            self._of_alert[alert.kept.id].is_stale = True  # it may be another limit than it was
        self._rollings = list(grouped.values())
        for state in firing:
            one = self._of_alert.get(state.place.alert)
            if one is not None:
                one.firing.add(state.place.customer)

    async def look(self, tick: Tick) -> list[Finding]:
        """What has been touched, and what time has changed."""
        found: list[Finding] = []
        self.faults = {}
        for one in self._rollings:
            try:
                found += await self._look_at(tick, one)
            except Invalid as error:
                for alert, _ in one.alerts:
                    self.faults[alert.kept.id] = error.detail
        return found

    async def _look_at(self, tick: Tick, one: Rolling) -> list[Finding]:
        meter = one.measured.meter
        names = named_customers([alert for alert, _ in one.alerts])
        customers = {row.customer for row in tick.rows(meter.id, names)}
        # The end is exclusive, and what happens now is to count.
        period = Period(tick.now_us + 1 - one.length_us, tick.now_us + 1)
        before = Period(period.from_us - one.length_us, period.from_us)
        earlier: dict[str, Scopes] = {}
        ask = partial(_figures, tick, one.measured)
        every_us = min(max(one.length_us // 60, _SECOND_US), _MINUTE_US)
        is_due = has_come(one.due_us, tick.now_us, every_us)
        fresh = meter.id in tick.unsure or one.is_stale or not all(a.kept.begun for a, _ in one.alerts)
        if is_due:
            one.due_us = tick.now_us + every_us
            customers |= one.firing
        rises = is_due and has_come(one.rises_us, tick.now_us, _MINUTE_US)
        if rises:
            one.rises_us = tick.now_us + (_MINUTE_US if _is_sum(meter) else 0)
            rises = may_rise(meter)
        if names is not None and (fresh or rises or (is_due and one.looks_back)):
            customers |= names
        if one.looks_back and (is_due or fresh) and names is None:
            earlier = await ask(before, None)
            customers |= earlier.keys()
        if (fresh or rises) and names is None:
            customers |= (await ask(period, None)).keys()
        one.is_stale = False
        if not customers:
            return []
        now = await ask(period, customers)
        if one.looks_back:
            missing = customers - earlier.keys()
            earlier |= await ask(before, missing) if missing else {}
        return stretch_findings(one, customers, (now, earlier), period)

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """Remember who fires."""
        by_customer: defaultdict[tuple[int, str], bool] = defaultdict(bool)
        for finding, state in results:
            one = self._of_alert.get(finding.place.alert)
            if one is not None:
                by_customer[id(one), finding.place.customer] |= state.firing
        for one in self._rollings:
            for (which, customer), fires in by_customer.items():
                if which == id(one):
                    (one.firing.add if fires else one.firing.discard)(customer)


def stretch_findings(
    one: Rolling,
    customers: Collection[str],
    found: tuple[dict[str, Scopes], dict[str, Scopes]],
    period: Period,
) -> list[Finding]:
    """`found`: the figures of the stretch, and of the one before."""
    now, earlier = found
    made: list[Finding] = []
    for customer in sorted(customers):
        groups = {**one.measured.nothing, **dict.fromkeys(earlier.get(customer, {}), one.measured.zero)}
        for scope, value in {**groups, **now.get(customer, {})}.items():
            base = earlier.get(customer, {}).get(scope)
            made += rolling_findings(one, customer, (scope, value, base), period)
    return made


async def _figures(
    tick: Tick, measured: Measured, period: Period, customers: Collection[str] | None
) -> dict[str, Scopes]:
    return await figures(tick.system, measured, period, customers, tick.moment_us, now_us=tick.now_us)


def may_rise(meter: Meter) -> bool:
    """Whether time alone may lift a figure: a level holds, or what leaves the window was below the rest (or below zero)."""
    if meter.goes_on or meter.of is not None:
        return True
    return meter.aggregation not in _NEVER_RISE


def _is_sum(meter: Meter) -> bool:
    return meter.of is None and meter.aggregation is Aggregation.SUM


def rolling_findings(
    one: Rolling,
    customer: str,
    figure: tuple[str, Decimal | None, Decimal | None],
    period: Period,
) -> list[Finding]:
    """`figure`: the group, the figure, and that of the stretch before."""
    made: list[Finding] = []
    given_scope, value, base = figure
    for alert, limit in one.alerts:
        if not alert.concerns(customer) or (
            limit is not None and limit.customer not in (None, "*", customer)
        ):
            continue
        condition, compared, scope = alert.rule.condition, value, given_scope
        evidence: dict[str, Any] = {
            "value": None if value is None else plain(value),
            "group": group_of(given_scope),
        }
        if limit is not None:
            amount = limit.amount_for(customer)
            condition = of_amount(condition, amount)
            evidence |= {"limit": limit.key, "limit_amount": plain(amount), "percent": percent(value, amount)}
            if alert.rule.condition.limit is None:
                scope = canonical({"limit": limit.key, **(group_of(given_scope) or {})})
        elif condition.operation is Operation.RATE:
            # Compared as a figure of the whole window, which is exact; shown as a rate.
            condition = of_rate(condition, one.length_us)
            evidence["value"] = None if value is None else plain(rate(value, one.length_us, condition.per))
            evidence["per"] = condition.per
        elif condition.operation is Operation.PERCENT_CHANGE:
            if base is None or not base:
                continue
            compared = changed(value, base, condition.direction)
            evidence |= {"previous": plain(base), "percent": change(value, base)}
        made.append(
            Finding(
                alert=alert,
                place=alert.place(customer, scope=scope),
                condition=condition,
                figure=compared,
                window=period,
                evidence=evidence,
            )
        )
    return made


@exactly
def changed(value: Decimal | None, base: Decimal, direction: Direction) -> Decimal | None:
    """By how many percent a figure differs from one that is not 0, in the direction that fires."""
    if value is None:
        return None
    share = quotient((value - base) * 100, abs(base))
    if direction is Direction.EITHER:
        return abs(share)
    return -share if direction is Direction.DOWN else share


def of_rate(condition: Condition, length_us: int) -> Condition:
    """Steps per unit of time, as figures of the whole window."""
    per_us = Decimal(PER_US[condition.per])

    def whole(amount: Decimal) -> Decimal:
        return quotient(product(amount, Decimal(length_us)), per_us)

    return replace(
        condition, steps=tuple(whole(step) for step in condition.steps), margin=whole(condition.margin)
    )


def rate(value: Decimal, length_us: int, per: str) -> Decimal:
    """A figure of a whole window, per unit of time; to twelve digits, for people."""
    shown = quotient(product(value, Decimal(PER_US[per])), Decimal(length_us))
    return rounded(shown, 12)
