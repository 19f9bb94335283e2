"""The gate through the real server: checks and reservations at a steady rate, alone and beside events that are taken in.

python -m bench.gate --seconds 4 --per-s 5000 --events-per-s 50000 --kinds check,reserve,mixed --beside 0,1
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.gate_load import CUSTOMERS
from bench.report import Table, ms, percentile, rate
from bench.server import KEY, Server, serving

_LOAD = str(Path(__file__).with_name("gate_load.py"))
_EVENTS = str(Path(__file__).with_name("load.py"))
_OVER_S_MAX = 60.0
_EVENTS_A_REQUEST = 1_000
_INGEST_STARTS_S_MAX = 60.0
_RECORDED_S_MAX = 60.0
_STATUSES = {"check": {"200"}, "reserve": {"201"}, "mixed": {"200", "201"}}


def measure(
    directory: Path,
    *,
    seconds: float,
    per_s: int,
    events_per_s: int,
    kinds: Sequence[str] = tuple(_STATUSES),
    beside: Sequence[bool] = (False, True),
    processes: Sequence[str] = ("on",),
    figures: dict[str, float] | None = None,
) -> Table:
    """A line a kind of call. `figures`: gets the p99 of each, in seconds, as `gate_check`, `gate_check_beside` and so on. Calls are made when they are due, whether those before are answered or not, and their time
    counts from when they were due. Raises RuntimeError where a call failed."""
    table = Table(
        "Checks and reservations",
        "HTTP included: the server, and one client process with 64 connections, on the same machine; limits of a sum by "
        "month, 200 customers. Own process: the setting gate_process. A reservation is answered once it is synced. The calls of a millisecond are due together, and times "
        "count from then. Every status and each fiftieth answer was checked. Server CPU: all of it, what takes events in "
        "included. The machine's load is what waited for its processors when the line began.",
        (
            "calls",
            "own process",
            "events/s asked for",
            "events/s taken in",
            "calls/s",
            "p50 ms",
            "p99 ms",
            "server CPU µs a call",
            "client CPU µs a call",
            "load",
        ),
    )
    for process in processes:
        shutil.rmtree(directory.with_name(f"{directory.name}-{process}"), ignore_errors=True)
    for process in processes:
        with serving(
            directory.with_name(f"{directory.name}-{process}"), {"TALLYSTICK_GATE_PROCESS": process}
        ) as server:
            _prepare(server)
            for events in (events_per_s if one else 0 for one in beside):
                for kind in kinds:
                    found, p99_s = _line(server, kind, seconds=seconds, per_s=per_s, events_per_s=events)
                    table.rows.append((found[0], process, *found[1:]))
                    if figures is not None:
                        figures[f"gate_{kind}_beside" if events else f"gate_{kind}"] = p99_s
                    server.wait_until_recorded(0, seconds_max=_RECORDED_S_MAX)
    return table


def _prepare(server: Server) -> None:
    server.make_meters()
    meter = {"key": "units", "event_type": "llm.completion", "aggregation": "sum", "value": "$.tokens"}
    server.http.post("/v1/meters", json=meter).raise_for_status()
    for number in range(CUSTOMERS):
        server.http.post("/v1/customers", json={"key": f"c{number}"}).raise_for_status()
    limit = {"key": "all", "customer": "*", "meter": "units", "amount": str(10**15), "period": "month"}
    server.http.post("/v1/limits", json=limit).raise_for_status()
    time.sleep(1.0)  # the gate looks for changes four times a second
    for number in range(CUSTOMERS):
        asked = {"customer": f"c{number}", "meter": "units", "amount": "1"}
        server.http.post("/v1/check", json=asked).raise_for_status()


def _line(
    server: Server, kind: str, *, seconds: float, per_s: int, events_per_s: int
) -> tuple[tuple[str, ...], float]:
    """What the table says, and the p99 in seconds."""
    load = os.getloadavg()[0]
    beside = None
    if events_per_s:
        command = [sys.executable, _EVENTS, "--port", str(server.port), "--key", KEY]
        command += ["--events", str(_EVENTS_A_REQUEST), "--connections", "8", "--seconds", str(seconds + 2)]
        command += ["--run", str(time.time_ns() % 10**6), "--repeat-share", "0"]
        command += ["--events-per-s", str(events_per_s)]
        before = server.counted().accepted
        beside = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        _wait_until_more(server, before)
    accepted, begun_s, cpu_s = server.counted().accepted, time.perf_counter(), server.cpu_s()
    command = [sys.executable, _LOAD, "--port", str(server.port), "--key", KEY, "--kind", kind]
    command += ["--per-s", str(per_s), "--seconds", str(seconds)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + _OVER_S_MAX, check=False
        )
        taken_in = (server.counted().accepted - accepted) / (time.perf_counter() - begun_s)
        cpu_s = server.cpu_s() - cpu_s
    finally:
        if beside is not None:
            try:
                beside.communicate(timeout=_OVER_S_MAX)
            except subprocess.TimeoutExpired:
                beside.kill()
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if set(found["statuses"]) != _STATUSES[kind]:
        raise RuntimeError(f"not every call was answered as it should be: {found['statuses']}")
    took_s: list[float] = found["took_s"]
    p99_s = percentile(took_s, 0.99)
    row = (
        kind,
        rate(events_per_s),
        rate(taken_in),
        rate(len(took_s) / found["seconds"]),
        ms(percentile(took_s, 0.5)),
        ms(p99_s),
        f"{cpu_s / len(took_s) * 1e6:.0f}",
        f"{found['cpu_s'] / len(took_s) * 1e6:.0f}",
        f"{load:.1f}",
    )
    return row, p99_s


def _wait_until_more(server: Server, accepted: int) -> None:
    """Until events come in: their generator makes its bodies first."""
    until = time.perf_counter() + _INGEST_STARTS_S_MAX
    while server.counted().accepted == accepted:
        if time.perf_counter() > until:
            raise RuntimeError("no events came in")
        time.sleep(0.05)
    time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--per-s", type=int, default=5_000)
    parser.add_argument("--events-per-s", type=int, default=50_000)
    parser.add_argument("--kinds", default=",".join(_STATUSES))
    parser.add_argument(
        "--processes", default="on", help="on: the gate has a process of its own, off: it has not"
    )
    parser.add_argument("--beside", default="0,1", help="0: alone, 1: beside events that are taken in")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made_for_now:
        found = measure(
            Path(made_for_now) / "gate",
            seconds=asked.seconds,
            per_s=asked.per_s,
            events_per_s=asked.events_per_s,
            kinds=asked.kinds.split(","),
            processes=asked.processes.split(","),
            beside=[one == "1" for one in asked.beside.split(",")],
        )
    found.show(Console(width=150))


if __name__ == "__main__":
    main()
