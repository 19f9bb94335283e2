"""Facts and derived data, and the questions they answer. Speaks the field, never SQL.

Owns: `events`, `duplicates`, `conflicts`, `corrections` (facts), `staged` (events of open backfills) and `readings`,
`rollups` (derived). Does not own: who is right (the recorder decides that before anything gets here), definitions
(catalog).

An event's content lives in versions, each named by a position: the one it was recorded with, and those that `replace`
corrections put in its place. A correction supersedes the version that counted until then: `retract` leaves none,
`replace` makes the next one (and restores an event that was retracted). As of a moment T those versions count that were
recorded at or before T and not superseded at or before T.

All calls are synchronous and may be made from any thread. Inserts carry a deduplication token: the same token with the
same rows a second time changes nothing, which makes an insert whose outcome is unknown safe to repeat. Facts are synced
to disk before an insert returns.

Nothing is visible to a question before its `recorded_at` is at or under the `as_of_us` it is asked with. The recorder
publishes a moment only after all rows of that moment are in, so that a question never sees half a batch.

Every call raises errors.Unavailable when the store cannot be reached or refuses.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Literal, Protocol

import msgspec
import pyarrow as pa

from tallystick.metering.event import RECORDED_SCHEMA, TIMESTAMP
from tallystick.metering.meter import Meter
from tallystick.metering.query import UsageExtent, UsageQuery, UsageRow

STORED_SCHEMA = pa.schema(
    [field for field in RECORDED_SCHEMA if field.name not in {"identity", "content", "action", "note"}]
)
"""RECORDED_SCHEMA without identity, content, action and note: what is kept of an event."""

VERSION_SCHEMA = STORED_SCHEMA.append(pa.field("original", pa.uint64(), nullable=False)).append(
    pa.field("superseded_at", TIMESTAMP)
)
"""A version of an event. `position` names it (that of the event, or of the correction that made it), `original` is that
of the event; `recorded_at` is when it began to count; `superseded_at` is when it ceased to, null while it counts."""

CHANGE_SCHEMA = STORED_SCHEMA.append(pa.field("original", pa.uint64(), nullable=False)).append(
    pa.field("sign", pa.int8(), nullable=False)
)
"""A version of an event that began to count (sign 1) or ceased to (sign -1), `recorded_at` that moment. Of a version at most
one row of each: summed by sign, the changes up to a moment are what counts as of it."""

ChangeOrder = Literal["hour", "date", "none"]
"""By which part of the time (UTC) changes come together."""

CORRECTION_SCHEMA = pa.schema(
    [
        pa.field("original", pa.uint64(), nullable=False),  # position of the recorded event it cites
        pa.field("superseded", pa.uint64(), nullable=False),  # of the version it ends; 0: none was left
        pa.field("action", pa.string(), nullable=False),  # "retract" or "replace"
        pa.field("reason", pa.string(), nullable=False),
        pa.field("author", pa.string(), nullable=False),
        pa.field("backfill", pa.string(), nullable=False),  # "": of none
        *STORED_SCHEMA,
    ]
)
"""A correction; `position` is its own. The columns of STORED_SCHEMA hold the new version of a `replace`; of a `retract`
only tenant, source, id, received_at, position and recorded_at mean anything."""

STAGED_SCHEMA = RECORDED_SCHEMA.append(pa.field("backfill", pa.string(), nullable=False))
"""An event of an open backfill."""

FORGOTTEN_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("identity", pa.binary(16), nullable=False),
        pa.field("content", pa.uint32(), nullable=False),  # as the identity index holds it
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("recorded_at", TIMESTAMP, nullable=False),  # of the event
    ]
)
"""What is kept of an event that retention has deleted: enough to know it for ever."""

IDENTITY_SCHEMA = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("rest", pa.uint32(), nullable=False),
        pa.field("content", pa.uint32(), nullable=False),
        pa.field("position", pa.uint64(), nullable=False),
    ]
)
"""An entry of an identity index (identity/entries.py, where `rest` is `check`)."""

FACTS: Mapping[str, pa.Schema] = {
    "events": STORED_SCHEMA.append(pa.field("backfill", pa.string(), nullable=False)),
    "duplicates": pa.schema(
        [
            *(
                STORED_SCHEMA.field(name)
                for name in ("tenant", "source", "id", "received_at", "recorded_at", "position")
            ),
            pa.field("original", pa.uint64(), nullable=False),
        ]
    ),
    "conflicts": STORED_SCHEMA.append(pa.field("original", pa.uint64(), nullable=False)),
    "corrections": CORRECTION_SCHEMA,
    "staged": STAGED_SCHEMA,
    "forgotten": FORGOTTEN_SCHEMA,
}
"""Every table of facts with all it holds: what a backup must have. All else can be made again from these."""

STAGED_BLOCK_ROWS = 100_000


class DerivedMissing(Exception):
    """A table of derived data is not there. The question can be answered from events; `migrate` makes the table again."""


class FencedOff(Exception):
    """Another recorder has taken the partition over: nothing of this call was written, and nothing will be."""


EventStatus = Literal["recorded", "current", "conflict", "retracted"]
"""`recorded`: every event, as it was recorded, whatever became of it; `current`: the versions that count, each under its
own position; `retracted`: events no version is left of."""


@dataclass(frozen=True, slots=True)
class EventSearch:
    """Which events to list, highest position first. None: any. Times are half-open, in event time."""

    tenant: str
    source: str | None = None
    id: str | None = None
    types: tuple[str, ...] | None = None
    types_excluded: tuple[str, ...] = ()
    customers: tuple[str, ...] | None = None
    subjects: tuple[str, ...] | None = None
    belonging: tuple[tuple[str, ...], tuple[str, ...]] | None = (
        None  # of these customers, or about these subjects
    )
    from_us: int | None = None
    to_us: int | None = None
    status: EventStatus = "recorded"
    partition: int | None = None
    before_position: int | None = None
    as_of_us: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was recorded (or kept as a conflict), or a later version of it."""

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
    backfill: str = ""  # that it came with
    original: int | None = None  # of a version made by a correction: position of the event
    retracted: bool = False  # no version of the event counts


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction, as a fact. `made` is the version a `replace` put in place."""

    position: int
    original: int
    superseded: int
    action: Literal["retract", "replace"]
    reason: str
    author: str
    backfill: str
    recorded_at_us: int
    made: StoredEvent | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A subject that belongs to nobody, and how many events wait for it to belong to somebody."""

    tenant: str
    subject: str
    events: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """A duplicate of a recorded event: seen again, not counted."""

    position: int
    received_at_us: int
    recorded_at_us: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What goes with a range of forgotten events; `readings` by meter id."""

    events: int
    duplicates: int
    conflicts: int
    readings: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class KeptIdentities:
    """So many, with positions between these two (both inclusive; 0 of none). `rows` answers them: IDENTITY_SCHEMA, sorted by
    `key`, in blocks."""

    count: int
    position_min: int
    position_max: int
    rows: Callable[[], Iterator[pa.RecordBatch]]


PartSpan = Literal["day", "month"]
PART_SPANS: tuple[PartSpan, ...] = ("day", "month")


@dataclass(frozen=True, slots=True)
class EventPart:
    """A day or month (UTC) that versions of events lie in: [from_us, to_us) of event time. `events` count; at
    `changed_at_us` the latest version in it was recorded, or superseded."""

    from_us: int
    to_us: int
    events: int
    changed_at_us: int


@dataclass(frozen=True, slots=True)
class FactRange:
    """The rows of a table of facts at positions number × span < p <= (number + 1) × span: how many, and a digest that
    another set of rows does not have."""

    number: int
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the facts reach: the highest position and the latest moment among all facts and what is staged; 0 for
    none. They need not belong together: a backfill's events are recorded late, under early positions."""

    position: int
    recorded_at_us: int


