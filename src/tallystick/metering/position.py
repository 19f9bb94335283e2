"""Positions: where an event is in the log, and so what its fact is called in the store.

A position has 64 bits: six for how often the version was restored, six for the partition, 52 for the place in that
partition's log (`local`). With one partition position and place are the same number: 1, 2, 3 …
Which partition an event goes to is decided by its identity alone, so that identity is decided within a partition.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PARTITIONS_MAX = 64
LOCAL_BITS = 52

RESTORED_STEP = 1 << 58
"""A version restored by a revert is named by the position it had plus this, as often as it was restored: no log gives
such a position, so that the name is new and still tells where it came from."""

Positions = NDArray[np.uint64]

Vector = tuple[int, ...]
"""How far, in each partition concerned: the position of the last event, at most one a partition, growing. A partition that
is not concerned is absent."""

_LOCAL_MASK = (1 << LOCAL_BITS) - 1


def base_of(partition: int) -> int:
    """The position before the first one of this partition. Position = base + local."""
    return partition << LOCAL_BITS


def partition_of(position: int) -> int:
    """The partition of a position, also of a restored version's."""
    return (position >> LOCAL_BITS) % PARTITIONS_MAX


def local_of(position: int) -> int:
    """The place in its partition's log."""
    return position & _LOCAL_MASK


def partitions_of(identities: Sequence[bytes], partitions: int) -> NDArray[np.intp]:
    """For each 16-byte identity the partition it belongs to: its upper half, big-endian, modulo their number."""
    high = np.frombuffer(b"".join(identities), dtype=">u8")[::2]
    return (high % np.uint64(partitions)).astype(np.intp)


def vector_of(positions: Positions) -> Vector:
    """The highest position in each partition, of positions in any order."""
    if len(positions) <= 1:
        return tuple(positions.tolist())
    low, high = int(positions.min()), int(positions.max())
    if partition_of(low) == partition_of(high):
        return (high,)
    growing = np.sort(positions)
    bases = growing >> np.uint64(LOCAL_BITS)
    last = np.append(bases[1:] != bases[:-1], True)
    return tuple(growing[last].tolist())


def united(*vectors: Vector) -> Vector:
    """The smallest vector that includes all of these."""
    return vector_of(np.array([at for vector in vectors for at in vector], np.uint64))
