"""The identity index as sorted runs: a log-structured set that works on whole batches.

New entries gather in memory (`memory.py`), leave it as an immutable sorted run (`run.py`), and runs of one size are
merged into a larger one in the background (`merge.py`); the manifest says which runs count (`manifest.py`). A look-up
sorts its keys once and asks each run's Bloom filter; only keys that pass touch pages, so an identity never seen before
costs a few gathers and no file access.
"""

import contextlib
import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from tallystick.errors import StorageFull
from tallystick.identity import bloom
from tallystick.identity.entries import Entries, check_of, identities_of
from tallystick.identity.files import sync_directory
from tallystick.identity.interface import U32, U64, Found, Identities, IndexDamagedError
from tallystick.identity.manifest import FORMAT, Manifest, RunName, read_manifest, sweep, write_manifest
from tallystick.identity.memory import Memory
from tallystick.identity.merge import due, merge_into
from tallystick.identity.run import Run, RunWriter

_QUESTIONS_MAX = 1 << 16
"""Keys looked up in one go; bounds the memory of a look-up."""
_VERIFIED_AT_OPEN_BYTES_MAX = 256 << 20
_RUNS_MAX = 48
"""With so many runs a flush waits for the merge under way: look-ups must not get slower and slower."""
_MERGE_WAIT_S = 120.0


def _nothing(step: str) -> None:
    pass


