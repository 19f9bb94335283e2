"""The event log in one SQLite file: WAL, every commit synced, one writer thread, group commit.

How a request becomes durable: `append` puts it on a queue; the writer thread takes everything that waits, makes one
Arrow batch of it (block.py) and stores that as one row in one synced transaction; then it wakes all requests at once.
While one commit is at the disk the next ones gather, so the more requests there are, the more share a sync.

Why positions appear in commit order: there is one writer, it numbers the events in the order it commits them, and
`end` moves only after the commit. A second writer would have to prove this anew; the lock file forbids one.
"""

import asyncio
import bisect
import contextlib
import fcntl
import os
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import structlog

from tallystick.errors import Invalid, StorageFull, TallystickError, Unavailable
from tallystick.log import block as blocks
from tallystick.log.interface import Block, LogDamagedError, LogInUseError, LogTrimmedError
from tallystick.metering.event import EventColumns
from tallystick.metering.position import Positions

FILE_VERSION = 1
"""Version of the tables below (SQLite's `user_version`); the blocks carry a format of their own."""

APPLICATION_ID = 0x54414C4C  # "TALL": tells our file from any other SQLite file

COMMIT_EVENTS_MAX = 50_000
COMMIT_BYTES_MAX = 16 * 1024**2
TAIL_BYTES_MAX = 64 * 1024**2
WAITING_BYTES_MAX = 256 * 1024**2
RESERVE_BYTES = 48 * 1024**2
"""More than a WAL grows to between two checkpoints: 16 MiB, and one large commit on top."""

_TAIL_BLOCK_OVERHEAD_BYTES = 8192  # what a batch costs in memory beside its rows: fourteen arrays
_TRIM_BLOCKS_MAX = 256  # one step of trimming: short enough for an append to wait behind it
_TRIM_BYTES_MAX = 8 * 1024**2
_FREE_BYTES_KEPT = 64 * 1024**2  # file space kept for reuse; more is given back when the log is drained
_VACUUM_PAGES_MAX = 512
_BUSY_S = 5.0
_FULL_BELOW_BYTES = 1024**2

_PAGE_BYTES = 16384
_SCHEMA = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE block (
    first    INTEGER PRIMARY KEY,  -- position of the first event
    count    INTEGER NOT NULL,     -- events
    format   INTEGER NOT NULL,     -- of the body, see block.py
    checksum BLOB    NOT NULL,
    body     BLOB    NOT NULL
);
CREATE TABLE trimmed (through INTEGER NOT NULL);
INSERT INTO trimmed (through) VALUES (0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FILE_VERSION};
COMMIT;
"""  # noqa: S608 -- numbers of our own

_INSERT = "INSERT INTO block (first, count, format, checksum, body) VALUES (?, ?, ?, ?, ?)"
_LAST = "SELECT first + count - 1 FROM block ORDER BY first DESC LIMIT 1"
_READ = """
SELECT first, count, format, checksum, body FROM block
WHERE first >= coalesce((SELECT max(first) FROM block WHERE first <= ?1), 0) AND first <= ?2
ORDER BY first
"""

Connect = Callable[[Path], sqlite3.Connection]
ObserveCommit = Callable[[int, int, float], None]

_logger = structlog.get_logger("tallystick.log")


class _Request(NamedTuple):
    events: EventColumns
    event_count: int
    bytes_taken: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Positions]


class _Waiter(NamedTuple):
    after: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[bool]


class _Reserve:
    """A file that only takes up room, to be given away when the disk is full.

    Without it a full disk might stay full for ever: trimming is what makes room, and it has to write first.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def spend(self) -> bool:
        """False when it had been spent before."""
        try:
            self._path.unlink()
        except OSError:
            return False
        _logger.warning("log_reserve_spent", path=str(self._path))
        return True

    def release(self) -> None:
        """A closed log takes up only what it holds."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Take the room again, once there is plenty."""
        try:
            if self._size_bytes == 0 or self._path.exists():
                return
            if shutil.disk_usage(self._path.parent).free < 2 * self._size_bytes:
                return
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError as error:
            _logger.warning("log_reserve_not_taken", path=str(self._path), error=str(error))
            self.release()


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the log's file, usable from another thread, every statement its own transaction."""
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


