"""Events newest first, with any number of partitions.

Within a partition an event is newer the higher its position. Of several partitions, whose positions say nothing of each
other, that one goes next whose newest event left was recorded last. A place in that order names each partition, so that
a list goes on exactly where it stopped, whatever has been recorded since.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallystick.flows.system import System
from tallystick.metering.position import Vector, base_of, partition_of
from tallystick.store.interface import EventSearch, StoredEvent


@dataclass(frozen=True, slots=True)
class Newest:
    """Events found, and whether there are more behind them. `place` lies before the first."""

    events: list[StoredEvent]
    place: Vector
    more: bool

    def behind(self, count: int) -> Vector:
        """The place to go on from after so many of the events."""
        return behind(self.place, self.events[:count])


def behind(place: Vector, events: Sequence[StoredEvent]) -> Vector:
    """The place behind these events, shown in this order from `place` on."""
    reached = {partition_of(position): position for position in place}
    for event in events:
        reached[partition_of(event.position)] = event.position
    return tuple(reached[partition] for partition in sorted(reached))


def newest(system: System, wanted: EventSearch, before: Vector | None = None) -> Newest:
    """At most `wanted.limit` events behind a place (None: from the newest). Synchronous.

    A place is a position for each partition there was anything in, all at or above it excluded; what partitions it does
    not name have is newer than all it was made of. `wanted.partition` and `before_position` are set here."""
    reached = system.recorder.position if before is None else before
    limits = {partition_of(position): None if before is None else position for position in reached}
    only = len(limits.keys() | {partition_of(position) for position in system.recorder.position}) <= 1
    found: list[list[StoredEvent]] = []
    place: list[int] = []
    for partition, limit in sorted(limits.items()) or [(0, None)]:
        if limit is not None and limit <= base_of(partition):
            place.append(limit)
            continue
        events = system.store.search(
            replace(
                wanted,
                partition=None if only else partition,
                before_position=limit,
                limit=wanted.limit + 1,
            )
        )
        place.append(events[0].position + 1 if events else base_of(partition))
        found.append(events)
    merged = found[0] if len(found) == 1 else list(_merged(found, wanted.limit + 1))
    return Newest(merged[: wanted.limit], tuple(place), len(merged) > wanted.limit)


def _merged(found: Sequence[Sequence[StoredEvent]], most: int) -> list[StoredEvent]:
    heads = [(-events[0].recorded_at_us, -number, 0, events) for number, events in enumerate(found) if events]
    heapq.heapify(heads)
    merged: list[StoredEvent] = []
    while heads and len(merged) < most:
        _, order, index, events = heads[0]
        merged.append(events[index])
        if index + 1 < len(events):
            heapq.heapreplace(heads, (-events[index + 1].recorded_at_us, order, index + 1, events))
        else:
            heapq.heappop(heads)
    return merged
