"""Facts and derived data, and the questions they answer. Speaks the field, never SQL.

Owns: `events`, `duplicates`, `conflicts` (facts) and `readings` (derived). Does not own: who is right (the recorder
decides that before anything gets here), definitions (catalog).

All calls are synchronous and may be made from any thread. Inserts carry a deduplication token: the same token with the
same rows a second time changes nothing, which makes an insert whose outcome is unknown safe to repeat. Facts are synced
to disk before an insert returns.

Nothing is visible to a question before its `recorded_at` is at or under the `as_of_us` it is asked with. The recorder
publishes a moment only after all rows of that moment are in, so that a question never sees half a batch.

Every call raises errors.Unavailable when the store cannot be reached or refuses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from tallystick.metering.meter import Meter
from tallystick.metering.query import UsageQuery, UsageRow


class DerivedMissing(Exception):
    """A table of derived data is not there. The question can be answered from events; `migrate` makes the table again."""


EventStatus = Literal["recorded", "conflict"]


@dataclass(frozen=True, slots=True)
class EventSearch:
    """Which events to list, newest (highest position) first. None: any. Times are half-open, in event time."""

    tenant: str
    source: str | None = None
    id: str | None = None
    types: tuple[str, ...] | None = None
    types_excluded: tuple[str, ...] = ()
    customers: tuple[str, ...] | None = None
    subject: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    status: EventStatus = "recorded"
    before_position: int | None = None  # cursor
    as_of_us: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was recorded (or kept as a conflict)."""

    tenant: str
    source: str
    id: str
    type: str
    subject: str
    customer: str
    time_us: int
    time_given: bool
    received_at_us: int
    recorded_at_us: int
    position: int
    data: bytes
    attributes: bytes


@dataclass(frozen=True, slots=True)
class Repeat:
    """A duplicate of a recorded event: seen again, not counted."""

    position: int
    received_at_us: int
    recorded_at_us: int


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the facts reach: the highest position and moment among events, duplicates and conflicts; 0 for none."""

    position: int
    recorded_at_us: int


@dataclass(frozen=True, slots=True)
class TypeTotals:
    """What `explain` needs to know of the events of one type in a range."""

    events: int
    first_us: int | None
    last_us: int | None


class Store(Protocol):
    """One contract suite (tests/store/contract.py) holds for every implementation."""

    # -- keeping house ------------------------------------------------------------------------------------------
    def migrate(self) -> None:
        """Create or upgrade the tables. Idempotent; a missing derived table is made again, empty."""
        ...

    def ping(self) -> None:
        """Raise Unavailable when the store does not answer."""
        ...

    def close(self) -> None: ...

    # -- facts in (pa.Table of RECORDED_SCHEMA; identity, content, action and note may be absent) -----------------
    def insert_events(self, events: pa.Table, *, token: str) -> None: ...

    def insert_duplicates(self, duplicates: pa.Table, *, token: str) -> None:
        """Duplicates: RECORDED_SCHEMA and `original` (uint64, the position of the recorded event). Data is not kept."""
        ...

    def insert_conflicts(self, conflicts: pa.Table, *, token: str) -> None:
        """Conflicts: RECORDED_SCHEMA and `original`; everything of the event is kept."""
        ...

    def reached(self) -> Reached:
        """How far the facts reach. For a recorder that has lost its journal; cheap (metadata or a skip index)."""
        ...

    # -- facts out -----------------------------------------------------------------------------------------------
    def identities(self, *, after: int, through: int) -> Iterator[pa.RecordBatch]:
        """tenant, source, id, type, subject, data, position of every recorded event with after < position <= through,
        in blocks, in no stated order: what the identity index is rebuilt from."""
        ...

    def events_at(self, positions: Sequence[int]) -> pa.Table:
        """position, type, subject, data of the recorded events at these positions: for telling conflicts apart."""
        ...

    def events_of(
        self,
        tenant: str,
        types: Sequence[str],
        *,
        from_us: int | None = None,
        to_us: int | None = None,
        customers: Sequence[str] | None = None,
        after: int = 0,
        through: int | None = None,
        as_of_us: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Recorded events of these types in blocks of at most 100,000 rows: RECORDED_SCHEMA without identity, content,
        action and note. What readings are derived from. `after`/`through` bound the position."""
        ...

    def search(self, search: EventSearch) -> list[StoredEvent]: ...

    def lookup(self, tenant: str, source: str, event_id: str) -> StoredEvent | None: ...

    def duplicates_of(
        self, tenant: str, source: str, event_id: str, *, limit: int
    ) -> tuple[int, list[Repeat]]:
        """How many there are in all, and the latest `limit` of them."""
        ...

    def conflicts_of(
        self, tenant: str, source: str, event_id: str, *, limit: int
    ) -> tuple[int, list[StoredEvent]]: ...

    def type_totals(
        self,
        tenant: str,
        event_type: str,
        *,
        customers: Sequence[str] | None,
        from_us: int,
        to_us: int,
        as_of_us: int | None,
    ) -> TypeTotals: ...

    def counts(self) -> dict[str, int]:
        """Rows of events, duplicates, conflicts and readings, by table name; a missing table counts 0. Cheap (reads
        the parts' metadata): asked before and after every question that readings answer."""
        ...

    # -- derived data --------------------------------------------------------------------------------------------
    def insert_readings(self, readings: pa.Table, *, token: str, into: str = "readings") -> None:
        """Readings: READING_SCHEMA. `into` names a scratch made by `scratch`."""
        ...

    def reading_counts(self, *, through: int) -> dict[int, int]:
        """Rows of readings at positions up to `through`, by meter id. A full scan: for `doctor`."""
        ...

    def delete_readings(self, meters: Sequence[int] | None) -> None:
        """Delete the readings of these meters (None: all), waiting until they are gone."""
        ...

    def scratch(self) -> str:
        """Make an empty table like readings for one question; the name it answers is for `insert_readings`, `usage`
        and `drop_scratch`. Scratches of an earlier process are dropped by `migrate`."""
        ...

    def drop_scratch(self, name: str) -> None: ...

    # -- questions -------------------------------------------------------------------------------------------------
    def usage(self, query: UsageQuery, *, rows_max: int, readings: str = "readings") -> list[UsageRow]:
        """Answer from readings (or a scratch). Rows ordered by window, then group (missing dimensions first); with
        `descending` set, groups by their value over the whole range. Windows without readings are absent unless
        fill_zero. Raises errors.Invalid (code too_many_rows) past rows_max, DerivedMissing when there is no table of
        readings."""
        ...

    def dimension_values(
        self,
        meter: Meter,
        slot: int,
        *,
        customers: Sequence[str] | None,
        from_us: int,
        to_us: int,
        as_of_us: int | None,
        prefix: str,
        limit: int,
        readings: str = "readings",
    ) -> list[tuple[str | None, int]]:
        """Distinct values of one dimension with their number of readings, most frequent first."""
        ...
