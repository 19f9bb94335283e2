"""The index of sorted runs: the contract, damage, crashes at every step, and a model that never errs."""

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from tallystick.errors import StorageFull
from tallystick.identity import merge as merge_module
from tallystick.identity import page
from tallystick.identity import runs as runs_module
from tallystick.identity.entries import Entries
from tallystick.identity.interface import IndexDamagedError
from tallystick.identity.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from tallystick.identity.runs import RunsIndex

from .contract import (
    MAX64,
    Digest,
    IdentityIndexContract,
    add,
    find,
    random_entries,
    scanned,
)


class TestRunsIndex(IdentityIndexContract):
    def opened(self, directory: Path) -> RunsIndex:
        return RunsIndex(directory, memory_entries_max=300, merge_factor=2)


class TestRunsIndexInMemoryOnly(IdentityIndexContract):
    def opened(self, directory: Path) -> RunsIndex:
        return RunsIndex(directory)


class TestPackedRunsIndex(IdentityIndexContract):
    @pytest.fixture(autouse=True, params=[7, 6])
    def packed(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page, "_PACKED_ENTRIES_MIN", 1)
        monkeypatch.setattr(page, "_SHORT_KEYS_ENTRIES_MIN", 1 if request.param == 6 else 1 << 25)

    def opened(self, directory: Path) -> RunsIndex:
        return RunsIndex(directory, memory_entries_max=300, merge_factor=2)


