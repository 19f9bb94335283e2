"""One log of several: each partition has a log of its own, and an event goes where its identity belongs.

Owns: the partition within a position, and splitting a request. Each partition keeps the promises of a log on its own;
across partitions there is no order.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tallystick.log.interface import Block, Log
from tallystick.metering.event import EventColumns
from tallystick.metering.position import Positions, Vector, base_of, local_of, partition_of, partitions_of

T = TypeVar("T")


class PlacedLog:
    """The log of one partition (`Log`), with positions that bear the partition."""

    def __init__(self, log: Log, partition: int) -> None:
        self._log = log
        self._partition = partition
        self._base = base_of(partition)

    @property
    def end(self) -> int:
        return self._base + self._log.end

    @property
    def trimmed_through(self) -> int:
        return self._base + self._log.trimmed_through

    def behind(self, after: int) -> int:
        return self._log.behind(self._local(after))

    async def append(self, events: EventColumns) -> Positions:
        return await self._log.append(events) + np.uint64(self._base)

    async def read(self, after: int, *, events_max: int) -> Sequence[Block]:
        blocks = await self._log.read(self._local(after), events_max=events_max)
        return [Block(self._base + block.first, block.events) for block in blocks]

    async def wait_for(self, after: int, *, timeout_s: float) -> bool:
        return await self._log.wait_for(self._local(after), timeout_s=timeout_s)

    async def trim(self, through: int) -> None:
        await self._log.trim(self._local(through))

    async def close(self) -> None:
        await self._log.close()

    def _local(self, position: int) -> int:
        # A position of another partition would read, or trim, what it does not name.
        if partition_of(position) != self._partition:
            raise ValueError(f"Position {position} is not of partition {self._partition}.")
        return local_of(position)


class PartitionedLog:
    """What is appended goes to the logs of the partitions (`EventLog`). Number i of `logs` has the positions of
    partition i."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = tuple(logs)

    @property
    def end(self) -> Vector:
        """The position of the last visible event of each partition that has had any."""
        return tuple(log.end for log in self._logs if local_of(log.end))

    async def append(self, events: EventColumns) -> Positions:
        """As Log.append. What goes to one partition is all or none; when another one refuses, it is stored nonetheless,
        which identity makes harmless to repeat."""
        if len(events) == 0:
            return np.empty(0, np.uint64)
        partitions = partitions_of(events.identity, len(self._logs))
        concerned = np.unique(partitions).tolist()
        if len(concerned) == 1:
            return await self._logs[concerned[0]].append(events)
        rows = [np.flatnonzero(partitions == partition) for partition in concerned]
        outcomes = await asyncio.gather(
            *(
                self._logs[partition].append(_rows_of(events, some))
                for partition, some in zip(concerned, rows, strict=True)
            ),
            return_exceptions=True,
        )
        positions = np.empty(len(events), np.uint64)
        for some, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            positions[some] = outcome
        return positions

    async def close(self) -> None:
        await asyncio.gather(*(log.close() for log in self._logs))


def _rows_of(events: EventColumns, rows: NDArray[np.intp]) -> EventColumns:
    get: Any = itemgetter(*rows.tolist())

    def chosen(column: list[T]) -> list[T]:
        return [get(column)] if len(rows) == 1 else list(get(column))

    return replace(
        events,
        source=chosen(events.source),
        id=chosen(events.id),
        type=chosen(events.type),
        subject=chosen(events.subject),
        time_us=events.time_us[rows],
        time_given=events.time_given[rows],
        data=chosen(events.data),
        attributes=chosen(events.attributes),
        identity=chosen(events.identity),
        content=events.content[rows],
    )