class RunsIndex:
    """An `IdentityIndex` in one directory, one directory a partition, one process at a time.

    memory_entries_max: new entries held in memory before they become a run (24 bytes each).
    merge_factor: so many runs of one size become one; at least 2.
    on_step: called with the name of every step of a flush and a merge at which a crash would leave a different state
    on disk; what it raises ends the step like a crash. For tests.

    Opening verifies everything when that is little. Of a large index it verifies the filters in the background, and the
    first call that needs them waits for it; pages are verified whenever they are read. So no answer rests on bytes
    that were not verified, and a large index still opens at once.

    Raises (constructor): IndexDamagedError; the remedy is `RunsIndex.discard(directory)`, opening again, and adding
    everything from the store. The same error from a later call: `reset`, and adding everything.
    """

    def __init__(
        self,
        directory: Path,
        *,
        memory_entries_max: int = 1 << 19,
        merge_factor: int = 4,
        on_step: Callable[[str], None] = _nothing,
    ) -> None:
        if memory_entries_max < 1 or merge_factor < 2:
            raise ValueError("memory_entries_max must be at least 1 and merge_factor at least 2")
        self._directory = directory
        self._memory_entries_max = memory_entries_max
        self._merge_factor = merge_factor
        self._on_step = on_step
        self._memory = Memory(memory_entries_max)
        self._lock = threading.Lock()  # the manifest on disk, and the three that mirror it:
        self._runs: tuple[Run, ...] = ()
        self._covered = 0
        self._next_number = 1
        self._through = 0
        self._closed = False
        self._stop = threading.Event()
        self._merger: threading.Thread | None = None
        self._merge_error: Exception | None = None
        self._verifier: threading.Thread | None = None
        self._damage: IndexDamagedError | None = None
        self._open()

    @staticmethod
    def discard(directory: Path) -> None:
        """Make the index in `directory`, however damaged, an empty one. It must not be open."""
        directory.mkdir(parents=True, exist_ok=True)
        empty = Manifest(format=FORMAT, covered=0, next_number=1, runs=())
        write_manifest(directory, empty, _nothing)
        sweep(directory, empty)

    @property
    def covered(self) -> int:
        return self._covered

    @property
    def run_count(self) -> int:
        """Number of runs a look-up asks."""
        return len(self._runs)

    @property
    def disk_bytes(self) -> int:
        """Size of all live runs."""
        return sum(run.header.file_bytes for run in self._runs)

    def __len__(self) -> int:
        return len(self._memory) + sum(len(run) for run in self._runs)

    def find(self, identities: Identities) -> Found:
        """See `IdentityIndex.find`. Raises IndexDamagedError."""
        self._ready()
        position = np.zeros(len(identities), np.uint64)
        content = np.zeros(len(identities), np.uint32)
        for start in range(0, len(identities), _QUESTIONS_MAX):
            part = slice(start, start + _QUESTIONS_MAX)
            self._find_into(identities.high[part], identities.low[part], position[part], content[part])
        return Found(position=position, content=content)

    def _find_into(self, high: U64, low: U64, position: U64, content: U32) -> None:
        order = np.argsort(high)
        key = high.take(order)
        check = check_of(low.take(order))
        bits = bloom.bits_of(key)
        for holder in (self._memory, *self._runs):
            found, found_content, found_position = holder.find(key, check, bits)
            if len(found):
                place = order[found]
                position[place] = found_position
                content[place] = found_content

    def add(self, identities: Identities, content: U32, position: U64, *, through: int) -> None:
        """See `IdentityIndex.add`. Positions are at least 1.

        Raises: StorageFull when earlier entries could not be written out and memory has no room for more: nothing of
        this call was added. IndexDamagedError.
        """
        self._ready()
        if not len(identities) == len(identities.low) == len(content) == len(position):
            raise ValueError("identities, content and position must have the same length")
        if through < self._through:
            raise ValueError(f"through {through} lies before {self._through}, which was reached already")
        if len(self._memory) >= self._memory_entries_max:
            self.flush()
        if len(identities):
            self._memory.add(
                Entries(
                    np.ascontiguousarray(identities.high, np.uint64),
                    check_of(identities.low),
                    np.asarray(content, np.uint32),
                    np.asarray(position, np.uint64),
                )
            )
        self._through = through
        if len(self._memory) >= self._memory_entries_max:
            # The entries are held; a full disk stops the next call, which has not taken anything yet.
            with contextlib.suppress(StorageFull):
                self.flush()

    def load(
        self,
        blocks: Iterable[tuple[Identities, U32, U64]],
        *,
        count: int,
        position_min: int,
        position_max: int,
        through: int,
    ) -> None:
        """See `IdentityIndex.load`. Raises StorageFull."""
        self._ready()
        if len(self) or through < self._through:
            raise ValueError("only an empty index can be loaded, and not backwards")

        def append_all(writer: RunWriter) -> bool:
            last, left = 0, count
            for identities, content, position in blocks:
                if not len(identities):
                    continue
                high, left = identities.high, left - len(identities)
                is_sorted = int(high[0]) >= last and bool((high[1:] >= high[:-1]).all())
                is_within = position_min <= int(position.min()) and int(position.max()) <= position_max
                if left < 0 or not is_sorted or not is_within:
                    raise IndexDamagedError("the identities to be loaded are not as announced")
                last = int(high[-1])
                writer.append(Entries(high, check_of(identities.low), content, position))
            if left:
                raise IndexDamagedError(f"{left} of {count} identities to be loaded are missing")
            return True

        try:
            run = (
                self._write_run(
                    "load", count=count, base=position_min, position_max=position_max, fill=append_all
                )
                if count
                else None
            )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("The disk is full: the identity index cannot be written.") from error
            raise
        with self._lock:
            self._commit(() if run is None else (run,), through)
        self._through = through

    def flush(self) -> None:
        """See `IdentityIndex.flush`. Raises StorageFull (everything is still held in memory), IndexDamagedError."""
        self._ready()
        if len(self._runs) >= _RUNS_MAX:
            self._wait_for_merge()
        try:
            self._flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("The disk is full: the identity index cannot be written.") from error
            raise
        self._start_merge()

    def _flush(self) -> None:
        entries = self._memory.sorted()
        if not len(entries):
            if self._through > self._covered:
                with self._lock:
                    self._commit(self._runs, self._through)
            return

        def append_all(writer: RunWriter) -> bool:
            writer.append(entries)
            return True

        run = self._write_run(
            "flush",
            count=len(entries),
            base=int(entries.position.min()),
            position_max=int(entries.position.max()),
            fill=append_all,
        )
        assert run is not None
        with self._lock:
            self._commit((*self._runs, run), self._through)
        self._memory.clear()
        self._on_step("flush_done")

    def _write_run(
        self, what: str, *, count: int, base: int, position_max: int, fill: Callable[[RunWriter], bool]
    ) -> Run | None:
        """Write and sync a run file that no manifest names yet; None, and no file, when `fill` gives up."""
        with self._lock:
            path = self._directory / f"{self._next_number:010d}.run"
            self._next_number += 1
        writer = RunWriter(path, count=count, base=base, position_max=position_max)
        try:
            self._on_step(f"{what}_started")
            if not fill(writer):
                path.unlink()
                return None
            self._on_step(f"{what}_written")
            checksum = writer.finish()
            sync_directory(self._directory)
            self._on_step(f"{what}_synced")
        except (OSError, IndexDamagedError):
            path.unlink(missing_ok=True)
            raise
        finally:
            writer.close()
        return Run(path, header_checksum=checksum)

    def _commit(self, runs: tuple[Run, ...], covered: int) -> None:
        """Make `runs` the live ones, on disk and then here. The caller holds the lock."""
        names = tuple(
            RunName(name=run.path.name, count=len(run), checksum=run.header_checksum) for run in runs
        )
        manifest = Manifest(format=FORMAT, covered=covered, next_number=self._next_number, runs=names)
        write_manifest(self._directory, manifest, self._on_step)
        self._runs = runs
        self._covered = covered

    # Merging, in a thread of its own. It shares nothing with the recorder's thread but `_commit`.

    def _start_merge(self) -> None:
        if self._merger is not None and self._merger.is_alive():
            return
        if due(self._runs, self._merge_factor):
            self._merger = threading.Thread(target=self._merge_all_due, name="identity-merge", daemon=True)
            self._merger.start()

    def _merge_all_due(self) -> None:
        try:
            while not self._stop.is_set() and (inputs := due(self._runs, self._merge_factor)):
                self._merge(inputs)
        except IndexDamagedError as error:
            self._damage = error
        except Exception as error:  # a full disk, say: the next flush tries again
            self._merge_error = error

    def _merge(self, inputs: list[Run]) -> None:
        run = self._write_run(
            "merge",
            count=sum(len(run) for run in inputs),
            base=min(run.header.base for run in inputs),
            position_max=max(run.header.position_max for run in inputs),
            fill=lambda writer: merge_into(writer, inputs, stopped=self._stop.is_set),
        )
        if run is None:
            return
        with self._lock:
            rest = tuple(live for live in self._runs if live not in inputs)
            self._commit((*rest, run), self._covered)
        self._on_step("merge_swapped")
        for old in inputs:
            old.path.unlink(missing_ok=True)
        self._on_step("merge_done")

    def _wait_for_merge(self) -> None:
        """Wait for the merges under way, and say what went wrong with them when that left too many runs."""
        self._start_merge()
        if self._merger is not None:
            self._merger.join(_MERGE_WAIT_S)
        if len(self._runs) >= _RUNS_MAX and self._merge_error is not None:
            error, self._merge_error = self._merge_error, None
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("The disk is full: the identity index cannot be merged.") from error
            raise error

    def wait_for_merges(self) -> None:
        """Let all merges that are due end; for tests, benchmarks and `doctor`."""
        self._start_merge()
        if self._merger is not None:
            self._merger.join(_MERGE_WAIT_S)

    # Opening, checking, ending.

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        manifest = read_manifest(self._directory)
        if manifest is None:
            self.discard(self._directory)
            return
        sweep(self._directory, manifest)
        runs: list[Run] = []
        for name in manifest.runs:
            run = Run(self._directory / name.name, header_checksum=name.checksum)
            if len(run) != name.count:
                raise IndexDamagedError(
                    f"identity index: {name.name} has {len(run)} entries instead of {name.count}"
                )
            runs.append(run)
        self._runs = tuple(runs)
        self._covered = self._through = manifest.covered
        self._next_number = manifest.next_number
        if self.disk_bytes <= _VERIFIED_AT_OPEN_BYTES_MAX:
            for run in runs:
                run.verify_filter()
                run.verify_pages()
        else:
            self._verifier = threading.Thread(
                target=self._verify_filters, name="identity-verify", daemon=True
            )
            self._verifier.start()

    def _verify_filters(self) -> None:
        try:
            for run in self._runs:
                if self._stop.is_set():
                    return
                run.verify_filter()
        except IndexDamagedError as error:
            self._damage = error
        except OSError as error:
            self._damage = IndexDamagedError(f"identity index: cannot be read: {error}")

    def _ready(self) -> None:
        """Raise what makes an answer impossible; wait until the filters have been verified."""
        if self._closed:
            raise ValueError("the identity index is closed")
        if self._verifier is not None:
            self._verifier.join()
            self._verifier = None
        if self._damage is not None:
            raise self._damage

    def reset(self) -> None:
        """See `IdentityIndex.reset`."""
        if self._closed:
            raise ValueError("the identity index is closed")
        self._end_threads()
        with self._lock:
            self._commit((), 0)
        self._memory.clear()
        self._through = 0
        self._damage = None
        self._merge_error = None
        sweep(self._directory, Manifest(format=FORMAT, covered=0, next_number=self._next_number, runs=()))

    def scan(self) -> Iterator[tuple[Identities, U32, U64]]:
        """See `IdentityIndex.scan`. Raises IndexDamagedError."""
        self._ready()
        runs, arrays = self._runs, self._memory.arrays
        for run in runs:
            for entries in run.scan():
                yield identities_of(entries), entries.content, entries.position
        for entries in arrays:
            yield identities_of(entries), entries.content, entries.position

    def close(self) -> None:
        """See `IdentityIndex.close`. A merge under way is given up; a damaged index is closed without flushing."""
        if self._closed:
            return
        try:
            if self._damage is None:
                self.flush()
        finally:
            self._end_threads()
            self._closed = True
            self._runs = ()
            self._memory.clear()

    def _end_threads(self) -> None:
        self._stop.set()
        for thread in (self._merger, self._verifier):
            if thread is not None:
                thread.join()
        self._merger = self._verifier = None
        self._stop.clear()
