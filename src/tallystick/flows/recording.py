"""What everybody but the recorder itself asks about recording: how far it is, what became of events, which readings
are complete. With one partition the recorder answers (flows/record.py); in a cluster a view of all of them does
(flows/cluster.py)."""

from dataclasses import dataclass, field
from typing import Protocol

from tallystick.flows.fresh import Fresh
from tallystick.flows.journal import Coverage
from tallystick.metering.meter import Meter
from tallystick.metering.position import Positions, Vector


@dataclass(frozen=True, slots=True)
class Lag:
    """How far recording is behind the log."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the events of one request: which rows of it are not new, from 0."""

    duplicates: list[int]
    conflicts: list[int]
    quarantined: list[int] = field(default_factory=list[int])  # new, and counting for nobody yet


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the beginning of the installation."""

    events: int
    duplicates: int
    conflicts: int


class Recording(Protocol):
    """May be asked from the event loop at any time."""

    @property
    def position(self) -> Vector:
        """Every event up to here is recorded and countable."""
        ...

    @property
    def recorded_at_us(self) -> int:
        """The last published moment: what a question is asked as of, by default. Nothing is ever recorded at or before it
        any more, in any partition."""
        ...

    @property
    def published(self) -> tuple[int, Vector | None]:
        """The last published moment, and exactly what was recorded by then: everything up to this position, and nothing
        behind it. None: that is not known here (several partitions); the store tells of each position."""
        ...

    @property
    def fresh(self) -> Fresh | None:
        """What was recorded just now, in memory. None: other processes record too, and the store has to be asked."""
        ...

    @property
    def totals(self) -> Totals: ...

    @property
    def generation(self) -> int:
        """Changes whenever readings are taken out of service."""
        ...

    @property
    def readings_expected(self) -> int:
        """Rows that are certainly in `readings` now, if nobody took any away."""
        ...

    @property
    def recovered(self) -> bool:
        """Whether events can be decided."""
        ...

    @property
    def fault(self) -> str | None:
        """Why recording does not get on at the moment; None while it does."""
        ...

    def coverage(self) -> dict[int, Coverage]:
        """By meter id: which readings are in the store, and how many rows there must be."""
        ...

    def unbuilt(self) -> dict[int, Coverage]:
        """Meters whose past has no readings yet."""
        ...

    def readings_complete(self, meter: Meter, as_of_us: int) -> bool:
        """Whether readings of this meter answer a question asked as of this moment."""
        ...

    def forgotten_before(self, tenant: str, event_type: str) -> int | None:
        """Facts of this type from before this moment may be deleted; None: none are."""
        ...

    def lag(self) -> Lag: ...

    async def wait_for(self, position: Vector, timeout_s: float) -> bool:
        """Wait until everything up to `position` is recorded and seen by questions. False when the time ran out first."""
        ...

    async def wait_for_moment(self, after_us: int, timeout_s: float) -> int | None:
        """Wait until a moment later than `after_us` is published, and answer it. None when the time ran out first."""
        ...

    async def wait_until_migrated(self, timeout_s: float) -> bool:
        """Wait until the store's tables are as this program wants them. False when the time ran out first."""
        ...

    async def outcome(self, positions: Positions, timeout_s: float) -> Outcome | None:
        """What became of the events at these positions; None when they are not recorded in time."""
        ...

    async def statuses(self, positions: Positions, timeout_s: float) -> list[str] | None:
        """What became of the rows of an action at these positions (flows/actions.py); None when it is not carried out
        in time."""
        ...

    def want_rebuild(self) -> None:
        """Readings are missing or wrong: take them out of service and build them again. Questions are answered from
        events meanwhile."""
        ...

    def want_index_rebuild(self) -> None:
        """Throw the identity indexes away and fill new ones from the facts, before anything more is decided."""
        ...
