"""Send a dataset's rows through the public API, in a process of its own: `python -m bench.send --port P …`.

Bodies of 1,000 events are prepared in rounds before the clock runs; the clock of a round runs from its first request
until the server has recorded all of it. A first, small round warms the server up and is not measured. Prints how many
rows went in, how many of them were measured, and how long those took.
"""

import argparse
import asyncio
import json
import time
from datetime import UTC, datetime

import httpx

from bench.dataset import CUSTOMERS, EVENT_TYPE, KIND_DATA, SOURCE, Dataset, Rows

BATCH = 1000
ROUND_EVENTS = 1_000_000
WARM_UP_EVENTS = 50_000
CONNECTIONS = 8
_REFUSED_MAX = 10_000
_RECORDED_S_MAX = 180.0


def body_of(rows: Rows) -> bytes:
    """The rows as a CloudEvents batch."""
    events = ",".join(
        f'{{"specversion":"1.0","id":"{event_id}","source":"{SOURCE}","type":"{EVENT_TYPE}",'
        f'"subject":"{CUSTOMERS[customer]}","time":"{_iso(time_us)}","data":{KIND_DATA[kind]}}}'
        for event_id, customer, time_us, kind in zip(
            rows.id, rows.customer.tolist(), rows.time_us.tolist(), rows.kind.tolist(), strict=True
        )
    )
    return f"[{events}]".encode()


def _iso(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_us % 1_000_000:06d}Z"


async def post_all(port: int, key: str, bodies: list[bytes]) -> int:
    """Post every body until it is acknowledged; how often the server refused one for the moment (503)."""
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/cloudevents-batch+json\r\nContent-Length: %d\r\n\r\n"
    )
    queue = iter(bodies)
    refused = 0

    async def one() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in queue:
            while True:
                writer.write((head % len(body)).encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                text = await reader.readexactly(length)
                status = int(answer.split(b" ", 2)[1])
                if status == 202:
                    break
                refused += 1
                if status != 503 or refused > _REFUSED_MAX:
                    raise RuntimeError(f"answered with {status}: {text[:300]!r}")
                await asyncio.sleep(0.05)
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return refused


def _recorded(http: httpx.Client, wanted: int) -> None:
    until = time.perf_counter() + _RECORDED_S_MAX
    while True:
        for line in http.get("/metrics").raise_for_status().text.splitlines():
            if line.startswith("tallystick_events_recorded_total ") and float(line.split()[1]) >= wanted:
                return
        if time.perf_counter() > until:
            raise RuntimeError(f"not recorded within {_RECORDED_S_MAX:.0f} s")
        time.sleep(0.01)


def send(port: int, key: str, dataset: Dataset, *, seconds: float) -> dict[str, float]:
    """Rows from the first one on, for about so long: how many were sent, how many measured, seconds of those,
    refusals. The server must be empty."""
    sent, measured, refused, spent_s = 0, 0, 0, 0.0
    # How much fits into the time is unknown before the first round: none is longer than the time at a modest rate.
    size = min(ROUND_EVENTS, max(BATCH, int(seconds * 100_000)))
    warm_up = min(WARM_UP_EVENTS, dataset.events // 20)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as http:
        while sent < dataset.events and spent_s < seconds:
            last = min(sent + size if sent else warm_up, dataset.events)
            bodies = [
                body_of(dataset.rows(first, min(BATCH, last - first))) for first in range(sent, last, BATCH)
            ]
            started = time.perf_counter()
            refused += asyncio.run(post_all(port, key, bodies))
            _recorded(http, last)
            if sent:
                spent_s += time.perf_counter() - started
                measured += last - sent
            sent = last
    return {"sent": sent, "measured": measured, "seconds": spent_s, "refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--events", type=int, required=True, help="size of the dataset")
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    print(json.dumps(send(given.port, given.key, Dataset(given.events), seconds=given.seconds)))


if __name__ == "__main__":
    main()
