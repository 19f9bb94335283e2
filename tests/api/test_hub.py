"""The hub alone, over pairs of sockets: who is in it is read, and who leaves it is the loop's again."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from tallystick.api.hub import READ_BYTES_MAX, Hub

pytestmark = pytest.mark.skipif(not Hub.supported, reason="the hub needs epoll")
_TURNS_MAX = 1_000


class Line:
    """A connection, and at once its transport, of which it writes down what is asked."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.got: list[bytes] = []
        self.said: list[str] = []
        self.later = b""
        self.closing = False
        self.on_data: Callable[[], None] = lambda: None
        self.transport = cast("asyncio.Transport", self)

    def data_received(self, data: bytes) -> None:
        self.got.append(data)
        self.on_data()

    def get_extra_info(self, name: str) -> Any:
        return self.near if name == "socket" else None

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")

    def abort(self) -> None:
        self.said.append("abort")

    def get_write_buffer_size(self) -> int:
        return len(self.later)

    def write(self, data: bytes) -> None:
        self.later += data

    def close(self) -> None:
        self.near.close()
        self.far.close()


async def until(found: Callable[[], bool]) -> None:
    for _ in range(_TURNS_MAX):
        if found():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come")


def of_loop(body: Callable[[Hub, list[Line]], Any], lines: int) -> None:
    async def within() -> None:
        made = [Line() for _ in range(lines)]
        hub = Hub(asyncio.get_running_loop())
        try:
            await body(hub, made)
        finally:
            for line in made:
                hub.leave(line, line.near.fileno())
                line.close()
        assert not len(hub)

    asyncio.run(within())


def test_those_who_have_something_are_read_and_nobody_else() -> None:
    async def body(hub: Hub, lines: list[Line]) -> None:
        for line in lines:
            assert hub.join(line) == line.near.fileno()
            assert line.said == ["pause"]
        for line in lines[::2]:
            line.far.send(b"ask")
        await until(lambda: all(line.got for line in lines[::2]))
        assert [line.got for line in lines] == [[b"ask"], []] * 10
        large = b"x" * (READ_BYTES_MAX + 10)
        lines[0].far.setblocking(True)
        await asyncio.to_thread(lines[0].far.sendall, large)
        await until(lambda: b"".join(lines[0].got[1:]) == large)

    of_loop(body, 20)


def test_who_ends_or_leaves_is_the_loops_again() -> None:
    async def body(hub: Hub, lines: list[Line]) -> None:
        ends, leaves, closes, stays = lines
        for line in lines:
            hub.join(line)
        ends.far.close()
        await until(lambda: "resume" in ends.said)
        hub.leave(leaves, leaves.near.fileno())
        hub.leave(leaves, leaves.near.fileno())
        assert leaves.said == ["pause", "resume"]
        closes.closing = True
        for line in (leaves, closes, stays):
            line.far.send(b"ask")
        await until(lambda: len(hub) == 1 and bool(stays.got))
        assert (ends.got, leaves.got, closes.got) == ([], [], [])
        assert closes.said == ["pause"]
        assert leaves.near.recv(9) == b"ask"

    of_loop(body, 4)


def test_a_number_that_comes_again_is_another_connection() -> None:
    async def body(hub: Hub, lines: list[Line]) -> None:
        first, second = lines
        number = hub.join(first)
        assert number is not None
        first.closing = True
        first.near.close()
        second.near = socket.fromfd(second.near.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
        again = hub.join(second)
        hub.leave(first, number)
        assert again is not None
        second.far.send(b"ask")
        await until(lambda: second.got == [b"ask"])

    of_loop(body, 2)


def test_one_that_fails_does_not_take_the_others_with_it() -> None:
    async def body(hub: Hub, lines: list[Line]) -> None:
        def fail() -> None:
            raise ValueError

        lines[0].on_data = fail
        lines[1].on_data = lambda: hub.leave(lines[2], lines[2].near.fileno())
        for line in lines:
            hub.join(line)
        for line in lines:
            line.far.send(b"ask")
        await until(lambda: all(line.got for line in (lines[0], lines[1], lines[3])))
        assert "abort" in lines[0].said
        assert len(hub) == 2
        assert lines[2].got in ([], [b"ask"])

    of_loop(body, 4)


def test_what_the_system_does_not_take_goes_through_the_transport_in_its_order() -> None:
    async def body(hub: Hub, lines: list[Line]) -> None:
        (line,) = lines
        number = hub.join(line)
        assert number is not None
        hub.send(line, number, b"first")
        assert line.far.recv(99) == b"first"
        much = bytes(range(256)) * 40_000
        hub.send(line, number, much)
        assert line.later
        assert line.later != much
        hub.send(line, number, b"last")
        assert line.later.endswith(b"last")
        found = b""
        while len(found) + len(line.later) < len(much) + 4:
            found += line.far.recv(1 << 20)
        assert found + line.later == much + b"last"
        line.later = b""
        line.far.close()
        hub.send(line, number, b"nobody")
        assert line.later == b"nobody"

    of_loop(body, 1)


def test_what_has_no_descriptor_or_closes_stays_where_it_is() -> None:
    async def body(hub: Hub, lines: list[Line]) -> None:
        lines[0].closing = True
        lines[1].near.close()
        assert hub.join(lines[0]) is None
        assert hub.join(lines[1]) is None
        assert lines[0].said == lines[1].said == []

    of_loop(body, 2)
