"""One file of the spool: events as NDJSON in a mapped file, appended at the end, taken from the front.

A mapped page belongs to the kernel the moment it is written, so what `append` has returned from survives the death of
the process. What the death of the *machine* can take is bounded by `sync`. Without a path the same lives in memory.

Layout: 64 bytes of header (a magic word, and how far the server has acknowledged), then lines, then zeros. The mark in
the header may be older than the truth, never newer; what is sent twice because of it counts once.
"""

import contextlib
import json
import mmap
import os
from pathlib import Path

_MAGIC = b"tallystick-spool-1\n"
_MARK = slice(19, 39)
HEADER_BYTES = 64


class Segment:
    """See the module. Not safe for several threads: the spool holds a lock."""

    __slots__ = ("_fd", "_map", "lines", "path", "sent", "size", "synced", "written")

    def __init__(self, path: Path | None, fd: int, mapped: mmap.mmap, *, written: int, sent: int) -> None:
        self.path = path
        self._fd = fd
        self._map = mapped
        self.size = len(mapped)
        self.written = written
        self.sent = sent
        self.synced = written
        self.lines = 0

    @classmethod
    def new(cls, path: Path | None, size: int) -> "Segment":
        """An empty one. Its bytes are reserved on the disk. Raises OSError."""
        if path is None:
            made = cls(None, -1, mmap.mmap(-1, size), written=HEADER_BYTES, sent=HEADER_BYTES)
        else:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                # A hole in the file would become a SIGBUS on a full disk; reserved, it becomes an error here.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(fd, 0, size)
                else:
                    for _ in range(0, size, 65_536):
                        os.write(fd, bytes(min(65_536, size)))
                    os.ftruncate(fd, size)
                made = cls(path, fd, mmap.mmap(fd, size), written=HEADER_BYTES, sent=HEADER_BYTES)
            except OSError:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
        made._map[: len(_MAGIC)] = _MAGIC
        made._mark()
        return made

    @classmethod
    def left(cls, path: Path) -> tuple["Segment", int]:
        """One that another process has left, and how many of its lines were damaged. Raises OSError and ValueError
        for a file that is none."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(fd, 0)
        except (OSError, ValueError):
            os.close(fd)
            raise
        found = cls(path, fd, mapped, written=HEADER_BYTES, sent=HEADER_BYTES)
        try:
            lines, damaged = found._unsent()
            return (found._without_damage(path, lines) if damaged else found), damaged
        except (OSError, ValueError):
            found.close()
            raise

    def _unsent(self) -> tuple[list[bytes], int]:
        """Set what a living segment keeps beside the file. The events that are whole; how many lines are not."""
        if self._map[: len(_MAGIC)] != _MAGIC:
            if not self._map[:HEADER_BYTES].strip(b"\0"):
                return [], 0  # reserved, and then the end came
            raise ValueError(f"{self.path} is no file of a spool.")
        mark = bytes(self._map[_MARK])
        at = int(mark) if mark.isdigit() else HEADER_BYTES
        if not HEADER_BYTES < at <= self.size or self._map[at - 1 : at] != b"\n":
            at = HEADER_BYTES  # from the front again: nothing is lost by it
        rest = self._map[at:].rstrip(b"\0")
        lines = rest.splitlines(keepends=True)
        whole = [line for line in lines if _is_event(line)]
        self.sent, self.written, self.lines = at, at + len(rest), len(whole)
        return whole, len(lines) - len(whole)

    def _without_damage(self, path: Path, lines: list[bytes]) -> "Segment":
        """The same file with whole lines alone, put in its place in one step."""
        passing = path.with_suffix(".passing")
        passing.unlink(missing_ok=True)
        made = Segment.new(passing, self.size)
        for line in lines:
            made.append(line)
        os.fsync(made._fd)
        passing.rename(path)
        made.path = path
        self.close()
        return made

    def append(self, line: bytes) -> bool:
        """Whether there was room for it."""
        end = self.written + len(line)
        if end > self.size:
            return False
        self._map[self.written : end] = line
        self.written = end
        self.lines += 1
        return True

    def batch(self, events_max: int, bytes_max: int) -> bytes:
        """The next lines to send, empty when there are none: at least one, however long."""
        piece = self._map[self.sent : min(self.written, self.sent + bytes_max)]
        end = piece.rfind(b"\n") + 1
        if not end and self.sent < self.written:
            end = self._map.find(b"\n", self.sent) + 1 - self.sent
            return self._map[self.sent : self.sent + end]
        piece = piece[:end]
        if piece.count(b"\n") > events_max:
            end = 0
            for _ in range(events_max):
                end = piece.index(b"\n", end) + 1
            piece = piece[:end]
        return piece

    def acknowledge(self, size: int, lines: int) -> None:
        """The first `size` bytes that were not, `lines` lines, are with the server."""
        self.sent += size
        self.lines -= lines
        self._mark()

    def _mark(self) -> None:
        self._map[_MARK] = b"%020d" % self.sent

    @property
    def unsynced(self) -> int | None:
        """A descriptor to sync, when that would secure events not yet with the server."""
        if self._fd < 0 or self.synced >= self.written or self.sent >= self.written:
            return None
        return self._fd

    def close(self) -> None:
        """Leave it where it is."""
        self._map.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """All of it is with the server."""
        self.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()


def _is_event(line: bytes) -> bool:
    """A page that never reached the disk reads as zeros, a line that was being written has no end."""
    if not line.endswith(b"}\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
