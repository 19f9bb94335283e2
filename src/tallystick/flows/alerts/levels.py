"""Figures that grow within a window: usage at or above a value, a percentage of a limit, a percentage above the window before.

All alerts that ask the same share a question. A sum or a count goes on from what was recorded since, without asking; and of
each customer it is known between which figures nothing changes, so that most of what is recorded is done with a look-up.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tallystick.alerting.rule import Operation, SubjectKind
from tallystick.alerting.window import WindowKind
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.errors import Invalid
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.definitions import alerts_of
from tallystick.flows.alerts.figures import Measured, Scopes, figures
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.limits import WatchedLimit, limits_for
from tallystick.flows.alerts.tick import Tick
from tallystick.flows.alerts.watched import Known, Level, Watch, Watched, total
from tallystick.flows.usage import in_questions
from tallystick.money import ZERO
from tallystick.store.interface import TouchedUsage

_DAY_US = 86_400_000_000
_WINDOWS_MAX = 1000
"""Windows one customer may have been touched in between two looks; of more, the last ones."""
_KEPT_MAX = 1_000_000
_REFRESH_US = 300_000_000
"""What is known is asked for again after so long, one window a look, so that nothing wrong stays."""


class Levels:
    """See above."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._watched: list[Watched] = []
        self._asked: dict[int, tuple[Finding, Watched, Known, str]] = {}
        self.faults: dict[str, str] = {}

    @property
    def meters(self) -> set[int]:
        return {one.watch.measured.meter.id for one in self._watched}

    def arm(
        self, alerts: Sequence[Armed], limits: dict[str, tuple[WatchedLimit, ...]]
    ) -> list[tuple[Armed, WatchedLimit]]:
        """`limits`: by tenant. Answers the alerts that look at a limit over a rolling window, which are another's."""
        before = {one.watch: one.known for one in self._watched}
        grouped: defaultdict[Watch, list[Level]] = defaultdict(list)
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
                    grouped[Watch(measured, limit.window, rule.timezone)].append(Level(alert, limit))
            elif rule.of_windows and rule.window is not None:
                measured = Measured(meter, rule.filter, rule.group_by)
                grouped[Watch(measured, rule.window, rule.timezone)].append(Level(alert))
        self._watched = [Watched(watch, levels, before.get(watch, {})) for watch, levels in grouped.items()]
        self._asked = {}
        return rolling

    def forget(self) -> None:
        """What was known may not be true any more."""
        for one in self._watched:
            one.known.clear()
        self._asked.clear()

    async def look(self, tick: Tick) -> list[Finding]:
        """What has reached something, or fallen below it."""
        self._tidy(tick)
        self._asked = {}
        self.faults = {}
        for watched in self._watched:
            try:
                await self._look_at(tick, watched)
            except Invalid as error:
                # Its facts are deleted, or its dimension is: the others go on.
                for level in watched.levels:
                    self.faults[level.alert.kept.id] = error.detail
            await asyncio.sleep(0)  # so that requests are not kept waiting by a long look
        return [finding for finding, *_ in self._asked.values()]

    async def _look_at(self, tick: Tick, watched: Watched) -> None:
        watch = watched.watch
        meter = watch.measured.meter
        names = watched.names
        rows = tick.rows(meter.id, names)
        fresh = meter.id in tick.unsure or not watched.begun
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
            self._touch(tick, watched, row, periods.get(row.customer), checks=checks, asks=asks)
        if fresh:
            for customer, period in periods.items():
                asks[period].add(customer)
        befores: dict[Period, Period] = {}
        if watched.compares:
            for period in {*checks, *asks}:
                some = next(iter(checks[period] | asks[period]), "")
                zone = watch.timezone or self._calendar.zone_kept(meter.tenant, some)
                before = befores[period] = watch.window.before(period, zone)
                known = watched.known.get(before.from_us)
                asks[before] |= {
                    customer
                    for customer in checks[period] | asks[period]
                    if known is None or customer not in known.by_customer
                }
        for period, wanted in asks.items():
            await self._ask(tick, watched, period, wanted)
            if period not in befores.values() or period in checks:
                checks[period] |= wanted
        plans = {plan: await self._calendar.on_plan(meter.tenant, plan, customers) for plan in watched.plans}
        for period, wanted in checks.items():
            await self._check(tick, watched, (period, befores.get(period)), customers=wanted, plans=plans)

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
        watched: Watched,
        row: TouchedUsage,
        present: Period | None,
        *,
        checks: defaultdict[Period, set[str]],
        asks: defaultdict[Period, set[str]],
    ) -> None:
        """Note in which windows a customer's figure has changed."""
        watch = watched.watch
        if present is not None and present.from_us <= row.earliest_us and row.latest_us < present.to_us:
            known = watched.known.get(present.from_us)
            scopes = None if known is None else known.by_customer.get(row.customer)
            if scopes is not None and watched.adds_up:
                scopes[""] = total(scopes[""] or ZERO, row.total)
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

    async def _ask(self, tick: Tick, watched: Watched, period: Period, customers: set[str]) -> None:
        if not customers:
            return
        measured = watched.watch.measured
        found = await figures(tick.system, measured, period, customers, tick.moment_us)
        known = watched.known.setdefault(period.from_us, Known(period, tick.now_us))
        for customer in customers:
            before = known.by_customer.get(customer, {})
            # A group that has gone counts as nothing: what has fired for it is to recover.
            gone: Scopes = dict.fromkeys(before, measured.zero)
            known.by_customer[customer] = {**measured.nothing, **gone, **found.get(customer, {})}

    async def _check(
        self,
        tick: Tick,
        watched: Watched,
        periods: tuple[Period, Period | None],
        *,
        customers: set[str],
        plans: dict[str, set[str]],
    ) -> None:
        period, before = periods
        known = watched.known[period.from_us]
        if known.fired is None:
            catalog, alerts = alerts_of(tick.system), watched.alerts
            known.read(await in_questions(tick.system, lambda: catalog.fired_states(alerts, period.from_us)))
        earlier = None if before is None else watched.known.get(before.from_us)
        for customer in customers:
            for scope, value in known.by_customer[customer].items():
                base = None if earlier is None else earlier.by_customer.get(customer, {}).get(scope)
                for made in watched.changes(known, customer, (scope, value, base), tick.now_us, plans):
                    self._asked[id(made)] = made, watched, known, scope

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """Remember between which figures nothing changes."""
        for finding, state in results:
            asked = self._asked.get(id(finding))
            if asked is not None:
                _, watched, known, scope = asked
                watched.settled(known, scope, finding, state)
        self._asked = {}

    def _tidy(self, tick: Tick) -> None:
        """Let go of what has been known for long, one window a look; and of everything where that is too much."""
        kept = [
            (one.asked_us, begin_us, watched)
            for watched in self._watched
            for begin_us, one in watched.known.items()
        ]
        if sum(known.size for watched in self._watched for known in watched.known.values()) > _KEPT_MAX:
            self.forget()
        elif kept:
            asked_us, begin_us, watched = min(kept, key=lambda one: one[0])
            if tick.now_us - asked_us > _REFRESH_US:
                del watched.known[begin_us]
