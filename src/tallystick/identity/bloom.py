"""The Bloom filter that keeps unseen keys away from the pages of a run.

One 64-bit word a key, five bits in it: a probe is one gather. The word follows from the upper half of the key by
scaling, so keys in order touch words in order: filters are built in one pass over a sorted run and probed, for sorted
questions, almost sequentially. The bits follow from the lower half. At 16 bits a key 0.43 % of unseen keys pass (measured).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tallystick.identity.interface import U64

BITS_PER_KEY = 16
_WINDOW_WORDS = 1 << 16

_ONE = np.uint64(1)
_SIX_BITS = np.uint64(63)
_HALF = np.uint64(32)
_SHIFTS = tuple(np.uint64(shift) for shift in (6, 12, 18, 24))


def words_for(count: int) -> int:
    """Length in 64-bit words of the filter for `count` keys."""
    return max(1, -(-count * BITS_PER_KEY // 64))


def bits_of(key: U64) -> U64:
    """The bits each key sets in its word, shape (n,). The same for filters of every length."""
    bits = _ONE << (key & _SIX_BITS)
    for shift in _SHIFTS:
        bits |= _ONE << ((key >> shift) & _SIX_BITS)
    return bits


def places_of(key: U64, words: int) -> NDArray[np.intp]:
    """The word each key belongs to in a filter of `words` (at most 2^32) words; rises with the key."""
    return (((key >> _HALF) * np.uint64(words)) >> _HALF).astype(np.intp)


def may_hold(filter_words: U64, key: U64, bits: U64) -> NDArray[np.intp]:
    """Indices of the keys the filter cannot rule out, rising. `bits` is `bits_of(key)`."""
    found = filter_words.take(places_of(key, len(filter_words)))
    found &= bits
    return np.flatnonzero(found == bits)


def _by_word(key: U64, words: int) -> tuple[NDArray[np.intp], U64]:
    """For keys in order: each word touched once, and all bits set in it."""
    places = places_of(key, words)
    first = np.flatnonzero(np.concatenate((np.ones(1, np.bool_), places[1:] != places[:-1])))
    return places[first], np.bitwise_or.reduceat(bits_of(key), first)


def insert(filter_words: U64, key: U64) -> None:
    """Add keys (at least one, sorted) to a filter in memory."""
    places, bits = _by_word(key, len(filter_words))
    filter_words[places] |= bits


class FilterWriter:
    """Builds the filter of a sorted run in bounded memory: `write` gets its words in order, block by block."""

    def __init__(self, words: int) -> None:
        self._words = words
        self._start = 0
        self._window = np.zeros(min(words, _WINDOW_WORDS), np.uint64)

    def add(self, key: U64, write: Callable[[U64], None]) -> None:
        """Add keys (at least one), sorted, none smaller than those added before."""
        places, bits = _by_word(key, self._words)
        done = 0
        while True:
            stop = int(np.searchsorted(places, self._start + len(self._window)))
            self._window[places[done:stop] - self._start] |= bits[done:stop]
            done = stop
            if done == len(places):
                return
            self._advance(write)

    def finish(self, write: Callable[[U64], None]) -> None:
        """Write what is left, up to the full length of the filter."""
        while self._start < self._words:
            self._advance(write)

    def _advance(self, write: Callable[[U64], None]) -> None:
        write(self._window)
        self._start += len(self._window)
        self._window = np.zeros(min(self._words - self._start, _WINDOW_WORDS), np.uint64)
