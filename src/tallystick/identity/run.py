"""A run: an immutable file of entries sorted by key, with its fences and its Bloom filter.

Layout: header (4 KiB) · pages (`page.py`) · fences, the first key of every page, u64 each · filter words
(`bloom.py`), u64 each. Where pages are packed, the filter comes before them, filled up to 4 KiB: how many pages there will
be is known at the end. The header holds the sizes and the xxh3-64 checksums of fences and filter; the manifest holds
the checksum of the header; pages check themselves.
"""

import mmap
import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
)  # magic, version, shape, count, base, position_max, pages; two checksums
_MAGIC = b"tallyrun"
_PLAIN, _PACKED = 1, 2
"""Versions."""
_HEADER_BYTES = page.PAGE_BYTES
_BLOCK_BYTES = 1 << 20
_HITS_MAX = 512
"""Pages looked at in one go. The kernel maps up to 64 KiB around each, so at most 32 MiB become resident."""
_KEPT_MAPPED_BYTES = 8 << 20
"""Runs whose pages are no more than this stay mapped after use."""


@dataclass(frozen=True, slots=True)
class Header:
    """Sizes and checksums of one run."""

    shape: page.PageShape
    count: int
    base: int
    position_max: int
    pages: int
    fences_checksum: int
    filter_checksum: int

    @property
    def filter_words(self) -> int:
        return bloom.words_for(self.count)

    @property
    def pages_at(self) -> int:
        if isinstance(self.shape, page.PackedShape):
            return self.filter_at + -(-8 * self.filter_words // page.PAGE_BYTES) * page.PAGE_BYTES
        return _HEADER_BYTES

    @property
    def fences_at(self) -> int:
        return self.pages_at + self.pages * page.PAGE_BYTES

    @property
    def filter_at(self) -> int:
        if isinstance(self.shape, page.PackedShape):
            return _HEADER_BYTES
        return self.fences_at + 8 * self.pages

    @property
    def file_bytes(self) -> int:
        if isinstance(self.shape, page.PackedShape):
            return self.fences_at + 8 * self.pages
        return self.filter_at + 8 * self.filter_words

    def encode(self) -> bytes:
        if isinstance(self.shape, page.PackedShape):
            version, shape = _PACKED, self.shape.key_bytes << 8 | self.shape.position_bytes
        else:
            version, shape = _PLAIN, int(self.shape.wide)
        return _HEADER.pack(
            _MAGIC,
            version,
            shape,
            self.count,
            self.base,
            self.position_max,
            self.pages,
            self.fences_checksum,
            self.filter_checksum,
        ).ljust(_HEADER_BYTES, b"\0")


def _decode_header(raw: bytes) -> Header:
    """Only for bytes whose checksum has been found right."""
    _, version, given, count, base, position_max, pages, fences_checksum, filter_checksum = (
        _HEADER.unpack_from(raw)
    )
    shape = page.PackedShape(given >> 8, given & 255) if version == _PACKED else page.PlainShape(bool(given))
    return Header(shape, count, base, position_max, pages, fences_checksum, filter_checksum)


class RunWriter:
    """Writes one run from sorted entries that arrive in pieces; memory is bounded by the pieces and the fences.

    count, base, position_max: number of entries to come, their smallest and their largest position.
    """

    def __init__(self, path: Path, *, count: int, base: int, position_max: int) -> None:
        self._shape = page.shape_for(count, span=position_max - base)
        # A plain run has its pages filled, and what comes after them has its place from the beginning.
        pages = -(-count // self._shape.capacity)
        self._header = Header(self._shape, count, base, position_max, pages, 0, 0)
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
        done = self._write_fitting(together, is_last=False)
        # A copy: a view would keep all of it alive.
        self._rest = together.take(np.arange(done, len(together)))

    def finish(self) -> int:
        """Write what is left and sync the file. Returns the checksum of the header."""
        self._write_fitting(self._rest, is_last=True)
        if self._entries_written != self._header.count:
            raise ValueError(f"{self._header.count} entries announced, {self._entries_written} given")
        self._filter.finish(self._write_filter)
        fences = np.concatenate(self._fences)
        header = replace(
            self._header,
            pages=self._pages_written,
            fences_checksum=xxhash.xxh3_64_intdigest(fences.data.cast("B")),
            filter_checksum=self._filter_hash.intdigest(),
        )
        write_all(self._descriptor, fences.data.cast("B"), header.fences_at)
        raw = header.encode()
        write_all(self._descriptor, memoryview(raw), 0)
        os.fsync(self._descriptor)
        return xxhash.xxh3_64_intdigest(raw)

    def close(self) -> None:
        """Release the file, finished or not. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_fitting(self, entries: Entries, *, is_last: bool) -> int:
        """Write all pages that can take no more; how many entries they hold."""
        done = 0
        while True:
            full, further = page.fit(entries.key[done:], self._shape, is_last=is_last)
            self._write_pages(entries.part(done, done + full))
            self._write_pages(entries.part(done + full, done + full + further))
            done += full + further
            if not further:
                return done

    def _write_pages(self, entries: Entries) -> None:
        if not len(entries):
            return
        pages = page.pack(entries, self._shape, base=self._header.base, first_page=self._pages_written)
        write_all(
            self._descriptor,
            pages.data.cast("B"),
            self._header.pages_at + self._pages_written * page.PAGE_BYTES,
        )
        self._fences.append(pages[:, 0].copy())  # in both shapes a page begins with its first key
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
        self._pages: U64 = words[self.header.pages_at // 8 : self.header.fences_at // 8].reshape(
            -1, page.PAGE_WORDS
        )
        self._fences: U64 = words[self.header.fences_at // 8 :][: self.header.pages]
        self._filter: U64 = words[self.header.filter_at // 8 :][: self.header.filter_words]
        # Reading ahead would fetch neighbours of a page that nobody asks for.
        self._mapping.madvise(mmap.MADV_RANDOM, self.header.pages_at, self.header.pages * page.PAGE_BYTES)

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
                self._mapping.madvise(
                    mmap.MADV_DONTNEED, self.header.pages_at, self.header.pages * page.PAGE_BYTES
                )
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
        there, at = self._shape.find(pages, row, key, check)
        here = np.flatnonzero(there & (at < page.counts_of(pages)[row]))
        row, at = row[here], at[here]
        position = self._shape.position_at(pages, row, at) + np.uint64(self.header.base)
        return here, self._shape.content_at(pages, row, at), position

    def read(self, first_page: int, pages_max: int) -> Entries:
        """The entries of consecutive pages, at least one; read, not mapped, and verified.

        Raises: IndexDamagedError.
        """
        count = min(pages_max, self.header.pages - first_page)
        pages = np.empty((count, page.PAGE_WORDS), np.uint64)
        read_into(
            self._descriptor,
            pages.data.cast("B"),
            self.header.pages_at + first_page * page.PAGE_BYTES,
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
        for name, start, size, expected in (
            ("fences", self.header.fences_at, 8 * self.header.pages, self.header.fences_checksum),
            ("filter", self.header.filter_at, 8 * self.header.filter_words, self.header.filter_checksum),
        ):
            hashed = xxhash.xxh3_64()
            block = memoryview(bytearray(_BLOCK_BYTES))
            for offset in range(start, start + size, _BLOCK_BYTES):
                part = block[: min(_BLOCK_BYTES, start + size - offset)]
                read_into(self._descriptor, part, offset, self.path)
                hashed.update(part)
            if hashed.intdigest() != expected:
                raise IndexDamagedError(f"identity index: the {name} of {self.path.name} fail their checksum")

    def verify_pages(self) -> None:
        """Check every page. Raises IndexDamagedError."""
        for _ in self.scan():
            pass
