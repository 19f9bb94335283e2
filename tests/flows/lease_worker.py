"""Real processes that hold leases, one of them frozen and woken."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tallystick.catalog.coordination import Coordination

_WORKER = """
import asyncio, json, sys, time
from tallystick.catalog.coordination import Coordination
from tallystick.catalog.leases import LeaseLostError
from tallystick.catalog.partitions import FencedCheckpoint
from tallystick.errors import Unavailable
from tallystick.flows.lease import PartitionKeeper

coordination = Coordination(sys.argv[1])

def say(*what):
    print(json.dumps(what), flush=True)

async def work(held):
    # A recorder that believes in nothing but the fence: it never asks `held` before it writes.
    checkpoint = FencedCheckpoint(coordination.partitions, held.key, held.epoch)
    raw = await asyncio.to_thread(checkpoint.load)
    recorded = json.loads(raw or b'{"recorded": 0}')["recorded"]
    say("begins", held.key, recorded)
    while not held.leaving.is_set():
        try:
            await asyncio.to_thread(checkpoint.save, json.dumps({"recorded": recorded + 1}).encode())
        except LeaseLostError:
            say("lost", held.key, recorded)
            raise
        recorded += 1
        say("saved", held.key, recorded)
        await asyncio.sleep(0.02)

keeper = PartitionKeeper(
    coordination.partitions, coordination.leases, owner=sys.argv[2], work=work, ttl_s=1.0, renew_s=0.2
)
asyncio.run(asyncio.wait_for(keeper.run(), 60))
"""


class Worker:
    def __init__(self, url: str, name: str, directory: Path) -> None:
        self.output = directory / f"{name}.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _WORKER, url, name], stdout=output, stderr=subprocess.STDOUT
            )

    def said(self) -> list[list[object]]:
        lines = self.output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("[")]

    def wait_until(self, what: str, *, beyond: int = 0, timeout_s: float = 90.0) -> list[list[object]]:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            found = [line for line in self.said()[beyond:] if line[0] == what]
            if found:
                return found
            assert self.process.poll() is None, self.output.read_text()[-3000:]
            time.sleep(0.02)
        raise AssertionError(f"It did not say {what!r}:\n{self.output.read_text()[-3000:]}")

    def end(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
        self.process.wait()


def frozen_wakes_and_loses(url: str, directory: Path) -> None:
    """Whatever each process says it saved must be one unbroken history: 1, 2, 3 … over all owners."""
    coordination = Coordination(url)
    coordination.partitions.prepare(1)
    first = Worker(url, "a", directory)
    workers = [first]
    try:
        first.wait_until("saved")
        second = Worker(url, "b", directory)
        workers.append(second)
        os.kill(first.process.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        second.wait_until("saved")
        taken_over_s = time.monotonic() - began_s
        before = len(first.said())
        os.kill(first.process.pid, signal.SIGCONT)
        first.wait_until("lost", beyond=before)
        # Frozen between a save and saying so: that one stands, and counts.
        history = sorted(int(str(line[2])) for w in workers for line in w.said() if line[0] == "saved")
        row = coordination.partitions.rows()[0]
        assert row.owner in {"a", "b"}
        unsaid = set(range(1, history[-1] + 1)) - set(history)
        assert len(history) == len(set(history))
        assert len(unsaid) <= 1
        from tests.patience import patience  # not where this file is the worker itself

        assert taken_over_s < 8 * patience()
    finally:
        for worker in workers:
            worker.end()
        coordination.close()
