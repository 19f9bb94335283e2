"""What keeping roll-ups costs, in a process of its own: `python -m bench.rollups --directory DIR --events N [--without]`.

Records a tenth of a dataset (so as dense in time as ten times as many events a year) while its meter, a sum with two
dimensions, is rolled up or is not, and goes on until the keepers have caught up. The second half is measured. The rows are
made before that, so that the processor time is the system's; what the idle process takes is measured in the end and left
out. Prints a line of JSON: events recorded a second, seconds of processor time for a million, and readings rolled up.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from bench.dataset import Dataset
from bench.fill import AHEAD_EVENTS_MAX, BLOCK_EVENTS, STALLED_S
from bench.server import METERS
from tallystick import observe
from tallystick.catalog.interface import SYSTEM
from tallystick.config import Settings
from tallystick.flows.rollup_views import RollupViews
from tallystick.metering.definition import parse_meter
from tallystick.metering.event import EventColumns
from tallystick.wiring import start

SHARE = 10
BEFORE_SHARE = 2  # half of the events come before the clock starts: by then it is known which views shrink
SETTLED_S_MAX = 120.0
IDLE_S = 3.0


def rolled_up(rollups: RollupViews, events: int) -> bool:
    """Whether each view has every reading, or has been found not to shrink."""
    return all(
        status.not_kept or (status.readings >= events and not status.pending)
        for status in rollups.status.values()
    )


async def measure(directory: Path, events: int, *, settle_s: float, with_rollups: bool) -> dict[str, float]:
    """Raises RuntimeError when the recorder does not get on or anything is missing."""
    observe.configure(level="error", form="json")
    running = await start(Settings(data_dir=str(directory)))
    system, recorder = running.system, running.system.recorder
    try:
        rollups = system.rollups
        if not isinstance(rollups, RollupViews):
            raise TypeError("these roll-ups cannot be stopped")
        if not with_rollups:
            await rollups.stop()
        now_us = time.time_ns() // 1000
        system.catalog.create_meter("default", parse_meter(dict(METERS[0])), actor=SYSTEM, now_us=now_us)
        dataset = Dataset(SHARE * events)
        blocks = [
            dataset.rows(first, min(BLOCK_EVENTS, events - first)).event_columns(received_at_us=now_us)
            for first in range(0, events, BLOCK_EVENTS)
        ]

        async def record(some: list[EventColumns]) -> None:
            for block in some:
                await system.log.append(block)
                if not await recorder.wait_for((max(0, system.log.end - AHEAD_EVENTS_MAX),), STALLED_S):
                    raise RuntimeError(f"nothing was recorded for {STALLED_S:.0f} s: {recorder.fault}")
            if not await recorder.wait_for((system.log.end,), STALLED_S):
                raise RuntimeError(f"the last events were not recorded: {recorder.fault}")

        async def settle(recorded: int) -> None:
            await asyncio.sleep(settle_s)
            until_s = time.perf_counter() + SETTLED_S_MAX
            while with_rollups and settle_s >= 1 and time.perf_counter() < until_s:
                if rolled_up(rollups, recorded):  # twice: whether a view shrinks is judged right after a step
                    await asyncio.sleep(1.0)
                    if rolled_up(rollups, recorded):
                        break
                await asyncio.sleep(0.1)

        before = len(blocks) // BEFORE_SHARE
        if before:
            await record(blocks[:before])
            await settle(before * BLOCK_EVENTS)
        cpu_s, begun = time.process_time(), time.perf_counter()
        await record(blocks[before:])
        ended = time.perf_counter()
        await settle(events)
        rested, cpu_s = time.perf_counter(), time.process_time() - cpu_s
        idle_cpu_s = time.process_time()
        await asyncio.sleep(min(IDLE_S, settle_s))
        idle = (time.process_time() - idle_cpu_s) / (time.perf_counter() - rested)
        if recorder.unbuilt():
            raise RuntimeError("the meter was put in service too late")
        held = await asyncio.to_thread(system.store.counts)
        if held["readings"] != events:
            raise RuntimeError(f"{held['readings']} readings of {events} events")
        measured = events - before * BLOCK_EVENTS
        return {
            "per_s": measured / (ended - begun),
            "cpu_s_per_million": (cpu_s - idle * (rested - ended)) / measured * 1e6,
            "rolled_up": max(status.readings for status in rollups.status.values()),
        }
    finally:
        await running.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--settle-s", type=float, default=15.0, help="how long after the last event")
    parser.add_argument("--without", action="store_true", help="no roll-ups")
    given = parser.parse_args()
    sys.setswitchinterval(0.001)  # as `serve` sets it
    found = uvloop.run(
        measure(given.directory, given.events, settle_s=given.settle_s, with_rollups=not given.without)
    )
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
