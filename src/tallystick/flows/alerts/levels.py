"""Figures that grow within a window: usage at or above a value, a percentage of a limit, a percentage above the window before.

All alerts that ask the same share a question. A sum or a count goes on from what was recorded since, without asking; and of
each customer it is known between which figures nothing changes, so that most of what is recorded is done with a look-up for
all windows and alerts of a meter (leeway.py). A window that is looked at for the first time is asked for whole.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice

from tallystick.alerting.rule import Operation, SubjectKind
from tallystick.alerting.window import CALENDAR, WindowKind
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.errors import Invalid
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.definitions import alerts_of
from tallystick.flows.alerts.drift import Drift, ended_windows
from tallystick.flows.alerts.figures import Measured, Scopes, figures
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.leeway import Leeways, Stand
from tallystick.flows.alerts.limits import WatchedLimit, limits_for
from tallystick.flows.alerts.parts import put_together
from tallystick.flows.alerts.shared import Shared
from tallystick.flows.alerts.tick import Tick
from tallystick.flows.alerts.watched import Known, Level, Watch, Watched, total
from tallystick.flows.fresh import Part
from tallystick.flows.usage import in_questions
from tallystick.metering.meter import Aggregation
from tallystick.money import ZERO
from tallystick.store.interface import TouchedUsage

_DAY_US = 86_400_000_000
_WINDOWS_MAX = 1000
"""Windows one customer may have been touched in between two looks; of more, the last ones."""
_KEPT_MAX = 2_000_000
"""Of a million customers in windows, with what is known of each: some 600 MB."""
_REFRESH_US = 300_000_000
"""What is known is asked for again after so long, one window a look, so that nothing wrong stays."""


class Levels:
    """See above."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._watched: list[Watched] = []
        self._by_meter: dict[int, list[Watched]] = {}
        self._leeways = Leeways()
        self._drifts: dict[Watch, Drift] = {}
        self.shared = Shared()
        self._homes: defaultdict[str, dict[str, str]] = defaultdict(dict[str, str])
        self._movers: set[tuple[str, str]] = set()
        self._asked: dict[int, tuple[Finding, Watched, Known, str]] = {}
        self.faults: dict[str, str] = {}

    @property
    def meters(self) -> set[int]:
        return set(self._by_meter)

    def arm(
        self, alerts: Sequence[Armed], limits: dict[str, tuple[WatchedLimit, ...]]
    ) -> list[tuple[Armed, WatchedLimit]]:
        """`limits`: by tenant. Answers the alerts that look at a limit over a rolling window, which are another's."""
        before = {one.watch: one for one in self._watched}
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
        self._watched = [Watched(watch, levels, before.get(watch)) for watch, levels in grouped.items()]
        drifts, self._drifts = self._drifts, {}
        for one in self._watched:
            if one.watch.measured.meter.goes_on:
                drift = self._drifts[one.watch] = drifts.get(one.watch, Drift())
                if one.is_changed:
                    drift.sweep_us = 0
        changed = {one.watch.measured.meter.id for one in self._watched if one.is_changed}
        for meter_id in changed | {watch.measured.meter.id for watch in before.keys() - grouped.keys()}:
            self._leeways.end(meter_id)
        self._by_meter = {}
        for one in self._watched:
            self._by_meter.setdefault(one.watch.measured.meter.id, []).append(one)
        for group in self._by_meter.values():
            group.sort(key=_width, reverse=True)  # who is in a long window is known of a shorter one
        self.shared.arm(self._by_meter.values())
        self._asked = {}
        return rolling

    def forget(self) -> None:
        """What was known may not be true any more."""
        for one in self._watched:
            one.known.clear()
        self._drifts = {watch: Drift() for watch in self._drifts}
        self._leeways.forget()
        self._homes.clear()
        self._movers.clear()
        self._asked.clear()

    async def look(self, tick: Tick) -> list[Finding]:
        """What has reached something, or fallen below it."""
        self._tidy(tick)
        self._asked = {}
        self.shared.begin()
        self.faults = {}
        for meter, group in self._by_meter.items():
            if (
                tick.touched.get(meter)
                or meter in tick.unsure
                or not all(one.begun and not one.is_stale for one in group)
                or any(self._is_due(one, tick.now_us) for one in group)
            ):
                await self._look_at_meter(tick, meter, group)
                await asyncio.sleep(0)  # so that requests are not kept waiting by a long look
        return [finding for finding, *_ in self._asked.values()]

    def _is_due(self, watched: Watched, now_us: int) -> bool:
        drift = self._drifts.get(watched.watch)
        return drift is not None and drift.is_due(now_us)

    async def _look_at_meter(self, tick: Tick, meter: int, group: Sequence[Watched]) -> None:
        """What was recorded of a meter; of most customers that is too little to change anything."""
        if meter in tick.unsure or not all(one.begun and not one.is_stale for one in group):
            self._leeways.end(meter)
        rows = tick.touched.get(meter, ())
        left = self._leeways.take(meter, rows, tick.now_us)
        periods: list[tuple[Watched, Mapping[str, Period]]] = []
        everybody: dict[Period, set[str]] = {}
        asked_before, has_failed = len(self._asked), False
        for watched in group:
            asked_of = left if watched.adds_up else rows
            if watched.names is not None:
                asked_of = [row for row in asked_of if row.customer in watched.names]
            try:
                found = await self._look_at(tick, watched, asked_of, everybody)
            except Invalid as error:
                # Its facts are deleted, or its dimension is: the others go on.
                for level in watched.levels:
                    self.faults[level.alert.kept.id] = error.detail
                watched.known.clear()
                has_failed = True
                continue
            if watched.adds_up:
                periods.append((watched, found))
            await asyncio.sleep(0)
        if has_failed:
            self._leeways.end(meter)
            return
        # Of these it is not known before they are written down between which figures nothing changes.
        made_here = islice(self._asked.values(), asked_before, None)
        moving = {finding.place.customer for finding, *_ in made_here}
        for customer in {row.customer for row in left} - moving:
            self._let(tick, meter, customer, periods)

    def _let(
        self, tick: Tick, meter: int, customer: str, periods: Sequence[tuple[Watched, Mapping[str, Period]]]
    ) -> None:
        """Work out how far a customer's sums may move."""
        stands: list[Stand] = []
        for watched, present in periods:
            if watched.names is not None and customer not in watched.names:
                continue
            period = present.get(customer)
            if period is None:
                continue  # it has no such window: nothing is decided of it
            known = watched.known.get(period)
            scopes = None if known is None else known.by_customer.get(customer)
            if known is None or scopes is None:
                return
            base: Decimal | None = None
            if watched.compares:
                # What was recorded late in the window before changes nothing by itself, and what comes after it much.
                zone = watched.watch.timezone or self._calendar.zone_kept(
                    watched.watch.measured.meter.tenant, customer
                )
                earlier = watched.known.get(watched.watch.window.before(period, zone))
                if earlier is None or not self._has(watched, earlier, customer):
                    return
                base = earlier.by_customer.get(customer, {}).get("")
            quiet = known.quiet_beside((customer, ""), base)
            if quiet is None:
                return
            stands.append((period, scopes, quiet))
        self._leeways.begin(meter, customer, stands, tick.now_us)

    async def _look_at(
        self, tick: Tick, watched: Watched, rows: Sequence[TouchedUsage], everybody: dict[Period, set[str]]
    ) -> Mapping[str, Period]:
        """The present window of everybody it has looked at. `everybody`: of this meter, as `_all_of` has found them."""
        watch = watched.watch
        meter = watch.measured.meter
        names = watched.names
        fresh = meter.id in tick.unsure or not watched.begun or watched.is_stale
        drift = self._drifts.get(watch)
        near = [] if drift is None else drift.take(tick.now_us)
        is_sweep = drift is not None and (fresh or drift.sweeps(tick.now_us))
        if not rows and not fresh and not near and not is_sweep:
            return {}
        parts = None if fresh else self.shared.taken(tick, watched)
        if parts is not None:
            rows = ()
        customers = {part.customer for part, _ in parts or ()} | {row.customer for row in rows}
        customers |= {customer for _, customer in near}
        if fresh or is_sweep:
            customers |= await self._all_of(tick, watch, everybody) if names is None else names
        periods = await self._calendar.periods(
            meter.tenant, customers, watch.window, watch.timezone, tick.now_us
        )
        if watch.timezone is None and watch.window.kind is not WindowKind.BILLING:
            self._note_homes(meter.tenant, customers)
        checks: defaultdict[Period, set[str]] = defaultdict(set)
        asks: defaultdict[Period, set[str]] = defaultdict(set)
        for part, scope in parts or ():
            self._touch_part(
                tick, watched, (part, scope), periods.get(part.customer), checks=checks, asks=asks
            )
        for row in rows:
            self._touch(tick, watched, row, periods.get(row.customer), checks=checks, asks=asks)
        if fresh or is_sweep:
            for customer, period in periods.items():
                asks[period].add(customer)
        for period, customer in near:
            asks[period].add(customer)
        if drift is not None:
            if is_sweep:
                for period, customer in await self._ended(tick, watched, drift, customers):
                    asks[period].add(customer)
                lengths = (period.length_us for period in periods.values())
                drift.begin_sweep(tick.now_us, min(lengths, default=0))
            drift.reach(tick.now_us, periods.values())
        befores: dict[Period, Period] = {}
        if watched.compares:
            for period in {*checks, *asks}:
                some = next(iter(checks[period] | asks[period]), "")
                zone = watch.timezone or self._calendar.zone_kept(meter.tenant, some)
                before = befores[period] = watch.window.before(period, zone)
                known = watched.known.get(before)
                asks[before] |= {
                    customer
                    for customer in checks[period] | asks[period]
                    if known is None or not self._has(watched, known, customer)
                }
        present = set(periods.values())
        for period, wanted in asks.items():
            is_present = period in present
            if (is_present or period in befores.values()) and (fresh or not _is_asked_whole(watched, period)):
                await self._ask_all(tick, watched, period, wanted, is_present=is_present)
            else:
                await self._ask(tick, watched, period, wanted)
            if period not in befores.values() or period in checks:
                checks[period] |= wanted
        plans = {plan: await self._calendar.on_plan(meter.tenant, plan, customers) for plan in watched.plans}
        for period, wanted in checks.items():
            await self._check(tick, watched, (period, befores.get(period)), customers=wanted, plans=plans)
        if drift is not None:
            for period in asks.keys() & present:
                await self._look_ahead(tick, watched, drift, (period, befores.get(period)), asks[period])
        watched.is_stale = False
        return periods

    async def _ended(
        self, tick: Tick, watched: Watched, drift: Drift, customers: set[str]
    ) -> list[tuple[Period, str]]:
        """The windows that are over since the last sweep, and whose they were."""
        window, tenant = watched.watch.window, watched.watch.measured.meter.tenant
        if drift.done_us is None:
            drift.done_us = tick.after_us if watched.begun else tick.now_us
        done_us, drift.done_us = drift.done_us, tick.now_us
        made: list[tuple[Period, str]] = []
        if window.kind is WindowKind.BILLING:
            then = await self._calendar.billing_then(tenant, customers, done_us)
            return [(period, one) for one, period in then.items() if period.to_us <= tick.now_us]
        by_zone: defaultdict[str, list[str]] = defaultdict(list)
        for customer in customers:
            by_zone[watched.watch.timezone or self._calendar.zone_kept(tenant, customer)].append(customer)
        for zone, whose in by_zone.items():
            for period in ended_windows(window, zone, done_us, tick.now_us):
                made += [(period, customer) for customer in whose]
        return made

    async def _look_ahead(
        self,
        tick: Tick,
        watched: Watched,
        drift: Drift,
        periods: tuple[Period, Period | None],
        customers: set[str],
    ) -> None:
        """Find out who of these will reach something before everybody is asked again."""
        period, before = periods
        until_us = min(drift.sweep_us, period.to_us)
        known = watched.known[period]
        earlier = None if before is None else watched.known.get(before)
        measured = watched.watch.measured
        then = await figures(tick.system, measured, period, customers, tick.moment_us, now_us=until_us)
        # Of these it is known later between which figures nothing changes.
        moving = {made.place.customer for made, one, *_ in self._asked.values() if one is watched}
        for customer, scopes in then.items():
            if customer in moving:
                drift.near[period, customer] = tick.now_us
                continue
            base = None if earlier is None else earlier.by_customer.get(customer, {})
            drift.look_ahead(tick.now_us, until_us, customer, known=known, then=scopes, base=base)

    def _note_homes(self, tenant: str, customers: Iterable[str]) -> None:
        """Who has gone to another zone is in other windows from now on, of which nothing is known that holds."""
        homes = self._homes[tenant]
        for customer in customers:
            zone = self._calendar.zone_kept(tenant, customer)
            if homes.setdefault(customer, zone) != zone:
                homes[customer] = zone
                self._movers.add((tenant, customer))
                for watched in self._watched:
                    if watched.watch.measured.meter.tenant == tenant:
                        self._leeways.end_of(watched.watch.measured.meter.id, customer)
                        for known in watched.known.values():
                            known.drop(customer)

    def _has(self, watched: Watched, known: Known, customer: str) -> bool:
        """Whether a customer's figure is known, be it that there is none."""
        if customer in known.by_customer:
            return True
        return known.whole and (watched.watch.measured.meter.tenant, customer) not in self._movers

    async def _all_of(self, tick: Tick, watch: Watch, everybody: dict[Period, set[str]]) -> set[str]:
        """Everybody who may have used something in the present window, whatever his zone."""
        if watch.window.kind is WindowKind.BILLING:
            about = Period(tick.now_us - 366 * _DAY_US, tick.now_us + _DAY_US)
        else:
            present = watch.window.at(tick.now_us, watch.timezone or "UTC")
            about = Period(present.from_us - 2 * _DAY_US, present.to_us + 2 * _DAY_US)
        for period, found in everybody.items():
            if period.from_us <= about.from_us and about.to_us <= period.to_us:
                return found
        measured = Measured(watch.measured.meter)
        try:
            found = set(await figures(tick.system, measured, about, None, tick.moment_us, now_us=tick.now_us))
        except Invalid as error:
            if error.code != "past_retention" or watch.window.kind is not WindowKind.BILLING:
                raise
            near = Period(tick.now_us - _DAY_US, tick.now_us + _DAY_US)
            found = set(await figures(tick.system, measured, near, None, tick.moment_us, now_us=tick.now_us))
        everybody[about] = found
        return found

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
        # What comes late for a series changes what follows it, up to now.
        latest_us = max(row.latest_us, tick.now_us) if watched.is_series else row.latest_us
        if present is not None and present.from_us <= row.earliest_us and latest_us < present.to_us:
            known = watched.known.get(present)
            if known is not None and watched.adds_up and self._has(watched, known, row.customer):
                scopes = known.by_customer.setdefault(row.customer, {"": ZERO})
                scopes[""] = total(scopes[""] or ZERO, row.total)
                checks[present].add(row.customer)
            else:
                asks[present].add(row.customer)
            return
        if watch.window.kind is WindowKind.BILLING:
            if present is not None and latest_us >= present.from_us:
                asks[present].add(row.customer)
            return
        if present is None:
            return
        for period in self._windows(tick, watch, row, present, latest_us=latest_us):
            asks[period].add(row.customer)

    def _touch_part(
        self,
        tick: Tick,
        watched: Watched,
        taken: tuple[Part, str],
        present: Period | None,
        *,
        checks: defaultdict[Period, set[str]],
        asks: defaultdict[Period, set[str]],
    ) -> None:
        """The same of a part, which goes on from what was known."""
        part, scope = taken
        measured = watched.watch.measured
        if present is not None and present.from_us <= part.earliest_us and part.latest_us < present.to_us:
            known = watched.known.get(present)
            if known is not None and self._has(watched, known, part.customer):
                scopes = known.by_customer.setdefault(part.customer, dict(measured.nothing))
                more = part.greatest if measured.meter.aggregation is Aggregation.MAX else part.total
                scopes[scope] = put_together(measured, scopes.get(scope), more)
                checks[present].add(part.customer)
                return
        meter = measured.meter
        row = TouchedUsage(
            meter.tenant, meter.id, part.customer, part.earliest_us, part.latest_us, 1, part.total
        )
        self._touch(tick, watched, row, present, checks=checks, asks=asks)

    def _windows(
        self, tick: Tick, watch: Watch, row: TouchedUsage, present: Period, *, latest_us: int
    ) -> Iterator[Period]:
        """Those that were touched and were not over for longer than themselves when it was recorded."""
        zone = watch.timezone
        if zone is None:
            zone = self._calendar.zone_kept(row.tenant, row.customer)
        earliest = max(row.earliest_us, tick.after_us - 2 * present.length_us)
        period = watch.window.at(earliest, zone)
        for _ in range(_WINDOWS_MAX):
            if period.from_us > latest_us:
                return
            if period.to_us > tick.after_us - period.length_us:
                yield period
            period = watch.window.at(period.to_us, zone)

    async def _ask_all(
        self, tick: Tick, watched: Watched, period: Period, wanted: set[str], *, is_present: bool
    ) -> None:
        """Ask for everybody at once, where a window is looked at for the first time: who comes next is known then."""
        watch = watched.watch
        is_whole = watched.names is None and watch.window.kind is not WindowKind.BILLING
        found: dict[str, Scopes] | None = None
        if is_whole:
            found = await self.shared.every_figure(tick, watch, period)
        if found is None:
            await self._ask(tick, watched, period, wanted)
            watched.known.setdefault(period, Known(period, tick.now_us)).asked_whole = True
            return
        others = found.keys() - wanted
        if is_present and others:
            meter = watch.measured.meter
            theirs = await self._calendar.periods(
                meter.tenant, others, watch.window, watch.timezone, tick.now_us
            )
            others = {customer for customer in others if theirs.get(customer) == period}
            if watch.timezone is None:
                self._note_homes(meter.tenant, theirs)
        known = self._know(tick, watched, period, wanted | others, found)
        known.whole = known.asked_whole = True

    async def _ask(self, tick: Tick, watched: Watched, period: Period, customers: set[str]) -> None:
        if customers:
            found = await self.shared.figures(tick, watched.watch, period, customers)
            self._know(tick, watched, period, customers, found)

    def _know(
        self,
        tick: Tick,
        watched: Watched,
        period: Period,
        customers: Iterable[str],
        found: Mapping[str, Scopes],
    ) -> Known:
        measured = watched.watch.measured
        known = watched.known.setdefault(period, Known(period, tick.now_us))
        for customer in customers:
            before = known.by_customer.get(customer, {})
            # A group that has gone counts as nothing: what has fired for it is to recover.
            gone: Scopes = dict.fromkeys(before, measured.zero)
            known.by_customer[customer] = {**measured.nothing, **gone, **found.get(customer, {})}
        return known

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
        known = watched.known[period]
        if known.fired is None:
            catalog, alerts = alerts_of(tick.system), watched.alerts
            known.read(await in_questions(tick.system, lambda: catalog.fired_states(alerts, period.from_us)))
        earlier = None if before is None else watched.known.get(before)
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
            (one.asked_us, number, period, watched)
            for number, watched in enumerate(self._watched)
            for period, one in watched.known.items()
        ]
        size = sum(known.size for watched in self._watched for known in watched.known.values())
        if size + self._leeways.size > _KEPT_MAX:
            self.forget()
        elif kept:
            asked_us, _, period, watched = min(kept, key=lambda one: one[:2])
            if tick.now_us - asked_us > _REFRESH_US:
                self._leeways.end(watched.watch.measured.meter.id)
                del watched.known[period]


def _width(watched: Watched) -> int:
    window = watched.watch.window
    return len(CALENDAR) if window.kind is WindowKind.BILLING else CALENDAR.index(window.text)


def _is_asked_whole(watched: Watched, period: Period) -> bool:
    known = watched.known.get(period)
    return known is not None and known.asked_whole
