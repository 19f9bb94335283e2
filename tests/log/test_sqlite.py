"""The SQLite log: the contract, and what can happen to a file."""

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.log.conftest import MEMORY
from tests.log.contract import LARGE, LogContract, OpenLog, appended, read_all
from tests.log.events import events_of, ids_read, numbered, rows_put_in, rows_read

from tallystick.errors import StorageFull, Unavailable
from tallystick.log import block as blocks
from tallystick.log import sqlite
from tallystick.log.interface import LogDamagedError, LogInUseError
from tallystick.log.sqlite import SqliteLog
from tallystick.metering.event import EVENT_SCHEMA, EventColumns

TAILS = {"tail": sqlite.TAIL_BYTES_MAX, "file": 0, "short tail": 3 * 8192}


def open_at(path: Path, **options: object) -> SqliteLog:
    given = {"waiting_events_max": LARGE, "unrecorded_events_max": LARGE, "reserve_bytes": 0} | options
    return SqliteLog.open(path, **given)  # type: ignore[arg-type]


class TestSqliteLog(LogContract):
    @pytest.fixture(params=[TAILS["tail"], TAILS["file"]], ids=["tail", "file"])
    async def open_log(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[OpenLog]:
        opened: list[SqliteLog] = []

        async def open_log(
            *, waiting_events_max: int = LARGE, unrecorded_events_max: int = LARGE
        ) -> SqliteLog:
            log = SqliteLog.open(
                tmp_path / "log.sqlite",
                waiting_events_max=waiting_events_max,
                unrecorded_events_max=unrecorded_events_max,
                tail_bytes_max=request.param,
                reserve_bytes=0,
            )
            opened.append(log)
            return log

        yield open_log
        for log in opened:
            await log.close()


class AgainstAList(RuleBasedStateMachine):
    """Append, read, trim and reopen, beside a plain list that does the same."""

    @initialize(tail_bytes_max=st.sampled_from(list(TAILS.values())))
    def start(self, tail_bytes_max: int) -> None:
        self.runner = asyncio.Runner()
        self.directory = Path(
            tempfile.mkdtemp(prefix="tallystick-test-", dir=MEMORY if MEMORY.exists() else None)
        )
        self.tail_bytes_max = tail_bytes_max
        self.rows: list[tuple[object, ...]] = []
        self.allowed = 0
        self.log = self.open()

    def open(self) -> SqliteLog:
        return open_at(self.directory / "log.sqlite", tail_bytes_max=self.tail_bytes_max)

    @rule(counts=st.lists(st.integers(1, 20), min_size=1, max_size=6))
    def append(self, counts: list[int]) -> None:
        requests = []
        number = len(self.rows)
        for count in counts:
            requests.append(numbered(number, count))
            number += count

        async def together() -> list[int]:
            return await asyncio.gather(*(appended(self.log, request) for request in requests))

        positions = self.runner.run(together())
        for request, position in zip(requests, positions, strict=True):
            self.rows.extend(rows_put_in(request))
            assert position == len(self.rows)

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), events_max=st.integers(1, 60))
    def read(self, data: st.DataObject, events_max: int) -> None:
        after = data.draw(st.integers(self.allowed, len(self.rows)))
        found = self.runner.run(self.log.read(after, events_max=events_max))
        rows = rows_read(found)
        assert rows == self.rows[after : after + len(rows)]
        assert bool(rows) == (after < len(self.rows))
        assert len(found) <= 1 or len(rows) <= events_max

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        through = data.draw(st.integers(0, len(self.rows)))
        self.runner.run(self.log.trim(through))
        self.allowed = max(self.allowed, through)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.log.close())
        self.log = self.open()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.end == len(self.rows)
        assert self.log.trimmed_through <= self.allowed
        rows = rows_read(self.runner.run(read_all(self.log, self.allowed)))
        assert rows == self.rows[self.allowed :]

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.runner.run(self.log.close())
            self.runner.close()
            shutil.rmtree(self.directory)


AgainstAList.TestCase.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)
test_against_a_list = AgainstAList.TestCase


