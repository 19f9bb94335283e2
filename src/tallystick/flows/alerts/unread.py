"""Events that count for nobody, or for no meter: how many were recorded in the window, by subject or by type.

Windows here are of the moment of recording. What a window holds is counted once from the facts when an alert is set or the
process starts, and goes on from what was recorded since: nothing is kept that could be counted twice.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tallystick.alerting.rule import EventFault, SubjectKind
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.tick import Tick
from tallystick.flows.recent import Unread, unread_between

_CHUNK_US = 3_600_000_000
"""A window is read in stretches of an hour, so that no answer is cut."""
_ROLLING_STEP_US = 60_000_000


@dataclass(slots=True)
class _Counting:
    alert: Armed
    period: Period | None = None
    upto_us: int = 0
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    by_minute: dict[int, defaultdict[str, int]] = field(default_factory=dict[int, defaultdict[str, int]])
    """Of a rolling window, which forgets by the minute."""


class UnreadEvents:
    """See above."""

    def __init__(self) -> None:
        self._all: list[_Counting] = []

    def arm(self, alerts: Sequence[Armed], firing: Sequence[KeptState]) -> None:
        before = {one.alert.kept.id: one for one in self._all}
        self._all = []
        for alert in alerts:
            if alert.rule.subject.kind is SubjectKind.EVENTS:
                known = before.get(alert.kept.id)
                if known is not None and known.alert.kept.edition == alert.kept.edition:
                    known.alert = alert
                    self._all.append(known)
                else:
                    self._all.append(_Counting(alert))
        del firing  # what fires is asked for with every look anyway

    def forget(self) -> None:
        """Count again from the facts."""
        self._all = [_Counting(one.alert) for one in self._all]

    async def look(self, tick: Tick) -> list[Finding]:
        """What has been counted since."""
        if not self._all:
            return []
        news = await unread_between(tick.system, tick.after_us, tick.moment_us)
        found: list[Finding] = []
        for one in self._all:
            found += await self._count(tick, one, news)
        return found

    async def _count(self, tick: Tick, one: _Counting, news: Unread) -> list[Finding]:
        window = one.alert.rule.window
        assert window is not None  # the rule sees to it
        zone = one.alert.rule.timezone or "UTC"
        rolling = window.length_us is not None
        period = window.at(max(tick.now_us, tick.moment_us), zone)
        touched: set[str] = set()
        if one.upto_us != tick.after_us or (not rolling and period != one.period):
            # Begun, begun again, or a new window: what of it is recorded already.
            kept = one.period is not None and rolling
            begin_us = period.from_us - 1 if not kept else one.upto_us
            if not kept:
                one.counts.clear()
                one.by_minute.clear()
            at_us = begin_us
            while at_us < tick.moment_us:
                until_us = min(at_us + _CHUNK_US, tick.moment_us)
                touched |= self._add(one, await unread_between(tick.system, at_us, until_us), rolling)
                at_us = until_us
        else:
            touched |= self._add(one, news, rolling)
        one.period, one.upto_us = period, tick.moment_us
        if rolling:
            touched |= self._drop(one, period.from_us)
        return [count_finding(one.alert, name, one.counts[name], period) for name in sorted(touched)]

    @staticmethod
    def _add(one: _Counting, news: Unread, rolling: bool) -> set[str]:
        found = counted(one.alert, news)
        for name, events in found.items():
            one.counts[name] += events
            if rolling:
                minute = news.until_us // _ROLLING_STEP_US
                one.by_minute.setdefault(minute, defaultdict(int))[name] += events
        return set(found)

    @staticmethod
    def _drop(one: _Counting, from_us: int) -> set[str]:
        names: set[str] = set()
        for minute in [one_ for one_ in one.by_minute if (one_ + 1) * _ROLLING_STEP_US <= from_us]:
            for name, events in one.by_minute.pop(minute).items():
                one.counts[name] -= events
                names.add(name)
        return names

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """Nothing is remembered of states."""


def counted(alert: Armed, news: Unread) -> dict[str, int]:
    """Events by subject (of nobody) or by type (of no meter), of the alert's tenant."""
    unknown = alert.rule.subject.fault is EventFault.UNKNOWN_CUSTOMER
    made: defaultdict[str, int] = defaultdict(int)
    for row in news.unknown if unknown else news.unmetered:
        if row.tenant == alert.kept.tenant:
            made[(row.subject_of_nobody or "") if unknown else row.type] += row.events
    return dict(made)


def count_finding(alert: Armed, name: str, events: int, period: Period) -> Finding:
    """How many there were, of one subject or type."""
    assert alert.rule.window is not None  # the rule sees to it
    rolling = alert.rule.window.length_us is not None
    unknown = alert.rule.subject.fault is EventFault.UNKNOWN_CUSTOMER
    return Finding(
        alert=alert,
        place=alert.place("", window_start_us=0 if rolling else period.from_us, scope=name),
        condition=alert.rule.condition,
        figure=Decimal(events),
        window=period,
        evidence={"value": str(events), "subject" if unknown else "type": name},
    )
