"""The cluster that an installation moves to: is it empty, does it hold what it must, and the hand-over (flows/move.py)."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from tallystick.catalog.coordination import Coordination
from tallystick.catalog.partitions import Partition
from tallystick.errors import Conflict, TallystickError
from tallystick.flows.journal import State
from tallystick.log.interface import Log
from tallystick.metering.position import base_of, local_of
from tallystick.store.interface import FACTS, Store

_LEASE_US = 600_000_000


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The cluster to move to, opened by wiring. `name` holds no secret."""

    name: str
    store: Store
    coordination: Coordination
    partitions: int
    migrate_catalog: Callable[[], None]
    open_log: Callable[[Partition], Awaitable[Log]]
    copy_catalog: Callable[[], dict[str, int]]
    """Everything a person configured, out of this installation."""
    close: Callable[[], None]


class OpenElsewhere(Protocol):
    """Opens a cluster. Raises Invalid for URLs that cannot be used; does not connect."""

    def __call__(self, *, log_url: str, store_url: str, catalog_url: str, partitions: int) -> Elsewhere: ...


def check_target(there: Elsewhere, begun: bool) -> Sequence[Partition]:
    """Make its tables, and see that nobody uses it. `begun`: an earlier attempt has copied something. Raises Conflict where it holds anything that is not from here."""
    there.migrate_catalog()
    there.store.migrate()
    there.coordination.partitions.prepare(there.partitions)
    rows = there.coordination.partitions.rows()
    if any(row.recorded > base_of(row.partition) or not row.is_free for row in rows):
        raise Conflict(f"{there.name} is in use: its partitions have recorders.", code="move_target_taken")
    if not begun:
        held = {table: count for table, count in there.store.counts().items() if table in FACTS and count}
        if held:
            raise Conflict(
                f"The store of {there.name} holds facts already ({', '.join(held)}). Move into an empty one.",
                code="move_target_taken",
            )
    return rows


def _recorded(partition: int, states: Sequence[State]) -> int:
    """How far a partition over there has recorded. Everything in it comes from one partition here, and keeps its place."""
    return base_of(partition) + local_of(states[partition % len(states)].recorded)


async def check_logs(there: Elsewhere, rows: Sequence[Partition], states: Sequence[State]) -> None:
    """The streams of the partitions go on behind what is recorded and hold nothing that anybody could take for new.
    `states`: of the partitions here."""
    for row in rows:
        recorded = _recorded(row.partition, states)
        # As a recorder will open it, so that the streams are made as they must be.
        log = await there.open_log(replace(row, recorded=recorded))
        try:
            if log.behind(recorded):
                raise Conflict(
                    f"The log of {there.name} holds events of something else in partition {row.partition}. "
                    "Name an empty stream (log_url, option stream).",
                    code="move_target_taken",
                )
        finally:
            await log.close()


def check_counts(there: Elsewhere, facts: Mapping[str, int]) -> None:
    """Raises TallystickError where a table holds another number of rows over there."""
    held = there.store.counts()
    differing = [
        f"{table}: {count:,} here, {held.get(table, 0):,} there"
        for table, count in facts.items()
        if held.get(table, 0) != count
    ]
    if differing:
        raise TallystickError(
            f"Not everything is the same on both sides ({'; '.join(differing)}). Nothing was switched over.",
            code="move_differs",
        )


def hand_over(there: Elsewhere, states: Sequence[State]) -> None:
    """Tell each partition how far it has recorded, as of the last moment of this installation, of whose partitions these
    are the states. Raises Conflict when somebody has begun to use it."""
    owner = f"move-{time.time_ns()}"
    table = there.coordination.partitions
    for row in table.rows():
        epoch = table.acquire(row.partition, owner, ttl_us=_LEASE_US)
        if epoch is None:
            raise Conflict(
                f"{there.name} is in use: its partitions have recorders.", code="move_target_taken"
            )
        counts = there.store.partition(row.partition, epoch=epoch).counts()
        # What retention has deleted belongs to no partition any more; the first of those it can be in answers for it.
        first = row.partition < len(states)
        state = states[row.partition % len(states)]
        duplicates_gone = state.forgotten_duplicates if first else 0
        conflicts_gone = state.forgotten_conflicts if first else 0
        begun = State(
            recorded=_recorded(row.partition, states),
            recorded_at_us=max(one.recorded_at_us for one in states),
            events=counts["events"] + counts["forgotten"],
            duplicates=counts["duplicates"] + duplicates_gone,
            conflicts=counts["conflicts"] + conflicts_gone,
            forgotten=counts["forgotten"],
            forgotten_duplicates=duplicates_gone,
            forgotten_conflicts=conflicts_gone,
            generation=max(one.generation for one in states) + 1,
        )
        table.save(row.partition, epoch, msgspec.json.encode(begun))
        table.release(row.partition, epoch)
