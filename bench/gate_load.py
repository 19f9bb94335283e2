"""Checks or reservations against a running server at a steady rate, and how long each took from when it was due.

    python bench/gate_load.py --port 8080 --key KEY --kind check --per-s 5000 --seconds 5 --connections 64

A bare keep-alive client: one request at a time on each connection. A request that is due while every connection is busy
waits, and that wait is in its figure. It shares the machine with the server.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter, deque
from typing import cast

CUSTOMERS = 200
_LATE_S_MAX = 20.0
_PATHS = {
    "check": ("/v1/check",),
    "reserve": ("/v1/reservations",),
    "mixed": ("/v1/check", "/v1/reservations"),
}


class _Connection(asyncio.Protocol):
    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._buffer = b""
        self._due_s = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._load.idle.append(self)

    def send(self, request: bytes, due_s: float) -> None:
        assert self._transport is not None
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head, found, body = buffer.partition(b"\r\n\r\n")
        if found:
            at = head.lower().find(b"content-length: ")
            if len(body) >= int(head[at + 16 :].partition(b"\r\n")[0]):
                self._buffer = b""
                self._load.answered(self, int(head[9:12]), self._due_s)
                return
        self._buffer = buffer

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost += 1

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Load:
    def __init__(self, port: int, key: str, kind: str) -> None:
        self.idle: deque[_Connection] = deque()
        self.took_s: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        self._waiting: deque[float] = deque()
        self._requests: list[bytes] = []
        for path in _PATHS[kind]:
            members = {"ttl_seconds": 5} if path == "/v1/reservations" else {}
            for number in range(CUSTOMERS):
                asked = {"customer": f"c{number}", "meter": "units", "amount": "1", **members}
                body = json.dumps(asked).encode()
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                self._requests.append(head.encode() + body)
        self._chosen = random.Random(7)

    def due(self, due_s: float) -> None:
        if self.idle:
            self._send(self.idle.popleft(), due_s)
        else:
            self._waiting.append(due_s)

    def _send(self, connection: _Connection, due_s: float) -> None:
        connection.send(self._chosen.choice(self._requests), due_s)

    def answered(self, connection: _Connection, status: int, due_s: float) -> None:
        self.took_s.append(time.perf_counter() - due_s)
        self.statuses[status] += 1
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self.idle.append(connection)


async def _run(load: _Load, port: int, connections: int, per_s: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    begin_s = time.perf_counter()
    count, total = 0, int(per_s * seconds)
    while count < total:
        until = min(total, int((time.perf_counter() - begin_s) * per_s))
        while count < until:
            load.due(begin_s + count / per_s)
            count += 1
        await asyncio.sleep(0.0005)
    until_s = time.perf_counter() + _LATE_S_MAX
    while len(load.took_s) < total and time.perf_counter() < until_s and not load.lost:
        await asyncio.sleep(0.005)
    took_s = time.perf_counter() - begin_s
    for one in made:
        one.close()
    return took_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--kind", choices=tuple(_PATHS), default="check")
    parser.add_argument("--per-s", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    asked = parser.parse_args()
    import uvloop

    load = _Load(asked.port, asked.key, asked.kind)
    seconds = uvloop.run(_run(load, asked.port, asked.connections, asked.per_s, asked.seconds))
    found = {
        "seconds": seconds,
        "took_s": load.took_s,
        "statuses": dict(load.statuses),
        "cpu_s": time.process_time(),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
