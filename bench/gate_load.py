"""Checks or reservations against a running server at a steady rate, and how long each took from when it was due.

    python bench/gate_load.py --port 8080 --key KEY --kind check --per-s 5000 --seconds 5 --connections 64

A bare keep-alive client on an epoll loop of its own: one request at a time on each connection, every request's bytes made
beforehand. The calls of a millisecond are due together, at its beginning; one that is due while every connection is busy
waits, and that wait is in its figure, as is whatever holds up this process. It shares the machine with the server, so it has
to be cheap: 20 to 35 µs of processor time a call, most of it the system's.
"""

import argparse
import contextlib
import json
import random
import select
import socket
import sys
import time
from collections import Counter, deque
from typing import Any

CUSTOMERS = 200
TICK_S = 0.001
_LATE_S_MAX = 20.0
_LOOKED_AT_EVERY = 50
"""Of so many answers one is read as a caller would, once the time is over."""
_PATHS = {
    "check": ("/v1/check",),
    "reserve": ("/v1/reservations",),
    "mixed": ("/v1/check", "/v1/reservations"),
}


class _Connection:
    __slots__ = ("buffer", "customer", "due_s", "receive", "send", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.send, self.receive = self.socket.send, self.socket.recv
        self.buffer = b""
        self.due_s = 0.0
        self.customer = ""


class _Load:
    def __init__(self, port: int, key: str, kind: str, *, connections: int) -> None:
        self.took_s: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.kept: list[tuple[str, bytes]] = []
        """Some answers, and whom each is about."""
        self._poll = select.epoll()
        self._made = {made.socket.fileno(): made for made in (_Connection(port) for _ in range(connections))}
        for descriptor in self._made:
            self._poll.register(descriptor, select.EPOLLIN)
        self._idle = deque(self._made.values())
        self._waiting: deque[float] = deque()
        requests = [
            (f"c{number}", _request(path, port, key, f"c{number}"))
            for path in _PATHS[kind]
            for number in range(CUSTOMERS)
        ]
        chance = random.Random(7)
        # Drawn beforehand, for as many calls as differ; then the same ones again.
        self._requests = chance.choices(requests, k=10_007)
        self._sent = 0

    def run(self, per_s: int, seconds: float) -> float:
        """Seconds it took. Raises RuntimeError where a connection ends, or answers stay out."""
        a_tick, ticks = per_s * TICK_S, int(seconds / TICK_S)
        tick, due, answered = 0, 0, self.took_s
        begin_s = time.perf_counter()
        until_s = begin_s + seconds + _LATE_S_MAX
        while len(answered) < due or tick < ticks:
            now_s = time.perf_counter()
            while tick < ticks and now_s >= (due_s := begin_s + tick * TICK_S):
                tick += 1
                for _ in range(int(tick * a_tick) - due):
                    due += 1
                    if self._idle:
                        self._send(self._idle.popleft(), due_s)
                    else:
                        self._waiting.append(due_s)
            if now_s > until_s:
                raise RuntimeError(f"{due - len(answered)} calls had no answer after {_LATE_S_MAX:.0f} s")
            ready = self._poll.poll(0)
            if not ready:
                # epoll itself waits for whole milliseconds; to wait for it does not.
                left_s = begin_s + tick * TICK_S - time.perf_counter() if tick < ticks else TICK_S
                if left_s > 0:
                    select.select((self._poll,), (), (), left_s)
                continue
            for descriptor, _ in ready:
                self._read(self._made[descriptor])
        return time.perf_counter() - begin_s

    def _send(self, connection: _Connection, due_s: float) -> None:
        connection.customer, request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        connection.due_s = due_s
        if connection.send(request) != len(request):
            raise RuntimeError("a request did not go out in one piece")

    def _read(self, connection: _Connection) -> None:
        data = connection.receive(65536)
        if not data:
            raise RuntimeError("the server closed a connection")
        if connection.buffer:
            data = connection.buffer + data
        end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ", 0, end) + 16
        if end < 0 or len(data) < end + 4 + int(data[at : data.index(b"\r", at)]):
            connection.buffer = data
            return
        connection.buffer = b""
        self.took_s.append(time.perf_counter() - connection.due_s)
        self.statuses[int(data[9:12])] += 1
        if not len(self.took_s) % _LOOKED_AT_EVERY:
            self.kept.append((connection.customer, data[end + 4 :]))
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def close(self) -> None:
        for made in self._made.values():
            with contextlib.suppress(OSError):
                made.socket.close()
        self._poll.close()


def _request(path: str, port: int, key: str, customer: str) -> bytes:
    asked: dict[str, Any] = {"customer": customer, "meter": "units", "amount": "1"}
    if path == "/v1/reservations":
        asked["ttl_seconds"] = 5
    body = json.dumps(asked).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def look_at(kept: list[tuple[str, bytes]]) -> int:
    """How many answers were read. Raises RuntimeError where one is not what was asked for: allowed, of that customer, by
    the one limit there is, and with balances that add up."""
    for customer, body in kept:
        receipt = json.loads(body)
        before, after = receipt["before"], receipt["after"]
        held = 1 if "id" in receipt else 0
        if (
            receipt["allowed"] is not True
            or receipt["customer"] != customer
            or receipt["rule"] != "all"
            or int(after["held"]) - int(before["held"]) != held
            or int(after["used"]) + int(after["held"]) + int(after["remaining"]) != int(receipt["limit"])
        ):
            raise RuntimeError(f"a wrong answer for {customer}: {body[:500]!r}")
    return len(kept)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--kind", choices=tuple(_PATHS), default="check")
    parser.add_argument("--per-s", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    asked = parser.parse_args()
    load = _Load(asked.port, asked.key, asked.kind, connections=asked.connections)
    try:
        begun_s = time.process_time()
        seconds = load.run(asked.per_s, asked.seconds)
        cpu_s = time.process_time() - begun_s
    finally:
        load.close()
    found = {
        "seconds": seconds,
        "took_s": load.took_s,
        "statuses": dict(load.statuses),
        "cpu_s": cpu_s,
        "looked_at": look_at(load.kept),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