def test_the_block_format_is_the_one_that_was_fixed() -> None:
    """Another EVENT_SCHEMA is another format: a log written before must stay readable."""
    assert blocks.FORMAT == 1
    assert [(field.name, str(field.type)) for field in EVENT_SCHEMA] == [
        ("tenant", "string"),
        ("source", "string"),
        ("id", "string"),
        ("type", "string"),
        ("subject", "string"),
        ("time", "timestamp[us, tz=UTC]"),
        ("time_given", "bool"),
        ("received_at", "timestamp[us, tz=UTC]"),
        ("data", "binary"),
        ("attributes", "binary"),
        ("identity", "fixed_size_binary[16]"),
        ("content", "uint64"),
        ("action", "string"),
        ("note", "binary"),
    ]


def test_a_block_of_one_event_is_small() -> None:
    assert blocks.encode(blocks.batch_of([numbered(0)])).size < 2_000


@pytest.mark.anyio
async def test_two_event_loops_may_append(tmp_path: Path) -> None:
    log = open_at(tmp_path / "log.sqlite")
    positions: list[int] = []

    async def write(first: int) -> None:
        positions.extend(
            await asyncio.gather(*(appended(log, numbered(first + each)) for each in range(100)))
        )

    threads = [threading.Thread(target=lambda n=n: asyncio.run(write(n))) for n in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert sorted(positions) == list(range(1, 301))
    assert sorted(map(int, ids_read(await read_all(log)))) == list(range(300))
    await log.close()


@pytest.mark.anyio
async def test_requests_that_wait_share_a_commit(tmp_path: Path) -> None:
    commits: list[tuple[int, int]] = []
    log = open_at(
        tmp_path / "log.sqlite", observe_commit=lambda requests, events, _: commits.append((requests, events))
    )
    await asyncio.gather(*(log.append(numbered(2 * number, 2)) for number in range(200)))
    await log.close()
    assert sum(requests for requests, _ in commits) == 200
    assert sum(events for _, events in commits) == 400
    assert len(commits) < 50


# A full disk.

RESERVE_BYTES = (
    3 * 1024**2
)  # as much as the log itself may take on the small file system: it is all WAL there


class Disk:
    """A disk that is full at some point, and a way to give it room again."""

    def __init__(self, path: Path, connect: sqlite.Connect, make_room: Callable[[], None]) -> None:
        self.path = path
        self.connect = connect
        self.make_room = make_room


@contextlib.contextmanager
def limited_pages(directory: Path) -> Iterator[Disk]:
    """SQLite's own limit: a genuine SQLITE_FULL, wherever the tests run."""
    connections: list[sqlite3.Connection] = []
    pages = 60

    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite.connect(path)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        connections.append(connection)
        return connection

    def make_room() -> None:
        nonlocal pages
        pages = 1_000_000
        connections[-1].execute(f"PRAGMA max_page_count = {pages}")

    yield Disk(directory / "log.sqlite", connect, make_room)


def mount(source: bytes, target: Path, options: bytes) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    return library.mount(source, os.fsencode(target), b"tmpfs", 0, options) == 0


@contextlib.contextmanager
def small_file_system(directory: Path) -> Iterator[Disk]:
    """A real, tiny file system, with a file in it that can be taken away; ENOSPC from the kernel."""
    target = directory / "small"
    target.mkdir()
    if not mount(b"tallystick-test", target, b"size=10m"):
        # Mounting needs a privilege. The same tests then run on SQLite's limit: less real, never skipped.
        with limited_pages(directory) as disk:
            yield disk
        return
    ballast = target / "ballast"
    ballast.write_bytes(bytes(3_900_000))
    try:
        yield Disk(target / "log.sqlite", sqlite.connect, ballast.unlink)
    finally:
        ctypes.CDLL(None).umount2(os.fsencode(target), 2)


@pytest.fixture(params=[limited_pages, small_file_system])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    with request.param(tmp_path) as disk:
        yield disk


def heavy(name: str) -> EventColumns:
    """One event that compression cannot make small."""
    return events_of([name], data=[os.urandom(20_000)])


async def fill(log: SqliteLog) -> list[str]:
    """Append until the disk is full. Return the ids acknowledged."""
    stored: list[str] = []
    for number in range(1000):
        try:
            await log.append(heavy(str(number)))
        except StorageFull:
            return stored
        stored.append(str(number))
    raise AssertionError("the disk did not get full")


@pytest.mark.anyio
async def test_a_full_disk_refuses_and_stores_nothing_by_half(disk: Disk) -> None:
    log = open_at(disk.path, connect=disk.connect, reserve_bytes=RESERVE_BYTES)
    stored = await fill(log)
    assert len(stored) > 5
    assert log.end == len(stored)
    # All requests of the commit hear it, and again and again while it lasts.
    for _ in range(3):
        refused = await asyncio.gather(
            *(log.append(heavy(f"x{number}")) for number in range(8)),
            return_exceptions=True,
        )
        assert [type(each) for each in refused] == [StorageFull] * 8
        assert len({id(each) for each in refused}) == 8
    assert ids_read(await read_all(log)) == stored  # reading goes on
    disk.make_room()
    for number in range(len(stored), len(stored) + 10):  # by itself, in the same process
        assert await appended(log, heavy(str(number))) == number + 1
        stored.append(str(number))
    await log.close()
    log = open_at(disk.path, connect=disk.connect, reserve_bytes=RESERVE_BYTES)
    assert ids_read(await read_all(log)) == stored
    await log.close()


@pytest.mark.anyio
async def test_a_full_disk_is_freed_by_trimming(disk: Disk) -> None:
    log = open_at(disk.path, connect=disk.connect, reserve_bytes=RESERVE_BYTES)
    stored = await fill(log)
    reserve = disk.path.with_name("log.sqlite.reserve")
    assert reserve.stat().st_size == RESERVE_BYTES
    await log.trim(log.end)
    assert log.trimmed_through == log.end
    for number in range(5):
        await log.append(heavy(f"after {number}"))
    assert ids_read(await read_all(log, len(stored))) == [f"after {number}" for number in range(5)]
    await log.close()


@pytest.mark.anyio
async def test_the_reserve_is_taken_again_and_given_back_at_the_end(tmp_path: Path) -> None:
    log = open_at(tmp_path / "log.sqlite", reserve_bytes=RESERVE_BYTES)
    reserve = tmp_path / "log.sqlite.reserve"
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES  # room, not only a length
    reserve.unlink()
    await log.append(numbered(0))
    await log.trim(1)
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    await log.close()
    assert not reserve.exists()


@pytest.mark.anyio
async def test_a_log_on_a_full_disk_opens_and_reads(disk: Disk) -> None:
    log = open_at(disk.path, connect=disk.connect, reserve_bytes=RESERVE_BYTES)
    stored = await fill(log)
    await log.close()
    try:
        log = open_at(disk.path, connect=disk.connect, reserve_bytes=RESERVE_BYTES)
    except StorageFull:
        disk.make_room()  # SQLite needs its shared memory file; it says so clearly
        log = open_at(disk.path, connect=disk.connect, reserve_bytes=RESERVE_BYTES)
    assert ids_read(await read_all(log)) == stored
    await log.close()


# A disk that fails.


class Failing(sqlite3.Connection):
    """A connection on which inserting fails as long as `code` is set, after doing it or instead of it."""

    code: int | None = None
    stores_nonetheless = False

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:  # type: ignore[override]
        if Failing.code is not None and sql.startswith("INSERT INTO block"):
            if Failing.stores_nonetheless:
                super().execute(sql, parameters)  # type: ignore[arg-type]
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = Failing.code
            raise error
        return super().execute(sql, parameters)  # type: ignore[arg-type]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[Failing]:
    monkeypatch.setattr(Failing, "code", None)
    monkeypatch.setattr(Failing, "stores_nonetheless", False)
    return Failing


def connect_failing(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Failing)


@pytest.mark.anyio
async def test_an_io_error_is_passing(tmp_path: Path, failing: type[Failing]) -> None:
    log = open_at(tmp_path / "log.sqlite", connect=connect_failing)
    await log.append(numbered(0))
    failing.code = sqlite3.SQLITE_IOERR_FSYNC
    for _ in range(2):
        with pytest.raises(Unavailable, match="disk I/O error") as refused:
            await log.append(numbered(1))
        assert refused.value.retry_after_s
    failing.code = None
    assert await appended(log, numbered(2)) == 2
    assert ids_read(await read_all(log)) == ["0", "2"]
    await log.close()


@pytest.mark.anyio
async def test_a_commit_that_failed_but_was_stored_keeps_its_positions(
    tmp_path: Path, failing: type[Failing]
) -> None:
    log = open_at(tmp_path / "log.sqlite", connect=connect_failing)
    await log.append(numbered(0))
    failing.code, failing.stores_nonetheless = sqlite3.SQLITE_IOERR_FSYNC, True
    with pytest.raises(Unavailable):
        await log.append(numbered(1, 5))
    failing.code = None
    assert await appended(log, numbered(6)) == 7
    assert ids_read(await read_all(log)) == [str(number) for number in range(7)]
    await log.close()


@pytest.mark.anyio
async def test_a_fault_of_our_own_does_not_end_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_at(tmp_path / "log.sqlite")
    await log.append(numbered(0))
    with monkeypatch.context() as patched:
        patched.setattr(blocks, "encode", lambda _: 1 / 0)
        with pytest.raises(Unavailable, match="division"):
            await log.append(numbered(1))
    assert await appended(log, numbered(2)) == 2
    await log.close()


# A file that is damaged.


async def three_blocks(path: Path) -> None:
    log = open_at(path)
    for first in (0, 10, 20):
        await log.append(numbered(first, 10))
    await log.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE block SET body = zeroblob(length(body)) WHERE first = 11", "positions 11 to 20.*checksum"),
        ("UPDATE block SET body = substr(body, 1, 100) WHERE first = 11", "positions 11 to 20.*checksum"),
        ("UPDATE block SET body = 'text' WHERE first = 11", "positions 11 to 20.*checksum"),
        (
            "UPDATE block SET (body, checksum) = (SELECT body, checksum FROM block WHERE first = 1) WHERE first = 11",
            "positions 11 to 20.*checksum",
        ),
        ("UPDATE block SET count = 9 WHERE first = 11", "positions 11 to 19 holds 10"),
        ("UPDATE block SET format = 99 WHERE first = 11", "positions 11 to 20.*format 99"),
        ("DELETE FROM block WHERE first = 11", "position 11 is missing"),
    ],
)
async def test_a_damaged_block_is_named(tmp_path: Path, damage: str, message: str) -> None:
    path = tmp_path / "log.sqlite"
    await three_blocks(path)
    with contextlib.closing(sqlite3.connect(path)) as beside, beside:
        beside.execute(damage)
    log = open_at(path)
    assert log.end == 30
    assert len(await log.read(0, events_max=10)) == 1
    for after, events_max in ((0, 100), (10, 1), (14, 1)):
        with pytest.raises(LogDamagedError, match=message if after != 14 else r"positions? 1[15]"):
            await log.read(after, events_max=events_max)
    assert ids_read(await log.read(20, events_max=10)) == [str(number) for number in range(20, 30)]
    await log.close()