@settings(max_examples=40, deadline=None)
@given(
    key_bytes=st.sampled_from([6, 7]),
    position_bytes=st.sampled_from([3, 4]),
    gaps=st.lists(st.sampled_from([0, 1, 2**20, 2**40, 2**48 - 1, 2**48, 2**56]), max_size=250),
    dense=st.integers(0, 1200),
    piece=st.integers(1, 700),
)
def test_pages_of_any_keys_give_back_what_went_in(
    key_bytes: int, position_bytes: int, gaps: list[int], dense: int, piece: int
) -> None:
    shape = page.PackedShape(key_bytes, position_bytes)
    steps = np.array([*gaps[: len(gaps) // 2], *[2**33] * dense, *gaps[len(gaps) // 2 :]], np.uint64)
    key = np.cumsum(steps, dtype=np.uint64)
    key.sort()
    rng = np.random.default_rng(len(key))
    wanted = Entries(
        key,
        rng.integers(0, 2**32, len(key), dtype=np.uint32),
        rng.integers(0, 2**32, len(key), dtype=np.uint32),
        rng.integers(0, 256**position_bytes, len(key), dtype=np.uint64) + np.uint64(5),
    )
    pages: list[NDArray[np.uint64]] = []
    begin, stop = 0, 0
    while stop < len(key):  # as a run is written: piece by piece, what does not fill a page waits
        stop = min(stop + piece, len(key))
        while True:
            full, further = page.fit(key[begin:stop], shape, is_last=stop == len(key))
            for part in (wanted.part(begin, begin + full), wanted.part(begin + full, begin + full + further)):
                if len(part):
                    pages.append(page.pack(part, shape, base=5, first_page=sum(map(len, pages))))
            begin += full + further
            if not further:
                break
    assert begin == len(key)
    if not len(key):
        return
    together = np.concatenate(pages)
    page.verify(together, np.arange(len(together)), Path("x"))
    found = page.unpack(together, shape, base=5)
    for name in ("key", "check", "content", "position"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    row = np.searchsorted(together[:, 0], key, side="right") - 1
    here, at = shape.find(together, row, key, wanted.check)
    unlike = np.flatnonzero(
        np.concatenate(([True], key[1:] != key[:-1])) & np.concatenate((key[1:] != key[:-1], [True]))
    )
    assert here[unlike].all()
    assert np.array_equal(shape.content_at(together, row, at)[unlike], wanted.content[unlike])
    assert np.array_equal(
        shape.position_at(together, row, at)[unlike] + np.uint64(5), wanted.position[unlike]
    )
    for absent in (key + np.uint64(3), key + np.uint64(shape.spread), key - np.uint64(shape.spread)):
        unknown = ~np.isin(absent, key)
        assert not shape.find(together, row, absent, wanted.check)[0][unknown].any()


def test_an_index_of_the_first_format_is_read_and_goes_on_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = filled(tmp_path, runs=3)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    write_manifest(
        tmp_path, Manifest(1, manifest.covered, manifest.next_number, manifest.runs), lambda _: None
    )
    monkeypatch.setattr(page, "_PACKED_ENTRIES_MIN", 1)
    index = RunsIndex(tmp_path, merge_factor=2)
    index.wait_for_merges()
    assert index.run_count == 1  # all merged, and so packed
    assert find(index, list(held)) == list(held.values())
    assert scanned(index) == {(high, low >> 32): answer for (high, low), answer in held.items()}
    index.close()


class Crash(Exception):
    """Stands for the end of the process at a named step."""


def crash_at(step: str) -> Callable[[str], None]:
    def on_step(name: str) -> None:
        if name == step:
            raise Crash(step)

    return on_step


def filled(directory: Path, *, runs: int, each: int = 250) -> dict[Digest, tuple[int, int]]:
    """An index in `directory` of several runs, closed; returns what it holds."""
    index = RunsIndex(directory, merge_factor=100)
    held: dict[Digest, tuple[int, int]] = {}
    for number in range(runs):
        entries = random_entries(number, each, first=1 + number * each)
        add(index, entries, through=(number + 1) * each)
        index.flush()
        held |= entries
    index.close()
    return held


FLUSH_STEPS = (
    "flush_started",
    "flush_written",
    "flush_synced",
    "manifest_written",
    "manifest_replaced",
    "flush_done",
)
MERGE_STEPS = (
    "merge_started",
    "merge_written",
    "merge_synced",
    "manifest_written",
    "manifest_replaced",
    "merge_swapped",
    "merge_done",
)


@pytest.mark.parametrize("step", FLUSH_STEPS)
def test_a_crash_in_a_flush_leaves_the_old_set_or_the_new_one(tmp_path: Path, step: str) -> None:
    held = filled(tmp_path, runs=2)
    late = random_entries(99, 300, first=501)
    index = RunsIndex(tmp_path, merge_factor=100, on_step=crash_at(step))
    add(index, late, through=800)
    with pytest.raises(Crash):
        index.flush()

    reopened = RunsIndex(tmp_path, merge_factor=100)
    assert reopened.covered in (500, 800)
    assert (reopened.covered == 800) == (step in ("manifest_replaced", "flush_done"))
    expected = held | (late if reopened.covered == 800 else {})
    assert scanned(reopened) == {(high, low >> 32): answer for (high, low), answer in expected.items()}
    assert len(list(tmp_path.glob("*.run"))) == reopened.run_count
    reopened.close()


@pytest.mark.parametrize("step", MERGE_STEPS)
def test_a_crash_in_a_merge_loses_and_doubles_nothing(tmp_path: Path, step: str) -> None:
    held = filled(tmp_path, runs=3)
    index = RunsIndex(tmp_path, merge_factor=3, on_step=crash_at(step))
    index.wait_for_merges()

    reopened = RunsIndex(tmp_path, merge_factor=100)
    merged = step in ("manifest_replaced", "merge_swapped", "merge_done")
    assert reopened.run_count == (1 if merged else 3)
    assert reopened.covered == 750
    assert scanned(reopened) == {(high, low >> 32): answer for (high, low), answer in held.items()}
    assert find(reopened, list(held)) == list(held.values())
    assert len(list(tmp_path.glob("*.run"))) == reopened.run_count
    reopened.close()


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_a_flipped_bit_anywhere_is_noticed_at_open(tmp_path: Path) -> None:
    filled(tmp_path, runs=1, each=300)
    (path,) = tmp_path.glob("*.run")
    size = path.stat().st_size
    rng = np.random.default_rng(0)
    # header · two pages with keys, checks, contents, positions, trailer · two fences · 75 filter words
    starts = [
        0,
        12,
        16,
        60,
        4000,
        4096,
        4096 + 1632,
        4096 + 2448,
        4096 + 3264,
        8176,
        8184,
        8192,
        12280,
        12288,
        12304,
    ]
    for offset in [*starts, size - 1, *rng.integers(0, size, 40).tolist()]:
        flip(path, offset)
        with pytest.raises(IndexDamagedError, match="identity index"):
            RunsIndex(tmp_path)
        flip(path, offset)
    index = RunsIndex(tmp_path)
    assert len(index) == 300
    index.close()


def test_a_large_index_opens_unverified_and_never_answers_from_a_damaged_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = filled(tmp_path, runs=2, each=300)
    monkeypatch.setattr(runs_module, "_VERIFIED_AT_OPEN_BYTES_MAX", 0)
    path = max(tmp_path.glob("*.run"))
    for offset in (4096 + 2 * 4096, path.stat().st_size - 8):  # a fence, a filter word
        flip(path, offset)
        index = RunsIndex(tmp_path)
        with pytest.raises(IndexDamagedError, match=path.name):
            find(index, list(held))
        index.reset()
        assert find(index, list(held)[:1]) == [(0, 0)]
        index.close()
        held = filled(tmp_path, runs=2, each=300)
        path = max(tmp_path.glob("*.run"))


def test_a_large_index_never_answers_from_a_damaged_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = filled(tmp_path, runs=1, each=300)
    monkeypatch.setattr(runs_module, "_VERIFIED_AT_OPEN_BYTES_MAX", 0)
    (path,) = tmp_path.glob("*.run")
    flip(path, 4096 + 10)
    index = RunsIndex(tmp_path)
    with pytest.raises(IndexDamagedError, match="page 0"):
        find(index, list(held))
    with pytest.raises(IndexDamagedError, match="page 0"):
        scanned(index)
    index.close()


def test_a_damaged_page_met_by_a_merge_is_reported_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, runs=2)
    monkeypatch.setattr(runs_module, "_VERIFIED_AT_OPEN_BYTES_MAX", 0)
    flip(min(tmp_path.glob("*.run")), 5000)
    index = RunsIndex(tmp_path, merge_factor=2)
    index.wait_for_merges()
    with pytest.raises(IndexDamagedError, match="page 0"):
        find(index, [(1, 1)])
    with pytest.raises(IndexDamagedError):
        add(index, {(1, 1 << 32): (9, 9)}, through=1000)
    index.close()


@pytest.mark.parametrize(
    "harm", ["manifest_bit", "manifest_gone", "manifest_empty", "run_gone", "run_short", "run_long"]
)
def test_missing_and_cut_files_are_damage_and_discard_mends_it(tmp_path: Path, harm: str) -> None:
    filled(tmp_path, runs=2)
    manifest, run = tmp_path / MANIFEST_NAME, min(tmp_path.glob("*.run"))
    match harm:
        case "manifest_bit":
            flip(manifest, 40)
        case "manifest_gone":
            manifest.unlink()
        case "manifest_empty":
            manifest.write_bytes(b"")
        case "run_gone":
            run.unlink()
        case "run_short":
            os.truncate(run, run.stat().st_size - 1)
        case _:
            os.truncate(run, run.stat().st_size + 1)
    with pytest.raises(IndexDamagedError, match="identity index"):
        RunsIndex(tmp_path)
    RunsIndex.discard(tmp_path)
    index = RunsIndex(tmp_path)
    assert (len(index), index.covered) == (0, 0)
    assert list(tmp_path.glob("*.run")) == []
    index.close()


def test_a_full_disk_keeps_everything_in_memory_and_refuses_before_taking_more(tmp_path: Path) -> None:
    full = True

    def on_step(name: str) -> None:
        if full and name == "flush_written":
            raise OSError(errno.ENOSPC, "no space")

    index = RunsIndex(tmp_path, memory_entries_max=100, on_step=on_step)
    first = random_entries(1, 100)
    add(index, first, through=100)
    second = random_entries(2, 10, first=101)
    with pytest.raises(StorageFull):
        add(index, second, through=110)
    assert find(index, [*first, *second]) == [*first.values(), *[(0, 0)] * 10]
    assert index.covered == 0
    assert list(tmp_path.glob("*.run")) == []
    full = False
    add(index, second, through=110)
    index.close()
    reopened = RunsIndex(tmp_path)
    assert reopened.covered == 110
    assert find(reopened, [*first, *second]) == [*first.values(), *second.values()]
    reopened.close()


def test_merges_keep_the_number_of_runs_small_and_every_answer_right(tmp_path: Path) -> None:
    index = RunsIndex(tmp_path, memory_entries_max=5000, merge_factor=4)
    held: dict[Digest, tuple[int, int]] = {}
    for batch in range(30):
        entries = random_entries(batch, 5000, first=1 + batch * 5000)
        held |= entries
        add(index, entries, through=(batch + 1) * 5000)
    index.wait_for_merges()
    assert index.run_count <= 3 + 3 + 3
    assert len(index) == 150_000
    assert index.disk_bytes / len(index) < 23
    assert find(index, list(held)) == list(held.values())
    assert find(index, list(random_entries(1000, 20_000))) == [(0, 0)] * 20_000
    assert len(list(tmp_path.glob("*.run"))) == index.run_count
    index.close()


@pytest.mark.parametrize("pages_max", [1, 3, 7, 20])
def test_a_merge_in_many_small_pieces_stays_sorted_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages_max: int
) -> None:
    monkeypatch.setattr(merge_module, "_PAGES_IN_MEMORY_MAX", pages_max)
    index = RunsIndex(tmp_path, merge_factor=100)
    held: dict[Digest, tuple[int, int]] = {}
    for number, count in enumerate((3000, 40, 900, 2000)):
        first = 1 + number * 10_000
        entries = random_entries(number, count, first=first)
        # 500 identities of one key, in every run: they fill whole pages and straddle every read.
        entries |= {(2**63, (number * 500 + i) << 32): (first + 5000 + i, i) for i in range(500)}
        held |= entries
        add(index, entries, through=first + 9000)
        index.flush()
    index.close()
    index = RunsIndex(tmp_path, merge_factor=4)
    index.wait_for_merges()
    assert index.run_count == 1
    keys = np.concatenate([block.high for block, _, _ in index.scan()])
    assert (keys[1:] >= keys[:-1]).all()
    assert scanned(index) == {(high, low >> 32): answer for (high, low), answer in held.items()}
    assert find(index, list(held)) == list(held.values())
    index.close()


def test_misuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="merge_factor"):
        RunsIndex(tmp_path, merge_factor=1)
    index = RunsIndex(tmp_path)
    add(index, {(1, 1 << 32): (5, 5)}, through=5)
    with pytest.raises(ValueError, match="through 4"):
        add(index, {}, through=4)
    index.close()
    with pytest.raises(ValueError, match="closed"):
        find(index, [(1, 1 << 32)])


# Few, ill-chosen keys, so that they meet, repeat and cluster; and ordinary ones.
high = st.one_of(
    st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63, MAX64 - 1, MAX64]),
    st.integers(0, 40),
    st.integers(0, MAX64),
)
low = st.one_of(st.sampled_from([0, MAX64 >> 32]), st.integers(0, 5)).map(lambda check: check << 32)
digest = st.tuples(high, low)
step_between = st.one_of(st.integers(1, 3), st.just(2**33))


