"""The parts on their own: decoding, log, identity index and readings, as lines of one table."""

import asyncio
import random
from pathlib import Path

import uvloop

from bench import decode, derive, identity, log
from bench.report import Table, ms, rate
from tallystick.identity.runs import RunsIndex


def measure(directory: Path, *, seconds: float, identities: int, events: int) -> Table:
    """`seconds`: of each log line; `identities`: in the index before it is measured; `events`: readings made of."""
    random.seed(7)
    table = Table(
        "Parts on their own",
        "One part at work and nothing else, in this process: what one core can do in it, and where the time of the "
        "whole goes. The log syncs every commit. The identity index finds and adds batches of 10,000.",
        ("part", "events/s", "µs an event", "remark"),
    )
    for name, (content_type, body) in decode.bodies(1000).items():
        cost = decode.cost_us(content_type, body) / 1000
        table.rows.append((f"decode {name}, 1,000 a body", rate(1e6 / cost), f"{cost:.2f}", "processor time"))
    for line in uvloop.run(_log(directory / "log", seconds)):
        remark = f"p50 {line.p50_ms:.1f} ms, p99 {line.p99_ms:.1f} ms, {line.bytes_per_event:.0f} bytes/event"
        table.rows.append(
            (
                f"log, {line.events_a_request:,} a request",
                rate(line.events_per_s),
                f"{1e6 / line.events_per_s:.2f}",
                remark,
            )
        )
    table.rows += _identity(directory / "identity-alone", identities)
    source = derive.events_of(events)
    for name, meters in derive.cases().items():
        cost, _ = derive.cost_us(meters, source)
        table.rows.append((f"readings: {name}", rate(1e6 / cost), f"{cost:.3f}", "an event and meter"))
    return table


async def _log(directory: Path, seconds: float) -> list[log.Measured]:
    directory.mkdir(parents=True)
    return await asyncio.wait_for(log.measure_all(directory, seconds=seconds), seconds * 3 + 120)


def _identity(directory: Path, stored: int) -> list[tuple[str, str, str, str]]:
    lines: list[tuple[str, str, str, str]] = []
    index = RunsIndex(directory)
    try:
        spent_s = identity.prefill(index, stored)
        lines.append(
            (
                f"identity: add {stored:,}",
                rate(stored / spent_s),
                f"{spent_s / stored * 1e6:.2f}",
                "merges included",
            )
        )
        next_number = stored + 1
        asked = min(1_000_000, stored)
        for share in (0.0, 0.01, 0.5):
            next_number, spent_s, slowest_s = identity.cycle(
                index, next_number, events=asked, batch=10_000, duplicates=share
            )
            lines.append(
                (
                    f"identity: find and add, {share:.0%} known",
                    rate(asked / spent_s),
                    f"{spent_s / asked * 1e6:.2f}",
                    f"slowest batch {ms(slowest_s)} ms",
                )
            )
        index.flush()
        index.wait_for_merges()
        size = sum(path.stat().st_size for path in directory.iterdir()) / len(index)
        lines.append(("identity: on disk", "–", "–", f"{size:.1f} bytes an identity"))
    finally:
        index.close()
    return lines
