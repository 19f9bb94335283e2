"""Throw all readings away and build them again while events come in, in a process of its own:
`python -m bench.rebuild --directory DIR --events N`.

Records a dataset, takes its readings out of service, and measures until the background has built them all again; at the
same time further events are appended at a steady pace. Prints a line of JSON.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import uvloop

from bench.dataset import Dataset
from bench.fill import fill
from bench.server import METERS
from tallystick import observe
from tallystick.catalog.interface import SYSTEM
from tallystick.config import Settings
from tallystick.flows.doctor import rebuild
from tallystick.flows.system import System
from tallystick.metering.definition import parse_meter
from tallystick.wiring import start

BEAT_S = 0.1
STALLED_S = 600.0


async def _go_on(system: System, dataset: Dataset, first: int, beside_per_s: int, over: asyncio.Event) -> int:
    """Append events at this pace until it is over; how many."""
    begun, sent = time.perf_counter(), 0
    while not over.is_set() and first + sent < dataset.events:
        due = min(int((time.perf_counter() - begun) * beside_per_s) - sent, dataset.events - first - sent)
        if due > 0:
            rows = await asyncio.to_thread(dataset.rows, first + sent, due)
            await system.log.append(rows.event_columns(received_at_us=time.time_ns() // 1000))
            sent += due
        await asyncio.sleep(BEAT_S)
    return sent


async def measure(directory: Path, events: int, beside_per_s: int) -> dict[str, float]:
    """Raises RuntimeError when the readings are not all there in the end."""
    await fill(directory, Dataset(events))
    observe.configure(level="error", form="json")
    running = await start(Settings(data_dir=str(directory)))
    system, recorder = running.system, running.system.recorder
    try:
        system.catalog.create_meter(
            "default", parse_meter(dict(METERS[0])), actor=SYSTEM, now_us=time.time_ns() // 1000
        )
        async with asyncio.timeout(STALLED_S):
            while recorder.readings_expected < events or recorder.unbuilt():
                await asyncio.sleep(0.02)
            over = asyncio.Event()
            beside = asyncio.create_task(_go_on(system, Dataset(events * 20), events, beside_per_s, over))
            await rebuild(system, ("readings",))
            started = time.perf_counter()
            while recorder.unbuilt():
                await asyncio.sleep(0.01)
            took_s = time.perf_counter() - started
            over.set()
            sent = await beside
            await recorder.wait_for((system.log.end,), STALLED_S)
        held = system.store.counts()["readings"]
        if held != events + sent:
            raise RuntimeError(f"{held} readings of {events + sent} events")
        return {"events": events, "seconds": took_s, "beside_per_s": sent / took_s}
    finally:
        with contextlib.suppress(TimeoutError):
            await running.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--beside-per-s", type=int, default=20_000)
    given = parser.parse_args()
    sys.setswitchinterval(0.001)  # as `serve` sets it
    print(json.dumps(uvloop.run(measure(given.directory, given.events, given.beside_per_s))), flush=True)


if __name__ == "__main__":
    main()