@pytest.mark.anyio
async def test_a_flipped_bit_in_the_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = open_at(path)
    marker = os.urandom(40_000)
    await log.append(events_of(["a"], data=[marker]))
    await log.close()
    content = bytearray(path.read_bytes())
    content[content.index(marker[20_000:20_100])] ^= 1
    path.write_bytes(content)
    log = open_at(path)
    with pytest.raises(LogDamagedError, match="positions 1 to 1"):
        await log.read(0, events_max=1)
    await log.close()


@pytest.mark.anyio
async def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"not a database " * 1000)
    with pytest.raises(LogDamagedError, match="no SQLite file"):
        open_at(text)
    assert text.read_bytes() == b"not a database " * 1000
    other = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(LogDamagedError, match="not an event log"):
        open_at(other)
    newer = tmp_path / "newer.sqlite"
    await open_at(newer).close()
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(LogDamagedError, match="version 2"):
        open_at(newer)


@pytest.mark.anyio
async def test_a_replaced_file_is_not_written_over(tmp_path: Path, failing: type[Failing]) -> None:
    path = tmp_path / "log.sqlite"
    log = open_at(path, connect=connect_failing)
    await log.append(numbered(0, 10))
    failing.code = sqlite3.SQLITE_IOERR
    with pytest.raises(Unavailable):
        await log.append(numbered(10))
    failing.code = None
    for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(LogDamagedError, match="10 was acknowledged"):
        await log.append(numbered(10))
    await log.close()


