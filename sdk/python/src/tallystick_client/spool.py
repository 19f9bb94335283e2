"""Where events wait for the server: segments in order, bounded, shared with nobody while this process lives.

Each process has a directory of its own in the spool, with a lock that the kernel lets go when the process dies. Whoever
finds a directory whose lock is free takes its segments over, so what a killed process left is sent by the next one.
"""

import contextlib
import fcntl
import os
import shutil
import threading
from collections import deque
from collections.abc import Generator
from pathlib import Path

from tallystick_client.errors import SpoolFull
from tallystick_client.segment import HEADER_BYTES, Segment

_LOCK = "lock"
_SUFFIX = ".ndjson"


class Spool:
    """Safe for many threads that append and one that takes."""

    def __init__(
        self, directory: Path | None, *, bytes_max: int, segment_bytes: int, line_bytes_max: int
    ) -> None:
        """Raises OSError when the directory cannot be made or written."""
        self._lock = threading.Lock()
        self.room = threading.Condition(self._lock)
        self._sync_lock = threading.Lock()
        self._bytes_max = bytes_max
        self._segment_bytes = max(segment_bytes, line_bytes_max + HEADER_BYTES)
        self._segments: deque[Segment] = deque()
        self._open: Segment | None = None
        self._made = 0
        self._closed = False
        self.appended = 0
        self.damaged = 0
        self._home: Path | None = None
        self._directory = directory
        self._lock_fd = -1
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._home, self._lock_fd = _own(directory)
            self.adopt()

    def append(self, line: bytes) -> int:
        """Keep one event; how many bytes of its segment are unsent. When this returns, the death of the process cannot
        take the event (with a directory). Raises SpoolFull."""
        with self._lock:
            segment = self._open
            if self._closed:
                raise SpoolFull("The client is closed.")
            if segment is None or not segment.append(line):
                segment = self._next()
                segment.append(line)
            self.appended += 1
            return segment.written - segment.sent

    def _next(self) -> Segment:
        held = sum(segment.size for segment in self._segments)
        if held + self._segment_bytes > self._bytes_max and self._segments:
            raise SpoolFull(f"{held} bytes of events wait for the server; the bound is {self._bytes_max}.")
        path = None if self._home is None else self._home / f"{self._made:08d}{_SUFFIX}"
        try:
            made = Segment.new(path, self._segment_bytes)
        except OSError as error:
            raise SpoolFull(f"The spool cannot grow: {error}.") from error
        self._made += 1
        self._segments.append(made)
        self._open = made
        return made

    def batch(self, events_max: int, bytes_max: int) -> tuple[Segment, bytes] | None:
        """The oldest events, as NDJSON, and the segment they are in. None: there are none."""
        with self._lock:
            self._drop_sent()
            for segment in self._segments:
                body = segment.batch(events_max, bytes_max)
                if body:
                    return segment, body
            return None

    def acknowledge(self, segment: Segment, size: int, lines: int) -> None:
        """The server has (or will never take) the first `size` bytes of what `batch` gave."""
        with self._lock:
            if self._closed:
                return  # an answer that came after the end: the next process sends these again
            segment.acknowledge(size, lines)
            self._drop_sent()
            self.room.notify_all()

    def _drop_sent(self) -> None:
        while self._segments and self._segments[0].sent >= self._segments[0].written:
            segment = self._segments[0]
            if segment is self._open:
                if segment.written + self._segment_bytes // 2 < segment.size:
                    return  # there is room in it yet
                self._open = None
            self._segments.popleft()
            with self._sync_lock:
                segment.remove()

    @property
    def waiting(self) -> int:
        """How many events are not yet with the server."""
        with self._lock:
            return sum(segment.lines for segment in self._segments)

    def sync(self) -> None:
        """Have everything on the disk that is not with the server. Raises OSError."""
        with self._sync_lock:
            with self._lock:
                found = [
                    (segment, segment.unsynced, segment.written)
                    for segment in self._segments
                    if segment.unsynced is not None
                ]
            for segment, fd, written in found:
                assert fd is not None
                os.fsync(
                    fd
                )  # of the file: the kernel finds the mapped pages; msync would hold the interpreter
                segment.synced = max(segment.synced, written)

    def adopt(self) -> int:
        """Take over what dead processes left; how many events."""
        if self._directory is None or self._home is None:
            return 0
        found = 0
        for other in sorted(self._directory.iterdir()):
            if other == self._home or other.name.startswith(".") or not other.is_dir():
                continue
            with contextlib.suppress(OSError), _taken(other):
                for path in sorted(other.glob(f"*{_SUFFIX}")):
                    found += self._adopt(path, self._home / f"{other.name}-{path.name}")
                shutil.rmtree(other)
        return found

    def _adopt(self, path: Path, here: Path) -> int:
        try:
            path.rename(here)
            segment, damaged = Segment.left(here)
        except ValueError:
            here.rename(here.with_suffix(".damaged"))
            return 0
        with self._lock:
            self.damaged += damaged
            if not segment.lines:
                segment.remove()
                return 0
            self._segments.appendleft(segment)
            return segment.lines

    def close(self) -> None:
        """Let go of everything. What is unsent stays on the disk for the next process."""
        with contextlib.suppress(OSError):
            self.sync()
        with self._sync_lock, self._lock:
            empty = not any(segment.lines for segment in self._segments)
            for segment in self._segments:
                segment.remove() if not segment.lines else segment.close()
            self._segments.clear()
            self._open = None
            self._closed = True
            if self._home is not None and self._lock_fd >= 0:
                if empty:
                    shutil.rmtree(self._home, ignore_errors=True)
                os.close(self._lock_fd)
                self._lock_fd = -1

    def abandon(self) -> None:
        """In a forked child: these events are the parent's. The maps and descriptors go, the lock stays the parent's."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _own(directory: Path) -> tuple[Path, int]:
    """A new directory in the spool, locked before anybody can see it."""
    name = f"{os.getpid()}-{os.urandom(6).hex()}"
    passing = directory / f".{name}"
    passing.mkdir(mode=0o700)
    fd = os.open(passing / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    passing.rename(directory / name)
    return directory / name, fd


@contextlib.contextmanager
def _taken(directory: Path) -> Generator[None]:
    """Hold another's lock. Raises OSError when its process lives."""
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
