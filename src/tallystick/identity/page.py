"""The pages of a run: 4 KiB, each with its own checksum, so that an answer never rests on unverified bytes.

A page ends (little endian) with: number of entries u32, number of the page u32, xxh3-64 of everything before it u64.
Before that lie the columns of up to c entries, in one of two shapes. Unused places are zero.

- `PlainShape`: keys u64 x c, checks u32 x c, contents u32 x c, positions less the run's base u32 or u64 x c (4,080 bytes).
- `PackedShape`: the first key u64; then the lower 32 bits of the keys less the first one u32 x c, checks u32 x c,
  contents u32 x c, bits 32 to 47 of the keys u16 x c, the lower bits of the positions u32 or u16 x c, and where there are
  such bits 48 to 55 of the keys and 16 to 23 of the positions u8 x c. Keys that lie too far apart are in two pages.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from tallystick.identity.entries import Entries
from tallystick.identity.interface import U32, U64, IndexDamagedError

PAGE_BYTES = 4096
PAGE_WORDS = PAGE_BYTES // 8
_HASHED_BYTES = PAGE_BYTES - 8
_COUNT_AT = 1020  # in 32-bit words
_NUMBER_AT = 1021
_CHECKSUM_AT = 511  # in 64-bit words
_BODY_BYTES = 4080

_PACKED_ENTRIES_MIN = 1 << 18
"""So many random keys lie so close that a full page of them practically never spans 2^56, and 7 bytes do. Keys that are not
random cost room, not answers: at most 256 pages end before they are full."""
_SHORT_KEYS_ENTRIES_MIN = 1 << 25
"""The same for 2^48, 6 bytes and 65,536 pages."""

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PlainShape:
    """Keys and positions as they are."""

    wide: bool

    @property
    def capacity(self) -> int:
        return 170 if self.wide else 204

    @property
    def spread(self) -> int:
        """The keys of a page are less than this apart."""
        return 1 << 64

    def find(self, pages: U64, row: Rows, key: U64, check: U32) -> tuple[NDArray[np.bool_], Rows]:
        """For m questions about the pages `row` of `pages`: whether any place holds that key and check, and the first that
        does. Unused places are zero, and may be found."""
        found = self._key(pages)[row] == key[:, None]
        found &= self._check(pages)[row] == check[:, None]
        at = found.argmax(axis=1)
        return found[np.arange(len(at)), at], at

    def content_at(self, pages: U64, row: Rows, at: Rows) -> U32:
        return self._content(pages)[row, at]

    def position_at(self, pages: U64, row: Rows, at: Rows) -> U64:
        """Positions less the run's base."""
        return self._position(pages)[row, at].astype(np.uint64)

    def columns(self, pages: U64) -> Entries:
        """All places of some pages, shape (p, capacity) each; positions less the run's base."""
        position = self._position(pages).astype(np.uint64)
        return Entries(self._key(pages), self._check(pages), self._content(pages), position)

    def put(self, pages: U64, entries: Entries) -> None:
        """Fill the first places of each page of `pages`, all of them equally. Positions are less the run's base."""
        width = len(entries) // len(pages)
        self._key(pages)[:, :width] = entries.key.reshape(-1, width)
        self._check(pages)[:, :width] = entries.check.reshape(-1, width)
        self._content(pages)[:, :width] = entries.content.reshape(-1, width)
        self._position(pages)[:, :width] = entries.position.reshape(-1, width)

    def _key(self, pages: U64) -> U64:
        return pages[:, : self.capacity]

    def _check(self, pages: U64) -> U32:
        return pages.view(np.uint32)[:, 2 * self.capacity : 3 * self.capacity]

    def _content(self, pages: U64) -> U32:
        return pages.view(np.uint32)[:, 3 * self.capacity : 4 * self.capacity]

    def _position(self, pages: U64) -> U64 | U32:
        if self.wide:
            return pages[:, 2 * self.capacity : 3 * self.capacity]
        return pages.view(np.uint32)[:, 4 * self.capacity : 5 * self.capacity]


