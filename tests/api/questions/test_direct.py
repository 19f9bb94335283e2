"""Requests over a real socket: what is answered where its bytes arrive says what the framework says, however they are cut."""

import asyncio
import json
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any, cast

import pytest
import uvicorn
from tests.api.questions.live import Live, Tenant
from tests.api.questions.test_gate import SPELLED, a_limit

from tallystick.api.app import server_config
from tallystick.api.direct import Urgency, read_head

_WAIT_S_MAX = 90.0


@pytest.fixture
def tenant(live: Live) -> Tenant:
    made = live.tenant()
    made.post("/v1/customers", {"key": "acme"})
    made.meter(key="tokens", event_type="llm", aggregation="sum", value="$.n")
    return made


@pytest.fixture(scope="module")
def port(live: Live) -> Iterator[int]:
    """Where the module's system is served by uvicorn, as `tallystick serve` does it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        config = server_config(live.app, host="127.0.0.1", port=0)
        config.lifespan = "off"  # the system is used by others after this
        server = uvicorn.Server(config)
        serving = asyncio.run_coroutine_threadsafe(server.serve(sockets=[listener]), live._loop)  # pyright: ignore[reportPrivateUsage]
        number = listener.getsockname()[1]
        yield number
        server.should_exit = True
        serving.result(_WAIT_S_MAX)


class Wire:
    """One connection, and the answers that come over it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.004)  # so that they arrive one by one

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return int(first.split()[1]), headers, body

    def is_closed(self) -> bool:
        return not self._buffer and self._socket.recv(1) == b""

    def _more(self) -> None:
        got = self._socket.recv(65536)
        assert got, "the connection was closed"
        self._buffer += got

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def wire(port: int) -> Iterator[Wire]:
    made = Wire(port)
    yield made
    made.close()


