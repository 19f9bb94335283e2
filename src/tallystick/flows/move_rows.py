"""The facts of an installation that moves, copied in rounds (flows/move.py).

A position at place x, of an event whose identity belongs to partition p over there, becomes p << 52 | x: unique, because all
of p comes from one partition here, and in the same order, so that moments, corrections and everything that cites a
position stay true.

What has been copied is written down after every range, and a range under way before it: the same rows then go out again
under the same tokens, which the store drops where it has them.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tallystick.errors import Conflict, TallystickError, Unavailable
from tallystick.log.checkpoint import Checkpoint
from tallystick.metering.event import identity_of
from tallystick.metering.position import LOCAL_BITS, PARTITIONS_MAX, base_of, partition_of, partitions_of
from tallystick.store.interface import FACTS, FactRange, Store

RANGE_POSITIONS = 200_000
_INSERT_ROWS = 100_000
_FORMAT = 1
_LOCAL_BITS = np.uint64(LOCAL_BITS)


class Copied(msgspec.Struct, frozen=True):
    """Of one range of positions of a table: everything recorded up to this moment is there. `digest` is of that."""

    digest: str
    through_us: int


class Memory(msgspec.Struct):
    """What a move writes down. `pending`: the range under way, by name, and the moment up to which it is copied."""

    format: int
    target: str
    ranges: dict[str, Copied] = msgspec.field(default_factory=dict[str, Copied])
    pending: dict[str, int] = msgspec.field(default_factory=dict[str, int])


@dataclass(slots=True)
class MoveProgress:
    """How far it is. `step`: what is being done, in words."""

    step: str = "looking at the cluster"
    rows_done: int = 0
    rows: int = 0
    rounds: int = 0
    read_only_s: float | None = None
    figures: int = 0
    """Figures (a meter's usage of one customer) that were the same on both sides, as of the last moment."""
    facts: dict[str, int] = field(default_factory=dict[str, int])
    as_of_us: int | None = None


def load(checkpoint: Checkpoint, target: str) -> Memory:
    """What an earlier attempt has written down. Raises Conflict where it went elsewhere."""
    raw = checkpoint.load()
    if raw is None:
        return Memory(_FORMAT, target)
    memory = msgspec.json.decode(raw, type=Memory)
    if memory.format != _FORMAT or memory.target != target:
        raise Conflict(
            f"This installation has begun to move to {memory.target}, not to {target}. To begin anew, delete "
            "move.sqlite from its data directory and empty both targets.",
            code="move_elsewhere",
        )
    return memory


class Copy:
    """Rounds of copying, in a thread of its own. The target is only ever added to."""

    def __init__(
        self,
        *,
        store: Store,
        target: Store,
        partitions: int,
        partitions_here: int = 1,
        checkpoint: Checkpoint,
        memory: Memory,
        progress: MoveProgress,
        stopping: threading.Event,
    ) -> None:
        self._store = store
        self._target = target
        self._partitions = partitions
        self._partitions_here = partitions_here
        self._checkpoint = checkpoint
        self._memory = memory
        self._progress = progress
        self._stopping = stopping
        self._is_first = True

    def round(self, snapshot: str, through_us: int, *, final: bool) -> int:
        """Bring what was recorded up to a moment and is not there yet; rows brought. Events of open backfills, which
        can vanish again, come with the final one."""
        self._is_first = not self._memory.ranges
        tables = [table for table in FACTS if final or table != "staged"]
        ranges = {
            table: self._store.snapshot_ranges(
                snapshot, table, recorded_by_us=through_us, span=RANGE_POSITIONS
            )
            for table in tables
        }
        changed = {
            table: [one for one in found if self._digest(table, one.number) != one.digest]
            for table, found in ranges.items()
        }
        self._progress.rows = sum(one.rows for found in changed.values() for one in found)
        self._progress.rows_done = 0
        self._progress.facts = {table: sum(one.rows for one in found) for table, found in ranges.items()}
        brought = 0
        for table, found in changed.items():
            if table == "staged":
                brought += self._staged(snapshot, found, through_us)
                continue
            for one in found:
                if self._stopping.is_set():
                    raise Unavailable("The server is stopping; the move goes on where it was.")
                brought += self._range(snapshot, table, one, through_us)
                self._progress.rows_done += one.rows
        return brought

    def _digest(self, table: str, number: int) -> str:
        known = self._memory.ranges.get(_name(table, number))
        return "" if known is None else known.digest

    def _range(self, snapshot: str, table: str, one: FactRange, through_us: int) -> int:
        name = _name(table, one.number)
        brought = 0
        if table == "forgotten":
            brought = self._forgotten(snapshot, one, through_us)
        else:
            # First what was under way when an earlier attempt ended: exactly the same rows again.
            for until_us in sorted({self._memory.pending.get(name, through_us), through_us}):
                known = self._memory.ranges.get(name)
                after_us = -1 if known is None else known.through_us
                if until_us <= after_us:
                    continue
                self._memory.pending[name] = until_us
                self._save()
                rows = self._read(snapshot, table, one.number, after_us, until_us)
                for number, at in enumerate(range(0, len(rows), _INSERT_ROWS)):
                    some = moved(rows.slice(at, _INSERT_ROWS), self._partitions, here=self._partitions_here)
                    token = f"move/{name}/{after_us}/{until_us}/{number}"
                    self._target.insert_facts(table, some, token=token)
                brought += len(rows)
                self._memory.ranges[name] = Copied("", until_us)
                del self._memory.pending[name]
        self._memory.ranges[name] = Copied(one.digest, through_us)
        self._save()
        return brought

    def _read(self, snapshot: str, table: str, number: int, after_us: int, through_us: int) -> pa.Table:
        blocks = list(
            self._store.snapshot_rows(
                snapshot, table, number, recorded_by_us=through_us, span=RANGE_POSITIONS
            )
        )
        rows = pa.Table.from_batches(blocks, schema=FACTS[table])
        if after_us >= 0:
            moments = _whole(rows, "recorded_at")
            rows = rows.filter(pa.array(moments > after_us))
        return rows

    def _forgotten(self, snapshot: str, one: FactRange, through_us: int) -> int:
        """Their moment is the event's own, so what is new is told by position. What they name goes over there too."""
        rows = self._read(snapshot, "forgotten", one.number, -1, through_us)
        wanted = moved(rows, self._partitions, here=self._partitions_here)
        if len(rows) == 0:
            return 0
        present: set[int] = set()
        ranges = self._ranges_there(one.number, rows)
        for after, through in ranges:
            for batch in self._target.forgotten(after=after, through=through):
                present.update(batch.column("position").to_pylist())
        positions = _whole(wanted, "position")
        new = wanted.filter(pa.array([int(position) not in present for position in positions]))
        if len(new):
            token = f"move/forgotten/{one.number}/{len(present)}/{len(new)}"
            self._target.insert_facts("forgotten", new, token=token)
        for after, through in ranges if len(new) and not self._is_first else ():
            self._target.delete_forgotten(after + 1, through)
        return len(new)

    def _ranges_there(self, number: int, rows: pa.Table) -> list[tuple[int, int]]:
        """Where a range of positions here is over there: behind the first and up to the second. (A range may begin before
        the partition whose rows are in it.)"""
        first = number * RANGE_POSITIONS
        found: list[tuple[int, int]] = []
        for here in sorted({partition_of(int(position)) for position in _whole(rows, "position")}):
            after, through = first - base_of(here), first + RANGE_POSITIONS - base_of(here)
            found += [
                (base_of(there) + max(after, 0), base_of(there) + through)
                for there in range(here, self._partitions, self._partitions_here)
            ]
        return found

    def _staged(self, snapshot: str, found: Sequence[FactRange], through_us: int) -> int:
        rows = pa.concat_tables(
            [
                FACTS["staged"].empty_table(),
                *(self._read(snapshot, "staged", one.number, -1, through_us) for one in found),
            ]
        )
        backfills = set(
            zip(rows.column("tenant").to_pylist(), rows.column("backfill").to_pylist(), strict=True)
        )
        for tenant, backfill in backfills:  # of an earlier attempt
            self._target.delete_staged(tenant, backfill)
        for number, at in enumerate(range(0, len(rows), _INSERT_ROWS)):
            some = moved(rows.slice(at, _INSERT_ROWS), self._partitions, here=self._partitions_here)
            # Never the same token twice: what it stood for was deleted above.
            self._target.insert_facts("staged", some, token=f"move/staged/{time.time_ns()}/{number}")
        return len(rows)

    def _save(self) -> None:
        self._checkpoint.save(msgspec.json.encode(self._memory))


def _name(table: str, number: int) -> str:
    return f"{table}/{number}"


def _whole(rows: pa.Table, column: str) -> NDArray[np.int64]:
    return rows.column(column).cast(pa.int64(), safe=False).to_numpy()


def moved(rows: pa.Table, partitions: int, *, here: int = 1) -> pa.Table:
    """Rows of a table of facts with the positions they have in a cluster of so many partitions; `here`: how many there are
    where they come from. Raises TallystickError where one lies in a partition that its identity is not of."""
    names = rows.column_names
    if "identity" in names:
        identities: list[bytes] = rows.column("identity").to_pylist()
    else:
        parts = (rows.column(name).to_pylist() for name in ("tenant", "source", "id"))
        identities = [identity_of(*one) for one in zip(*parts, strict=True)]
    if not identities:
        return rows
    numbers = partitions_of(identities, partitions).astype(np.uint64)
    base = numbers << _LOCAL_BITS
    for name in ("position", "original", "superseded"):
        if name in names:
            given = rows.column(name).to_numpy()
            before = (given >> _LOCAL_BITS) % np.uint64(PARTITIONS_MAX)
            # `superseded` 0 names nothing.
            if np.any((given != 0) & (before != numbers % np.uint64(here))):
                raise TallystickError(
                    f"A row lies in a partition that its identity is not of ({name}). Nothing was switched over.",
                    code="move_differs",
                )
            placed = np.where(given == 0, given, given - (before << _LOCAL_BITS) + base)
            rows = rows.set_column(names.index(name), rows.schema.field(name), pa.array(placed, pa.uint64()))
    return rows
