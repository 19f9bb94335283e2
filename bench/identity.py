"""How fast, how small: the identity index with N identities in it.

    python bench/identity.py [--stored 5000000] [--batch 10000] [--events 2000000] [--directory DIR]

Fills an index, then runs the recorder's cycle (find a batch, add what is new) with 0, 1 and 50 % duplicates drawn from
everything stored, then leaves the process by `os._exit` and opens the index again in a new one. Digests are made before
the clock starts. 50 million: `--stored 50000000`, two to three minutes, 1.2 GB of disk.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tallystick.identity.interface import Identities
from tallystick.identity.runs import RunsIndex

PREFILL_BATCH = 50_000


def digests(first: int, count: int) -> Identities:
    """The digests of events first, first + 1, …: two rounds of a 64-bit mixer, so that any can be made again."""
    return digests_of(np.arange(first, first + count, dtype=np.uint64))


def digests_of(number: np.ndarray) -> Identities:
    def mixed(value: np.ndarray) -> np.ndarray:
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))

    high = mixed(number * np.uint64(0x9E3779B97F4A7C15))
    return Identities(high, mixed(high + np.uint64(0x632BE59BD9B4E019)))


def resident_mb() -> tuple[float, float]:
    """Resident memory now, and of it not backed by files."""
    fields = dict(
        line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["RssAnon"].split()[0]) / 1024


def add(index: RunsIndex, batch: Identities, first: int) -> None:
    position = np.arange(first, first + len(batch), dtype=np.uint64)
    index.add(batch, position.astype(np.uint32), position, through=first + len(batch) - 1)


def prefill(index: RunsIndex, stored: int) -> float:
    spent = 0.0
    for first in range(1, stored + 1, PREFILL_BATCH):
        batch = digests(first, min(PREFILL_BATCH, stored + 1 - first))
        started = time.perf_counter()
        add(index, batch, first)
        spent += time.perf_counter() - started
    started = time.perf_counter()
    index.wait_for_merges()
    return spent + time.perf_counter() - started


def cycle(
    index: RunsIndex, next_number: int, *, events: int, batch: int, duplicates: float
) -> tuple[int, float, float]:
    """Find and add `events` events; returns the next number, seconds in all, the slowest cycle in seconds."""
    rng = np.random.default_rng(next_number)
    spent, slowest = 0.0, 0.0
    for _ in range(0, events, batch):
        old = round(batch * duplicates)
        new = batch - old
        number = np.concatenate(
            (
                rng.integers(1, next_number, old).astype(np.uint64),
                np.arange(next_number, next_number + new, dtype=np.uint64),
            )
        )
        asked = digests_of(number)
        started = time.perf_counter()
        found = index.find(asked)
        unseen = found.position == 0
        add(index, Identities(asked.high[unseen], asked.low[unseen]), next_number)
        took = time.perf_counter() - started
        if not (found.position[:old] == number[:old]).all() or not unseen[old:].all():
            raise SystemExit("wrong answer")
        next_number += new
        spent, slowest = spent + took, max(slowest, took)
    return next_number, spent, slowest


def reopen(directory: Path) -> None:
    """In a process of its own: open, and answer a first question."""
    started = time.perf_counter()
    index = RunsIndex(directory)
    opened = time.perf_counter()
    known = index.find(digests(1, 1000)).position
    answered = time.perf_counter()
    if not (known == np.arange(1, 1001)).all():
        raise SystemExit("wrong answer after opening again")
    print(f"open after a lost process     {(opened - started) * 1e3:8.0f} ms")
    print(f"  and first 1,000 answers     {(answered - opened) * 1e3:8.0f} ms (verifies every filter first)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stored", type=int, default=5_000_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=2_000_000, help="in each of the three cycles")
    parser.add_argument("--directory", type=Path, default=None, help="must not exist yet; removed at the end")
    parser.add_argument("--reopen", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reopen is not None:
        reopen(arguments.reopen)
        return
    directory = arguments.directory or Path(tempfile.mkdtemp()) / "identity"
    directory.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        measure(directory, arguments.stored, arguments.batch, arguments.events)
        sys.stdout.flush()
        os._exit(0)  # without closing: what memory held is lost
    _, status = os.waitpid(child, 0)
    try:
        if status == 0:
            subprocess.run([sys.executable, __file__, "--reopen", str(directory)], check=True)
    finally:
        shutil.rmtree(directory if arguments.directory else directory.parent)
    raise SystemExit(os.waitstatus_to_exitcode(status))


def measure(directory: Path, stored: int, batch: int, events: int) -> None:
    before, _ = resident_mb()
    index = RunsIndex(directory)
    spent = prefill(index, stored)
    print(f"add only, to {stored:,}       {stored / spent / 1e3:8.0f} k/s (all merges included)")
    next_number = stored + 1
    peak = (0.0, 0.0)
    for duplicates in (0.0, 0.01, 0.5):
        next_number, spent, slowest = cycle(
            index, next_number, events=events, batch=batch, duplicates=duplicates
        )
        print(
            f"find + add, {duplicates:4.0%} duplicates   {events / spent / 1e3:8.0f} k/s, slowest batch {slowest * 1e3:.0f} ms"
        )
        peak = max(peak, resident_mb())
    started = time.perf_counter()
    for number in range(next_number, next_number + 1000):
        one = digests(number, 1)
        index.find(one)
        add(index, one, number)
    print(
        f"find + add of one event       {(time.perf_counter() - started) * 1e3:8.0f} us, {index.run_count} runs"
    )
    index.flush()
    index.wait_for_merges()
    on_disk = sum(path.stat().st_size for path in directory.iterdir())
    print(f"disk                          {on_disk / len(index):8.1f} bytes an identity")
    print(
        f"resident memory, highest seen {peak[0] - before:8.0f} MB more than before ({peak[1]:.0f} MB of it not file pages)"
    )


if __name__ == "__main__":
    main()
