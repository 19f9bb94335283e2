"""What an alert would have done: the same rules over what was recorded, in windows as fine as the answer allows.

Figures go on by the grain (an hour; shorter for short rolling windows), so a moment is told to within one; what was late or
corrected since counts where it happened. Nothing is written down, and nobody is told.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate, pairwise

from tallystick.alerting.rule import ANY, Operation, Rule, SubjectKind
from tallystick.alerting.window import AlertWindow, WindowKind
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptAlert, KeptState, NewTransition, StatePlace
from tallystick.errors import Fault, Invalid
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.ended import Ended
from tallystick.flows.alerts.figures import Measured, figures, series
from tallystick.flows.alerts.finding import Armed, AsOf, Finding, decided, ended
from tallystick.flows.alerts.limits import WatchedLimit, limits_for, limits_of
from tallystick.flows.alerts.past_events import past_events
from tallystick.flows.alerts.past_money import past_costs, past_credits
from tallystick.flows.alerts.rolling import Rolling, rolling_findings, stretch_findings
from tallystick.flows.alerts.silences import heard_of
from tallystick.flows.alerts.tick import Tick
from tallystick.flows.alerts.watched import Level, level_finding
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.instant import instant_text
from tallystick.metering.meter import Aggregation
from tallystick.money import ZERO, exactly, plain

FIGURES_MAX = 3_000_000
TRANSITIONS_MAX = 1_000
_HOUR_US = 3_600_000_000
_GRAINS_US = (60_000_000, 300_000_000, 900_000_000, _HOUR_US)
_ASKED_MAX = 200
"""Stretches of a rolling window that are asked for, where a figure does not follow from those of its parts."""
_JUDGED_MAX = 20_000
"""Windows that an anomaly alert judges: each has a baseline of its own."""
_SUMS = (
    Aggregation.SUM,
    Aggregation.COUNT,
    Aggregation.REGISTER,
    Aggregation.DURATION,
    Aggregation.TIME_WEIGHTED,
)
_RUNNING = (*_SUMS, Aggregation.MAX, Aggregation.MIN)
"""Figures of a window that follow from those of its parts. (Areas are rounded to 18 digits each.)"""


@dataclass(slots=True)
class Replay:
    """What has happened so far, in the order of time. `grain_us`: how finely it was looked at; None: at each change."""

    from_us: int
    to_us: int
    grain_us: int | None = None
    customers: int = 0
    transitions: list[tuple[str, NewTransition]] = field(default_factory=list[tuple[str, NewTransition]])
    _states: dict[StatePlace, KeptState] = field(default_factory=dict[StatePlace, KeptState])

    def decide(self, finding: Finding, as_of: AsOf) -> None:
        """As the keeper does, but for the writing."""
        before = self._states.get(finding.place) or KeptState(finding.place)
        move = decided(finding, before, as_of)
        if move is not None:
            self._states[finding.place] = move.state
            self._tell(finding.place.customer, move.transitions)

    def close(self, finding: Finding, as_of: AsOf) -> None:
        """Its window is over."""
        before = self._states.get(finding.place)
        move = None if before is None else ended(finding, before, as_of)
        if move is not None:
            self._states[finding.place] = move.state
            self._tell(finding.place.customer, move.transitions)

    def _tell(self, customer: str, transitions: Sequence[NewTransition]) -> None:
        self.transitions += [(customer, one) for one in transitions if one.at_us >= self.from_us]


async def preview_alert(system: System, tenant: str, rule: Rule, from_us: int, to_us: int) -> Replay:
    """What the rule would have done in [from_us, to_us). Raises Invalid (preview_too_large) where it would have to look at
    too much."""
    meter = None
    if rule.subject.meter is not None:
        key = rule.subject.meter
        meter = await in_questions(system, lambda: system.catalog.meter(tenant, key))
    kept = KeptAlert(tenant, None, rule.key, "preview", rule.customer, "", 0, True, None, None, 0, 0)
    past = _Past(system, Armed(kept, rule, meter), Replay(from_us, min(to_us, system.clock.now_us())))
    if past.replay.to_us > from_us:
        await past.run()
    past.replay.transitions.sort(key=lambda one: (one[1].at_us, one[0]))
    return past.replay


class _Past:
    def __init__(self, system: System, alert: Armed, replay: Replay) -> None:
        self.system = system
        self.alert = alert
        self.rule = alert.rule
        self.replay = replay
        self.calendar = Calendar(system)
        self.now_us = system.clock.now_us()
        self.moment_us = system.recorder.recorded_at_us
        self.position = token_of(system.recorder.position)

    def as_of(self, now_us: int) -> AsOf:
        return AsOf(now_us, self.moment_us, self.position)

    async def run(self) -> None:
        kind = self.rule.subject.kind
        if kind is SubjectKind.COST:
            await past_costs(self.system, self.alert, self.replay, self.calendar, self.as_of)
        elif kind is SubjectKind.CREDITS:
            await past_credits(self.system, self.alert, self.replay, self.as_of)
        elif kind is SubjectKind.EVENTS:
            await past_events(self.system, self.alert, self.replay, self.as_of)
        elif self.rule.condition.operation is Operation.PERCENT_OF_LIMIT:
            tenant, now_us = self.alert.kept.tenant, self.system.clock.now_us()
            limits = await in_questions(self.system, lambda: limits_of(self.system, tenant, now_us=now_us))
            for limit in limits_for(self.rule, limits):
                await self._usage(limit.window, limit)
        else:
            assert self.rule.window is not None  # of a meter there is one
            await self._usage(self.rule.window, None)

    # -- usage --------------------------------------------------------------------------------------------------
    async def _usage(self, window: AlertWindow, limit: WatchedLimit | None) -> None:
        assert self.alert.meter is not None
        filter_text = (limit.filter if limit is not None else None) or self.rule.filter
        measured = Measured(self.alert.meter, filter_text, self.rule.group_by)
        if self.rule.condition.operation is Operation.SILENCE:
            measured = heard_of(self.alert.meter, filter_text)
        replay = self.replay
        back_us = self._lookback_us(window)
        whole = Period(replay.from_us - back_us, replay.to_us)
        customers = {self.rule.customer}
        if self.rule.customer == ANY:
            customers = set(
                await figures(self.system, measured, whole, None, self.moment_us, now_us=self.now_us)
            )
        if limit is not None and limit.plan is not None:
            customers = await self.calendar.on_plan(self.alert.kept.tenant, limit.plan, customers)
        replay.customers = max(replay.customers, len(customers))
        by_zone = await self._by_zone(customers)
        replay.grain_us = self._grain(window, len(customers), whole)
        for zone, members in by_zone.items():
            if self.rule.judged_at_end and limit is None:
                await self._judged(window, zone, members)
                continue
            if window.length_us is not None and not self._adds_up(measured):
                await self._roll_asked(window, limit, measured, members)
                continue
            windows = list(await self._windows(window, zone, members))
            for part, group in windows:
                borders = _borders(whole, replay.grain_us, part, measured)
                found = await series(
                    self.system, measured, borders, group, self.moment_us, now_us=self.now_us
                )
                for customer in sorted(group):
                    scopes = {scope for name, scope in found if name == customer}
                    for scope in sorted(scopes or ({""} if not self.rule.group_by else set())):
                        values = found.get((customer, scope), {})
                        if window.length_us is not None:
                            self._roll(window, limit, (customer, scope), (borders, values), measured)
                        else:
                            self._level(part, limit, (customer, scope), (borders, values), measured)

    def _lookback_us(self, window: AlertWindow) -> int:
        """How long before the range something bears on it."""
        if window.length_us is not None:
            return 2 * window.length_us + _HOUR_US
        return (
            2
            * {"hour": 1, "day": 25, "week": 7 * 24 + 1, "quarter": 92 * 24, "year": 366 * 24}.get(
                window.text, 31 * 24 + 1
            )
            * _HOUR_US
        )

    def _grain(self, window: AlertWindow, customers: int, whole: Period) -> int:
        grain_us = _HOUR_US
        if window.length_us is not None:
            wanted = window.length_us // 12
            grain_us = max((one for one in _GRAINS_US if one <= wanted), default=_GRAINS_US[0])
        while (
            grain_us < _HOUR_US and whole.length_us // grain_us > self.system.settings.usage_windows_max // 2
        ):
            grain_us = next(one for one in _GRAINS_US if one > grain_us)
        if grain_us == _HOUR_US and whole.length_us // grain_us * max(customers, 1) > FIGURES_MAX:
            grain_us = (
                24 * _HOUR_US if window.length_us is None and window.text not in ("hour", "day") else grain_us
            )
        if whole.length_us // grain_us * max(customers, 1) > FIGURES_MAX:
            raise too_large()
        return grain_us

    async def _by_zone(self, customers: set[str]) -> dict[str, set[str]]:
        if self.rule.timezone is not None:
            return {self.rule.timezone: customers}
        if self.rule.judged_at_end and self.rule.customer == ANY:
            return {"UTC": customers}
        made: defaultdict[str, set[str]] = defaultdict(set)
        for customer, zone in (await self.calendar.zones(self.alert.kept.tenant, customers)).items():
            made[zone].add(customer)
        return made

    async def _windows(
        self, window: AlertWindow, zone: str, customers: set[str]
    ) -> Iterator[tuple[list[Period], set[str]]]:
        """The windows of the range, with one before them; by billing period they are each customer's own."""
        if window.kind is not WindowKind.BILLING:
            return iter([(self._calendar_windows(window, zone), customers)])
        made: defaultdict[tuple[Period, ...], set[str]] = defaultdict(set)
        tenant = self.alert.kept.tenant
        for customer in customers:
            own: list[Period] = []
            at_us = self.replay.to_us - 1
            while at_us >= self.replay.from_us:
                self.calendar.forget()
                found = await self.calendar.periods(tenant, [customer], window, None, at_us)
                if customer not in found:
                    break
                own.insert(0, found[customer])
                at_us = found[customer].from_us - 1
            made[tuple(own)].add(customer)
        return iter([(list(own), group) for own, group in made.items() if own])

    def _calendar_windows(self, window: AlertWindow, zone: str) -> list[Period]:
        if window.length_us is not None:
            return []
        first = window.at(self.replay.from_us, zone)
        made = [window.before(first, zone)]
        while made[-1].to_us < self.replay.to_us:
            made.append(window.at(made[-1].to_us, zone))
        return made

    def _level(
        self,
        windows: Sequence[Period],
        limit: WatchedLimit | None,
        place: tuple[str, str],
        found: tuple[Sequence[int], dict[int, Decimal | None]],
        measured: Measured,
    ) -> None:
        """Figures that grow within their window."""
        customer, scope = place
        borders, values = found
        level = Level(self.alert, limit)
        if limit is not None and limit.customer not in (None, ANY, customer):
            return
        base: Decimal | None = None
        ends = dict(pairwise(borders))
        begins = sorted(values)
        for period in windows:
            running = measured.zero
            last: Finding | None = None
            own = slice(bisect_left(begins, period.from_us), bisect_left(begins, period.to_us))
            for begin_us in begins[own]:
                end_us = ends[begin_us]
                running = _running(measured, running, values[begin_us])
                finding = level_finding(level, period, customer, (scope, running, base), end_us - 1)
                if finding is not None and end_us > self.replay.from_us:
                    self.replay.decide(finding, self.as_of(end_us - 1))
                    last = finding
            if last is not None and period.to_us <= self.replay.to_us:
                self.replay.close(last, self.as_of(period.to_us))
            base = running

    def _roll(
        self,
        window: AlertWindow,
        limit: WatchedLimit | None,
        place: tuple[str, str],
        found: tuple[Sequence[int], dict[int, Decimal | None]],
        measured: Measured,
    ) -> None:
        """A window that ends with every grain. Of silence: how long nothing has been."""
        customer, scope = place
        borders, values = found
        assert window.length_us is not None
        length_us = window.length_us
        rolling = Rolling(measured, window, [(self.alert, limit)])
        if self.rule.condition.operation is Operation.SILENCE:
            self._silent(customer, borders, values)
            return
        figures_by_time = _Series(measured, values)
        for end_us in borders:
            if not self.replay.from_us < end_us <= self.replay.to_us:
                continue
            period = Period(end_us - length_us, end_us)
            before = Period(period.from_us - length_us, period.from_us)
            value, base = figures_by_time.within(period), figures_by_time.within(before)
            for finding in rolling_findings(rolling, customer, (scope, value, base), period):
                self.replay.decide(finding, self.as_of(end_us))

    def _adds_up(self, measured: Measured) -> bool:
        return self.rule.condition.operation is Operation.SILENCE or _goes_on(measured)

    async def _roll_asked(
        self, window: AlertWindow, limit: WatchedLimit | None, measured: Measured, customers: set[str]
    ) -> None:
        """Of averages and their like each stretch is asked for, so fewer of them."""
        replay, step_us = self.replay, self.replay.grain_us or _HOUR_US
        assert window.length_us is not None
        while (replay.to_us - replay.from_us) // step_us > _ASKED_MAX:
            step_us *= 2
        replay.grain_us = step_us
        rolling = Rolling(measured, window, [(self.alert, limit)])
        first_us = (replay.from_us // step_us + 1) * step_us
        for end_us in (*range(first_us, replay.to_us, step_us), replay.to_us):
            period = Period(end_us - window.length_us, end_us)
            before = Period(period.from_us - window.length_us, period.from_us)
            now, earlier = [
                await figures(self.system, measured, one, customers, self.moment_us, now_us=self.now_us)
                if one is period or rolling.looks_back
                else {}
                for one in (period, before)
            ]
            for finding in stretch_findings(rolling, customers, (now, earlier), period):
                self.replay.decide(finding, self.as_of(end_us))

    def _silent(self, customer: str, borders: Sequence[int], values: dict[int, Decimal | None]) -> None:
        heard_us: int | None = None
        for begin_us, end_us in pairwise(borders):
            if begin_us in values:
                heard_us = end_us
            if heard_us is None or end_us <= self.replay.from_us:
                continue
            seconds = Decimal((end_us - heard_us) // 1_000_000)
            finding = Finding(
                alert=self.alert,
                place=self.alert.place(customer),
                condition=self.rule.condition,
                figure=seconds,
                evidence={"value": plain(seconds), "last_event_at": instant_text(heard_us)},
            )
            self.replay.decide(finding, self.as_of(end_us))

    async def _judged(self, window: AlertWindow, zone: str, customers: set[str]) -> None:
        """Windows that are judged when they are over, by the keeper's own code."""
        windows = self._calendar_windows(window, zone)[1:]
        self.replay.grain_us = None
        anomalies = self.rule.condition.operation is Operation.ANOMALY
        if len(windows) * max(len(customers), 1) > (_JUDGED_MAX if anomalies else FIGURES_MAX):
            raise too_large()
        judge = Ended(self.calendar)
        for period in windows:
            if period.to_us > self.replay.to_us:
                break
            as_of = self.as_of(period.to_us)
            tick = Tick(self.system, as_of, self.moment_us)
            for finding in await judge.judge(tick, self.alert, period, zone=zone, customers=customers):
                self.replay.decide(finding, as_of)


def _borders(whole: Period, grain_us: int, windows: Sequence[Period], measured: Measured) -> tuple[int, ...]:
    """Where figures are looked at: the grain, and every window's begin. Figures that cannot go on from one grain to the
    next are looked at when their window is over."""
    inner = {one.from_us for one in windows} | {one.to_us for one in windows}
    if not windows or _goes_on(measured):
        first = -(-whole.from_us // grain_us) * grain_us
        inner |= set(range(first, whole.to_us, grain_us))
    return (whole.from_us, *sorted(one for one in inner if whole.from_us < one < whole.to_us), whole.to_us)


def _goes_on(measured: Measured) -> bool:
    return measured.meter.aggregation in _RUNNING and measured.meter.of is None


@exactly
def _running(measured: Measured, before: Decimal | None, more: Decimal | None) -> Decimal | None:
    if more is None:
        return before
    if before is None or not _goes_on(measured):
        return more
    if measured.meter.aggregation is Aggregation.MAX:
        return max(before, more)
    if measured.meter.aggregation is Aggregation.MIN:
        return min(before, more)
    return before + more


class _Series:
    """Figures by the begin of their grain, for asking about stretches."""

    def __init__(self, measured: Measured, values: dict[int, Decimal | None]) -> None:
        self._measured = measured
        self._begins = sorted(values)
        self._values = [values[begin] for begin in self._begins]
        self._sums: list[Decimal] | None = None
        if _goes_on(measured) and measured.zero is not None:
            self._sums = _sums(self._values)

    def within(self, period: Period) -> Decimal | None:
        """The figure of a stretch that is made of whole grains."""
        first, last = bisect_left(self._begins, period.from_us), bisect_left(self._begins, period.to_us)
        if self._sums is not None:
            return _less(self._sums[last], self._sums[first])
        made = self._measured.zero
        for value in self._values[first:last]:
            made = _running(self._measured, made, value)
        return made


@exactly
def _sums(values: Sequence[Decimal | None]) -> list[Decimal]:
    return list(accumulate((value or ZERO for value in values), initial=ZERO))


@exactly
def _less(one: Decimal, other: Decimal) -> Decimal:
    return one - other


def too_large() -> Invalid:
    detail = "That is too much for a preview: name a customer, or a shorter range."
    return Invalid(detail, code="preview_too_large", faults=[Fault("/from", "preview_too_large", detail)])
