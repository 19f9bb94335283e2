"""How fast the event log acknowledges: `python bench/log.py --seconds 3`.

For requests of 1, 100 and 1,000 events it keeps many requests under way from one event loop, all synced, and prints
acknowledged appends and events a second and how long one append took. A reader follows and trims, as the recorder
does.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from tallystick.log.sqlite import SqliteLog
from tallystick.metering.event import EventColumns

UNDER_WAY = {1: 256, 100: 64, 1000: 16}
READ_EVENTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table. Times are of one append, from call to acknowledgement."""

    events_a_request: int
    appends_per_s: float
    events_per_s: float
    p50_ms: float
    p99_ms: float
    bytes_per_event: float


def requests_of(events: int, *, different: int = 64) -> list[EventColumns]:
    """Requests like those of an AI gateway; ids and identities differ, as they do in life."""
    random = np.random.default_rng(7)
    first = EventColumns(
        tenant="default",
        received_at_us=1_790_000_000_000_000,
        source=["gateway-eu-1"] * events,
        id=[],
        type=["llm.completion"] * events,
        subject=[f"customer-{number % 50}" for number in range(events)],
        time_us=np.arange(events, dtype=np.int64) * 1000 + 1_790_000_000_000_000,
        time_given=np.ones(events, np.bool_),
        data=[
            b'{"model":"m-large","region":"eu-1","tokens_in":%d,"tokens_out":%d}'
            % (number * 7 % 4096, number)
            for number in range(events)
        ],
        attributes=[b""] * events,
        identity=[],
        content=np.arange(events, dtype=np.uint64),
    )
    return [
        replace(
            first,
            id=[random.bytes(8).hex() for _ in range(events)],
            identity=[random.bytes(16) for _ in range(events)],
            content=random.integers(0, 2**63, events, dtype=np.uint64),
        )
        for _ in range(different)
    ]


async def measure(directory: Path, *, events: int, seconds: float) -> Measured:
    """Append for so long, in a fresh log in this directory."""
    path = directory / f"log-{events}.sqlite"
    log = SqliteLog.open(path, waiting_events_max=200_000, unrecorded_events_max=50_000_000)
    requests = requests_of(events)
    await log.append(requests[0])
    took_s: list[float] = []
    ends_at = time.perf_counter() + seconds

    async def sender(offset: int) -> None:
        for number in count(offset):
            started = time.perf_counter()
            if started >= ends_at:
                return
            await log.append(requests[number % len(requests)])
            took_s.append(time.perf_counter() - started)

    async def follow() -> int:
        after = 0
        while await log.wait_for(after, timeout_s=2):
            after = (await log.read(after, events_max=READ_EVENTS_MAX))[-1].last
            await log.trim(after - 1_000_000)
        return after

    follower = asyncio.create_task(follow())
    started = time.perf_counter()
    await asyncio.gather(*(sender(number) for number in range(UNDER_WAY.get(events, 16))))
    elapsed_s = time.perf_counter() - started
    if await follower != log.end:
        raise SystemExit("the reader did not see every event")
    kept = log.end - log.trimmed_through
    await log.close()
    times_ms = np.array(took_s) * 1000
    return Measured(
        events_a_request=events,
        appends_per_s=len(took_s) / elapsed_s,
        events_per_s=len(took_s) * events / elapsed_s,
        p50_ms=float(np.percentile(times_ms, 50)),
        p99_ms=float(np.percentile(times_ms, 99)),
        bytes_per_event=path.stat().st_size / kept,
    )


async def measure_all(
    directory: Path, *, seconds: float, sizes: tuple[int, ...] = (1, 100, 1000)
) -> list[Measured]:
    """The whole table."""
    return [await measure(directory, events=events, seconds=seconds) for events in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to append, for each size")
    parser.add_argument("--directory", help="where to put the log (default: a temporary directory)")
    parser.add_argument("--asyncio", action="store_true", help="the standard event loop instead of uvloop")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="tallystick-log-", dir=options.directory))
    try:
        if options.asyncio:
            table = asyncio.run(measure_all(directory, seconds=options.seconds))
        else:
            import uvloop

            table = uvloop.run(measure_all(directory, seconds=options.seconds))
    finally:
        shutil.rmtree(directory)
    print(f"{os.cpu_count()} processors, {options.seconds:g} s each, every commit synced")
    print(
        f"{'events/request':>14} {'appends/s':>10} {'events/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'bytes/event':>12}"
    )
    for line in table:
        print(
            f"{line.events_a_request:>14} {line.appends_per_s:>10,.0f} {line.events_per_s:>10,.0f} "
            f"{line.p50_ms:>8.1f} {line.p99_ms:>8.1f} {line.bytes_per_event:>12.1f}"
        )


if __name__ == "__main__":
    main()