@dataclass(frozen=True)
class Copied:
    """A log as a crash would leave it: the files of a log that was never closed."""

    path: Path
    commits: list[int]  # positions acknowledged, one commit each


async def crashed_copy(tmp_path: Path) -> Copied:
    log = open_at(tmp_path / "running" / "log.sqlite")
    commits = [await appended(log, numbered(number * 5, 5)) for number in range(20)]
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("log.sqlite", "log.sqlite-wal"):
        shutil.copy(tmp_path / "running" / name, copy / name)
    await log.close()
    return Copied(copy / "log.sqlite", commits)


@pytest.mark.anyio
async def test_what_was_acknowledged_is_in_the_files_at_that_moment(tmp_path: Path) -> None:
    copied = await crashed_copy(tmp_path)
    log = open_at(copied.path)
    assert log.end == copied.commits[-1]
    assert ids_read(await read_all(log)) == [str(number) for number in range(100)]
    await log.close()


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [1, 5_000, 20_000, 200_000])
@pytest.mark.parametrize("torn", ["truncated", "zeroed", "scrambled"])
async def test_a_torn_tail_ends_at_a_whole_commit(tmp_path: Path, cut: int, torn: str) -> None:
    copied = await crashed_copy(tmp_path)
    wal = copied.path.with_name("log.sqlite-wal")
    whole = wal.read_bytes()
    end = {"truncated": b"", "zeroed": bytes(cut), "scrambled": os.urandom(cut)}[torn]
    wal.write_bytes(whole[:-cut] + end)
    log = open_at(copied.path)
    assert log.end in (0, *copied.commits)
    assert log.end < copied.commits[-1] or wal.read_bytes() == whole  # a page may well end in zeros
    assert ids_read(await read_all(log)) == [str(number) for number in range(log.end)]
    assert await appended(log, numbered(log.end, 5)) == log.end  # and it goes on from there
    await log.close()


