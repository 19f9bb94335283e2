"""Alerts in this process, beside events that are taken in: how long after an event is synced is its transition written, and
its webhook received?"""

import asyncio
import contextlib
import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.report import Table, ms, percentile, rate
from tallystick.catalog.delivering import Setup
from tallystick.catalog.interface import SYSTEM, CustomerChange
from tallystick.config import Settings
from tallystick.delivery.signature import new_secret
from tallystick.flows.alerts.definitions import alerts_of, create_alert
from tallystick.flows.outbox import outbox_of
from tallystick.metering.decode import Limits, decode
from tallystick.metering.definition import parse_meter
from tallystick.wiring import Running, start

METERS, CUSTOMERS = 20, 1_000
WINDOWS = ("hour", "day", "month")
PROBES_PER_S = 20
_STEP = 1_000_000
_BATCH = 500
_BEGUN_S_MAX = 120.0
_LAST_S = 15.0
_LIMITS = Limits(events_max=10_000, event_bytes_max=2**18, depth_max=32, future_tolerance_us=3_600_000_000)


@dataclass(slots=True)
class Seen:
    """`begun_s`: until all alerts had been looked at once. `waited_s`: of each transition, since its event was synced;
    `received_s`: of each webhook. `recorded`: events while it was measured; `cpu_s`: of the process meanwhile."""

    begun_s: float = 0.0
    events_per_s: float = 0.0
    probes: int = 0
    expected: int = 0
    waited_s: list[float] = field(default_factory=list[float])
    received_s: list[float] = field(default_factory=list[float])
    deliveries: set[str] = field(default_factory=set[str])
    recorded: int = 0
    cpu_s: float = 0.0
    looks: int = 0
    look_s: float = 0.0


def measure(
    directory: Path, *, seconds: float, events_per_s: int, alerts: int = 1_000, settle_s: float = 3.0
) -> Table:
    """One line with alerts, and one without, whose processor time is to be taken off. `settle_s`: after the alerts have begun,
    all customers are seen for the first time. Raises RuntimeError when a transition
    or a delivery is missing, or there is one too many."""
    table = Table(
        "Alerts",
        f"{alerts:,} alerts of any of {CUSTOMERS:,} customers, on {METERS} meters, by hour, day and month, in one process with "
        f"its load, no HTTP. {PROBES_PER_S} times a second an event crosses a threshold of each window. From when that "
        "event is synced until its transition is in the catalog, and until a webhook has it; every transition was found, and "
        "delivered, once. Processor time is that of the whole process, its load and the webhook's receiver included: what "
        "alerts add is the difference between the lines.",
        (
            "alerts",
            "events/s taken in",
            "transitions",
            "decided p50 ms",
            "p99 ms",
            "received p50 ms",
            "p99 ms",
            "CPU s/M events",
            "looks/s",
            "a look ms",
            "all begun s",
        ),
    )
    for count in (alerts, 0):
        seen = uvloop.run(_all(directory, seconds, events_per_s, count, settle_s))
        if len(seen.waited_s) != seen.expected or len(seen.deliveries) != seen.expected:
            raise RuntimeError(
                f"{len(seen.waited_s)} transitions and {len(seen.deliveries)} deliveries, {seen.expected} expected"
            )
        times = (seen.waited_s, seen.received_s) if count else ()
        table.rows.append(
            (
                f"{count:,}",
                rate(seen.events_per_s),
                f"{len(seen.waited_s):,}",
                *(ms(percentile(one, share)) for one in times for share in (0.5, 0.99)),
                *([] if count else ["-"] * 4),
                f"{seen.cpu_s * 1e6 / max(seen.recorded, 1):.1f}",
                f"{seen.looks / seconds:.1f}",
                ms(seen.look_s / max(seen.looks, 1)),
                f"{seen.begun_s:.1f}",
            )
        )
    return table


async def _all(directory: Path, seconds: float, events_per_s: int, alerts: int, settle_s: float) -> Seen:
    shutil.rmtree(directory, ignore_errors=True)
    seen, sent_s = Seen(), dict[tuple[str, str], float]()
    receiver = await asyncio.start_server(
        lambda reader, writer: _receive(reader, writer, sent_s, seen), "127.0.0.1"
    )
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/"
    running = await start(
        Settings(data_dir=str(directory), admin_key="bench-admin-key", webhook_allow_private="true")
    )
    try:
        await asyncio.to_thread(_prepare, running, alerts, url)
        load = asyncio.create_task(_take_in(running, events_per_s, seen))
        await _begun(running, seen)
        await asyncio.sleep(settle_s)
        status = running.system.alerts
        assert status is not None
        looks, look_s = status.looks, status.look_seconds
        recorded, cpu_s = await _recorded(running), time.process_time()
        watching = asyncio.create_task(_watch(running, sent_s, seen))
        await _probe(running, seconds, sent_s, seen, is_watched=alerts > 0)
        seen.looks, seen.look_s = status.looks - looks, status.look_seconds - look_s
        seen.recorded, seen.cpu_s = await _recorded(running) - recorded, time.process_time() - cpu_s
        for _ in range(int(_LAST_S * 20)):
            if min(len(seen.waited_s), len(seen.deliveries)) >= seen.expected:
                break
            await asyncio.sleep(0.05)
        for task in (load, watching):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await running.stop()
        receiver.close()
    return seen


