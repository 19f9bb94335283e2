"""A file of fixed size that is written from its beginning again and again: durable for the price of one sync.

Its blocks are written once beforehand, so that a sync has no change of the file's size to wait for (a fifth of what a commit
of SQLite takes). Entries lie one behind the other. Each carries its round: what an earlier round has left behind the last entry
is not read. A torn entry was never acknowledged, and ends the reading.
"""

import errno
import fcntl
import os
import struct
import time
import zlib
from pathlib import Path

_HEADER = struct.Struct("<IIQ")
"""Length of the entry, CRC-32 of the length, the round and the entry, the round."""
_SPAN = struct.Struct("<IQ")
_NOTHING = bytes(_HEADER.size)
_TAKEN_S_MAX = 10.0
"""A process whose parent was killed lets go of it within milliseconds."""


class Journal:
    """One process at a time has it open. From any thread, one after the other. Everything raises OSError."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        """Made where it is not there, or not whole."""
        self._bytes_max = bytes_max
        self._end = 0
        self._round = 0
        created = not path.exists()
        # What is written is durable when the call returns: beside threads that compute, a second call for it would mean to
        # wait for the interpreter once more.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_DSYNC, 0o600)
        try:
            _take(self._file)
            size = os.fstat(self._file).st_size
            if size < bytes_max:
                self._write(size, bytes(bytes_max - size))
                os.fsync(self._file)
            if created:
                _sync_directory(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def read(self) -> tuple[int, list[bytes]]:
        """The round that it was left in (0: it is empty), and its entries in their order."""
        raw = self._read_all()
        entries: list[bytes] = []
        at, round_ = 0, 0
        while at + _HEADER.size <= len(raw):
            length, checksum, of_round = _HEADER.unpack_from(raw, at)
            begin, end = at + _HEADER.size, at + _HEADER.size + length
            if not length or end > len(raw) or (entries and of_round != round_):
                break
            entry = raw[begin:end]
            if _checksum(length, of_round, entry) != checksum:
                break
            round_ = of_round
            entries.append(entry)
            at = end
        return round_, entries

    def begin(self, round_: int) -> None:
        """From the beginning again. `round_` has to be another one than any before."""
        self._round, self._end = round_, 0

    def fits(self, entry: bytes) -> bool:
        return self._end + _HEADER.size + len(entry) <= self._bytes_max

    @property
    def filled(self) -> float:
        """The share of it that is written, 0 to 1."""
        return self._end / self._bytes_max

    def append(self, entry: bytes) -> None:
        """Durable when it returns."""
        length = len(entry)
        header = _HEADER.pack(length, _checksum(length, self._round, entry), self._round)
        self._write(self._end, header + entry)
        self._end += _HEADER.size + length

    def clear(self) -> None:
        """Nothing is in it any more, durably."""
        self._write(0, _NOTHING)

    def close(self) -> None:
        os.close(self._file)

    def _write(self, at: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written

    def _read_all(self) -> bytes:
        pieces: list[bytes] = []
        at = 0
        while at < self._bytes_max and (piece := os.pread(self._file, self._bytes_max - at, at)):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)


def _take(file: int) -> None:
    """Nobody else may have it open. Raises OSError where somebody does for too long."""
    until_s = time.monotonic() + _TAKEN_S_MAX
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise OSError(errno.EBUSY, "another process has the gate's journal open") from None
            time.sleep(0.02)
        else:
            return


def _checksum(length: int, round_: int, entry: bytes) -> int:
    return zlib.crc32(entry, zlib.crc32(_SPAN.pack(length, round_)))


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
