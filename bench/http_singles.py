"""Single-event requests a second against a running server, and how long each takes.

    python bench/http_singles.py --url http://127.0.0.1:8080 --key KEY --connections 64 --seconds 10

A bare keep-alive client: one request at a time on each connection (no pipelining), every event a new identity, every
answer checked to be a 202. The client shares the machine with the server, which is part of the figure.
"""

import argparse
import asyncio
import secrets
import sys
import time
from urllib.parse import urlsplit

import uvloop

ANSWER_BYTES_MAX = 64 * 1024


async def one_connection(
    address: tuple[str, int],
    head: bytes,
    *,
    name: str,
    stop_at: float,
    seconds: list[float],
    refused: list[bytes],
) -> None:
    reader, writer = await asyncio.open_connection(*address)
    number = 0
    try:
        while time.perf_counter() < stop_at:
            number += 1
            body = (
                b'{"id":"%s-%d","source":"/bench","type":"llm.completion","subject":"customer-%d",'
                b'"data":{"model":"gpt-4","region":"eu","tokens":%d}}'
                % (name.encode(), number, number % 100, number)
            )
            started = time.perf_counter()
            writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(min(length, ANSWER_BYTES_MAX))
            seconds.append(time.perf_counter() - started)
            if not answer.startswith(b"HTTP/1.1 202"):
                refused.append(answer.partition(b"\r\n")[0])
    finally:
        writer.close()


async def run(url: str, key: str, connections: int, duration_s: float) -> int:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    head = (
        f"POST /v1/events HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    ).encode()
    seconds: list[float] = []
    refused: list[bytes] = []
    run_name = secrets.token_hex(4)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for index in range(connections):
            group.create_task(
                one_connection(
                    (host, port),
                    head,
                    name=f"{run_name}-{index}",
                    stop_at=started + duration_s,
                    seconds=seconds,
                    refused=refused,
                )
            )
    elapsed = time.perf_counter() - started
    seconds.sort()

    def at(share: float) -> float:
        return seconds[min(len(seconds) - 1, int(len(seconds) * share))] * 1000

    print(
        f"{connections} connections, {elapsed:.1f} s: {len(seconds) / elapsed:,.0f} requests/s, "
        f"p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, longest {seconds[-1] * 1000:.1f} ms, "
        f"refused {len(refused)} {set(refused) or ''}"
    )
    return 1 if refused else 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    sys.exit(uvloop.run(run(given.url, given.key, min(given.connections, 1000), min(given.seconds, 60.0))))


if __name__ == "__main__":
    main()
