"""Silence: of everybody who has used something, whether there still comes something.

Who is listened to stands in the catalog (a state that does not fire is written, too), so that nobody is forgotten by a
restart or an outage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tallystick.alerting.rule import ANY, Operation
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.errors import Invalid
from tallystick.flows.alerts.figures import Measured, figures
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.tick import Tick, has_come
from tallystick.metering.instant import instant_text
from tallystick.metering.meter import Aggregation, Meter
from tallystick.money import ZERO, plain

_DAY_US = 86_400_000_000
ACTIVE_DAYS = 30
"""Who has used something for so long before the alert was set is listened to from the beginning."""


@dataclass(slots=True)
class _Listening:
    """`heard`: when each customer's last event happened, as far as that is known."""

    alert: Armed
    heard: dict[str, int | None] = field(default_factory=dict[str, int | None])
    firing: set[str] = field(default_factory=set[str])
    due_us: int = 0

    @property
    def length_us(self) -> int:
        return int(self.alert.rule.condition.steps[0]) * 1_000_000


class Silences:
    """See above."""

    def __init__(self) -> None:
        self._all: dict[str, _Listening] = {}
        self.faults: dict[str, str] = {}

    @property
    def meters(self) -> set[int]:
        return {one.alert.meter.id for one in self._all.values() if one.alert.meter is not None}

    def arm(self, alerts: Sequence[Armed], tracked: Sequence[KeptState]) -> None:
        """`tracked`: every state of these alerts."""
        self._all = {
            alert.kept.id: _Listening(alert)
            for alert in alerts
            if alert.rule.condition.operation is Operation.SILENCE and alert.meter is not None
        }
        for state in tracked:
            one = self._all.get(state.place.alert)
            if one is not None:
                one.heard[state.place.customer] = None
                if state.firing:
                    one.firing.add(state.place.customer)

    async def look(self, tick: Tick) -> list[Finding]:
        """Who is heard again, and who is not any more."""
        found: list[Finding] = []
        self.faults = {}
        for one in self._all.values():
            try:
                found += await self._listen(tick, one)
            except Invalid as error:
                self.faults[one.alert.kept.id] = error.detail
        return found

    async def _listen(self, tick: Tick, one: _Listening) -> list[Finding]:
        rule, meter = one.alert.rule, one.alert.meter
        assert meter is not None
        measured = heard_of(meter, rule.filter)
        names = None if rule.customer == ANY else {rule.customer}
        made: list[Finding] = []
        if not one.alert.kept.begun:
            about = Period(tick.now_us + 1 - ACTIVE_DAYS * _DAY_US, tick.now_us + 1)
            active = await figures(tick.system, measured, about, names, tick.moment_us, now_us=tick.now_us)
            for customer in sorted({*active, *(names or ())}):
                one.heard.setdefault(customer, None)
                made.append(self._finding(tick, one, customer, ZERO))
        every_us = min(max(one.length_us // 60, 1_000_000), 60_000_000)
        is_due = has_come(one.due_us, tick.now_us, every_us)
        heard: set[str] = set()
        # With a filter, what was recorded need not be of it.
        if rule.filter is None:
            for row in tick.rows(meter.id, names):
                known = one.heard.get(row.customer)
                one.heard[row.customer] = max(known or 0, min(row.latest_us, tick.now_us))
                if known is None or row.customer in one.firing:
                    heard.add(row.customer)
        else:
            heard |= {row.customer for row in tick.rows(meter.id, names)}
        late = {
            customer
            for customer, at_us in one.heard.items()
            if at_us is None or at_us + one.length_us <= tick.now_us
        }
        asked = heard | (late if is_due else set())
        if is_due:
            one.due_us = tick.now_us + every_us
        if not asked:
            return made
        period = Period(tick.now_us + 1 - one.length_us, tick.now_us + 1)
        present = await figures(tick.system, measured, period, asked, tick.moment_us, now_us=tick.now_us)
        for customer in sorted(asked):
            if customer in present:
                if customer in heard or customer in one.firing:
                    one.heard.setdefault(customer, None)
                    made.append(self._finding(tick, one, customer, ZERO))
            elif customer in one.heard:
                at_us = one.heard[customer]
                silent_us = one.length_us if at_us is None else max(tick.now_us - at_us, one.length_us)
                made.append(self._finding(tick, one, customer, Decimal(silent_us // 1_000_000)))
        return made

    def _finding(self, tick: Tick, one: _Listening, customer: str, seconds: Decimal) -> Finding:
        at_us = one.heard.get(customer)
        return Finding(
            alert=one.alert,
            place=one.alert.place(customer),
            condition=one.alert.rule.condition,
            figure=seconds,
            window=Period(tick.now_us + 1 - one.length_us, tick.now_us + 1),
            keep=True,
            evidence={
                "value": plain(seconds),
                "last_event_at": None if at_us is None else instant_text(at_us),
            },
        )

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """Remember who is silent."""
        for finding, state in results:
            one = self._all.get(finding.place.alert)
            if one is not None:
                (one.firing.add if state.firing else one.firing.discard)(finding.place.customer)


def heard_of(meter: Meter, filter_text: str | None) -> Measured:
    """What says whether a customer is heard. A level that holds is no event, and a start is one before it has stopped."""
    of_events = meter.aggregation in (Aggregation.TIME_WEIGHTED, Aggregation.DURATION)
    return Measured(meter, filter_text, of_events=of_events)