@dataclass(frozen=True, slots=True)
class PackedShape:
    """Keys as 6 or 7 bytes from the page's first one, positions in 3 or 4 bytes."""

    key_bytes: int
    position_bytes: int

    @property
    def capacity(self) -> int:
        # An even number, so that every column begins where its width wants it.
        return (_BODY_BYTES - 8) // (8 + self.key_bytes + self.position_bytes) // 2 * 2

    @property
    def spread(self) -> int:
        return 1 << 8 * self.key_bytes

    def find(self, pages: U64, row: Rows, key: U64, check: U32) -> tuple[NDArray[np.bool_], Rows]:
        """See PlainShape."""
        offset = key - pages[row, 0]  # a smaller key wraps around, and is found out of reach
        found = self._words(pages, 0)[row] == (offset & np.uint64(0xFFFF_FFFF)).astype(np.uint32)[:, None]
        at = found.argmax(axis=1)
        here = found[np.arange(len(at)), at]
        maybe = np.flatnonzero(here)
        here[maybe] = self._is_at(pages, row[maybe], at[maybe], offset[maybe], check[maybe])
        # Hardly ever do two places share these 32 bits without being the same.
        for asked in maybe[~here[maybe]].tolist():
            others = np.flatnonzero(found[asked])
            among = np.full(len(others), asked)
            same = np.flatnonzero(self._is_at(pages, row[among], others, offset[among], check[among]))
            if len(same):
                here[asked], at[asked] = True, others[same[0]]
        return here, at

    def _is_at(self, pages: U64, row: Rows, at: Rows, offset: U64, check: U32) -> NDArray[np.bool_]:
        """Whether these places, found by the lower 32 bits of their keys, are the ones."""
        same = self._words(pages, 1)[row, at] == check
        same &= self._key_middle(pages)[row, at] == (offset >> np.uint64(32)).astype(np.uint16)
        if self.key_bytes == 7:
            same &= self._key_high(pages)[row, at] == (offset >> np.uint64(48)).astype(np.uint8)
        same &= offset >> np.uint64(8 * self.key_bytes) == 0
        return same

    def content_at(self, pages: U64, row: Rows, at: Rows) -> U32:
        return self._words(pages, 2)[row, at]

    def position_at(self, pages: U64, row: Rows, at: Rows) -> U64:
        """See PlainShape."""
        position = self._position_low(pages)[row, at].astype(np.uint64)
        if self.position_bytes == 3:
            position |= self._position_high(pages)[row, at].astype(np.uint64) << np.uint64(16)
        return position

    def columns(self, pages: U64) -> Entries:
        """See PlainShape."""
        key = self._key_middle(pages).astype(np.uint64) << np.uint64(32)
        key |= self._words(pages, 0)
        if self.key_bytes == 7:
            key |= self._key_high(pages).astype(np.uint64) << np.uint64(48)
        key += pages[:, :1]
        position = self._position_low(pages).astype(np.uint64)
        if self.position_bytes == 3:
            position |= self._position_high(pages).astype(np.uint64) << np.uint64(16)
        return Entries(key, self._words(pages, 1), self._words(pages, 2), position)

    def put(self, pages: U64, entries: Entries) -> None:
        """See PlainShape."""
        width = len(entries) // len(pages)
        key = entries.key.reshape(-1, width)
        position = entries.position.reshape(-1, width)
        offset = key - key[:, :1]
        pages[:, 0] = key[:, 0]
        self._words(pages, 0)[:, :width] = offset & np.uint64(0xFFFF_FFFF)
        self._words(pages, 1)[:, :width] = entries.check.reshape(-1, width)
        self._words(pages, 2)[:, :width] = entries.content.reshape(-1, width)
        self._key_middle(pages)[:, :width] = offset >> np.uint64(32) & np.uint64(0xFFFF)
        if self.key_bytes == 7:
            self._key_high(pages)[:, :width] = offset >> np.uint64(48)
        if self.position_bytes == 3:
            self._position_low(pages)[:, :width] = position & np.uint64(0xFFFF)
            self._position_high(pages)[:, :width] = position >> np.uint64(16)
        else:
            self._position_low(pages)[:, :width] = position

    def _column(self, pages: U64, kind: type[Any], begin_bytes: int) -> NDArray[Any]:
        begin = begin_bytes // np.dtype(kind).itemsize
        return pages.view(kind)[:, begin : begin + self.capacity]

    def _words(self, pages: U64, number: int) -> U32:
        """Keys' lower halves, checks, contents."""
        return self._column(pages, np.uint32, 8 + 4 * number * self.capacity)

    def _position_low(self, pages: U64) -> NDArray[Any]:
        if self.position_bytes == 3:
            return self._column(pages, np.uint16, 8 + 14 * self.capacity)
        return self._column(pages, np.uint32, 8 + 12 * self.capacity)

    def _key_middle(self, pages: U64) -> NDArray[np.uint16]:
        return self._column(pages, np.uint16, 8 + (12 if self.position_bytes == 3 else 16) * self.capacity)

    def _key_high(self, pages: U64) -> NDArray[np.uint8]:
        return self._column(pages, np.uint8, 8 + (16 if self.position_bytes == 3 else 18) * self.capacity)

    def _position_high(self, pages: U64) -> NDArray[np.uint8]:
        return self._column(pages, np.uint8, 8 + (10 + self.key_bytes) * self.capacity)


