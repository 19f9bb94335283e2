"""A run: an immutable file of entries sorted by key, with its fences and its Bloom filter.

Layout: header (4 KiB) · pages (`page.py`) · fences, the first key of every page, u64 each · filter words
(`bloom.py`), u64 each. The header holds the sizes and the xxh3-64 checksums of fences and filter; the manifest holds
the checksum of the header; pages check themselves.
"""

import mmap
import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from tallystick.identity import bloom, page
from tallystick.identity.entries import Entries, concatenate, empty_entries
from tallystick.identity.files import read_into, write_all
from tallystick.identity.interface import U32, U64, IndexDamagedError

_HEADER = struct.Struct(
    "<8sII QQQQ QQ"
)  # magic, version, wide, count, base, position_max, pages; two checksums
_MAGIC = b"tallyrun"
_VERSION = 1
_HEADER_BYTES = page.PAGE_BYTES
_BLOCK_BYTES = 1 << 20
_HITS_MAX = 512
"""Pages looked at in one go. The kernel maps up to 64 KiB around each, so at most 32 MiB become resident."""
_KEPT_MAPPED_BYTES = 8 << 20
"""Runs whose pages are no more than this stay mapped after use."""


@dataclass(frozen=True, slots=True)
class Header:
    """Sizes and checksums of one run."""

    wide: bool
    count: int
    base: int
    position_max: int
    fences_checksum: int
    filter_checksum: int

    @property
    def shape(self) -> page.PageShape:
        return page.PageShape(self.wide)

    @property
    def pages(self) -> int:
        return self.shape.pages_for(self.count)

    @property
    def filter_words(self) -> int:
        return bloom.words_for(self.count)

    @property
    def fences_at(self) -> int:
        return _HEADER_BYTES + self.pages * page.PAGE_BYTES

    @property
    def filter_at(self) -> int:
        return self.fences_at + 8 * self.pages

    @property
    def file_bytes(self) -> int:
        return self.filter_at + 8 * self.filter_words

    def encode(self) -> bytes:
        return _HEADER.pack(
            _MAGIC,
            _VERSION,
            int(self.wide),
            self.count,
            self.base,
            self.position_max,
            self.pages,
            self.fences_checksum,
            self.filter_checksum,
        ).ljust(_HEADER_BYTES, b"\0")


def _decode_header(raw: bytes) -> Header:
    """Only for bytes whose checksum has been found right."""
    _, _, wide, count, base, position_max, _, fences_checksum, filter_checksum = _HEADER.unpack_from(raw)
    return Header(bool(wide), count, base, position_max, fences_checksum, filter_checksum)


