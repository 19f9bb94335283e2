"""Record a dataset into a data directory, in a process of its own: `python -m bench.fill --directory DIR --events N`.

Everything is the real thing (log with synced commits, recorder, identity index, facts, readings of the meters in
force) except HTTP and decoding: the columns are handed to the log as decoding would. Prints a line of JSON for each
block, and a last one with the whole time.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from bench.dataset import Dataset
from tallystick import observe
from tallystick.config import Settings
from tallystick.wiring import start

BLOCK_EVENTS = 50_000
AHEAD_EVENTS_MAX = 300_000  # the log may run ahead of the recorder by so many
STALLED_S = 120.0


async def fill(directory: Path, dataset: Dataset, *, begin_with: int = 0) -> float:
    """Seconds until the rows from that one on were recorded. Raises RuntimeError when the recorder does not get on."""
    observe.configure(level="error", form="json")
    running = await start(Settings(data_dir=str(directory)))
    recorder, log = running.system.recorder, running.system.log
    try:
        begin = log.end
        before = recorder.totals.events
        started = time.perf_counter()
        for first in range(begin_with, dataset.events, BLOCK_EVENTS):
            rows = await asyncio.to_thread(dataset.rows, first, BLOCK_EVENTS)
            columns = await asyncio.to_thread(rows.event_columns, received_at_us=time.time_ns() // 1000)
            await log.append(columns)
            if not await recorder.wait_for((max(begin, log.end - AHEAD_EVENTS_MAX),), STALLED_S):
                raise RuntimeError(f"nothing was recorded for {STALLED_S:.0f} s: {recorder.fault}")
            print(json.dumps({"done": begin_with + log.end - begin}), flush=True)
        if not await recorder.wait_for((log.end,), STALLED_S):
            raise RuntimeError(
                f"the last events were not recorded within {STALLED_S:.0f} s: {recorder.fault}"
            )
        took_s = time.perf_counter() - started
        new, wanted = recorder.totals.events - before, dataset.events - begin_with
        if new != wanted:
            raise RuntimeError(f"{new} of {wanted} events were recorded as new")
        return took_s
    finally:
        await running.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--events", type=int, required=True, help="size of the dataset")
    parser.add_argument(
        "--begin-with", type=int, default=0, help="the rows before this one are there already"
    )
    given = parser.parse_args()
    sys.setswitchinterval(0.001)  # as `serve` sets it
    took_s = uvloop.run(fill(given.directory, Dataset(given.events), begin_with=given.begin_with))
    print(json.dumps({"done": given.events, "seconds": took_s}), flush=True)


if __name__ == "__main__":
    main()
