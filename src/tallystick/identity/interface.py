"""Has this event been seen before, ever?

Owns: the set of all recorded identities, with the content fingerprint and position each was first recorded under.
Does not own: the facts. The index is derived data: it is rebuilt from the store when it is lost or damaged.

An identity is the xxh3-128 digest of (tenant, source, id) (`metering/event.py`), as two unsigned 64-bit halves.
All calls are vectorised and synchronous; one thread (the recorder's) uses an index.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Identities:
    """n identities: `high` and `low` halves of the digest, shape (n,)."""

    high: U64
    low: U64

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True, slots=True)
class Found:
    """For n identities asked for: the position each was first recorded at (0: never seen) and the low 32 bits of the
    content fingerprint it was recorded with (0 where never seen)."""

    position: U64
    content: U32


class IndexDamagedError(Exception):
    """A file of the index fails its checksum or is missing. The remedy is `reset` and adding everything again."""


class IdentityIndex(Protocol):
    """The set of recorded identities."""

    @property
    def covered(self) -> int:
        """All identities recorded at positions up to this one survive a restart; those behind it must be added again
        from the store after opening. 0 for an empty index."""
        ...

    def __len__(self) -> int:
        """Number of identities held."""
        ...

    def find(self, identities: Identities) -> Found:
        """Look up many at once; duplicates within `identities` are each answered on their own."""
        ...

    def add(self, identities: Identities, content: U32, position: U64, *, through: int) -> None:
        """Add identities that are not held yet (and not twice in one call). `through` is the log position up to which
        everything is now recorded: it is what `covered` will say once this is flushed. May flush, may start a merge."""
        ...

    def load(
        self,
        blocks: Iterable[tuple[Identities, U32, U64]],
        *,
        count: int,
        position_min: int,
        position_max: int,
        through: int,
    ) -> None:
        """Fill an empty index, much faster than by `add`: identities sorted by `high`, with content and position, so many in all
        and with positions between these two. `covered` says `through` afterwards. Raises IndexDamagedError when the blocks
        are not as announced; nothing is held then."""
        ...

    def flush(self) -> None:
        """Make everything added so far survive a restart."""
        ...

    def reset(self) -> None:
        """Forget everything, on disk too."""
        ...

    def scan(self) -> Iterator[tuple[Identities, U32, U64]]:
        """Everything held, in blocks, in no stated order. For `doctor`. An index may keep only the upper 32 bits of
        `low` (96 bits are identity enough, see `entries.py`); those below are then 0."""
        ...

    def close(self) -> None:
        """Flush and release. Idempotent."""
        ...