class RunWriter:
    """Writes one run from sorted entries that arrive in pieces; memory is bounded by the pieces and the fences.

    count, base, position_max: number of entries to come, their smallest and their largest position.
    """

    def __init__(self, path: Path, *, count: int, base: int, position_max: int) -> None:
        self._header = Header(position_max - base >= 1 << 32, count, base, position_max, 0, 0)
        self._shape = self._header.shape
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._fences: list[U64] = []
        self._pages_written = 0
        self._entries_written = 0
        self._rest = empty_entries()
        self._filter_bytes_written = 0
        self._filter_hash = xxhash.xxh3_64()
        self._filter = bloom.FilterWriter(self._header.filter_words)

    def append(self, entries: Entries) -> None:
        """Add entries (at least one), sorted, none smaller than those added before."""
        self._filter.add(entries.key, self._write_filter)
        together = concatenate([self._rest, entries])
        whole = len(together) - len(together) % self._shape.capacity
        self._write_pages(together.part(0, whole))
        self._rest = together.take(
            np.arange(whole, len(together))
        )  # a copy: a view would keep all of it alive

    def finish(self) -> int:
        """Write what is left and sync the file. Returns the checksum of the header."""
        self._write_pages(self._rest)
        if self._entries_written != self._header.count:
            raise ValueError(f"{self._header.count} entries announced, {self._entries_written} given")
        self._filter.finish(self._write_filter)
        fences = np.concatenate(self._fences)
        write_all(self._descriptor, fences.data.cast("B"), self._header.fences_at)
        header = Header(
            self._header.wide,
            self._header.count,
            self._header.base,
            self._header.position_max,
            xxhash.xxh3_64_intdigest(fences.data.cast("B")),
            self._filter_hash.intdigest(),
        ).encode()
        write_all(self._descriptor, memoryview(header), 0)
        os.fsync(self._descriptor)
        return xxhash.xxh3_64_intdigest(header)

    def close(self) -> None:
        """Release the file, finished or not. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_pages(self, entries: Entries) -> None:
        if not len(entries):
            return
        pages = page.pack(entries, self._shape, base=self._header.base, first_page=self._pages_written)
        write_all(
            self._descriptor,
            pages.data.cast("B"),
            _HEADER_BYTES + self._pages_written * page.PAGE_BYTES,
        )
        self._fences.append(pages[:, 0].copy())
        self._pages_written += len(pages)
        self._entries_written += len(entries)

    def _write_filter(self, words: U64) -> None:
        raw = words.data.cast("B")
        write_all(self._descriptor, raw, self._header.filter_at + self._filter_bytes_written)
        self._filter_hash.update(raw)
        self._filter_bytes_written += len(raw)


class Run:
    """A run opened for reading. Its file may be unlinked while it is in use.

    Raises (constructor): IndexDamagedError when the file is missing, has the wrong length or a damaged header.
    """

    def __init__(self, path: Path, *, header_checksum: int) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise IndexDamagedError(f"identity index: {path.name} is missing") from None
        weakref.finalize(self, os.close, self._descriptor)
        raw = bytearray(_HEADER_BYTES)
        read_into(self._descriptor, memoryview(raw), 0, path)
        if xxhash.xxh3_64_intdigest(raw) != header_checksum:
            raise IndexDamagedError(f"identity index: the header of {path.name} fails its checksum")
        self.header = _decode_header(bytes(raw))
        self.header_checksum = header_checksum
        size = os.fstat(self._descriptor).st_size
        if size != self.header.file_bytes:
            raise IndexDamagedError(
                f"identity index: {path.name} has {size} bytes instead of {self.header.file_bytes}"
            )
        self._shape = self.header.shape
        self._mapping = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ)
        words = np.frombuffer(self._mapping, np.uint64)
        self._pages: U64 = words[_HEADER_BYTES // 8 : self.header.fences_at // 8].reshape(-1, page.PAGE_WORDS)
        self._fences: U64 = words[self.header.fences_at // 8 : self.header.filter_at // 8]
        self._filter: U64 = words[self.header.filter_at // 8 :]
        # Reading ahead would fetch neighbours of a page that nobody asks for.
        self._mapping.madvise(mmap.MADV_RANDOM, _HEADER_BYTES, self.header.pages * page.PAGE_BYTES)

    def __len__(self) -> int:
        return self.header.count

    def find(self, key: U64, check: U32, bits: U64) -> tuple[NDArray[np.intp], U32, U64]:
        """Look up sorted keys, shape (n,); `bits` is `bloom.bits_of(key)`.

        Returns the indices of those that are here, and for each its content and position.

        Raises: IndexDamagedError when a page that holds the answer is damaged.
        """
        asked = bloom.may_hold(self._filter, key, bits)
        found: list[NDArray[np.intp]] = []
        contents: list[U32] = []
        positions: list[U64] = []
        for start in range(0, len(asked), _HITS_MAX):
            some = asked[start : start + _HITS_MAX]
            # Equal keys may begin in the last page whose fence is smaller, and go on for any number of pages.
            number = np.maximum(np.searchsorted(self._fences, key[some], side="left") - 1, 0)
            while len(some):
                here, content, position = self._look(number, key[some], check[some])
                found.append(some[here])
                contents.append(content)
                positions.append(position)
                further = np.ones(len(some), np.bool_)
                further[here] = False
                number = number + 1
                further &= number < self.header.pages
                further[further] = self._fences[number[further]] <= key[some[further]]
                some, number = some[further], number[further]
            if self.header.pages * page.PAGE_BYTES > _KEPT_MAPPED_BYTES:
                self._mapping.madvise(mmap.MADV_DONTNEED, _HEADER_BYTES, self.header.pages * page.PAGE_BYTES)
        if not found:
            return np.empty(0, np.intp), np.empty(0, np.uint32), np.empty(0, np.uint64)
        return np.concatenate(found), np.concatenate(contents), np.concatenate(positions)

    def _look(self, number: NDArray[np.intp], key: U64, check: U32) -> tuple[NDArray[np.intp], U32, U64]:
        """For each of m questions, look into its page (numbers rising): indices of those found, content, position."""
        first = np.concatenate((np.ones(1, np.bool_), number[1:] != number[:-1]))
        distinct = number[first]
        row = np.cumsum(first) - 1
        pages = self._pages.take(distinct, axis=0)
        page.verify(pages, distinct, self.path)
        same = self._shape.key(pages)[row] == key[:, None]
        same &= self._shape.check(pages)[row] == check[:, None]
        at = same.argmax(axis=1)
        here = np.flatnonzero(same[np.arange(len(at)), at] & (at < page.counts_of(pages)[row]))
        row, at = row[here], at[here]
        position = self._shape.position(pages)[row, at].astype(np.uint64) + np.uint64(self.header.base)
        return here, self._shape.content(pages)[row, at], position

    def read(self, first_page: int, pages_max: int) -> Entries:
        """The entries of consecutive pages, at least one; read, not mapped, and verified.

        Raises: IndexDamagedError.
        """
        count = min(pages_max, self.header.pages - first_page)
        pages = np.empty((count, page.PAGE_WORDS), np.uint64)
        read_into(
            self._descriptor,
            pages.data.cast("B"),
            _HEADER_BYTES + first_page * page.PAGE_BYTES,
            self.path,
        )
        page.verify(pages, np.arange(first_page, first_page + count), self.path)
        return page.unpack(pages, self._shape, base=self.header.base)

    def scan(self, *, pages_max: int = 256) -> Iterator[Entries]:
        """All entries in order, in blocks. Raises IndexDamagedError."""
        for first_page in range(0, self.header.pages, pages_max):
            yield self.read(first_page, pages_max)

    def verify_filter(self) -> None:
        """Check fences and filter, on which every answer rests. Raises IndexDamagedError."""
        for name, start, stop, expected in (
            ("fences", self.header.fences_at, self.header.filter_at, self.header.fences_checksum),
            ("filter", self.header.filter_at, self.header.file_bytes, self.header.filter_checksum),
        ):
            hashed = xxhash.xxh3_64()
            block = memoryview(bytearray(_BLOCK_BYTES))
            for offset in range(start, stop, _BLOCK_BYTES):
                part = block[: min(_BLOCK_BYTES, stop - offset)]
                read_into(self._descriptor, part, offset, self.path)
                hashed.update(part)
            if hashed.intdigest() != expected:
                raise IndexDamagedError(f"identity index: the {name} of {self.path.name} fail their checksum")

    def verify_pages(self) -> None:
        """Check every page. Raises IndexDamagedError."""
        for _ in self.scan():
            pass
