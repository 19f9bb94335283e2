"""The gate in a process of its own: the same answers on any connection, whatever ends meanwhile, and nothing left behind."""

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from tests.faults.server import KEY, Server
from tests.faults.test_gate import CALLERS, OPERATIONS, Racer, prepare, ready, settle_up
from tests.loopback import PLAIN

pytestmark = pytest.mark.slow

_S_MAX = 60.0
_HEADERS = {"authorization": f"Bearer {KEY}"}
_ASK = {"customer": "c0", "meter": "units", "amount": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("gate") / "data", gate_process="on")
    made.start()
    asyncio.run(_prepared(made))
    yield made
    made.end()


async def _prepared(server: Server) -> None:
    racer = Racer(server.url, 1)
    try:
        await prepare(racer)
        await ready(racer)
    finally:
        await racer.close()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """One connection, kept."""
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(
        base_url=server.url, headers=_HEADERS, limits=limits, timeout=_S_MAX, verify=PLAIN
    ) as made:
        yield made


def _gate_of(server: Server) -> psutil.Process:
    (found,) = [
        one for one in psutil.Process(server.pid).children() if "tallystick.cli.gate_process" in one.cmdline()
    ]
    return found


def _connections(process: psutil.Process) -> int:
    return sum(bool(one.raddr) for one in process.net_connections("tcp"))