async def _recorded(running: Running) -> int:
    return (await asyncio.to_thread(running.system.store.counts))["events"]


async def _receive(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    sent_s: dict[tuple[str, str], float],
    seen: Seen,
) -> None:
    """Take webhooks, and answer 204."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
            news = msgspec.json.decode(await reader.readexactly(int(headers["content-length"])))
            if headers["webhook-id"] not in seen.deliveries:
                seen.deliveries.add(headers["webhook-id"])
                seen.received_s.append(time.perf_counter() - sent_s[news["data"]["meter"], news["customer"]])
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()


def _prepare(running: Running, alerts: int, url: str) -> None:
    system = running.system
    now_us = system.clock.now_us()
    outbox = outbox_of(system)
    hook = Setup(type="webhook", name="hook", url=url, signature="hmac")
    secret = outbox.seal.close(new_secret("hmac"))
    outbox.catalog.create_channel(
        "default", "hook", hook, customer=None, secret=secret, actor=SYSTEM, now_us=now_us
    )
    for number in range(METERS):
        meter = {"key": f"m{number}", "event_type": f"t{number}", "aggregation": "sum", "value": "$.n"}
        system.catalog.create_meter("default", parse_meter(meter), actor=SYSTEM, now_us=now_us)
    for number in range(CUSTOMERS):
        system.catalog.create_customer("default", f"c{number}", CustomerChange(), actor=SYSTEM, now_us=now_us)
    for number in range(alerts):
        place = number // METERS
        document = {
            "key": f"a{number}",
            "meter": f"m{number % METERS}",
            "window": WINDOWS[place % len(WINDOWS)],
            # Of each window the thresholds 1, 2, 3 … million: a probe adds one million.
            "condition": {"op": "gte", "value": str((place // len(WINDOWS) + 1) * _STEP)},
            "channels": ["hook"],
        }
        create_alert(system, "default", None, document, actor=SYSTEM, now_us=now_us)


async def _begun(running: Running, seen: Seen) -> None:
    """Until every alert has been looked at as a whole."""
    begin_s = time.perf_counter()
    catalog = alerts_of(running.system)
    while not all(one.begun for one in await asyncio.to_thread(catalog.every_alert)):
        if time.perf_counter() - begin_s > _BEGUN_S_MAX:
            raise RuntimeError(f"alerts had not begun after {_BEGUN_S_MAX:.0f} s")
        await asyncio.sleep(0.25)
    seen.begun_s = time.perf_counter() - begin_s


async def _probe(
    running: Running,
    seconds: float,
    sent_s: dict[tuple[str, str], float],
    seen: Seen,
    *,
    is_watched: bool,
) -> None:
    begin_s = time.perf_counter()
    while (passed_s := time.perf_counter() - begin_s) < seconds:
        meter, customer = seen.probes % METERS, seen.probes // METERS
        # Each pair once: it crosses the lowest threshold of each window.
        event = {
            "id": f"probe-{seen.probes}",
            "type": f"t{meter}",
            "subject": f"c{customer}",
            "data": {"n": _STEP},
        }
        await running.system.log.append(_decoded(running, [event]))
        sent_s[f"m{meter}", f"c{customer}"] = time.perf_counter()
        seen.probes += 1
        seen.expected = seen.probes * len(WINDOWS) * is_watched
        await asyncio.sleep(max(seen.probes / PROBES_PER_S - passed_s, 0.0))


async def _watch(running: Running, sent_s: dict[tuple[str, str], float], seen: Seen) -> None:
    """Follow the transitions there are."""
    catalog = alerts_of(running.system)
    number = 0
    while True:
        found = await asyncio.to_thread(catalog.transitions_after, "default", number, limit=1_000)
        now_s = time.perf_counter()
        for one in found:
            number = one.number
            seen.waited_s.append(now_s - sent_s[str(one.content["meter"]), one.customer])
        await asyncio.sleep(0.01)


async def _take_in(running: Running, per_s: int, seen: Seen) -> None:
    begin_s, sent, chosen = time.perf_counter(), 0, random.Random(11)
    while True:
        events: list[dict[str, Any]] = [
            {
                "id": f"e{sent + place}",
                "type": f"t{chosen.randrange(METERS)}",
                "subject": f"c{chosen.randrange(CUSTOMERS)}",
                "data": {"n": 1},
            }
            for place in range(_BATCH)
        ]
        await running.system.log.append(_decoded(running, events))
        sent += _BATCH
        passed_s = time.perf_counter() - begin_s
        seen.events_per_s = sent / passed_s
        await asyncio.sleep(max(sent / per_s - passed_s, 0.0))


def _decoded(running: Running, events: list[dict[str, Any]]) -> Any:
    return decode(
        msgspec.json.encode(events),
        content_type="application/json",
        ce_headers={},
        tenant="default",
        received_at_us=running.system.clock.now_us(),
        limits=_LIMITS,
    ).events


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made_for_now:
        for found in measure(Path(made_for_now) / "alerts", seconds=10, events_per_s=50_000).rows:
            print(found)
