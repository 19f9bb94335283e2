"""Figures that go on while nothing is recorded: the area under a level that holds, a start that its timeout closes.

Nobody is asked about all the time. Of everybody it is asked, every minute to ten minutes (a sixtieth of the window), where his
figure will be by then if nothing else comes (usage up to a moment still to come); and of those alone who change something
by then it is asked again, when they get there. A window that ends is decided with its last figure, also when it ended while
nobody looked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from tallystick.alerting.window import AlertWindow
from tallystick.billing.period import Period
from tallystick.flows.alerts.figures import Scopes
from tallystick.flows.alerts.tick import has_come
from tallystick.flows.alerts.watched import Known, within
from tallystick.money import ZERO, exactly, quotient

SWEEP_US_MIN, SWEEP_US_MAX = 60_000_000, 600_000_000
AGAIN_US = 5_000_000
"""Whoever is near is asked this often: his pace may change by itself, when one of his levels times out."""
WINDOWS_MAX = 100
"""That have ended since the last sweep, a zone; of more (after an outage) the last ones."""


@dataclass(slots=True)
class Drift:
    """Of one question. `done_us`: windows that were over by then are decided; None: nothing is. `sweep_us`: when everybody is
    asked for next. `near`: who reaches something before that, and when."""

    done_us: int | None = None
    sweep_us: int = 0
    near: dict[tuple[Period, str], int] = field(default_factory=dict[tuple[Period, str], int])

    def is_due(self, now_us: int) -> bool:
        return self.sweeps(now_us) or any(at_us <= now_us for at_us in self.near.values())

    def sweeps(self, now_us: int) -> bool:
        """Whether everybody is to be asked."""
        return has_come(self.sweep_us, now_us, SWEEP_US_MAX)

    def begin_sweep(self, now_us: int, length_us: int) -> None:
        """Everybody is asked now. `length_us`: of the window."""
        self.sweep_us = now_us + min(max(length_us // 60, SWEEP_US_MIN), SWEEP_US_MAX)
        self.near.clear()

    def take(self, now_us: int) -> list[tuple[Period, str]]:
        """Who is there by now."""
        made = [key for key, at_us in self.near.items() if at_us <= now_us]
        for key in made:
            del self.near[key]
        return made

    def reach(self, now_us: int, periods: Iterable[Period]) -> None:
        """A new window begins for everybody in it: not later than the first of these ends, all are asked."""
        self.sweep_us = min((self.sweep_us, *(one.to_us for one in periods if one.to_us > now_us)))

    def look_ahead(
        self, now_us: int, until_us: int, customer: str, *, known: Known, then: Scopes, base: Scopes | None
    ) -> None:
        """Note when a customer reaches something, given its figures at a moment to come. `base`: of the window before."""
        present = known.by_customer.get(customer, {})
        for scope, value in then.items():
            quiet = known.quiet_beside((customer, scope), None if base is None else base.get(scope))
            before = present.get(scope) or ZERO
            if value is None or value == before or (quiet is not None and within(value, quiet)):
                continue
            at_us = now_us + AGAIN_US
            if quiet is not None:
                least, above = quiet
                bound = above if above is not None and value >= above else least
                at_us = min(at_us, now_us + _way_us(before, value, bound, until_us - now_us))
            key = known.period, customer
            self.near[key] = min(at_us, self.near.get(key, at_us))


@exactly
def _way_us(before: Decimal, then: Decimal, bound: Decimal | None, length_us: int) -> int:
    """How long it takes to a figure at an even pace; a microsecond at least."""
    if bound is None or then == before:
        return 1
    return max(int(quotient((bound - before) * length_us, then - before)) + 1, 1)


def ended_windows(window: AlertWindow, zone: str, done_us: int, now_us: int) -> Iterator[Period]:
    """Those that were open at one moment and are over at another; of many the last ones."""
    made: list[Period] = []
    period = window.before(window.at(now_us, zone), zone)
    while period.to_us > done_us and len(made) < WINDOWS_MAX:
        made.append(period)
        period = window.before(period, zone)
    return reversed(made)