class RollupView(Enum):
    """What the spans of a roll-up are divided by; its value is the name of its table. Each is kept where it shrinks: many
    customers with many dimensions are as many groups as readings, when either of the two alone is few."""

    WHOLE = "rollups"
    """Customer and all dimensions."""
    CUSTOMERS = "rollups_customers"
    """Customer alone."""
    DIMENSIONS = "rollups_dimensions"
    """All dimensions alone, of all customers together."""


@dataclass(frozen=True, slots=True)
class RollupChunk:
    """Whole hours [from_us, to_us) of event time, with about so many readings to roll up."""

    from_us: int
    to_us: int
    readings: int


@dataclass(frozen=True, slots=True)
class RollupPlan:
    """What rolling up a range of moments takes: chunks of bounded size, and how many rows of readings go in, by meter."""

    chunks: tuple[RollupChunk, ...]
    readings: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Derived:
    """Readings of one meter that the store derives itself: `rows` of them, once `insert` is called. Not safe to repeat."""

    meter: Meter
    rows: int
    insert: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Underived:
    """Versions of events (VERSION_SCHEMA) whose readings of these meters the caller derives."""

    meters: tuple[Meter, ...]
    versions: pa.Table


@dataclass(frozen=True, slots=True)
class TypeTotals:
    """What `explain` needs to know of the events of one type in a range."""

    events: int
    first_us: int | None
    last_us: int | None


