"""The durable event log: what has been acknowledged, in one order.

Owns: durability before the acknowledgement, the order of events, back-pressure.
Does not own: identity (the log happily holds the same event twice), meaning, history (it is trimmed behind the recorder).

Every event gets a **position** greater than 0. Positions grow in commit order: within a block by one from row to row,
from block to block by one or more (there may be gaps, and what the gaps are is the log's own affair). A position
becomes visible to `read` only when everything before it is visible too; a reader that remembers the last position it
saw can therefore never step over an event that commits late. The log of a partition gives positions below 2^52
(metering/position.py); `log/partitioned.py` makes one log of several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from tallystick.errors import TallystickError
from tallystick.metering.event import EventColumns
from tallystick.metering.position import Positions, Vector


class LogInUseError(TallystickError):
    """Another process has the event log open."""

    default_code = "log_in_use"


class LogDamagedError(TallystickError):
    """Events of the log cannot be read as they were written; the message names their positions."""

    default_code = "log_damaged"


class LogTrimmedError(TallystickError):
    """The events behind this position were trimmed away: reading on would step over them."""

    default_code = "log_trimmed"


@dataclass(frozen=True, slots=True)
class Block:
    """Events that were committed together. Row i of `events` (schema `EVENT_SCHEMA`) has position `first + i`."""

    first: int
    events: pa.RecordBatch

    @property
    def last(self) -> int:
        return self.first + self.events.num_rows - 1


class EventLog(Protocol):
    """What takes events: the log of a partition, or of all of them (log/partitioned.py)."""

    @property
    def end(self) -> int | Vector:
        """Where it ends: everything acknowledged up to now lies at or before it."""
        ...

    async def append(self, events: EventColumns) -> Positions:
        """See Log.append. The array grows only where one partition is concerned."""
        ...

    async def close(self) -> None:
        """See Log.close."""
        ...


class Log(EventLog, Protocol):
    """Append, read in order, trim. One contract suite (tests/log/contract.py) holds for every implementation."""

    @property
    def end(self) -> int:
        """Position of the last visible event; 0 when there never was one. It stays when everything is trimmed."""
        ...

    @property
    def trimmed_through(self) -> int:
        """Every event up to this position has been trimmed away; always the end of a block."""
        ...

    def behind(self, after: int) -> int:
        """How many visible events there are behind position `after`: exactly where the log can tell at once, else about
        so many, and 0 only when there are none."""
        ...

    async def append(self, events: EventColumns) -> Positions:
        """Make the events durable and return the position of each, in their order: uint64, shape (n,), growing.

        The events of one call lie in one block, or in several when they are many (other calls' blocks may then lie
        between). Requests that wait at the same time share one synced commit. When this returns, a crash of the process
        or the machine cannot lose them, and they are visible; when it raises Invalid, or is refused for back-pressure
        or a lack of room before anything was written, none of them is stored. After any other failure (Unavailable, a
        StorageFull in the midst of several blocks) or a cancellation they may be stored nonetheless, each block whole
        or not at all: identity makes repeating them safe. No events: an empty array.

        Raises: StorageFull when the disk has no room; Unavailable (with retry_after_s) when too much is waiting, be it
        for the disk or for the recorder, when the disk or the quorum failed, or when the log is closed; Invalid for a
        column that holds what `EVENT_SCHEMA` cannot (the other requests of the same commit are not touched).
        """
        ...

    async def read(self, after: int, *, events_max: int) -> Sequence[Block]:
        """Visible blocks behind position `after`, in order, none left out; [] when there are none yet. Does not wait.

        `after` may lie within a block: the rows up to it are cut off. It may also lie in a gap. At least one block is returned when there is
        one, further ones while the sum of rows stays within `events_max`.

        Raises: LogTrimmedError when `after` is before `trimmed_through`; LogDamagedError for a block that is not as it
        was written; Unavailable when the disk failed or the log is closed.
        """
        ...

    async def wait_for(self, after: int, *, timeout_s: float) -> bool:
        """Wait until something behind `after` is visible. False when the time ran out first, or the log was closed."""
        ...

    async def trim(self, through: int) -> None:
        """Allow the log to forget events up to and including this position (it may keep them longer).

        From then on they do not count as unrecorded. Only whole blocks go. A disk that fails meanwhile is no error
        here: the permission stays, and the log tries again. Positions beyond `end` count as `end`.
        """
        ...

    async def close(self) -> None:
        """Finish the commit under way, refuse further appends, release everything. Idempotent."""
        ...
