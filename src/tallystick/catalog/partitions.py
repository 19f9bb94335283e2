"""The partitions: who records each, how far it is, and what its recorder has written down."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from msgspec import Struct, ValidationError, json
from sqlalchemy import ColumnElement, Connection, case, insert, select

from tallystick.catalog import cluster_tables, tables
from tallystick.catalog.database import Database
from tallystick.catalog.leases import LeaseLostError, LeaseTable, database_now_us
from tallystick.errors import Invalid

PARTITIONS_MAX = 64
_column = cluster_tables.partitions.c


class Progress(Struct, frozen=True):
    """What everybody may know of a partition: members of the recorder's state by the same names (flows/journal.State)."""

    recorded: int = 0  # every event of the partition up to this position is recorded
    recorded_at_us: int = 0  # everything its recorder records from now on has a later moment
    events: int = 0
    duplicates: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition. `version` grows with every save; `is_free`: nobody records it."""

    partition: int
    owner: str
    epoch: int
    is_free: bool
    version: int
    published_us: int
    recorded: int
    events: int
    duplicates: int
    conflicts: int


class Partitions(LeaseTable[int]):
    """Leases by partition, with states. Read as LeaseTable is."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, cluster_tables.partitions, _column.partition)

    def prepare(self, count: int) -> None:
        """At start: make the rows of a new installation. Raises Invalid (invalid_setting) where there are another number
        of partitions: events already lie by it."""
        if not 1 <= count <= PARTITIONS_MAX:
            raise Invalid(f"partitions must be 1 to {PARTITIONS_MAX}, not {count}.", code="invalid_setting")
        with self._database.writing() as connection:
            # The lock of every change: processes that start at once prepare one after the other.
            lock = tables.revisions.c
            connection.execute(select(lock.revision).where(lock.topic == "all").with_for_update())
            present = connection.execute(select(_column.partition)).scalars().all()
            if not present:
                nothing = {"epoch": 0, "owner": "", "until_us": 0, "version": 0, "published_us": 0}
                nothing |= {"recorded": 0, "events": 0, "duplicates": 0, "conflicts": 0}
                connection.execute(
                    insert(cluster_tables.partitions), [{"partition": n, **nothing} for n in range(count)]
                )
            elif len(present) != count:
                raise Invalid(
                    f"This installation has {len(present)} partitions, and the setting partitions says {count}. "
                    "Set it back; the number is changed by a move (tallystick migrate).",
                    code="invalid_setting",
                )

    def rows(self) -> list[Partition]:
        """All partitions, in their order, without their states. One read of a small table."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(
                    _column.partition,
                    _column.owner,
                    _column.epoch,
                    _column.until_us <= database_now_us(connection),
                    _column.version,
                    _column.published_us,
                    _column.recorded,
                    _column.events,
                    _column.duplicates,
                    _column.conflicts,
                ).order_by(_column.partition)
            )
            return [Partition(*row) for row in found]

    def states(self, partitions: Collection[int]) -> dict[int, tuple[int, bytes]]:
        """Version and state of those that have saved one."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(_column.partition, _column.version, _column.state).where(
                    _column.partition.in_(partitions), _column.state.is_not(None)
                )
            )
            return {partition: (version, bytes(state)) for partition, version, state in found}

    def save(self, key: int, epoch: int, state: bytes) -> None:
        """Replace the state, and what everybody may know, in one. Raises LeaseLostError: nothing was written."""
        try:
            known = json.decode(state, type=Progress)
        except ValidationError as error:
            raise ValueError("A partition's state is a JSON object with the members of Progress.") from error
        self._save(key, epoch, known, state)

    def publish(self, partition: int, epoch: int, published_us: int) -> None:
        """Say that everything recorded from now on has a later moment than this one, without saving a state: what an
        idle recorder does. Never goes back. Raises LeaseLostError."""
        if not self._fenced(partition, epoch, {"published_us": _greater(_column.published_us, published_us)}):
            raise LeaseLostError(f"Partition {partition} is no longer held in epoch {epoch}.")

    def _save(self, partition: int, epoch: int, known: Progress, state: bytes) -> None:
        values = {
            "state": state,
            "version": _column.version + 1,
            "published_us": _greater(_column.published_us, known.recorded_at_us),
            "recorded": known.recorded,
            "events": known.events,
            "duplicates": known.duplicates,
            "conflicts": known.conflicts,
        }
        if not self._fenced(partition, epoch, values):
            raise LeaseLostError(f"Partition {partition} is no longer held in epoch {epoch}.")


class FencedCheckpoint:
    """A recorder's memory (log/checkpoint.Checkpoint) in the shared database, under the epoch of its lease.

    `check` is called before every write and raises LeaseLostError where the process itself has doubts (flows/lease.py)."""

    def __init__(
        self,
        partitions: Partitions,
        partition: int,
        epoch: int,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._partitions = partitions
        self._partition = partition
        self._epoch = epoch
        self._check = check

    def load(self) -> bytes | None:
        """Raises LeaseLostError, Unavailable."""
        return self._partitions.load(self._partition, self._epoch)

    def save(self, state: bytes) -> None:
        """Raises LeaseLostError: nothing was written. Unavailable: the connection may have gone after the database had
        written it; the state is the one before or this one, and saving again settles it."""
        self._check()
        self._partitions.save(self._partition, self._epoch, state)

    def publish(self, moment_us: int) -> None:
        """A heartbeat: see Partitions.publish."""
        self._check()
        self._partitions.publish(self._partition, self._epoch, moment_us)

    def close(self) -> None:
        """Nothing is held open."""


def watermark_us(rows: Collection[Partition]) -> int:
    """The moment as of which questions are asked: no partition records anything at or before it any more."""
    return min((row.published_us for row in rows), default=0)


def hold_epoch(connection: Connection, partition: int, epoch: int) -> None:
    """Raise LeaseLostError where the partition is in another epoch; otherwise it stays in this one until the transaction
    ends."""
    held = connection.execute(
        select(_column.epoch).where(_column.partition == partition).with_for_update()
    ).scalar_one_or_none()
    if held != epoch:
        raise LeaseLostError(f"Partition {partition} is no longer held in epoch {epoch}.")


def _greater(column: ColumnElement[int], value: int) -> ColumnElement[int]:
    return case((column > value, column), else_=value)
