"""The pages of a run: 4 KiB, each with its own checksum, so that an answer never rests on unverified bytes.

Layout of a page (little endian), for a capacity of c entries (204 with narrow positions, 170 with wide ones):
keys u64 x c, checks u32 x c, contents u32 x c, positions less the run's base u32 or u64 x c (4,080 bytes in all);
then number of entries u32, number of the page u32, xxh3-64 of everything before it u64. Unused places are zero.
"""

from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class PageShape:
    """How many entries a page holds and how wide their positions are."""

    wide: bool

    @property
    def capacity(self) -> int:
        return 170 if self.wide else 204

    def pages_for(self, count: int) -> int:
        return -(-count // self.capacity)

    def key(self, pages: U64) -> U64:
        """The keys of pages of shape (p, 512), as a view of shape (p, capacity)."""
        return pages[:, : self.capacity]

    def check(self, pages: U64) -> U32:
        return pages.view(np.uint32)[:, 2 * self.capacity : 3 * self.capacity]

    def content(self, pages: U64) -> U32:
        return pages.view(np.uint32)[:, 3 * self.capacity : 4 * self.capacity]

    def position(self, pages: U64) -> U64 | U32:
        """Positions less the run's base."""
        if self.wide:
            return pages[:, 2 * self.capacity : 3 * self.capacity]
        return pages.view(np.uint32)[:, 4 * self.capacity : 5 * self.capacity]


def counts_of(pages: U64) -> U32:
    """Entries in each page, shape (p,)."""
    return pages.view(np.uint32)[:, _COUNT_AT]


def pack(entries: Entries, shape: PageShape, *, base: int, first_page: int) -> U64:
    """Sorted entries as pages, shape (p, 512); only the last one may be partly filled."""
    capacity = shape.capacity
    count = len(entries)
    page_count = shape.pages_for(count)
    pages = np.zeros((page_count, PAGE_WORDS), np.uint64)
    offset = entries.position - np.uint64(base)
    full = count // capacity
    for rows, start, stop in (
        (slice(0, full), 0, full * capacity),
        (slice(full, page_count), full * capacity, count),
    ):
        if start == stop:
            continue
        width = capacity if stop - start >= capacity else stop - start
        shape.key(pages)[rows, :width] = entries.key[start:stop].reshape(-1, width)
        shape.check(pages)[rows, :width] = entries.check[start:stop].reshape(-1, width)
        shape.content(pages)[rows, :width] = entries.content[start:stop].reshape(-1, width)
        shape.position(pages)[rows, :width] = offset[start:stop].reshape(-1, width)
        counts_of(pages)[rows] = width
    pages.view(np.uint32)[:, _NUMBER_AT] = np.arange(first_page, first_page + page_count, dtype=np.uint32)
    pages[:, _CHECKSUM_AT] = _checksums(pages)
    return pages


def unpack(pages: U64, shape: PageShape, *, base: int) -> Entries:
    """The entries of consecutive pages, copied."""
    count = counts_of(pages)
    position = shape.position(pages).astype(np.uint64) + np.uint64(base)
    used = np.arange(shape.capacity, dtype=np.uint32) < count[:, None]
    if bool(used.all()):
        return Entries(
            shape.key(pages).reshape(-1),
            shape.check(pages).reshape(-1),
            shape.content(pages).reshape(-1),
            position.reshape(-1),
        )
    return Entries(
        shape.key(pages)[used], shape.check(pages)[used], shape.content(pages)[used], position[used]
    )


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