@pytest.mark.anyio
@pytest.mark.parametrize("held", [0, 5, 10, 15])
async def test_positions_given_before_are_never_given_again(tmp_path: Path, held: int) -> None:
    """The log was lost, or replaced by an older copy, while events up to position 10 are recorded."""
    path = tmp_path / "log.sqlite"
    log = open_at(path)
    await log.append(numbered(0, held))
    await log.close()
    log = open_at(path, positions_after=10)
    assert log.end == max(held, 10)
    assert log.trimmed_through == (10 if held < 10 else 0)
    assert await appended(log, numbered(held)) == max(held, 10) + 1
    await log.close()
    log = open_at(path)  # it stays so
    assert log.end == max(held, 10) + 1
    assert ids_read(await read_all(log, max(held, 10))) == [str(held)]
    await log.close()


# Space.


@pytest.mark.anyio
async def test_a_drained_log_gives_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_FREE_BYTES_KEPT", 256 * 1024)
    monkeypatch.setattr(sqlite, "_VACUUM_PAGES_MAX", 64)
    path = tmp_path / "log.sqlite"
    log = open_at(path)
    for number in range(40):
        await log.append(events_of([str(number)], data=[os.urandom(200_000)]))
    await log.trim(log.end)
    assert log.trimmed_through == 40
    assert path.stat().st_size < 1_000_000
    assert await appended(log, numbered(40)) == 41
    await log.close()