def _until(holds: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + _S_MAX
    while not holds():
        assert time.monotonic() < until_s, what
        time.sleep(0.02)


def test_a_connection_goes_over_and_comes_back(server: Server, client: httpx.Client) -> None:
    gate = _gate_of(server)
    _until(
        lambda: client.post("/v1/check", json=_ASK).json()["rule"] == "of-c0" and _connections(gate) == 1,
        "the connection is not handed over",
    )
    assert client.get("/v1/meters/units").json()["key"] == "units"
    assert _connections(gate) == 0
    made = client.post("/v1/reservations", json=_ASK | {"amount": "2", "ttl_seconds": 600})
    assert made.status_code == 201
    assert made.headers["location"] == f"/v1/reservations/{made.json()['id']}"
    assert made.headers["cache-control"] == "no-store"
    settled = client.post(f"{made.headers['location']}/settle", json={})
    assert (settled.status_code, settled.json()["state"]) == (200, "settled")
    assert client.get(made.headers["location"]).json()["settled_amount"] == "2"
    released = client.post("/v1/reservations", json=_ASK).json()
    assert client.post(f"/v1/reservations/{released['id']}/release").json()["state"] == "released"
    items = {"items": [_ASK, _ASK | {"customer": "nobody"}]}
    one, other = client.post("/v1/check/batch", json=items).json()["items"]
    assert (one["allowed"], other["code"]) == (True, "customer_not_found")
    (stands,) = client.get("/v1/customers/c0/limits").json()["items"]
    assert (stands["held"], stands["limit"]) == ("0", "200")


def test_what_is_recorded_counts_for_the_next_call(client: httpx.Client) -> None:
    with httpx.Client(base_url=str(client.base_url), headers=_HEADERS, verify=PLAIN) as sender:
        before = int(client.post("/v1/check", json=_ASK | {"customer": "c2"}).json()["used"])
        for number in range(40):
            event = {"id": f"own-{number}", "source": "t", "type": "use", "subject": "c2", "data": {"n": 1}}
            sent = sender.post("/v1/events?wait=recorded", json=[event])
            assert sent.json()["recorded"] == 1
            receipt = client.post("/v1/check", json=_ASK | {"customer": "c2"}).json()
            assert receipt["used"] == str(before + number + 1)


def test_requests_cut_anywhere_and_sent_together(server: Server, seed: int) -> None:
    """Whatever follows a call on its connection, and however it is cut: one answer each, in their order."""
    chance = random.Random(seed)
    ask = json.dumps(_ASK).encode()
    unknown = json.dumps(_ASK | {"customer": "nobody"}).encode()
    kinds = [
        (_request("POST", "/v1/check", ask), 200, b'"rule":"of-c0"'),
        (_request("GET", "/v1/meters/units"), 200, b'"key":"units"'),
        (_request("POST", "/v1/check", unknown), 404, b"customer_not_found"),
        (_request("POST", "/v1/check", b"{"), 400, b"invalid_json"),
        (_request("POST", "/v1/reservations", json.dumps(_ASK | {"customer": "c1"}).encode()), 201, b"rsv_"),
        (_request("GET", "/v1/nothing"), 404, b"route_not_found"),
    ]
    for _ in range(25):
        wanted = chance.choices(kinds, (5, 2, 1, 1, 3, 1), k=chance.randint(1, 8))
        raw = b"".join(request for request, _, _ in wanted)
        cuts = sorted(chance.randrange(len(raw)) for _ in range(chance.randint(0, 5)))
        pieces = [raw[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=_S_MAX)) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                wire.sendall(piece)
                time.sleep(chance.choice((0, 0, 0.003)))
            buffer = b""
            for _, status, within in wanted:
                found, body, buffer = _answer(wire, buffer)
                assert (found, within in body) == (status, True), body
            assert buffer == b""


def _request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {KEY}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _answer(wire: socket.socket, buffer: bytes) -> tuple[int, bytes, bytes]:
    def more() -> bytes:
        data = wire.recv(65536)
        assert data, "the connection was closed"
        return data

    while b"\r\n\r\n" not in buffer:
        buffer += more()
    head, _, buffer = buffer.partition(b"\r\n\r\n")
    (length,) = [
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    ]
    while len(buffer) < length:
        buffer += more()
    return int(head.split()[1]), buffer[:length], buffer[length:]


def test_a_revoked_key_and_a_changed_limit_hold_at_once(server: Server, client: httpx.Client) -> None:
    made = client.post("/v1/api_keys", json={"name": "gate", "scopes": ["limits:check"]}).json()
    headers = {"authorization": f"Bearer {made['secret']}"}
    with httpx.Client(base_url=server.url, headers=headers, verify=PLAIN) as other:
        gate = _gate_of(server)

        def is_there() -> bool:
            assert other.post("/v1/check", json=_ASK).status_code == 200
            return _connections(gate) >= 1

        # Not at once: a key that has just been made is looked up again.
        _until(is_there, "the connection is not handed over")
        assert other.get("/v1/meters").status_code == 403
        assert other.post("/v1/check", json=_ASK).json()["limit"] == "200"
        assert client.patch("/v1/limits/of-c0", json={"amount": 210}).status_code == 200
        assert other.post("/v1/check", json=_ASK).json()["limit"] == "210"
        assert client.patch("/v1/limits/of-c0", json={"amount": 200}).status_code == 200
        assert other.post("/v1/check", json=_ASK).json()["limit"] == "200"
        assert client.delete(f"/v1/api_keys/{made['id']}").status_code in (200, 204)
        assert other.post("/v1/check", json=_ASK).status_code == 401


def test_the_figures_of_both_processes_are_shown_as_one(server: Server, client: httpx.Client) -> None:
    def answered() -> float:
        return sum(
            float(line.split()[-1])
            for line in client.get("/metrics").text.splitlines()
            if line.startswith("tallystick_http_requests_total{") and 'route="/v1/check"' in line
        )

    before = answered()
    with httpx.Client(base_url=server.url, headers=_HEADERS, verify=PLAIN) as other:
        for _ in range(20):
            other.post("/v1/check", json=_ASK)
    assert answered() == before + 20


def test_it_is_started_again_when_it_is_killed(server: Server, client: httpx.Client) -> None:
    held = client.post("/v1/reservations", json=_ASK | {"customer": "c1", "amount": "7"}).json()
    gate = _gate_of(server)
    gate.kill()
    event = [{"id": "meanwhile", "source": "t", "type": "use", "subject": "c1", "data": {"n": 1}}]
    # Everything else goes on, on another connection: this one's other end is gone.
    assert server.request("POST", "/v1/events?wait=recorded", json=event).json()["recorded"] == 1
    _until(lambda: server.request("POST", "/v1/check", json=_ASK).json()["used"] is not None, "no gate")
    again = _gate_of(server)
    assert again.pid != gate.pid
    found = server.request("GET", f"/v1/reservations/{held['id']}").json()
    assert (found["state"], found["amount"]) == ("held", "7")
    assert server.request("POST", f"/v1/reservations/{held['id']}/settle", json={}).status_code == 200


def test_a_backup_has_what_is_held(server: Server, tmp_path: Path) -> None:
    held = server.request(
        "POST", "/v1/reservations", json=_ASK | {"customer": "c2", "ttl_seconds": 600}
    ).json()
    answer = server.request("POST", "/v1/admin/backups", json={"to": str(tmp_path / "b")})
    assert answer.status_code == 202, answer.text
    _until(lambda: server.get("/v1/admin/backups")["state"] != "running", "the backup does not end")
    assert server.get("/v1/admin/backups")["state"] == "finished"
    with closing(sqlite3.connect(tmp_path / "b" / "limits.sqlite")) as ledger:
        found = ledger.execute("SELECT state FROM reservations WHERE id = ?", (held["id"],)).fetchall()
    assert found == [("held",)]


def test_one_that_is_frozen_is_killed_and_started_again(server: Server) -> None:
    held = server.request(
        "POST", "/v1/reservations", json=_ASK | {"customer": "c2", "ttl_seconds": 600}
    ).json()
    gate = _gate_of(server)
    gate.suspend()
    _until(lambda: not gate.is_running(), "it is left frozen")

    def answers() -> bool:
        found = server.request("POST", "/v1/check", json=_ASK | {"customer": "c2"}).json()
        return found["used"] is not None

    _until(answers, "no gate")
    assert server.request("GET", f"/v1/reservations/{held['id']}").json()["state"] == "held"


def test_it_ends_with_the_process_that_started_it(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server(tmp_path / "data", gate_process="on")
    server.start()
    asyncio.run(_prepared(server))
    made = server.request("POST", "/v1/reservations", json=_ASK).json()
    gate = _gate_of(server)
    server.kill()
    _until(lambda: not gate.is_running(), "the gate's process is left behind")
    server.start()
    found = server.request("GET", f"/v1/reservations/{made['id']}")
    assert found.json()["state"] == "held", found.text
    gate = _gate_of(server)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=_S_MAX)) as idle:
        for _ in range(2):
            idle.sendall(_request("POST", "/v1/check", json.dumps(_ASK).encode()))
            assert _answer(idle, b"")[0] == 200
        # As Ctrl-C does it: both processes get the signal.
        os.kill(gate.pid, signal.SIGINT)
        assert gate.is_running()
        assert server.terminate() == 0
        assert idle.recv(1) == b""
    assert not gate.is_running()
    # Without the process, from the same ledger.
    plain = make_server(tmp_path / "data")
    plain.start()
    assert plain.request("GET", f"/v1/reservations/{made['id']}").json()["state"] == "held"


async def _race(server: Server, seed: int) -> None:
    racer = Racer(server.url, seed)
    try:
        await prepare(racer)
        callers = [asyncio.create_task(racer.caller()) for _ in range(CALLERS)]
        for part in (1, 2, 3):
            while racer.account.done < OPERATIONS * part // 4:
                await asyncio.sleep(0.01)
            if part == 2:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            else:
                await asyncio.to_thread(_gate_of(server).kill)
            await ready(racer)
        await asyncio.gather(*callers)
        await ready(racer)
        await settle_up(racer)
    finally:
        await racer.close()


def test_never_one_over_and_never_one_lost(make_server: Callable[..., Server], seed: int) -> None:
    """As in test_gate.py, with either process killed."""
    server = make_server(gate_process="on")
    server.start()
    asyncio.run(_race(server, seed))
