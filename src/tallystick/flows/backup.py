"""A backup: everything up to one published moment, taken while ingest goes on.

Between two batches of the recorder, in a few milliseconds, the store keeps its tables of facts as they are (store/facts.py),
the catalog is copied, and the log's file is pinned (log/copy.py). What is written then, however long it takes, is of
that instant: all facts up to position P, the definitions they are read by, and what the log had acknowledged behind P,
which a restored system records as if nothing had happened. Derived data is left out; it is made again.

    facts/<table>-<number>.parquet   rows of one range of positions
    catalog.sqlite
    log.sqlite                       what was acknowledged and not yet recorded
    limits.sqlite                    reservations, where there are any
    progress.json                    while the backup is unfinished: which files are
    manifest.json                    last of all: without it there is no backup

Begun anew in the same place, a backup is of a new moment; files of ranges that have not changed since are kept.
"""

import contextlib
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from tallystick import __version__
from tallystick.config import Settings
from tallystick.errors import Conflict, Invalid, TallystickError, Unavailable
from tallystick.flows.journal import State
from tallystick.flows.sole import sole_recorder
from tallystick.flows.system import System
from tallystick.flows.target import Target, checksum_of
from tallystick.identity.interface import IdentityIndex
from tallystick.log.copy import LogCopy
from tallystick.store.interface import FACTS, FactRange

FORMAT = 1
"""Version of the layout above; a restore refuses one it does not know."""
MANIFEST, PROGRESS, CATALOG, LOG = "manifest.json", "progress.json", "catalog.sqlite", "log.sqlite"
LEDGER = "limits.sqlite"
"""The gate's file of reservations, in the data directory and in a backup."""
MANIFEST_BYTES_MAX = 256 * 1024**2
RANGE_POSITIONS = 1_000_000
_WORKROOM = "backup-"

_logger = structlog.get_logger("backup")
_parquet: Any = pq


class BackupFile(msgspec.Struct, frozen=True):
    """One file of a backup. `table` and `digest` only where it holds facts."""

    name: str
    bytes: int
    checksum: str  # xxh3-128
    rows: int = 0
    table: str = ""
    digest: str = ""  # of the range of facts in it


class Progress(msgspec.Struct, frozen=True):
    """Of an unfinished backup: the files that are complete."""

    format: int
    files: list[BackupFile]


class Manifest(msgspec.Struct, frozen=True):
    """Of a finished backup: what is in it, and the recorder's state at its moment."""

    format: int
    version: str  # of the program
    position: int
    recorded_at_us: int
    log_end: int  # last acknowledged position in it
    taken_at_us: int
    events: int
    duplicates: int
    conflicts: int
    generation: int
    rows: dict[str, int]  # by table
    files: list[BackupFile]
    state: State


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """How far a backup (or restore) is. Rows of facts; `rows_kept` lay there from an earlier attempt."""

    rows_done: int
    rows: int
    rows_kept: int = 0


@dataclass(frozen=True, slots=True)
class _Held:
    """What was kept at the instant."""

    state: State
    snapshot: str
    log: LogCopy


def data_file(url: str, settings: Settings, name: str) -> Path:
    """The SQLite file of the log or the catalog. Raises Invalid where it is something else."""
    if not url:
        return (Path(settings.data_dir) / f"{name}.sqlite").absolute()
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///")).absolute()
    raise Invalid(
        f"Only a {name} on SQLite can be part of a backup. Stop the server and use the tools of the {name}'s database "
        "together with a copy of the data directory.",
        code="backup_needs_sqlite",
    )


def check_target(target: Target) -> Progress:
    """What an earlier attempt left there. Raises Conflict when the place holds a finished backup, or other files."""
    names = target.names()
    if MANIFEST in names:
        raise Conflict(
            f"{target.name} holds a finished backup. Choose another place, such as a directory named by the day.",
            code="backup_exists",
        )
    if not names:
        return Progress(FORMAT, [])
    raw = target.read(PROGRESS, bytes_max=MANIFEST_BYTES_MAX)
    try:
        progress = None if raw is None else msgspec.json.decode(raw, type=Progress)
    except msgspec.DecodeError:
        progress = None
    if progress is None or progress.format != FORMAT:
        raise Conflict(
            f"{target.name} is not empty, and no unfinished backup. Choose an empty place.",
            code="backup_place_taken",
        )
    return progress


