"""The entries not yet in a run: a few sorted arrays in memory under one Bloom filter."""

import numpy as np
from numpy.typing import NDArray

from tallystick.identity import bloom
from tallystick.identity.entries import Entries, empty_entries, merged
from tallystick.identity.interface import U32, U64

_SMALL = 1024


class Memory:
    """Sized for `entries_max`; holds more when it must, with a fuller filter.

    The arrays halve in size from first to last, like the digits of a binary counter, so that a small batch costs
    microseconds and not a sort of everything.
    """

    def __init__(self, entries_max: int) -> None:
        self._arrays: list[Entries] = []
        self._filter = np.zeros(bloom.words_for(entries_max), np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def arrays(self) -> tuple[Entries, ...]:
        return tuple(self._arrays)

    def add(self, entries: Entries) -> None:
        """Add entries (at least one) in any order."""
        entries = entries.take(np.argsort(entries.key, kind="stable"))
        bloom.insert(self._filter, entries.key)
        self._count += len(entries)
        arrays = self._arrays
        arrays.append(entries)
        while len(arrays) > 1 and (
            len(arrays[-2]) < 2 * len(arrays[-1]) or len(arrays[-2]) + len(arrays[-1]) <= _SMALL
        ):
            last = arrays.pop()
            arrays[-1] = merged((arrays[-1], last))

    def find(self, key: U64, check: U32, bits: U64) -> tuple[NDArray[np.intp], U32, U64]:
        """Look up sorted keys; as `Run.find`."""
        asked = bloom.may_hold(self._filter, key, bits) if self._count else np.empty(0, np.intp)
        found: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
        contents: list[U32] = [np.empty(0, np.uint32)]
        positions: list[U64] = [np.empty(0, np.uint64)]
        for array in self._arrays if len(asked) else ():
            some = asked
            at = np.searchsorted(array.key, key[some])
            while True:
                there = at < len(array)
                there[there] = array.key[at[there]] == key[some[there]]
                some, at = some[there], at[there]
                if not len(some):
                    break
                same = array.check[at] == check[some]
                found.append(some[same])
                contents.append(array.content[at[same]])
                positions.append(array.position[at[same]])
                some, at = some[~same], at[~same] + 1
        return np.concatenate(found), np.concatenate(contents), np.concatenate(positions)

    def sorted(self) -> Entries:
        """Everything, sorted."""
        return merged(self._arrays) if self._arrays else empty_entries()

    def clear(self) -> None:
        self._arrays = []
        self._filter.fill(0)
        self._count = 0