@pytest.mark.anyio
async def test_file_space_is_reused_behind_the_trim(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = open_at(path)
    for number in range(100):
        await log.append(events_of([str(number)], data=[os.urandom(100_000)]))
        await log.trim(log.end - 5)
    await log.close()
    assert path.stat().st_size < 3_000_000


@pytest.mark.anyio
async def test_trimming_in_many_steps_does_not_hold_up_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_TRIM_BLOCKS_MAX", 3)
    gate = threading.Semaphore(0)
    delete_some = SqliteLog._delete_some

    def delete_some_and_wait(self: SqliteLog, *arguments: Any) -> bool:
        more = delete_some(self, *arguments)
        assert gate.acquire(timeout=30)
        return more

    monkeypatch.setattr(SqliteLog, "_delete_some", delete_some_and_wait)
    log = open_at(tmp_path / "log.sqlite")
    for number in range(40):
        await log.append(numbered(number))
    trimming = asyncio.ensure_future(log.trim(30))
    for step in range(1, 6):
        append = asyncio.ensure_future(appended(log, numbered(39 + step)))
        await asyncio.sleep(0)
        gate.release()
        assert await append == 40 + step
        assert log.trimmed_through <= 3 * (step + 1)
    for _ in range(100):
        gate.release()
    await trimming
    assert log.trimmed_through == 30
    assert ids_read(await read_all(log, 30)) == [str(number) for number in range(30, 45)]
    await log.close()


# Processes.

CHILD = """
import asyncio, sys
from pathlib import Path
from tallystick.log.sqlite import SqliteLog

sys.path.insert(0, sys.argv[1])
from tests.log.events import numbered

async def main():
    log = SqliteLog.open(Path(sys.argv[2]), waiting_events_max=100_000, unrecorded_events_max=10_000_000)
    print("open", flush=True)

    async def write(first):
        while True:
            count = 1 + first % 4
            last = (await log.append(numbered(first, count)))[-1]
            print(first, count, last, flush=True)
            first += count

    await asyncio.gather(*(write(int(sys.argv[3]) + writer * 1_000_000) for writer in range(10)))

asyncio.run(main())
"""


@contextlib.contextmanager
def writing_child(path: Path, *, first: int = 0) -> "Iterator[subprocess.Popen[str]]":
    """A process that appends from ten tasks and prints (first id, count, last position) when it is told."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(path), str(first)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()
            process.stdout.read()


@pytest.mark.anyio
async def test_one_log_is_open_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "directory" / "log.sqlite"
    log = open_at(path)
    with pytest.raises(LogInUseError, match=f"already in use by process {os.getpid()}\\."):
        open_at(path)
    await log.append(numbered(0))
    await log.close()
    log = open_at(path)
    assert log.end == 1
    await log.close()


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with writing_child(path) as process:
        with pytest.raises(LogInUseError, match=f"already in use by process {process.pid}\\."):
            open_at(path)
        process.kill()
        process.wait()
        await open_at(path).close()


@pytest.mark.slow
@pytest.mark.anyio
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    acknowledged: list[tuple[int, int, int]] = []
    choose = random.Random(2)
    for round_number in range(5):
        with writing_child(path, first=round_number * 100_000_000) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(choose.randint(1, 500))]
            process.send_signal(signal.SIGKILL)
            # What was printed before it died was acknowledged too; the last line may be torn.
            lines += process.stdout.read().splitlines(keepends=True)
        whole = [line.split() for line in lines if line.endswith("\n")]
        acknowledged += [(int(first), int(count), int(last)) for first, count, last in whole]

        log = open_at(path)
        assert log.end >= max(last for _, _, last in acknowledged)
        rows = rows_read(await read_all(log, events_max=10_000))
        assert len(rows) == log.end
        for first, count, last in acknowledged:
            assert rows[last - count : last] == rows_put_in(numbered(first, count))
        await log.close()
    assert len(acknowledged) > 5
