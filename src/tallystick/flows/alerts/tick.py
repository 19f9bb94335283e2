"""One look of the keeper: what was recorded since the last one, and as of when everything is asked."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tallystick.catalog.alerting import KeptState
from tallystick.flows.alerts.finding import Armed, AsOf, Finding
from tallystick.flows.fresh import Part
from tallystick.flows.system import System
from tallystick.store.interface import TouchedUsage

SETTLE_US = 5_000_000
"""After its end, a window is given this long for what is still on its way."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`touched`: by meter version. `unsure`: meter versions of which anything may have been recorded. `parts`: what was touched by
    the columns that alerts look at (`Levels.splits`), of those meters of which that is in memory."""

    system: System
    as_of: AsOf
    after_us: int
    touched: Mapping[int, Sequence[TouchedUsage]] = field(default_factory=dict[int, Sequence[TouchedUsage]])
    unsure: frozenset[int] = frozenset()
    parts: Mapping[int, Sequence[Part]] = field(default_factory=dict[int, Sequence[Part]])

    @property
    def now_us(self) -> int:
        return self.as_of.now_us

    @property
    def moment_us(self) -> int:
        return self.as_of.moment_us

    def rows(self, meter: int, customers: Collection[str] | None) -> Sequence[TouchedUsage]:
        """What was recorded for a meter, of these customers (None: of all)."""
        rows = self.touched.get(meter, ())
        return rows if customers is None else [row for row in rows if row.customer in customers]


def has_come(due_us: int, now_us: int, every_us: int) -> bool:
    """Whether something that is due at a moment, and so often, is due. A clock that was put back does not hold it up."""
    return now_us >= due_us or due_us - now_us > every_us


class Watcher(Protocol):
    """What follows alerts of one kind. All calls come one after the other."""

    def arm(self, alerts: Sequence[Armed], firing: Sequence[KeptState]) -> None:
        """These are all there are from now on. Whatever was remembered is forgotten."""
        ...

    async def look(self, tick: Tick) -> list[Finding]:
        """What is to be decided now."""
        ...

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """What was decided of its findings is written down."""
        ...


def named_customers(alerts: Sequence[Armed]) -> frozenset[str] | None:
    """The customers that these alerts concern; None: any."""
    names = {one.rule.customer for one in alerts}
    return None if "*" in names else frozenset(names)