async def back_up(
    system: System,
    target: Target,
    *,
    in_thread: Callable[[Callable[[], Manifest]], Any],
    stopping: threading.Event,
    on_progress: Callable[[BackupProgress], None] = lambda progress: None,
) -> Manifest:
    """Take a backup. `in_thread` awaits a long piece of work outside the event loop.

    Raises Conflict when the place is taken, Invalid when a part cannot be backed up, Unavailable when a part or the
    place does not answer, or `stopping` is set: nothing then looks like a backup, and it may be begun again there."""
    directory = Path(system.settings.data_dir).absolute()
    catalog_file = data_file(system.settings.catalog_url, system.settings, "catalog")
    log_file = data_file(system.settings.log_url, system.settings, "log")
    recorder = sole_recorder(system)
    if not await recorder.wait_until_migrated(system.settings.wait_s_max):
        raise Unavailable("The store does not answer.", retry_after_s=5)
    for left in directory.glob(f"{_WORKROOM}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORKROOM, dir=directory) as made:
        workroom = Path(made)

        def hold(state: State, _index: IdentityIndex | None) -> _Held:
            copy_sqlite(catalog_file, workroom / CATALOG)
            if (directory / LEDGER).exists():
                # Before the log: what is settled here is in the log, or is appended again and counts once.
                if system.limits is not None:
                    system.limits.flush_ledger()
                copy_sqlite(directory / LEDGER, workroom / LEDGER)
            log = LogCopy(log_file)
            try:
                return _Held(state, system.store.snapshot(), log)
            except BaseException:
                log.close()
                raise

        held = await recorder.between_batches(hold)

        def write() -> Manifest:
            try:
                return _Writing(
                    system,
                    target,
                    held,
                    workroom=workroom,
                    stopping=stopping,
                    on_progress=on_progress,
                ).all()
            finally:
                held.log.close()
                with contextlib.suppress(TallystickError):  # `migrate` drops it otherwise
                    system.store.drop_snapshot(held.snapshot)

        manifest = await in_thread(write)
    _logger.info("backup_taken", position=manifest.position, events=manifest.events, to=target.name)
    return manifest


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database that may be in use, as it is at one instant."""
    try:
        reading = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
        writing = sqlite3.connect(target)
        try:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE").fetchall()
        finally:
            reading.close()
            writing.close()
    except sqlite3.Error as error:
        raise Unavailable(f"{source} cannot be copied: {error}.") from error


class _Writing:
    """Everything of one backup, in one thread."""

    def __init__(
        self,
        system: System,
        target: Target,
        held: _Held,
        *,
        workroom: Path,
        stopping: threading.Event,
        on_progress: Callable[[BackupProgress], None],
    ) -> None:
        self._system = system
        self._store = system.store
        self._target = target
        self._held = held
        self._workroom = workroom
        self._stopping = stopping
        self._on_progress = on_progress
        self._files: dict[str, BackupFile] = {}
        self._rows_done = self._rows_kept = 0

    def all(self) -> Manifest:
        state = self._held.state
        log_end = self._held.log.write(self._workroom / LOG, after=state.recorded)
        earlier = {file.name: file for file in check_target(self._target).files}
        self._write_progress()
        for name in (CATALOG, LOG, LEDGER):
            path = self._workroom / name
            if name == LEDGER and not path.exists():
                continue
            self._files[name] = BackupFile(name, path.stat().st_size, self._target.send(path, name))
        ranges = {
            table: self._store.snapshot_ranges(
                self._held.snapshot, table, recorded_by_us=state.recorded_at_us, span=RANGE_POSITIONS
            )
            for table in FACTS
        }
        rows = {table: sum(one.rows for one in found) for table, found in ranges.items()}
        self._files |= {
            name: earlier[name]
            for table, found in ranges.items()
            for one in found
            if (name := _file_name(table, one)) in earlier and earlier[name].digest == one.digest
        }
        total = sum(rows.values())
        for table, found in ranges.items():
            for one in found:
                self._fact_file(table, one, total)
        manifest = Manifest(
            format=FORMAT,
            version=__version__,
            position=state.recorded,
            recorded_at_us=state.recorded_at_us,
            log_end=log_end,
            taken_at_us=self._system.clock.now_us(),
            events=state.events,
            duplicates=state.duplicates,
            conflicts=state.conflicts,
            generation=state.generation,
            rows=rows,
            files=list(self._files.values()),
            state=state,
        )
        for name in self._target.names().keys() - self._files.keys() - {PROGRESS}:
            self._target.delete(name)  # ranges that are no longer there
        self._target.write(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        self._target.delete(PROGRESS)
        return manifest

    def _fact_file(self, table: str, one: FactRange, total: int) -> None:
        if self._stopping.is_set():
            raise Unavailable("The server is stopping; the backup is not finished.")
        name = _file_name(table, one)
        if name in self._files:
            self._rows_kept += one.rows
        else:
            written = 0
            with self._target.writing(name) as file:
                with _parquet.ParquetWriter(file, FACTS[table], compression="zstd") as writer:
                    for block in self._store.snapshot_rows(
                        self._held.snapshot,
                        table,
                        one.number,
                        recorded_by_us=self._held.state.recorded_at_us,
                        span=RANGE_POSITIONS,
                    ):
                        writer.write_table(pa.Table.from_batches([block]))
                        written += block.num_rows
                        self._on_progress(BackupProgress(self._rows_done + written, total, self._rows_kept))
                if written != one.rows:
                    raise Unavailable(f"The store answered {written} of {one.rows} rows of {name}.")
            with self._target.reading(name) as file:
                checksum, size = checksum_of(file), file.tell()
            self._files[name] = BackupFile(name, size, checksum, one.rows, table, one.digest)
            self._write_progress()
        self._rows_done += one.rows
        self._on_progress(BackupProgress(self._rows_done, total, self._rows_kept))

    def _write_progress(self) -> None:
        facts = [file for file in self._files.values() if file.table]
        self._target.write(PROGRESS, msgspec.json.encode(Progress(FORMAT, facts)))


def _file_name(table: str, one: FactRange) -> str:
    return f"facts/{table}-{one.number:012d}.parquet"