def request(
    tenant: Tenant, path: str, body: bytes, *more: str, media_type: str = "application/json"
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {tenant.secret}", *more]
    lines += [f"Content-Type: {media_type}", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def taken(live: Live, tenant: Tenant, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that reached the layers behind, of a tenant all of whose limits are known."""
    seen: list[str] = []
    let_in = live.app._let_in

    async def watched(scope: Any, *rest: Any) -> None:
        seen.append(scope["path"])
        await let_in(scope, *rest)

    a_limit(tenant)
    ask = request(tenant, "/v1/check", b'{"customer":"acme","meter":"tokens","amount":"1"}')
    monkeypatch.setattr(live.app, "_let_in", watched)
    quiet = 0
    for _ in range(300):
        seen.clear()
        wire.send(ask)
        assert wire.answer()[0] == 200
        quiet = 0 if seen else quiet + 1
        if quiet > 20:
            break
        time.sleep(0.01)
    assert not seen
    return seen


@pytest.mark.parametrize("path", ["/v1/check", "/v1/reservations"])
def test_it_says_what_the_framework_says(tenant: Tenant, wire: Wire, taken: list[str], path: str) -> None:
    for body, is_plain in SPELLED:
        taken.clear()
        answers: list[tuple[Any, ...]] = []
        for media_type in ("application/json", "application/json; a=b"):
            wire.send(request(tenant, path, body, "X-Request-Id: of-mine", media_type=media_type))
            status, headers, found = wire.answer()
            assert headers["x-request-id"] == "of-mine"
            if status == 201:
                assert headers["location"].encode().removeprefix(b"/v1/reservations/") in found
                tenant.post(headers["location"] + "/release")
                found = b""
            answers.append((status, set(headers), headers["content-type"], _without_moments(found)))
        assert answers[0] == answers[1], body
        assert taken.count(path) == (1 if is_plain else 2), body


_BOTH = ("application/json", "application/json; a=b")


def _is_spelled_both_ways(
    tenant: Tenant, wire: Wire, taken: list[str], path: str, bodies: list[tuple[bytes, bool]]
) -> None:
    """`{}` in the path: a reservation of 20, settled or released once in each way; the second changes nothing."""
    for number, (body, is_plain) in enumerate(bodies):
        asked, own = path, b""
        if "{}" in path:
            held = {"customer": "acme", "meter": "tokens", "amount": 20}
            made = tenant.post("/v1/reservations", held)
            assert made.status_code == 201, body
            asked, own = path.format(made.json()["id"]), made.json()["id"].encode()
        answers: list[tuple[Any, ...]] = []
        for media_type in _BOTH if number % 2 else _BOTH[::-1]:
            taken.clear()
            wire.send(
                request(tenant, asked, body.replace(b"<own>", own), "X-Request-Id: m", media_type=media_type)
            )
            status, headers, found = wire.answer()
            assert bool(taken) is not (is_plain and media_type == _BOTH[0]), (body, found)
            assert headers["x-request-id"] == "m"
            answers.append((status, set(headers), headers["content-type"], _without_own(found)))
            if answers[1:] or not own:
                for one in tenant.answer("/v1/reservations?state=held")["items"]:
                    tenant.post(f"/v1/reservations/{one['id']}/release")
        assert answers[0] == answers[1], body


_OWN = re.compile(
    rb'rsv_[0-9a-f]{24}|"[^"]+_at":"[^"]+"|"as_of":"[^"]+"|"position":"[^"]+"|"counted":(?:true|false)'
)


def _without_own(body: bytes) -> bytes:
    return _OWN.sub(b"", body)


def _event(**members: Any) -> bytes:
    event = {"id": "<own>", "type": "llm", "subject": "acme", "data": {"n": 7}} | members
    return json.dumps({"event": event}, ensure_ascii=False).encode()


def test_settling_says_what_the_framework_says(tenant: Tenant, wire: Wire, taken: list[str]) -> None:
    bodies = [
        (b"{}", True),
        (b'{"amount":"1.50"}', True),
        (b'{"amount":2,"event":null}', True),
        (_event(), True),
        (_event(subject="beta"), True),
        (_event(data={"n": 8, "note": "\u00e4"}), True),
        (_event(data={"n": "no number"}), True),
        (_event(type="other"), True),
        (b'{"amount":"3","event":{}}', True),
        (b'{"amount":"101"}', True),
        (b'{"amount":"0"}', False),
        (b'{"amount":"1","amount":"1"}', False),
        (b'{"amount":"1","more":1}', False),
        (b'{"amount":"1","event":[]}', False),
        (b'{"event":{"id":"\\ud800"}}', False),
        (b"[]", False),
        (b"", False),
        (b"{", False),
        (b"\xff", False),
    ]
    _is_spelled_both_ways(tenant, wire, taken, "/v1/reservations/{}/settle", bodies)
    unknown = "/v1/reservations/rsv_" + "0" * 24
    _is_spelled_both_ways(tenant, wire, taken, f"{unknown}/settle", [(b"{}", True)])
    _is_spelled_both_ways(tenant, wire, taken, f"{unknown}/release", [(b"", True)])


def test_releasing_says_what_the_framework_says(tenant: Tenant, wire: Wire, taken: list[str]) -> None:
    bodies = [(b"", True), (b"{}", True), (b" ", False), (b'{"a":1}', False), (b"[", False)]
    _is_spelled_both_ways(tenant, wire, taken, "/v1/reservations/{}/release", bodies)


@pytest.mark.parametrize("path", ["/v1/check/batch", "/v1/reservations/batch"])
def test_a_batch_says_what_the_framework_says(
    tenant: Tenant, wire: Wire, taken: list[str], path: str
) -> None:
    one = b'{"customer":"acme","meter":"tokens","amount":"40"}'
    unknown = one.replace(b"acme", b"nobody")
    is_check = path == "/v1/check/batch"
    bodies = [
        (b'{"items":[%b]}' % one, True),
        (b'{"items":[%b]}' % b",".join([one] * 4), True),
        (b'{"items":[%b,%b]}' % (one, unknown), not is_check),  # who is unknown has to be asked for
        (b'{"items":[%b]}' % one.replace(b'"}', b'","ttl_seconds":9}'), not is_check),
        (b'{"items":[]}', False),
        (b'{"items":[1]}', False),
        (b'{"items":[%b],"more":1}' % one, False),
        (b'{"items":[%b]}' % one.replace(b'"40"', b'"-1"'), False),
        (b"{}", False),
    ]
    _is_spelled_both_ways(tenant, wire, taken, path, bodies)


def test_settled_twice_at_once_is_settled_once(tenant: Tenant, port: int, taken: list[str]) -> None:
    held = tenant.post("/v1/reservations", {"customer": "acme", "meter": "tokens", "amount": 20}).json()
    path = f"/v1/reservations/{held['id']}/settle"
    wires = [Wire(port) for _ in range(4)]
    for wire in wires:
        wire.send(request(tenant, path, b'{"amount":"5"}'))
    answers = [wire.answer() for wire in wires]
    for wire in wires:
        wire.close()
    assert [status for status, _, _ in answers] == [200] * 4
    documents = [json.loads(body) for _, _, body in answers]
    assert {(one["id"], one["settled_amount"], one["used"], one["state"]) for one in documents} == {
        (held["id"], "5", "5", "settled")
    }


def _without_moments(body: bytes) -> bytes:
    head, found, rest = body.partition(b'"decided_at":"')
    return head + found + rest.partition(b'"')[2]


def test_however_it_is_cut_each_request_has_its_answer_in_order(
    tenant: Tenant, port: int, taken: list[str]
) -> None:
    check = request(tenant, "/v1/check", b'{"customer":"acme","meter":"tokens","amount":"1"}')
    reserve = request(
        tenant, "/v1/reservations", b'{"customer":"acme","meter":"tokens","amount":"1","ttl_seconds":1}'
    )
    too_much = request(tenant, "/v1/reservations", b'{"customer":"acme","meter":"tokens","amount":"500"}')
    # Its body is a request: it is read as such by nobody.
    within = request(tenant, "/v1/customers", check)
    early = request(tenant, "/v1/check", check * 40)  # larger than what is waited for
    listed = f"GET /v1/meters HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.secret}\r\n\r\n".encode()
    kinds = {check: 200, reserve: 201, too_much: 409, within: 400, early: 400, listed: 200}
    chosen = random.Random(20)
    for _ in range(25):
        sequence = chosen.choices(list(kinds), k=6)
        whole = b"".join(sequence)
        starts = [whole.find(b"POST /v1/check", chosen.randrange(len(whole))) for _ in range(3)]
        cuts = sorted({0, len(whole), *(max(0, start) for start in starts), chosen.randrange(len(whole))})
        wire = Wire(port)
        with closing(wire):
            wire.send(*(whole[start:end] for start, end in pairwise(cuts)))
            assert [wire.answer()[0] for _ in sequence] == [kinds[one] for one in sequence]
            wire.send(check)
            assert wire.answer()[0] == 200


def test_a_body_that_comes_after_its_answer_is_no_request(
    tenant: Tenant, wire: Wire, taken: list[str]
) -> None:
    check = request(tenant, "/v1/check", b'{"customer":"acme","meter":"tokens","amount":"1"}')
    unknown = request(tenant, "/v1/customers", check).replace(tenant.secret.encode(), b"nobody", 1)
    head = unknown.removesuffix(check)
    wire.send(head)
    assert wire.answer()[0] == 401
    wire.send(check)
    time.sleep(0.02)
    wire.send(check.replace(b"/v1/check", b"/v1/nowhere"))
    assert wire.answer()[0] == 404
    wire.send(check)
    assert wire.answer()[0] == 200


def test_who_hangs_up_leaves_nothing_behind(live: Live, tenant: Tenant, port: int, taken: list[str]) -> None:
    reserve = request(tenant, "/v1/reservations", b'{"customer":"acme","meter":"tokens","amount":"1"}')
    inside = lambda: live.system.gate._inside  # noqa: E731  # pyright: ignore[reportPrivateUsage]
    until = time.monotonic() + _WAIT_S_MAX
    made = 0
    # One that is gone before it is let in (the framework looks for that) has reserved nothing.
    while made < 20 or inside():
        assert time.monotonic() < until
        if made < 20:
            wire = Wire(port)
            wire.send(reserve)
            wire.close()
        time.sleep(0.01)
        made = len(tenant.answer("/v1/reservations?state=held")["items"])


def test_a_closed_installation_takes_no_reservation(
    live: Live, tenant: Tenant, wire: Wire, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.system.gate, "reason", "It moves.")
    body = b'{"customer":"acme","meter":"tokens","amount":"1"}'
    wire.send(request(tenant, "/v1/reservations", body))
    assert wire.answer()[0] == 503
    wire.send(request(tenant, "/v1/check", body))
    assert wire.answer()[0] == 200


def test_a_quiet_connection_is_closed_and_a_busy_one_not(
    tenant: Tenant, port: int, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallystick.api.direct import DirectConnection

    made: list[DirectConnection] = []
    begin = DirectConnection.connection_made

    def begun(self: DirectConnection, transport: Any) -> None:
        made.append(self)
        self.timeout_keep_alive = 1
        begin(self, transport)

    monkeypatch.setattr(DirectConnection, "connection_made", begun)
    wire = Wire(port)
    with closing(wire):
        check = request(tenant, "/v1/check", b'{"customer":"acme","meter":"tokens","amount":"1"}')
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < 1.3:
            wire.send(check)
            assert wire.answer()[0] == 200
        assert wire.is_closed()
    assert len(made) == 1


def test_threads_are_interrupted_sooner_only_while_many_calls_come(monkeypatch: pytest.MonkeyPatch) -> None:
    intervals = [0.001]
    monkeypatch.setattr(sys, "getswitchinterval", lambda: intervals[-1])
    monkeypatch.setattr(sys, "setswitchinterval", intervals.append)
    looks: list[Any] = []

    class Loop:
        def call_later(self, seconds: float, look: Any, *rest: Any) -> Any:
            looks.append(lambda: look(*rest))
            return look

    urgency, loop = Urgency(), cast("asyncio.AbstractEventLoop", Loop())
    for calls, expected in ((99, 0.001), (100, 0.0002), (100, 0.0002), (99, 0.001), (0, 0.001)):
        for _ in range(calls):
            urgency.called(loop)
        looks.pop()()
        assert intervals[-1] == expected, calls
    assert not looks
    assert intervals == [0.001, 0.0002, 0.001]


_PLAIN = (
    b"POST /v1/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
    b"Content-Type: application/json\r\nContent-Length: 12\r\n"
)


def test_a_plain_head_is_read() -> None:
    head = read_head(_PLAIN + b"Connection: Keep-Alive\r\nX-Request-Id: a/1\r\nAccept: */*\r\n")
    assert head == ("/v1/check", b"Bearer k", 12, b"a/1")
    assert read_head(_PLAIN) == ("/v1/check", b"Bearer k", 12, None)
    assert read_head(_PLAIN + b"X-Request-Id: not one\r\n") == ("/v1/check", b"Bearer k", 12, None)


@pytest.mark.parametrize(
    "head",
    [
        _PLAIN + b"Transfer-Encoding: chunked\r\n",
        _PLAIN + b"transfer-encoding:chunked\r\n",
        _PLAIN + b"Content-Length: 12\r\n",
        _PLAIN + b"Content-Length: 13\r\n",
        _PLAIN + b"Host: y\r\n",
        _PLAIN + b"Authorization: Bearer l\r\n",
        _PLAIN + b"Connection: close\r\n",
        _PLAIN + b"Connection: keep-alive, upgrade\r\n",
        _PLAIN + b"Upgrade: h2c\r\n",
        _PLAIN + b"Expect: 100-continue\r\n",
        _PLAIN + b"Idempotency-Key: k\r\n",
        _PLAIN + b"Content-Encoding: gzip\r\n",
        _PLAIN + b" folded: x\r\n",
        _PLAIN + b"Content-Length : 12\r\n",
        _PLAIN + b"Bad\x00: x\r\n",
        _PLAIN + b"Bad: \x00\r\n",
        _PLAIN + b"Bad: a\nTransfer-Encoding: chunked\r\n",
        _PLAIN + b"Bad: a\rTransfer-Encoding: chunked\r\n",
        _PLAIN + b"No-Colon\r\n",
        _PLAIN + b"Long: " + b"a" * 4096 + b"\r\n",
        _PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        _PLAIN.replace(b"/v1/check", b"/v1/check?a=b"),
        _PLAIN.replace(b"/v1/check", b"/v1/check/"),
        _PLAIN.replace(b"/v1/check", b"/v1/%63heck"),
        _PLAIN.replace(b"POST", b"PUT"),
        _PLAIN.replace(b": 12", b": +12"),
        _PLAIN.replace(b": 12", b": 8193"),
        _PLAIN.replace(b": 12", b": 1 2"),
        _PLAIN.replace(b"Content-Length: 12\r\n", b""),
        _PLAIN.replace(b"application/json", b"text/plain"),
        _PLAIN[:-2],
        b"POST /v1/check HTTP/1.1\r\n",
    ],
)
def test_what_is_not_plain_is_left_to_the_server(head: bytes) -> None:
    assert read_head(head) is None
