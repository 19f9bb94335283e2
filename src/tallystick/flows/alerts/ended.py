"""Windows that can only be judged when they are over: usage at or below a value, a drop against the window before, a figure
that is unusual. Each window that ends is judged once, in order, and none is left out after an outage; what is recorded late
for the last one judges it again. One state goes on from window to window."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tallystick.alerting.rule import ANY, Direction, Operation
from tallystick.alerting.window import AlertWindow
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.errors import Invalid
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.figures import Measured, Scopes, figures, group_of, series
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.rolling import changed
from tallystick.flows.alerts.tick import SETTLE_US, Tick
from tallystick.flows.alerts.watched import change
from tallystick.flows.usage import in_questions
from tallystick.forecast.anomaly import DAYS, HOURS, Sensitivity, Verdict, baseline
from tallystick.metering.meter import SERIES
from tallystick.money import plain

HISTORY_WINDOWS = {"hour": 28 * 24, "day": 56}
_WINDOWS_AT_ONCE = 24
"""Windows judged in one look; the rest of a long outage in the next ones."""
_LAG_S_MAX = 1.0


@dataclass(slots=True)
class _Judged:
    alert: Armed
    window: AlertWindow
    judged_us: int | None
    zone: str = "UTC"
    firing: set[str] = field(default_factory=set[str])


class Ended:
    """See above. `judged`: by alert, up to where windows are judged once the last look is written down."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._all: dict[str, _Judged] = {}
        self.judged: dict[str, int] = {}
        self.faults: dict[str, str] = {}

    @property
    def meters(self) -> set[int]:
        return {one.alert.meter.id for one in self._all.values() if one.alert.meter is not None}

    def arm(self, alerts: Sequence[Armed], firing: Sequence[KeptState]) -> None:
        before = self._all
        self._all = {}
        for alert in alerts:
            if alert.meter is not None and alert.rule.judged_at_end and alert.rule.window is not None:
                known = before.get(alert.kept.id)
                judged_us = alert.kept.judged_us
                if known is not None and known.alert.kept.edition == alert.kept.edition:
                    judged_us = max(judged_us or 0, known.judged_us or 0) or None
                self._all[alert.kept.id] = _Judged(alert, alert.rule.window, judged_us)
        for state in firing:
            one = self._all.get(state.place.alert)
            if one is not None:
                one.firing.add(state.place.customer)

    async def look(self, tick: Tick) -> list[Finding]:
        """Windows that have ended since, and the last one where something came late."""
        found: list[Finding] = []
        self.judged, self.faults = {}, {}
        for one in self._all.values():
            try:
                found += await self._look_at(tick, one)
            except Invalid as error:
                self.faults[one.alert.kept.id] = error.detail
        return found

    async def _look_at(self, tick: Tick, one: _Judged) -> list[Finding]:
        rule, meter = one.alert.rule, one.alert.meter
        assert meter is not None
        one.zone = rule.timezone or "UTC"
        if rule.timezone is None and rule.customer != ANY:
            one.zone = (await self._calendar.zones(meter.tenant, [rule.customer]))[rule.customer]
        if one.judged_us is None:
            self.judged[one.alert.kept.id] = one.window.at(tick.now_us, one.zone).from_us
            return []
        made: dict[tuple[str, str], Finding] = {}
        judged_us = one.judged_us
        last = one.window.at(judged_us - 1, one.zone)
        late = {
            row.customer
            for row in tick.rows(meter.id, None if rule.customer == ANY else {rule.customer})
            if row.earliest_us < last.to_us
            and (row.latest_us >= last.from_us or meter.aggregation in SERIES)  # what follows changes too
        }
        if late:
            made |= await self._judge(tick, one, last, late)
        for _ in range(_WINDOWS_AT_ONCE):
            period = one.window.at(judged_us, one.zone)
            if not self._is_over(tick, period):
                break
            # Of several windows the last one decides what the state is; each is looked at, so that what fires in one
            # and recovers in the next is said.
            if made:
                break
            made |= await self._judge(tick, one, period, None)
            judged_us = period.to_us
        if judged_us != one.judged_us:
            self.judged[one.alert.kept.id] = judged_us
        return list(made.values())

    def _is_over(self, tick: Tick, period: Period) -> bool:
        """Whether nothing more of it is on its way."""
        end_us = period.to_us + SETTLE_US
        recorder = tick.system.recorder
        return tick.now_us >= end_us and (tick.moment_us >= end_us or recorder.lag().seconds <= _LAG_S_MAX)

    async def _judge(
        self, tick: Tick, one: _Judged, period: Period, customers: Collection[str] | None
    ) -> dict[tuple[str, str], Finding]:
        """`customers` None: everybody the alert is about, who was active in this window or the one before, or fires."""
        rule, meter = one.alert.rule, one.alert.meter
        assert meter is not None
        measured = Measured(meter, rule.filter, rule.group_by)
        before = one.window.before(period, one.zone)
        asked = customers
        if asked is None and rule.customer != ANY:
            asked = {rule.customer}
        system, moment_us, now_us = tick.system, tick.moment_us, tick.now_us
        now = await figures(system, measured, period, asked, moment_us, now_us=now_us)
        earlier = await figures(system, measured, before, asked, moment_us, now_us=now_us)
        if asked is None:
            asked = {*now, *earlier, *one.firing}
        if rule.condition.operation is Operation.ANOMALY:
            return await self._unusual(tick, one, period, asked)
        made: dict[tuple[str, str], Finding] = {}
        for customer in sorted(asked):
            groups: Scopes = dict.fromkeys(earlier.get(customer, {}), measured.zero)
            for scope, value in {**measured.nothing, **groups, **now.get(customer, {})}.items():
                base = earlier.get(customer, {}).get(scope)
                evidence: dict[str, Any] = {
                    "value": None if value is None else plain(value),
                    "group": group_of(scope),
                }
                compared = value
                if rule.condition.operation is Operation.PERCENT_CHANGE:
                    if base is None or not base:
                        continue
                    compared = changed(value, base, rule.condition.direction)
                    evidence |= {"previous": plain(base), "percent": change(value, base)}
                elif value is None:
                    continue  # of a maximum there is none: neither low nor high
                made[customer, scope] = self._finding(one, (customer, scope), period, compared, evidence)
        return made

    async def _unusual(
        self, tick: Tick, one: _Judged, period: Period, customers: Collection[str]
    ) -> dict[tuple[str, str], Finding]:
        rule, meter = one.alert.rule, one.alert.meter
        assert meter is not None
        borders = [period.to_us, period.from_us]
        at = period
        for _ in range(HISTORY_WINDOWS[one.window.text]):
            at = one.window.before(at, one.zone)
            borders.append(at.from_us)
        borders.reverse()
        measured = Measured(meter, rule.filter, rule.group_by)
        found = await series(tick.system, measured, borders, customers, tick.moment_us, now_us=tick.now_us)
        starts = borders[:-2]
        seasons = HOURS if one.window.text == "hour" else DAYS
        sensitivity = Sensitivity(rule.condition.sensitivity)

        def judge() -> dict[tuple[str, str], tuple[Decimal, Verdict]]:
            made: dict[tuple[str, str], tuple[Decimal, Verdict]] = {}
            for place, values in found.items():
                first_us = min(values)
                # Before its first use a customer was not silent, but not there.
                history = [values.get(start) or Decimal(0) for start in starts if start >= first_us]
                value = values.get(period.from_us) or Decimal(0)
                made[place] = value, baseline(history, seasons=seasons).judge(value, sensitivity)
            return made

        findings: dict[tuple[str, str], Finding] = {}
        for place, (value, verdict) in (await in_questions(tick.system, judge)).items():
            up = verdict.expected is not None and value >= verdict.expected
            wanted = rule.condition.direction
            counts = verdict.unusual and wanted in (Direction.EITHER, Direction.UP if up else Direction.DOWN)
            evidence: dict[str, Any] = {
                "value": plain(value),
                "group": group_of(place[1]),
                "anomaly": None if verdict.kind is None else str(verdict.kind),
                "expected": None if verdict.expected is None else plain(verdict.expected),
                "low": None if verdict.low is None else plain(verdict.low),
                "high": None if verdict.high is None else plain(verdict.high),
                "approximate": True,
            }
            findings[place] = self._finding(one, place, period, Decimal(int(counts)), evidence)
        return findings

    def _finding(
        self,
        one: _Judged,
        place: tuple[str, str],
        period: Period,
        figure: Decimal | None,
        evidence: dict[str, Any],
    ) -> Finding:
        condition = one.alert.rule.condition
        if condition.operation is Operation.ANOMALY:
            condition = replace(condition, steps=(Decimal(1),))
        customer, scope = place
        return Finding(
            alert=one.alert,
            place=one.alert.place(customer, scope=scope),
            condition=condition,
            figure=figure,
            window=period,
            evidence=evidence,
        )

    async def judge(
        self, tick: Tick, alert: Armed, period: Period, *, zone: str, customers: Collection[str]
    ) -> list[Finding]:
        """What there is to say of one window, for a preview."""
        assert alert.rule.window is not None  # it is judged at the end of one
        one = _Judged(alert, alert.rule.window, period.to_us, zone)
        return list((await self._judge(tick, one, period, customers)).values())

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """Remember who fires, and what is judged."""
        for name, judged_us in self.judged.items():
            if name in self._all:
                self._all[name].judged_us = judged_us
        for finding, state in results:
            one = self._all.get(finding.place.alert)
            if one is not None:
                (one.firing.add if state.firing else one.firing.discard)(finding.place.customer)
