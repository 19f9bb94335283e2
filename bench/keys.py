"""What checking a key costs the way in: the same requests with the check and without, `python -m bench.keys --directory DIR`.

In this process, without a socket: a real system with its log, and the application of the ingest route called as the server
calls it. Both ways take turns. Counted is the processor time of the event loop's thread alone, which is where keys are checked:
beside the time of a whole server (its sockets, its log, its recorder) the share is smaller. Prints a line of JSON.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from tallystick import observe
from tallystick.api.auth import Authenticator
from tallystick.api.ingest import Ingest
from tallystick.api.rates import Rates
from tallystick.catalog.interface import Caller
from tallystick.config import Settings
from tallystick.wiring import start

KEY = "bench-admin-key-0123456789abcdef"
EVENTS_EACH = (1, 100, 1000)
_TURNS = 60


class _Unchecked(Authenticator):
    """Lets everybody in as the one it was made with."""

    caller: Caller

    def kept(self, header: bytes) -> Caller:
        del header
        return self.caller


async def measure(directory: Path, *, turns: int = _TURNS) -> dict[str, float]:
    """By number of events in a request: µs of processor time it takes, how many of them the check takes, and their share."""
    observe.configure(level="error", form="json")
    running = await start(
        Settings(data_dir=str(directory), admin_key=KEY, log_unrecorded_events_max=100_000_000)
    )
    system = running.system
    try:
        rates = Rates(system.settings)
        checked = Authenticator(system.catalog, now_us=system.clock.now_us, rates=rates)
        unchecked = _Unchecked(system.catalog, now_us=system.clock.now_us, rates=rates)
        unchecked.caller = await checked.authenticate(f"Bearer {KEY}")
        apps = (Ingest(system, checked), Ingest(system, unchecked))
        found: dict[str, float] = {}
        for events in EVENTS_EACH:
            requests = max(2, 200 // events)
            spent: tuple[list[float], list[float]] = ([], [])
            for turn in range(turns + 3):
                for way in (0, 1) if turn % 2 else (1, 0):
                    cost_s = await _turn(apps[way], f"{events}-{turn}-{way}", requests, events)
                    if turn >= 3:  # before, everything is warmed up
                        spent[way].append(cost_s / requests)
            # Of turns that were neighbours: the machine may get slower and faster meanwhile.
            more_s = statistics.median(one - other for one, other in zip(*spent, strict=True))
            whole_s = statistics.median(spent[0])
            found |= {
                f"checked_{events}_us": whole_s * 1e6,
                f"more_{events}_us": more_s * 1e6,
                f"share_{events}": more_s / whole_s,
            }
        return found
    finally:
        await running.stop()


async def _turn(app: Ingest, name: str, requests: int, events: int) -> float:
    bodies = [_body(f"{name}-{number}", events) for number in range(requests)]
    began = time.thread_time()
    await asyncio.gather(*(_request(app, body) for body in bodies))
    return time.thread_time() - began


async def _request(app: Ingest, body: bytes) -> None:
    status: Sequence[int] = ()

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = (message["status"],)

    headers = [
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    scope: Any = {
        **{"type": "http", "method": "POST", "path": "/v1/events", "query_string": b"", "headers": headers},
        **{"client": ("127.0.0.1", 1), "tallystick_request_id": "bench"},
    }
    await app(scope, receive, send)
    if status != (202,):
        raise RuntimeError(f"The request was answered {status}.")


def _body(name: str, events: int) -> bytes:
    rows = (
        f'{{"id":"{name}-{row}","source":"/bench","type":"call","subject":"s{row % 100}","data":{{"n":{row}}}}}'
        for row in range(events)
    )
    return ("[" + ",".join(rows) + "]").encode()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.keys", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=_TURNS)
    given = parser.parse_args()
    print(json.dumps(uvloop.run(measure(given.directory, turns=given.turns))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