class TouchedUsage(msgspec.Struct, frozen=True, gc=False):
    """What was recorded of one customer for one meter version between two moments. `readings` counts rows, also those that
    take something back; `total` is the sum of their values by sign (of count: how many; of meters that do neither sum
    nor count it means nothing)."""

    tenant: str
    meter: int  # Meter.id
    customer: str
    earliest_us: int  # event time
    latest_us: int
    readings: int
    total: Decimal


@dataclass(frozen=True, slots=True)
class TouchedFacts:
    """New events of one type recorded between two moments: of all customers together, or of one subject that belongs to
    nobody."""

    tenant: str
    type: str
    subject_of_nobody: str | None
    events: int
    earliest_us: int  # event time
    latest_us: int


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

    def partition(self, number: int, *, epoch: int) -> "Store":
        """The same store as the recorder of one partition (of several) sees it, having taken it over with this epoch.
        Called again with a higher epoch, by whatever process, it makes every insert and deletion through the one before
        raise FencedOff and change nothing, also one that is already on its way to the store.

        `reached`, `counts`, `reading_counts`, `identities`, `forgotten`, `expired`, `events_of`, `derivations`, `corrections_made`,
        `staged`, `staged_count` answer of this partition's rows alone; `delete_readings`, `delete_moment` and
        `delete_staged` delete no others. A row's partition is that of its position. All else is as it was. `close`
        does nothing: the connections are those of the store this was called on. Raises FencedOff when there is a
        later epoch."""
        ...

    # -- facts in (pa.Table of RECORDED_SCHEMA; identity, content, action and note may be absent) -----------------
    def insert_events(self, events: pa.Table, *, token: str) -> None:
        """New events. May have a column `backfill` (string, "" for none)."""
        ...

    def insert_duplicates(self, duplicates: pa.Table, *, token: str) -> None:
        """Duplicates: RECORDED_SCHEMA and `original` (uint64, the position of the recorded event). Data is not kept."""
        ...

    def insert_conflicts(self, conflicts: pa.Table, *, token: str) -> None:
        """Conflicts: RECORDED_SCHEMA and `original`; everything of the event is kept."""
        ...

    def insert_corrections(self, corrections: pa.Table, *, token: str) -> None:
        """Corrections: CORRECTION_SCHEMA."""
        ...

    def insert_staged(self, staged: pa.Table, *, token: str) -> None:
        """Events of open backfills: STAGED_SCHEMA."""
        ...

    def staged(self, tenant: str, backfill: str, *, after: int = 0) -> Iterator[pa.RecordBatch]:
        """What is staged for a backfill, behind position `after`, by position, in blocks of STAGED_BLOCK_ROWS (the last
        may be smaller): the same blocks each time, so that what is made of them may be repeated. STAGED_SCHEMA."""
        ...

    def staged_count(self, tenant: str, backfill: str) -> int: ...

    def delete_staged(self, tenant: str, backfill: str) -> None:
        """Forget what is staged for a backfill, waiting until it is gone."""
        ...

    def delete_moment(self, recorded_at_us: int) -> None:
        """Delete every row of events, duplicates, conflicts, corrections, staged events and readings that was recorded
        at this moment, waiting until they are gone, and forget their tokens. Only for a moment that was never published:
        what a crash left half done."""
        ...

    def rows_at_moment(self, recorded_at_us: int) -> dict[str, int]:
        """How many rows of events, duplicates, conflicts, corrections, staged events and readings were recorded at this
        moment, by table: for whoever repeats a batch. A killed engine can remember the token of rows it never got to
        keep (decision 0049), so that what was repeated must be counted."""
        ...

    def reached(self) -> Reached:
        """How far the facts reach. For a recorder that has lost its journal: reads a column or two in full."""
        ...

    # -- facts out -----------------------------------------------------------------------------------------------
    def identities(self, *, after: int, through: int) -> Iterator[pa.RecordBatch]:
        """tenant, source, id, type, subject, data, position of every recorded event with after < position <= through,
        in blocks, in no stated order: what the identity index is rebuilt from."""
        ...

    def events_at(self, positions: Sequence[int]) -> pa.Table:
        """position, type, subject, data, customer of the recorded events at these positions, in no stated order: for
        telling conflicts apart, and for what a repeated batch was recorded as."""
        ...

    def repeats_at(self, positions: Sequence[int]) -> tuple[list[int], list[int]]:
        """Which of these positions are duplicates, and which conflicts, in no stated order."""
        ...

    def moments_of(self, positions: Sequence[int]) -> dict[int, int]:
        """When what lies at these positions was recorded, be it new, a duplicate or a conflict; what is not yet recorded is
        absent."""
        ...

    def events_of(
        self,
        tenant: str,
        types: Sequence[str] | None,
        *,
        from_us: int | None = None,
        to_us: int | None = None,
        customers: Sequence[str] | None = None,
        after: int = 0,
        through: int | None = None,
        as_of_us: int | None = None,
        recorded_by_us: int | None = None,
        backfill: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Versions of events of these types (None: all) in blocks of at most 100,000 rows, in no stated order:
        VERSION_SCHEMA. What readings are derived from.

        With `as_of_us` only those that count as of then (superseded_at is null in all of them). Without, all there ever
        were: a build makes a reading at recorded_at of each, and one that takes it back at superseded_at.

        `after` and `through` bound the position. What came behind `through`, or was recorded after `recorded_by_us`, is
        as if it had not happened: a version superseded only then has a superseded_at of null. `backfill`: only versions
        that this one made. Bounded in memory, whatever the number of corrections."""
        ...

    def changes(
        self,
        tenant: str,
        types: Sequence[str] | None,
        *,
        after_us: int,
        until_us: int,
        order: ChangeOrder,
    ) -> Iterator[pa.RecordBatch]:
        """What became of versions of events of these types (None: all) with after_us < moment <= until_us, in blocks:
        CHANGE_SCHEMA. First what began to count, then what ceased to; each by hour or day of its time, then by position,
        so that the same question has the same answer in the same order. To be asked of published moments."""
        ...

    def has_changes(self, tenant: str, types: Sequence[str] | None, *, after_us: int, until_us: int) -> bool:
        """Whether `changes` may have any row. Cheap; not sure where there were corrections of other types alone."""
        ...

    def versions_of(
        self, originals: Sequence[int], *, through: int | None = None, recorded_by_us: int | None = None
    ) -> pa.Table:
        """All versions of the events at these positions: VERSION_SCHEMA, by original, then in the order they began to
        count. At most one of an event has a superseded_at of null: the current one.
        `through`, `recorded_by_us`: as for events_of."""
        ...

    def corrections_made(
        self, tenant: str, backfill: str, *, recorded_by_us: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The corrections a backfill made, in blocks, in no stated order: CORRECTION_SCHEMA. What a revert undoes."""
        ...

    def search(self, search: EventSearch) -> list[StoredEvent]: ...

    def events_recorded(
        self,
        tenant: str,
        *,
        after: tuple[int, int],
        until_us: int,
        types: Sequence[str] | None,
        customers: Sequence[str] | None,
        limit: int,
    ) -> list[StoredEvent]:
        """Events as they were recorded, in the order of recording: behind `after` (moment of recording, position) and up
        to the moment `until_us`. None: any."""
        ...

    def quarantined(self, *, as_of_us: int, limit: int) -> list[Quarantined]:
        """The subjects of all tenants that versions of nobody (customer "") name, among those that count as of then; most
        events first."""
        ...

    def lookup(
        self, tenant: str, source: str, event_id: str, *, as_of_us: int | None = None, as_sent: bool = False
    ) -> StoredEvent | None:
        """The event with this identity: its current version, or when it is retracted the last one there was, with
        `retracted` set. `as_sent`: as it was recorded, whatever corrections came."""
        ...

    def corrections_of(
        self, tenant: str, source: str, event_id: str, *, limit: int, as_of_us: int | None = None
    ) -> tuple[int, list[Correction]]:
        """How many corrections of an event there are in all, and the latest `limit` of them, latest first."""
        ...

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
    ) -> TypeTotals:
        """Of the versions that count as of then."""
        ...

    def event_parts(
        self,
        tenant: str,
        types: Sequence[str] | None,
        *,
        span: PartSpan,
        customers: Sequence[str] | None,
        from_us: int | None,
        to_us: int | None,
        recorded_by_us: int,
    ) -> list[EventPart]:
        """The days or months that versions of such events lie in, in order. Retracted ones make a part, too."""
        ...

    def count_readings(self) -> int:
        """counts()["readings"], for whoever asks it with every question."""
        ...

    def counts(self) -> dict[str, int]:
        """Rows of events, duplicates, conflicts, corrections, staged, forgotten, readings and rollups, by table name; a missing
        table counts 0. Cheap (reads the parts' metadata): asked before and after every question that readings
        answer."""
        ...

    # -- facts as a whole ----------------------------------------------------------------------------------------
    def snapshot(self) -> str:
        """Keep all tables of FACTS as they are at this instant; the name it answers is for the three calls below. Costs
        next to nothing. Whoever calls sees to it that nothing is being inserted. Snapshots of an earlier process are
        dropped by `migrate`, as scratches are."""
        ...

    def snapshot_ranges(
        self, snapshot: str, table: str, *, recorded_by_us: int, span: int
    ) -> list[FactRange]:
        """Which ranges of positions of a table hold rows recorded at or before a moment, in order."""
        ...

    def snapshot_rows(
        self, snapshot: str, table: str, number: int, *, recorded_by_us: int, span: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one range by position, in blocks, with the table's schema in FACTS."""
        ...

    def drop_snapshot(self, snapshot: str) -> None: ...

    def insert_facts(self, table: str, rows: pa.Table, *, token: str) -> None:
        """Rows of a snapshot, into a table of FACTS: for a restore."""
        ...

    # -- retention ---------------------------------------------------------------------------------------------
    # In this order: the forgotten are inserted (insert_facts), counted, and what they name is deleted.
    def expired(
        self, tenant: str, event_type: str | None, *, before_us: int, after: int, limit: int
    ) -> Iterator[pa.RecordBatch]:
        """The first so many events behind a position of which every version is of this type and older than the limit:
        tenant, source, id, type, subject, data, position, recorded_at, by position. Without a type: all events of the
        tenant, however old."""
        ...

    def count_forgotten(self, first: int, last: int) -> Forgotten:
        """What `delete_forgotten` would delete."""
        ...

    def delete_forgotten(self, first: int, last: int) -> None:
        """Delete the events that `forgotten` names at these positions (both inclusive) with their corrections, duplicates,
        conflicts and readings, waiting until they are gone. Doing it again finishes what a crash has cut."""
        ...

    def undo_forgotten(self, first: int, last: int) -> None:
        """Take those out of `forgotten` whose events are still there."""
        ...

    def forgotten(self, *, after: int, through: int) -> Iterator[pa.RecordBatch]:
        """FORGOTTEN_SCHEMA, with after < position <= through, in no stated order: what the identity index must know
        beside `identities`."""
        ...

    # -- derived data --------------------------------------------------------------------------------------------
    def insert_identities(self, rows: pa.Table, *, through: int, token: str) -> None:
        """Rows for the copy of this partition's identity index: IDENTITY_SCHEMA. `through` is the copy they belong to: numbers
        that only grow. The same token again changes nothing."""
        ...

    def kept_identities(self, *, after: int, through: int) -> KeptIdentities:
        """What came with copies after < through' <= through."""
        ...

    def delete_identities(self, *, after: int) -> None:
        """Delete what came with copies behind `after`, waiting until it is gone."""
        ...

    def insert_readings(self, readings: pa.Table, *, token: str, into: str = "readings") -> None:
        """Readings: READING_SCHEMA. `into` names a scratch made by `scratch`."""
        ...

    def derivations(self, meters: Sequence[Meter], *, recorded_by_us: int) -> Iterator[Derived | Underived]:
        """All it takes to have the readings of these meters of one tenant, of every version there was at a moment: pieces
        that the store derives itself, and blocks of versions (a superseded one also makes a reading that takes it
        back), in no stated order. Bounded in memory."""
        ...

    def reading_counts(self, *, through: int) -> dict[int, int]:
        """Rows of readings at positions up to `through`, by meter id. A full scan: for `doctor`."""
        ...

    def delete_readings(self, meters: Sequence[int] | None) -> None:
        """Delete the readings of these meters (None: all), waiting until they are gone."""
        ...

    def scratch(self) -> str:
        """Make an empty table like readings for one question; the name it answers is for `insert_readings`, `usage`
        and `drop_scratch`. Scratches of an earlier process are dropped by `migrate` (on servers, which other processes share:
        once they are a day old); those made here stay."""
        ...

    def drop_scratch(self, name: str) -> None: ...

    # -- roll-ups: readings summed per hour, meter, customer and dimensions ---------------------------------------
    def rollup_plan(self, meters: Sequence[Meter], *, after_us: int, through_us: int) -> RollupPlan:
        """What it takes, for any view, to roll up the readings of these meters with after_us < recorded_at <= through_us."""
        ...

    def build_rollups(
        self,
        meters: Sequence[Meter],
        *,
        after_us: int,
        through_us: int,
        chunk: RollupChunk,
        token: str,
        span_hours: int = 1,
        view: RollupView = RollupView.WHOLE,
    ) -> None:
        """Roll up one chunk of a plan, in one insert, by spans of so many hours (1, or 24 for days of UTC): the readings of
        these meters (of aggregation count, sum, average, min or max) with after_us < recorded_at <= through_us. The
        same token again changes nothing. All roll-ups of one meter in one view have the same span."""
        ...

    def rolled_up(self, view: RollupView = RollupView.WHOLE) -> dict[int, tuple[int, int]]:
        """By meter id: how many rows of readings are in the roll-ups, and how many of these have sign -1. Whoever knows
        how many there must be knows whether any are missing, or more than expected. Cheap: reads what has changed
        since it was last asked."""
        ...

    def rollup_rows(self, meters: Sequence[int], view: RollupView = RollupView.WHOLE) -> Mapping[int, int]:
        """By meter id: how many rows its roll-ups have now. Some may yet be united, if they were not made in one plan."""
        ...

    def rollup_groups(self, meters: Sequence[int], view: RollupView = RollupView.WHOLE) -> Mapping[int, int]:
        """By meter id: how many rows its roll-ups come to once they are united, to about one in a hundred. Dear: for
        those whose `rollup_rows` look too many."""
        ...

    def delete_rollups(self, meters: Sequence[int] | None, view: RollupView | None = None) -> None:
        """Delete the roll-ups of these meters (None: all) in a view (None: in all of them), waiting until they are gone. Tokens are not forgotten: what
        is built again must bear new ones."""
        ...

    def usage_from_rollups(
        self,
        query: UsageQuery,
        *,
        rolled_up_to_us: int,
        rows_max: int,
        span_hours: int = 1,
        view: RollupView = RollupView.WHOLE,
    ) -> list[UsageRow] | None:
        """As `usage`, from the roll-ups of readings recorded up to `rolled_up_to_us`, and the readings these do not hold.
        None: the roll-ups of this view do not hold what is asked for. The caller must know that they are complete, before and
        after (`rolled_up`), and that as_of_us is not before `rolled_up_to_us`. Raises as `usage` does."""
        ...

    # -- what is new -------------------------------------------------------------------------------------------------
    def recorded_between(
        self, after_us: int, until_us: int, *, meters: Sequence[int] | None = None, limit: int
    ) -> list[TouchedUsage]:
        """By tenant, meter and customer: the readings with after_us < recorded_at <= until_us (of these meters; None: all).
        At most `limit` rows: as many as that mean there may be more. Raises DerivedMissing."""
        ...

    def facts_between(self, after_us: int, until_us: int, *, limit: int) -> list[TouchedFacts]:
        """By tenant and type, and where they belong to nobody by subject: the new events with after_us < recorded_at <=
        until_us. Corrections are not among them. At most `limit` rows, as above."""
        ...

    # -- questions -------------------------------------------------------------------------------------------------
    def usage(self, query: UsageQuery, *, rows_max: int, readings: str = "readings") -> list[UsageRow]:
        """Answer from readings (or a scratch). Rows ordered by window, then group (missing dimensions first); with
        `descending` set, groups by their value over the whole range. Windows without readings are absent unless
        fill_zero. Raises errors.Invalid (code too_many_rows) past rows_max, DerivedMissing when there is no table of
        readings."""
        ...

    def usage_extent(
        self, query: UsageQuery, *, rows_max: int, time_s_max: int, readings: str = "readings"
    ) -> UsageExtent:
        """How large the answer of `usage_batches` is, so that all that can be refused is refused beforehand. Raises as
        `usage` does."""
        ...

    def usage_batches(
        self, query: UsageQuery, *, rows_max: int, time_s_max: int, readings: str = "readings"
    ) -> Generator[pa.RecordBatch]:
        """The rows of `usage`, in its order, in blocks of at most 100,000, whatever their number: window_start and
        window_end (timestamps), g0 … as the question's group_by (string), value (decimal256(76, 18)). What is held in
        memory is a block here, and in the engine what one question may take. To be asked as of a moment. To close
        the iterator ends the question. Raises TimedOut when the last block is not fetched in `time_s_max`."""
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
        """Distinct values of one dimension with their number of readings (less those taken back), most frequent
        first."""
        ...