class SqliteLog:
    """`Log` in one SQLite file. See interface.py for the meaning of each method."""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        waiting_events_max: int,
        unrecorded_events_max: int,
        positions_after: int = 0,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
        tail_bytes_max: int = TAIL_BYTES_MAX,
        observe_commit: ObserveCommit | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        connect: Connect = connect,
    ) -> "SqliteLog":
        """Open the log, or make an empty one. Needs no running event loop.

        waiting_events_max, waiting_bytes_max: what may wait for a commit before `append` refuses.
        unrecorded_events_max: events after the last allowed trim before `append` refuses.
        positions_after: positions up to this one were given before (their events are recorded): a log that was lost
        or replaced by an older copy must never give them again, and trims what it holds of them.
        tail_bytes_max: memory for the latest blocks, which are then read without touching the file; 0 for none.
        observe_commit: called from the writer thread after each commit with (requests, events, seconds).
        reserve_bytes: disk space kept back, so that a full disk can be trimmed.
        connect: makes the writer's connection; tests give one that fails.

        Raises: LogInUseError when another process has it open; LogDamagedError when the file is no event log;
        StorageFull or Unavailable when the disk does not let us.
        """
        return cls(
            Path(path),
            waiting_events_max=waiting_events_max,
            unrecorded_events_max=unrecorded_events_max,
            positions_after=positions_after,
            waiting_bytes_max=waiting_bytes_max,
            tail_bytes_max=tail_bytes_max,
            observe_commit=observe_commit,
            reserve_bytes=reserve_bytes,
            connect=connect,
        )

    def __init__(
        self,
        path: Path,
        *,
        waiting_events_max: int,
        unrecorded_events_max: int,
        positions_after: int = 0,
        waiting_bytes_max: int,
        tail_bytes_max: int,
        observe_commit: ObserveCommit | None,
        reserve_bytes: int,
        connect: Connect,
    ) -> None:
        self._path = path.absolute()
        self._waiting_events_max = waiting_events_max
        self._waiting_bytes_max = waiting_bytes_max
        self._unrecorded_events_max = unrecorded_events_max
        self._tail_bytes_max = tail_bytes_max
        self._observe_commit = observe_commit
        self._connect = connect

        # Everything from here to `_closing` is shared between the event loops and the writer: under `_changed`.
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._waiters: set[_Waiter] = set()
        self._tail: list[Block] = []
        self._tail_bytes = 0
        self._trim_waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._trim_due = False
        self._closing = False
        self._released = False

        self._is_full = False
        self._lock_file = _lock(self._path)
        try:
            self._writer: sqlite3.Connection | None = self._open_writer()
            self._end, self._trimmed_through = self._state_of(self._writer)
            if self._end < positions_after:
                self._begin_after(self._writer, positions_after)
        except BaseException:
            self._lock_file.close()
            raise
        self._trim_allowed = self._trimmed_through
        self._reserve = _Reserve(self._path.with_name(self._path.name + ".reserve"), reserve_bytes)
        self._reserve.renew()
        self._reader: sqlite3.Connection | None = None
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="log-reader")
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def end(self) -> int:
        return self._end

    @property
    def trimmed_through(self) -> int:
        return self._trimmed_through

    def behind(self, after: int) -> int:
        return max(0, self._end - after)

    async def append(self, events: EventColumns) -> Positions:
        count = len(events)
        if count == 0:
            return np.empty(0, np.uint64)
        blocks.check_lengths(events)
        bytes_taken = blocks.bytes_of(events)
        loop = asyncio.get_running_loop()
        request = _Request(events, count, bytes_taken, loop, loop.create_future())
        with self._changed:
            self._refuse_what_is_too_much(count, bytes_taken)
            self._waiting.append(request)
            self._waiting_events += count
            self._waiting_bytes += bytes_taken
            if len(self._waiting) == 1:
                self._changed.notify()
        return await request.future

    def _refuse_what_is_too_much(self, count: int, bytes_taken: int) -> None:
        if self._closing:
            raise _closed()
        unrecorded = self._end - self._trim_allowed
        if unrecorded >= self._unrecorded_events_max:
            raise Unavailable(
                f"{unrecorded} events wait to be recorded, {self._unrecorded_events_max} may. Send them again later.",
                code="recorder_behind",
                retry_after_s=5,
            )
        if self._waiting and (
            self._waiting_events + count > self._waiting_events_max
            or self._waiting_bytes + bytes_taken > self._waiting_bytes_max
        ):
            raise Unavailable(
                f"{self._waiting_events} events wait for the disk, with these it would be more than may. "
                "Send them again later.",
                code="log_busy",
                retry_after_s=1,
            )

    async def read(self, after: int, *, events_max: int) -> Sequence[Block]:
        with self._changed:
            if self._closing:
                raise _closed()
            end = self._end
            if after >= end:
                return []
            self._refuse_trimmed(after)
            if self._tail and self._tail[0].first <= after + 1:
                start = bisect.bisect_right(self._tail, after + 1, key=_first_of) - 1
                return _take(iter(self._tail[start:]), after, events_max)
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._read_file, after, end, events_max
        )

    def _refuse_trimmed(self, after: int) -> None:
        if after < self._trimmed_through:
            raise LogTrimmedError(
                f"The events from position {after + 1} were asked for, and those up to {self._trimmed_through} "
                "have been trimmed away."
            )

    async def wait_for(self, after: int, *, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(after, loop, loop.create_future())
        with self._changed:
            if self._end > after:
                return True
            if self._closing:
                return False
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.future
        except TimeoutError:
            return False
        finally:
            with self._changed:
                self._waiters.discard(waiter)

    async def trim(self, through: int) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if self._closing:
                return
            self._trim_allowed = max(self._trim_allowed, min(through, self._end))
            self._trim_due = True
            self._trim_waiters.append((loop, done))
            self._changed.notify()
        await done

    async def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._thread.join()
        self._readers.shutdown()
        with self._changed:
            if self._released:
                return
            self._released = True
            self._tail.clear()
        self._reserve.release()  # closing folds the WAL into the file, which may need the room
        # The reader first: the last connection to close folds the WAL into the file, and that is the writer's work.
        for connection in (self._reader, self._writer):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._lock_file.close()

    # The writer thread.

    def _run(self) -> None:
        try:
            blocks.warm_up()
        except Exception:
            _logger.exception("log_warm_up_failed")
        while True:
            with self._changed:
                while not (self._waiting or self._trim_due or self._closing):
                    self._changed.wait()
                if self._closing:
                    break
                requests = self._take_waiting()
                trim_due = self._trim_due
            if requests:
                try:
                    self._commit(requests)
                except Exception as error:
                    # A fault of ours must not end the thread, or every later request would hang.
                    _logger.exception("log_commit_failed")
                    self._discard_writer()
                    _fail(requests, _unavailable(error))
            if trim_due:
                try:
                    self._trim_step()
                except Exception:
                    _logger.exception("log_trim_failed")
                    self._discard_writer()
                    self._end_trimming()
        self._refuse_the_rest()

    def _take_waiting(self) -> list[_Request]:
        taken: list[_Request] = []
        events = size = 0
        while self._waiting:
            request = self._waiting[0]
            events += request.event_count
            size += request.bytes_taken
            if taken and (events > COMMIT_EVENTS_MAX or size > COMMIT_BYTES_MAX):
                break
            taken.append(self._waiting.popleft())
            self._waiting_events -= request.event_count
            self._waiting_bytes -= request.bytes_taken
        return taken

    def _refuse_the_rest(self) -> None:
        with self._changed:
            requests = list(self._waiting)
            self._waiting.clear()
            self._waiting_events = self._waiting_bytes = 0
            waiters = list(self._waiters)
        _fail(requests, _closed())
        _call_each_loop([(waiter.loop, waiter.future, False) for waiter in waiters])
        self._end_trimming()

    def _commit(self, requests: list[_Request]) -> None:
        started_s = time.monotonic()
        batch, requests = _batch_of_the_sound(requests)
        if batch is None:
            return
        try:
            writer = self._ready_writer()
            first = self._end + 1
            body = blocks.encode(batch)
            writer.execute(
                _INSERT, (first, batch.num_rows, blocks.FORMAT, blocks.checksum(body, first=first), body)
            )
        except sqlite3.Error as error:
            _fail(requests, self._after_failure(error))
            return
        except TallystickError as error:
            _fail(requests, error)
            return
        if self._is_full:
            self._is_full = False
            _logger.info("log_storage_available_again")
        self._publish(Block(first, batch), requests)
        if self._observe_commit is not None:
            self._observe_commit(len(requests), batch.num_rows, time.monotonic() - started_s)

    def _publish(self, block: Block, requests: list[_Request]) -> None:
        with self._changed:
            self._end = block.last
            self._tail.append(block)
            self._tail_bytes += _memory_of(block)
            self._shorten_tail()
            outcomes = self._woken()
        after = block.first
        for request in requests:
            first, after = after, after + request.event_count
            outcomes.append((request.loop, request.future, np.arange(first, after, dtype=np.uint64)))
        _call_each_loop(outcomes)

    def _woken(self) -> "list[_Outcome]":
        return [(waiter.loop, waiter.future, True) for waiter in self._waiters if waiter.after < self._end]

    def _shorten_tail(self) -> None:
        cut = 0
        while self._tail_bytes > self._tail_bytes_max and cut < len(self._tail):
            self._tail_bytes -= _memory_of(self._tail[cut])
            cut += 1
        del self._tail[:cut]

    # Trimming, in the writer thread.

    def _trim_step(self) -> None:
        """Delete a few blocks, or give a little space back; say so when there is nothing left to do.

        Not synced: a trim that a crash undoes is a trim that has yet to happen, and the next append's sync covers it.
        """
        allowed = self._trim_allowed
        more = False
        try:
            more = self._trim_some(allowed)
        except StorageFull:
            # Deleting needs room too: in the WAL, and to fold the WAL into the file. That is what the reserve is for.
            if self._reserve.spend():
                with contextlib.suppress(TallystickError):
                    more = self._trim_some(allowed, fold=True)
        except TallystickError:
            pass  # logged where it arose; the permission stays
        if not more:
            self._reserve.renew()
            self._end_trimming(allowed)

    def _trim_some(self, allowed: int, *, fold: bool = False) -> bool:
        """Whether there is more to do."""
        writer = self._ready_writer()
        try:
            if fold:
                writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            writer.execute("PRAGMA synchronous = NORMAL")
            more = self._delete_some(writer, allowed) or _vacuum_some(writer)
            writer.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            ours = self._after_failure(error)
            self._discard_writer()  # it may still be set not to sync
            raise ours from error
        return more

    def _end_trimming(self, allowed: int | None = None) -> None:
        with self._changed:
            if allowed is not None and allowed < self._trim_allowed:
                return  # more was allowed meanwhile
            self._trim_due = False
            done = self._trim_waiters
            self._trim_waiters = []
        _call_each_loop([(loop, future, None) for loop, future in done])

    def _delete_some(self, writer: sqlite3.Connection, allowed: int) -> bool:
        if allowed <= self._trimmed_through:
            return False
        rows = writer.execute(
            "SELECT first + count - 1, length(body) FROM block WHERE first <= ? ORDER BY first LIMIT ?",
            (allowed, _TRIM_BLOCKS_MAX),
        ).fetchall()
        through = size = 0
        for last, bytes_taken in rows:
            size += bytes_taken
            if last > allowed or (through and size > _TRIM_BYTES_MAX):
                break
            through = last
        if not through:
            return False
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM block WHERE first <= ?", (through,))
        writer.execute("UPDATE trimmed SET through = ?", (through,))
        writer.execute("COMMIT")
        with self._changed:
            self._trimmed_through = through
            cut = bisect.bisect_right(self._tail, through, key=_first_of)
            self._tail_bytes -= sum(map(_memory_of, self._tail[:cut]))
            del self._tail[:cut]
        return True

    # The file.

    def _open_writer(self) -> sqlite3.Connection:
        """Open, make or check the file. Every way in which it is not a log of ours is told apart here."""
        try:
            connection = self._connect(self._path)
        except sqlite3.Error as error:
            raise self._as_ours(error) from error
        try:
            self._prepare(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self._as_ours(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        application, version, tables = connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id), "
            "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
        ).fetchone()
        if tables == 0 and application == 0:
            connection.executescript(_SCHEMA)
            _sync_directory(self._path.parent)
        elif application != APPLICATION_ID:
            raise LogDamagedError(f"{self._path} is an SQLite file, but not an event log.")
        elif version != FILE_VERSION:
            raise LogDamagedError(
                f"{self._path} has version {version}; this program reads version {FILE_VERSION}. "
                "Start the program that wrote it."
            )
        for pragma in (
            "synchronous = FULL",
            "secure_delete = OFF",  # some distributions turn it on; it would rewrite every trimmed page
            "wal_autocheckpoint = 1024",  # 16 MiB: fewer writes of the same page than the default's 1,000 small ones
            "journal_size_limit = 67108864",
            "cache_size = -4096",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise Unavailable(f"{self._path}: this file system does not let SQLite keep a WAL (mode {mode}).")

    def _state_of(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """(end, trimmed_through), from the file."""
        try:
            row = connection.execute("SELECT through FROM trimmed").fetchone()
            if row is None:
                raise LogDamagedError(f"{self._path}: the position it was trimmed through is missing.")
            trimmed_through = row[0]
            last = connection.execute(_LAST).fetchone()
        except sqlite3.Error as error:
            raise self._as_ours(error) from error
        return (last[0] if last else trimmed_through), trimmed_through

    def _begin_after(self, writer: sqlite3.Connection, position: int) -> None:
        _logger.warning("log_begins_anew", end=self._end, positions_after=position)
        try:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("DELETE FROM block")
            writer.execute("UPDATE trimmed SET through = ?", (position,))
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._as_ours(error) from error
        self._end = self._trimmed_through = position

    def _ready_writer(self) -> sqlite3.Connection:
        """The writer's connection, opened anew when a failure cost us the last one."""
        if self._writer is not None:
            return self._writer
        connection = self._open_writer()
        try:
            end, trimmed_through = self._state_of(connection)
        except BaseException:
            connection.close()
            raise
        if end < self._end:
            connection.close()
            raise LogDamagedError(
                f"{self._path} ends at position {end}, but {self._end} was acknowledged. "
                "Was the file replaced? Nothing is accepted until it is back, or the process is restarted."
            )
        self._writer = connection
        with self._changed:
            self._trimmed_through = trimmed_through
            if end > self._end:
                # A commit whose sync failed was complete after all. Its requests were told to come again, which
                # identity makes harmless; its positions are taken. The tail would have a hole there.
                self._tail.clear()
                self._tail_bytes = 0
                self._end = end
            woken = self._woken()
        _call_each_loop(woken)
        return connection

    def _discard_writer(self) -> None:
        connection, self._writer = self._writer, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _after_failure(self, error: sqlite3.Error) -> TallystickError:
        """Bring the connection back to a known state, and say in our words what happened."""
        ours = self._as_ours(error)
        if isinstance(ours, StorageFull):
            if not self._is_full:
                self._is_full = True
                _logger.error("log_storage_full", path=str(self._path))
        else:
            _logger.error("log_write_failed", path=str(self._path), error=str(error))
        writer = self._writer
        try:
            if writer is not None and writer.in_transaction:
                writer.execute("ROLLBACK")
        except sqlite3.Error:
            self._discard_writer()
        if not isinstance(ours, StorageFull):
            self._discard_writer()
        return ours

    def _as_ours(self, error: sqlite3.Error) -> TallystickError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (
            # The file system also says "no room" in other words, where SQLite extends its shared memory file.
            code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
            and shutil.disk_usage(self._path.parent).free < _FULL_BELOW_BYTES
        ):
            return StorageFull(
                f"The disk of the event log ({self._path.parent}) is full. Nothing of this request was stored; "
                "make room and send it again."
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return LogDamagedError(f"{self._path} is damaged, or no SQLite file at all: {error}.")
        return _unavailable(error)

    # Reading the file, in the reader's thread.

    def _read_file(self, after: int, end: int, events_max: int) -> list[Block]:
        try:
            if self._reader is None:
                self._reader = sqlite3.connect(
                    f"{self._path.as_uri()}?mode=ro",
                    uri=True,
                    timeout=_BUSY_S,
                    isolation_level=None,
                    check_same_thread=False,
                )
            cursor = self._reader.execute(_READ, (after + 1, end))
            try:
                return _take(self._checked(cursor, after), after, events_max)
            finally:
                cursor.close()  # or the snapshot would stay, and the WAL could not be reused
        except sqlite3.Error as error:
            if self._reader is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._reader.close()
                self._reader = None
            ours = self._as_ours(error)
            if isinstance(ours, LogDamagedError):
                raise LogDamagedError(f"{ours.detail} Reading from position {after + 1}.") from error
            raise ours from error

    def _checked(self, cursor: sqlite3.Cursor, after: int) -> Iterable[Block]:
        expected = after + 1
        for first, count, block_format, checksum, body in cursor:
            # The first block may begin before `after`; every other one begins where the last one ended.
            if not first <= expected < first + count or (expected > after + 1 and first != expected):
                break
            place = f"{self._path}: the block of the positions {first} to {first + count - 1}"
            if not isinstance(body, bytes) or blocks.checksum(body, first=first) != checksum:
                raise LogDamagedError(f"{place} is not as it was written: its checksum differs.")
            try:
                batch = blocks.decode(body, block_format=block_format)
            except (ValueError, OSError, pa.ArrowException) as error:
                raise LogDamagedError(f"{place} cannot be read: {error}") from error
            if batch.num_rows != count:
                raise LogDamagedError(f"{place} holds {batch.num_rows} events.")
            yield Block(first, batch)
            expected = first + count
        else:
            if expected > after + 1:
                return
        self._refuse_trimmed(after)
        raise LogDamagedError(f"{self._path}: the block of position {expected} is missing.")


def _first_of(block: Block) -> int:
    return block.first


def _memory_of(block: Block) -> int:
    return block.events.nbytes + _TAIL_BLOCK_OVERHEAD_BYTES


def _take(candidates: Iterable[Block], after: int, events_max: int) -> list[Block]:
    """The rows behind `after`: at least one block, then as many as fit."""
    taken: list[Block] = []
    events = 0
    for candidate in candidates:
        block = candidate
        if block.first <= after:
            block = Block(after + 1, block.events.slice(after + 1 - block.first))
        events += block.events.num_rows
        if taken and events > events_max:
            break
        taken.append(block)
        if events >= events_max:
            break
    return taken


def _batch_of_the_sound(requests: list[_Request]) -> tuple[pa.RecordBatch | None, list[_Request]]:
    """One batch of all requests. One that cannot be stored is refused alone, and does not take the others with it."""
    faults = (ValueError, TypeError, OverflowError, pa.ArrowException)
    try:
        return blocks.batch_of([request.events for request in requests]), requests
    except faults:
        sound: list[_Request] = []
        for request in requests:
            try:
                blocks.batch_of([request.events])
            except faults as error:
                _fail([request], Invalid(f"The events cannot be stored: {error}"))
            else:
                sound.append(request)
        if not sound:
            return None, []
        return blocks.batch_of([request.events for request in sound]), sound


def _vacuum_some(writer: sqlite3.Connection) -> bool:
    """Give free pages back to the file system, beyond what is kept for reuse. False when there are none."""
    (free,) = writer.execute("PRAGMA freelist_count").fetchone()
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    surplus = free - max(_FREE_BYTES_KEPT // _PAGE_BYTES, pages - free)
    if surplus <= 0:
        return False
    # As a script: the statement yields a row without columns for each page, and `execute` stops at the first.
    writer.executescript(f"PRAGMA incremental_vacuum({min(surplus, _VACUUM_PAGES_MAX)})")
    if surplus <= _VACUUM_PAGES_MAX:
        # The file itself shrinks at a checkpoint, and a drained log might not write for a long time.
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return False
    return True


_Outcome = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Any]


def _call_each_loop(outcomes: Sequence[_Outcome]) -> None:
    """Give each future its outcome, in its own loop, with one call for each loop."""
    for loop in {outcome[0] for outcome in outcomes}:
        mine = [(future, value) for owner, future, value in outcomes if owner is loop]
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed, nobody waits any more; what is stored is stored
            loop.call_soon_threadsafe(_settle, mine)


def _settle(outcomes: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, value in outcomes:
        if future.done():  # cancelled
            continue
        if isinstance(value, Exception):
            future.set_exception(value)
        else:
            future.set_result(value)


def _fail(requests: Sequence[_Request], error: TallystickError) -> None:
    # One exception object for each request: raising adds a traceback to it.
    _call_each_loop([(request.loop, request.future, _copy_of(error)) for request in requests])


def _copy_of(error: TallystickError) -> TallystickError:
    return type(error)(error.detail, code=error.code, faults=error.faults, retry_after_s=error.retry_after_s)


def _closed() -> Unavailable:
    return Unavailable(
        "The event log is closed: the process is about to end.", code="log_closed", retry_after_s=1
    )


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(
        f"The event log cannot be used at the moment: {error}.", code="log_unavailable", retry_after_s=5
    )


def _lock(path: Path) -> IO[str]:
    """Take the lock file beside the log; its flock ends with the process, however that ends."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock_path.open("a+", encoding="ascii")
    except OSError as error:
        raise Unavailable(f"The event log cannot be opened: {error}.", code="log_unavailable") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read(32).strip() or "unknown"
        file.close()
        raise LogInUseError(
            f"The event log {path} is already in use by process {owner}. Stop it, or use another data directory."
        ) from error
    try:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except OSError:
        # A full disk must not keep the log from opening for reading; only the number is then missing.
        _logger.warning("log_lock_file_not_written", path=str(lock_path))
    return file


def _sync_directory(directory: Path) -> None:
    """Make the new file's name durable, and its directory's."""
    for each in (directory, directory.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
