"""The gate in this process: checks and reservations at a steady rate, alone and beside events that are taken in."""

import asyncio
import random
import shutil
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec
import uvloop

from bench.report import Table, ms, percentile, rate
from tallystick.catalog.interface import SYSTEM, CustomerChange
from tallystick.config import Settings
from tallystick.flows.limits.gate import LimitGate
from tallystick.flows.limits.rules import Ask
from tallystick.limits.limit import read_limit
from tallystick.metering.decode import Limits, decode
from tallystick.metering.definition import parse_meter
from tallystick.wiring import Running, start

CUSTOMERS = 200
_BATCH = 500


@dataclass(slots=True)
class Measured:
    """Seconds each call took, and how many there were a second."""

    took_s: list[float]
    per_s: float


def measure(directory: Path, *, seconds: float, per_s: int, events_per_s: int) -> Table:
    """A line a kind of call. Calls are made when they are due, whether those before are answered or not, and their time
    counts from when they were due."""
    table = Table(
        "Checks and reservations",
        "The gate in one process with its load, no HTTP: limits of a sum by month, 200 customers. A reservation is answered "
        "once it is synced. Times count from when a call was due.",
        ("calls", "events/s taken in", "calls/s", "p50 ms", "p99 ms"),
    )
    for line in uvloop.run(_all(directory, seconds, per_s, events_per_s)):
        table.rows.append(line)
    return table


async def _all(
    directory: Path, seconds: float, per_s: int, events_per_s: int
) -> list[tuple[str, str, str, str, str]]:
    shutil.rmtree(directory, ignore_errors=True)
    running = await start(Settings(data_dir=str(directory), admin_key="bench-admin-key"))
    lines: list[tuple[str, str, str, str, str]] = []
    try:
        gate = await _prepared(running)
        for events in (0, events_per_s):
            for kind in ("check", "reserve"):
                beside = asyncio.create_task(_take_in(running, events)) if events else None
                found = await _calls(gate, kind, seconds=seconds, per_s=per_s)
                if beside is not None:
                    beside.cancel()
                    await asyncio.gather(beside, return_exceptions=True)
                lines.append(
                    (
                        kind,
                        rate(events),
                        rate(found.per_s),
                        ms(percentile(found.took_s, 0.5)),
                        ms(percentile(found.took_s, 0.99)),
                    )
                )
    finally:
        await running.stop()
    return lines


async def _prepared(running: Running) -> LimitGate:
    system = running.system
    now_us = system.clock.now_us()
    meter = {"key": "units", "event_type": "use", "aggregation": "sum", "value": "$.n"}
    system.catalog.create_meter("default", parse_meter(meter), actor=SYSTEM, now_us=now_us)
    for number in range(CUSTOMERS):
        system.catalog.create_customer("default", f"c{number}", CustomerChange(), actor=SYSTEM, now_us=now_us)
    limits = system.limits
    assert limits is not None
    limit = read_limit({"key": "all", "customer": "*", "meter": "units", "amount": 10**15, "period": "month"})
    limits.catalog.create_limit("default", limit, actor=SYSTEM, now_us=now_us)
    limits.changed()
    gate = await limits.gate()
    assert isinstance(gate, LimitGate)
    for number in range(CUSTOMERS):
        await gate.check(Ask("default", f"c{number}", "units", Decimal(1)))
    return gate


async def _calls(gate: LimitGate, kind: str, *, seconds: float, per_s: int) -> Measured:
    chosen = random.Random(7)
    took_s: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(due_s: float) -> None:
        ask = Ask("default", f"c{chosen.randrange(CUSTOMERS)}", "units", Decimal(1))
        if kind == "check":
            await gate.check(ask)
        else:
            await gate.reserve(ask, 5)
        took_s.append(time.perf_counter() - due_s)

    begin_s = time.perf_counter()
    made = 0
    while (now_s := time.perf_counter() - begin_s) < seconds:
        while made < now_s * per_s:
            task = asyncio.create_task(one(begin_s + made / per_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            made += 1
        await asyncio.sleep(1 / per_s)
    await asyncio.gather(*tasks)
    return Measured(took_s, len(took_s) / (time.perf_counter() - begin_s))


async def _take_in(running: Running, per_s: int) -> None:
    """Events in batches, decoded as a request's are."""
    limits = Limits(events_max=10_000, event_bytes_max=2**18, depth_max=32, future_tolerance_us=3_600_000_000)
    log, clock = running.system.log, running.system.clock
    begin_s, sent, chosen = time.perf_counter(), 0, random.Random(11)
    prefix = f"{begin_s:f}"
    while True:
        body = msgspec.json.encode(
            [
                {
                    "id": f"{prefix}-{sent + place}",
                    "type": "use",
                    "subject": f"c{chosen.randrange(CUSTOMERS)}",
                    "data": {"n": 1},
                }
                for place in range(_BATCH)
            ]
        )
        decoded = decode(
            body,
            content_type="application/json",
            ce_headers={},
            tenant="default",
            received_at_us=clock.now_us(),
            limits=limits,
        )
        await log.append(decoded.events)
        sent += _BATCH
        ahead_s = sent / per_s - (time.perf_counter() - begin_s)
        await asyncio.sleep(max(ahead_s, 0.0))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made_for_now:
        for found in measure(Path(made_for_now) / "gate", seconds=5, per_s=5_000, events_per_s=50_000).rows:
            print(found)