PageShape = PlainShape | PackedShape


def shape_for(count: int, *, span: int) -> PageShape:
    """The shape of a run of so many entries whose positions are at most `span` apart."""
    if span >= 1 << 32 or count < _PACKED_ENTRIES_MIN:
        return PlainShape(wide=span >= 1 << 32)
    return PackedShape(6 if count >= _SHORT_KEYS_ENTRIES_MIN else 7, 3 if span < 1 << 24 else 4)


def counts_of(pages: U64) -> U32:
    """Entries in each page, shape (p,)."""
    return pages.view(np.uint32)[:, _COUNT_AT]


def fit(key: U64, shape: PageShape, *, is_last: bool) -> tuple[int, int]:
    """Of sorted keys: how many fill pages up from the first on, and how many go into the page after these, which takes no
    more because the next key is too far off, or there is none (`is_last`). The rest must wait for more."""
    full = len(key) // shape.capacity
    if shape.spread < 1 << 64:
        pages = key[: full * shape.capacity].reshape(-1, shape.capacity)
        wide = np.flatnonzero(pages[:, -1] - pages[:, 0] >= np.uint64(shape.spread))
        full = int(wide[0]) if len(wide) else full
    begin = full * shape.capacity
    rest = key[begin : begin + shape.capacity]
    if not len(rest):
        return begin, 0
    if shape.spread < 1 << 64:
        far = np.flatnonzero(rest - rest[0] >= np.uint64(shape.spread))
        if len(far):
            return begin, int(far[0])
    return begin, len(rest) if is_last else 0


def pack(entries: Entries, shape: PageShape, *, base: int, first_page: int) -> U64:
    """Sorted entries as pages, shape (p, 512); only the last one may be partly filled. Those of a page must `fit`."""
    capacity = shape.capacity
    count = len(entries)
    page_count = -(-count // capacity)
    pages = np.zeros((page_count, PAGE_WORDS), np.uint64)
    offset = Entries(entries.key, entries.check, entries.content, entries.position - np.uint64(base))
    full = count // capacity
    if full:
        shape.put(pages[:full], offset.part(0, full * capacity))
        counts_of(pages)[:full] = capacity
    if full < page_count:
        shape.put(pages[full:], offset.part(full * capacity, count))
        counts_of(pages)[full:] = count - full * capacity
    pages.view(np.uint32)[:, _NUMBER_AT] = np.arange(first_page, first_page + page_count, dtype=np.uint32)
    pages[:, _CHECKSUM_AT] = _checksums(pages)
    return pages


def unpack(pages: U64, shape: PageShape, *, base: int) -> Entries:
    """The entries of consecutive pages, copied."""
    count = counts_of(pages)
    places = shape.columns(pages)
    position = places.position + np.uint64(base)
    used = np.arange(shape.capacity, dtype=np.uint32) < count[:, None]
    if bool(used.all()):
        return Entries(
            places.key.reshape(-1), places.check.reshape(-1), places.content.reshape(-1), position.reshape(-1)
        )
    return Entries(places.key[used], places.check[used], places.content[used], position[used])


def verify(pages: U64, numbers: NDArray[np.intp], path: Path) -> None:
    """Check that contiguous `pages` are intact and are the ones with these numbers in the run at `path`.

    Raises: IndexDamagedError.
    """
    wrong = _checksums(pages) != pages[:, _CHECKSUM_AT]
    wrong |= pages.view(np.uint32)[:, _NUMBER_AT] != numbers
    if bool(wrong.any()):
        number = int(numbers[int(wrong.argmax())])
        raise IndexDamagedError(f"identity index: page {number} of {path.name} fails its checksum")


def _checksums(pages: U64) -> U64:
    raw = pages.data.cast("B")
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter(
        (digest(raw[start : start + _HASHED_BYTES]) for start in range(0, len(raw), PAGE_BYTES)),
        np.uint64,
        count=len(pages),
    )