class AgainstADictionary(RuleBasedStateMachine):
    """Whatever is done, in whatever order, the index answers as a dictionary would."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Digest, tuple[int, int]] = {}
        self.flushed: dict[Digest, tuple[int, int]] = {}
        self.through = self.covered = 0

    @initialize(memory=st.integers(1, 60), factor=st.integers(2, 4))
    def open(self, memory: int, factor: int) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.memory, self.factor = memory, factor
        self.index = self._opened()

    def _opened(self) -> RunsIndex:
        return RunsIndex(Path(self.temporary.name), memory_entries_max=self.memory, merge_factor=self.factor)

    @rule(
        digests=st.lists(digest, max_size=40, unique=True),
        step=step_between,
        content=st.integers(0, 2**32 - 1),
    )
    def add(self, digests: list[Digest], step: int, content: int) -> None:
        new = {}
        for each in digests:
            if each not in self.held:
                self.through += step
                new[each] = (self.through, content)
        add(self.index, new, through=self.through)
        self.held |= new
        if self.index.covered != self.covered:
            self._all_flushed()

    def _all_flushed(self) -> None:
        assert self.index.covered == self.through
        self.flushed, self.covered = dict(self.held), self.through

    @rule(digests=st.lists(digest, max_size=20))
    def find(self, digests: list[Digest]) -> None:
        assert find(self.index, digests) == [self.held.get(each, (0, 0)) for each in digests]

    @rule()
    def find_all(self) -> None:
        assert find(self.index, list(self.held)) == list(self.held.values())

    @rule()
    def flush(self) -> None:
        self.index.flush()
        self._all_flushed()

    @rule()
    def merge(self) -> None:
        self.index.wait_for_merges()

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = self._opened()
        self._all_flushed()

    @rule()
    def lose_the_process(self) -> None:
        # A merge under way would die with the process; here it must end before another index opens the directory.
        self.index.wait_for_merges()
        self.index = self._opened()
        assert self.index.covered == self.covered
        self.held, self.through = dict(self.flushed), self.covered

    @rule()
    def reset(self) -> None:
        self.index.reset()
        self.held, self.flushed = {}, {}
        self.through = self.covered = 0

    @rule()
    def scan(self) -> None:
        assert scanned(self.index) == {(high, low >> 32): answer for (high, low), answer in self.held.items()}

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "index"):
            assert len(self.index) == len(self.held)
            assert self.index.covered == self.covered

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
            self.temporary.cleanup()


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


VICTIM = """
    import sys
    from pathlib import Path
    import numpy as np
    from tallystick.identity.interface import Identities
    from tallystick.identity.runs import RunsIndex

    index = RunsIndex(Path(sys.argv[1]), memory_entries_max=4000, merge_factor=2)
    start = index.covered
    while True:
        position = np.arange(start + 1, start + 501, dtype=np.uint64)
        high = position * np.uint64(0x9E3779B97F4A7C15)
        index.add(Identities(high, high), position.astype(np.uint32), position, through=start + 500)
        start += 500
        print(index.covered, flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_any_moment_keeps_what_is_covered(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for _ in range(12):
        victim = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(VICTIM), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        for _ in range(int(rng.integers(5, 120))):
            said = int(victim.stdout.readline())
        victim.kill()
        said = max([said, *(int(line) for line in victim.stdout.read().split("\n")[:-1] if line)])
        victim.stdout.close()
        victim.wait()

        index = RunsIndex(tmp_path)
        assert index.covered >= said
        assert len(index) == index.covered
        position = np.arange(1, index.covered + 1000, dtype=np.uint64)
        high = (position * np.uint64(0x9E3779B97F4A7C15)).tolist()
        expected = [(p, p & 0xFFFFFFFF) if p <= index.covered else (0, 0) for p in position.tolist()]
        assert find(index, list(zip(high, high, strict=True))) == expected
        index.close()
