"""Keeps alerts up with what is recorded. Woken by each published moment; what time alone changes is looked at once a second.

A look goes from the last moment done to the newest one: what was touched in between is asked for as of that moment,
decided, and written down in one transaction (states, transitions, what channels are to be told, the moment). After a crash
or an outage the next look goes on from the moment that is written down: deciding again what was decided changes nothing,
and ids of transitions follow from the states.

Several processes may believe the work to be theirs: each step names the version of the progress it has read, and one of
two is turned away (catalog/alert_states.py).
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import structlog

from tallystick.alerting.rule import Operation
from tallystick.billing.period import Period
from tallystick.catalog.alerting import (
    Advance,
    AlertsMovedError,
    KeptAlert,
    KeptState,
    Move,
    StatePlace,
)
from tallystick.errors import Invalid, NotFound
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.definitions import alerts_of, rule_of
from tallystick.flows.alerts.ended import Ended
from tallystick.flows.alerts.finding import Armed, AsOf, Finding, decided, ended
from tallystick.flows.alerts.levels import Levels
from tallystick.flows.alerts.limits import WatchedLimit, limits_of, raises_end_us
from tallystick.flows.alerts.owed import Owed
from tallystick.flows.alerts.rolling import Rollings
from tallystick.flows.alerts.silences import Silences
from tallystick.flows.alerts.status import AlertStatus
from tallystick.flows.alerts.tick import SETTLE_US, Tick
from tallystick.flows.alerts.unread import UnreadEvents
from tallystick.flows.fresh import Followed, News, Part
from tallystick.flows.lease import Held
from tallystick.flows.position import token_of
from tallystick.flows.recent import recorded_between, unsure_between
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.meter import Meter
from tallystick.store.interface import TouchedUsage

LOOK_S = 1.0
"""How long nothing is looked at, where nothing is recorded."""
BACK_OFF_S_MAX = 60.0
MOVES_AT_ONCE = 1_000
_SAVE_US = 2_000_000
_STATES_KEPT_MAX = 200_000

_Loaded = tuple[list[Armed], dict[str, tuple[WatchedLimit, ...]]]

_logger = structlog.get_logger("alerts")


class AlertKeeper:
    """`run` is its life; `look` one step of it."""

    def __init__(
        self,
        system: System,
        *,
        status: AlertStatus | None = None,
        look_s: float = LOOK_S,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """`on_step` is called before each part of a look: for tests that break things."""
        self._system = system
        self._catalog = alerts_of(system)
        self.status = status or AlertStatus()
        self._look_s = look_s
        self._on_step = on_step
        self._stopping = asyncio.Event()
        calendar = self._calendar = Calendar(system)
        self._levels, self._rollings = Levels(calendar), Rollings()
        self._silences, self._ended = Silences(), Ended(calendar)
        self._owed, self._unread = Owed(calendar), UnreadEvents()
        self._revisions: tuple[int, int] | None = None
        self._loaded: _Loaded | None = None
        self._raises_end_us: int | None = None
        self._alerts: dict[str, Armed] = {}
        self._meters: dict[int, Meter] = {}
        self._states: dict[StatePlace, KeptState] = {}
        self._closing: dict[StatePlace, KeptState] = {}
        self._moment_us: int | None = None
        self._saved_us = 0
        self._version = 0
        self._mutes: dict[str, int] = {}
        self._unreadable: dict[str, str] = {}
        self._is_new = True

    # -- its life -----------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Look until `stop`. Whatever fails is tried again, later and later; nothing else notices."""
        failures = 0
        while not self._stopping.is_set():
            try:
                if await self._waited():
                    await self.look()
                failures = 0
                self.status.fault = None
            except Exception as error:
                failures += 1
                self.status.failed(error)
                self._forget()
                if failures == 1 or not isinstance(error, AlertsMovedError):
                    _logger.warning("alerts_failed", error=repr(error), failures=failures)
                await self._pause(min(2.0 ** min(failures - 1, 10), BACK_OFF_S_MAX))

    async def _waited(self) -> bool:
        """Until there is something to look at: a newer moment, or that time has passed."""
        moment_us = self._moment_us
        if moment_us is None or self._is_new:
            self._is_new = False
            return True
        waiting = asyncio.create_task(self._system.recorder.wait_for_moment(moment_us, self._look_s))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        return not self._stopping.is_set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def stop(self) -> None:
        self._stopping.set()

    async def work(self, held: Held[str]) -> None:
        """In a cluster: while this process has the job."""
        self._stopping = asyncio.Event()
        self._forget()
        self.status.working = True
        running = asyncio.create_task(self.run())
        try:
            await held.leaving.wait()
        finally:
            await self.stop()
            await running
            self.status.working = False

    def _forget(self) -> None:
        """Everything is read again."""
        self._revisions = self._loaded = None
        self._moment_us = None
        self._is_new = True
        self._states.clear()
        self._closing.clear()
        self._levels.forget()
        self._unread.forget()
        self._calendar.forget()

    # -- one look -----------------------------------------------------------------------------------------------
    async def look(self) -> int:
        """Decide everything up to the newest moment; how many transitions that has made."""
        started_s = perf_counter()
        self._on_step("load")
        await self._load()
        recorder = self._system.recorder
        if not self._alerts:
            if recorder.fresh is not None:
                recorder.fresh.follow("alerts", Followed())
                recorder.fresh.split(())
            self._moment_us = recorder.recorded_at_us
            self.status.looked(recorder.recorded_at_us, 0, perf_counter() - started_s)
            return 0
        if self._moment_us is None:
            self._moment_us = await self._begin()
        tick = await self._tick(self._moment_us)
        self._on_step("ask")
        findings = await self._findings(tick)
        self._on_step("decide")
        made = await self._decide(tick, findings)
        await self._say_again(tick.now_us)
        self._moment_us = tick.moment_us
        for name, detail in self._faults().items():
            _logger.info("alert_not_decided", alert=name, detail=detail)
        self.status.faults = self._faults()
        self.status.looked(tick.moment_us, made, perf_counter() - started_s)
        return made

    def _faults(self) -> dict[str, str]:
        watchers = (self._levels, self._rollings, self._silences, self._ended, self._owed)
        found = {name: detail for one in watchers for name, detail in one.faults.items()}
        return {**self._unreadable, **found}

    async def _load(self) -> None:
        """Read the alerts again where any, or what they hang on, has been changed since."""
        catalog = self._system.catalog
        revisions = await in_questions(
            self._system, lambda: (catalog.revision("alerts"), catalog.revision("meters"))
        )
        now_us = self._system.clock.now_us()
        if revisions == self._revisions and (self._raises_end_us is None or now_us < self._raises_end_us):
            return

        def read() -> tuple[_Loaded, int | None]:
            self._unreadable = {}
            armed = [self._armed(kept) for kept in self._catalog.every_alert()]
            alerts = [one for one in armed if one is not None]
            percents = [a for a in alerts if a.rule.condition.operation is Operation.PERCENT_OF_LIMIT]
            tenants = {alert.kept.tenant for alert in percents}
            limits = {tenant: limits_of(self._system, tenant, now_us=now_us) for tenant in tenants}
            return (alerts, limits), raises_end_us(self._system, tenants, now_us=now_us)

        loaded, self._raises_end_us = await in_questions(self._system, read)
        if loaded != self._loaded:  # otherwise what is known of figures and states stays good
            await self._arm(*loaded)
            self._loaded = loaded
        self._revisions = revisions

    async def _arm(self, alerts: list[Armed], limits: dict[str, tuple[WatchedLimit, ...]]) -> None:
        quiet = [a.kept.id for a in alerts if a.rule.condition.operation is Operation.SILENCE]
        names = [alert.kept.id for alert in alerts]
        firing, tracked = await in_questions(
            self._system, lambda: (self._catalog.open_states(names), self._catalog.tracked_states(quiet))
        )
        self._alerts = {alert.kept.id: alert for alert in alerts}
        editions = {alert.kept.id: alert.kept.edition for alert in alerts}
        self._states = {
            place: state
            for place, state in self._states.items()
            if self._loaded is not None and editions.get(place.alert) == place.edition
        }
        self._closing = {state.place: state for state in firing if state.place.window_start_us}
        rolling = self._levels.arm(alerts, limits)
        self._rollings.arm(alerts, rolling, firing)
        self._silences.arm(alerts, tracked)
        self._ended.arm(alerts, firing)
        self._owed.arm(alerts, limits, firing)
        self._unread.arm(alerts, firing)
        self._mutes = {alert.kept.id: alert.kept.muted_until_us or 0 for alert in alerts}
        self._meters = {one.meter.id: one.meter for one in alerts if one.meter is not None}
        self.status.alerts = len(alerts)

    def _armed(self, kept: KeptAlert) -> Armed | None:
        try:
            rule = rule_of(kept.content)
        except Invalid as error:  # as no newer version would take it: the others go on
            self._unreadable[kept.id] = error.detail
            return None
        if not rule.enabled:
            return None
        if rule.subject.meter is None:
            return Armed(kept, rule)
        try:
            meter = self._system.catalog.meter(kept.tenant, rule.subject.meter)
        except NotFound:
            return None
        return Armed(kept, rule, meter)

    async def _begin(self) -> int:
        """Where to go on: the moment that is written down; now, where nothing was ever decided."""
        progress = await in_questions(self._system, self._catalog.alert_progress)
        self._version = progress.version
        now_us = self._system.recorder.recorded_at_us
        if not progress.moment_us or not any(one.kept.begun for one in self._alerts.values()):
            return now_us
        return min(progress.moment_us, now_us)

    async def _tick(self, after_us: int) -> Tick:
        recorder = self._system.recorder
        position = token_of(recorder.position)
        moment_us = max(recorder.recorded_at_us, after_us)
        as_of = AsOf(self._system.clock.now_us(), moment_us, position)
        touched: defaultdict[int, list[TouchedUsage]] = defaultdict(list)
        unsure: frozenset[int] = frozenset()
        parts: Mapping[int, Sequence[Part]] = {}
        splits = self._levels.shared.splits
        meters = self._meters
        if self._owed.watches_everything:
            active = await in_questions(self._system, self._system.catalog.active_meters)
            meters = meters | {meter.id: meter for meter in active}
        if recorder.fresh is not None:
            recorder.fresh.follow("alerts", Followed(frozenset(meters)))
            recorder.fresh.split(splits)
        if moment_us > after_us and meters:
            news, is_fresh = await self._news(after_us, moment_us, meters)
            for row in news.usage:
                touched[row.meter].append(row)
            unsure = news.unsure
            if is_fresh and recorder.fresh is not None:
                parts = recorder.fresh.parts_between(after_us, moment_us, splits)
        tick = Tick(self._system, as_of, after_us, touched, unsure, parts)
        self._owed.touch(tick, {meter.id: meter.tenant for meter in meters.values()})
        return tick

    async def _news(self, after_us: int, until_us: int, meters: Mapping[int, Meter]) -> tuple[News, bool]:
        """From memory where this process has recorded it all (True), otherwise from the store."""
        fresh = self._system.recorder.fresh
        news = None if fresh is None else fresh.between(after_us, until_us, Followed(frozenset(meters)))
        if news is None:
            news = await recorded_between(self._system, after_us, until_us, meters=meters.values())
            return news, False
        unsure = unsure_between(self._system, after_us, until_us, meters.values())
        return replace(news, unsure=news.unsure | unsure), True

    async def _findings(self, tick: Tick) -> list[Finding]:
        found: list[Finding] = []
        for watcher in (
            self._levels,
            self._rollings,
            self._silences,
            self._ended,
            self._owed,
            self._unread,
        ):
            found += await watcher.look(tick)
        return found

    async def _decide(self, tick: Tick, findings: Sequence[Finding]) -> int:
        """Decide what was found and what is over, and write it down; how many transitions that has made."""
        over = [
            state
            for state in self._closing.values()
            if state.window_end_us is not None and state.window_end_us + SETTLE_US <= tick.now_us
        ]
        await self._read_states({finding.place for finding in findings})
        moves: list[Move] = []
        results: list[tuple[Finding, KeptState]] = []
        seen: set[StatePlace] = set()
        for finding in findings:
            before = self._state(finding.place)
            move = None if finding.place in seen else decided(finding, before, tick.as_of)
            seen.add(finding.place)
            if move is not None:
                moves.append(move)
            results.append((finding, before if move is None else move.state))
        for state in over:
            alert = self._alerts.get(state.place.alert)
            if alert is not None and state.place not in seen:
                move = ended(_of_window(alert, state), state, tick.as_of)
                moves += [move] if move is not None else []
        await self._write(tick, moves)
        for watcher in (
            self._levels,
            self._rollings,
            self._silences,
            self._ended,
            self._owed,
            self._unread,
        ):
            watcher.settled(results)
        return sum(len(move.transitions) for move in moves)

    def _state(self, place: StatePlace) -> KeptState:
        return self._states.get(place) or KeptState(place)

    async def _read_states(self, places: set[StatePlace]) -> None:
        if len(self._states) + len(places) > _STATES_KEPT_MAX:
            self._states.clear()
        unknown = [place for place in places if place not in self._states]
        if unknown:
            found = await in_questions(self._system, lambda: self._catalog.states_at(unknown))
            for place in unknown:
                self._states[place] = found.get(place) or KeptState(place)

    async def _write(self, tick: Tick, moves: list[Move]) -> None:
        begun = [(one.kept.id, one.kept.edition) for one in self._alerts.values() if not one.kept.begun]
        judged = list(self._ended.judged.items())
        since_us = self._owed.since_us
        moment_us = tick.moment_us if since_us is None else min(tick.moment_us, since_us)
        if not moves and not begun and not judged and abs(tick.now_us - self._saved_us) < _SAVE_US:
            return
        if not moves and not begun and not judged and tick.moment_us == tick.after_us:
            return
        self._on_step("write")
        parts = [moves[at : at + MOVES_AT_ONCE] for at in range(0, len(moves), MOVES_AT_ONCE)] or [[]]
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            # The moment moves with the last part: what comes before it is decided again after a crash, to no effect.
            step = Advance(
                part,
                begun=begun if is_last else (),
                judged=judged if is_last else (),
                moment_us=moment_us if is_last else None,
            )
            version = self._version
            self._version = await in_questions(
                self._system,
                lambda step=step, version=version: self._catalog.advance_alerts(
                    version, step, now_us=tick.now_us
                ),
            )
            self._note(part)
        self._saved_us = tick.now_us
        if begun:
            # No change of configuration: the revision stays, and what is kept here is put right here.
            self._revisions = None
        self._on_step("written")

    def _note(self, moves: Sequence[Move]) -> None:
        """What the catalog holds from now on."""
        for move in moves:
            state = move.state
            place = state.place
            alert = self._alerts[place.alert]
            muted = self._mutes.get(alert.kept.id, 0) > self._system.clock.now_us()
            said = state.said_level if muted or not move.transitions else 0 if state.closed else state.level
            written = replace(state, version=state.version + 1, said_level=said)
            self._states[place] = written
            if place.window_start_us and written.firing:
                self._closing[place] = written
            else:
                self._closing.pop(place, None)

    async def _say_again(self, now_us: int) -> None:
        """Tell what was kept quiet while an alert was muted, once it is not any more."""
        ends = [name for name, until_us in self._mutes.items() if until_us <= now_us]
        for name in ends:
            self._mutes.pop(name)
        if not ends:
            return
        states = await in_questions(self._system, lambda: self._catalog.unsaid_states(ends))
        if not states:
            return
        version = self._version
        self._version = await in_questions(
            self._system, lambda: self._catalog.say_again(version, states, now_us=now_us)
        )
        self._revisions = self._loaded = None  # versions of states have moved


def _of_window(alert: Armed, state: KeptState) -> Finding:
    """A finding that says nothing new of a state, but that its window is over."""
    place = state.place
    end_us = state.window_end_us
    window = None if end_us is None else Period(place.window_start_us, end_us)
    return Finding(
        alert=alert,
        place=place,
        condition=alert.rule.condition,
        figure=None,
        window=window,
        evidence={"value": state.value, "group": None},
    )
