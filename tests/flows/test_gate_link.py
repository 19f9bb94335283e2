"""The two ends of what the gate's own process is told and asks: errors, order, what is shared, moments put together."""

import asyncio
import pickle
import random
import socket
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from tallystick.errors import Conflict, Fault, Invalid, StorageFull, TallystickError, Unavailable
from tallystick.flows.fresh import Followed, News
from tallystick.flows.gate import Gate
from tallystick.flows.limits.board import Board
from tallystick.flows.limits.far import FarRecording, Moment
from tallystick.flows.limits.link import Link
from tallystick.flows.limits.process import received, sent
from tallystick.flows.limits.questions import OwnQuestions
from tallystick.flows.limits.receipt import LimitExceeded, LimitUnknown
from tallystick.flows.moments import Moments
from tallystick.flows.recording import Lag
from tallystick.flows.usage import UsageRequest
from tallystick.store.interface import TouchedUsage

Answers = dict[str, Callable[..., Awaitable[Any]]]


@pytest.mark.parametrize(
    "error",
    [
        Conflict("There is one.", code="already_settled"),
        Invalid("Wrong.", faults=[Fault("/amount", "invalid_value", "must be more.")]),
        Unavailable("Later.", code="gate_not_ready", retry_after_s=7),
        LimitExceeded("Too much.", {"rule": "all", "remaining": "0"}),
        LimitUnknown("Who knows.", {"rule": "all"}),
    ],
)
def test_an_error_is_the_same_in_another_process(error: TallystickError) -> None:
    found = pickle.loads(pickle.dumps([error]))[0]
    assert (type(found), str(found), found.__dict__) == (type(error), str(error), error.__dict__)


async def _linked(
    answers: Answers, hear: dict[str, Callable[..., None]] | None = None
) -> tuple[Link, Link, list[asyncio.Task[None]]]:
    one, other = socket.socketpair()
    asking, answering = Link(answers={}, hear=hear or {}), Link(answers=answers, hear={})
    await asking.open(one)
    await answering.open(other)
    return asking, answering, [asyncio.create_task(asking.run()), asyncio.create_task(answering.run())]


async def _closed(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_questions_are_answered_or_raise_what_was_raised() -> None:
    async def slow(number: int) -> int:
        await asyncio.sleep(random.Random(number).random() / 100)
        return number * 2

    async def full() -> None:
        raise StorageFull("The disk is full.")

    async def broken() -> None:
        raise ValueError("nobody expected this")

    async def run() -> None:
        asking, _, tasks = await _linked({"slow": slow, "full": full, "broken": broken})
        found = await asyncio.gather(*(asking.ask("slow", number) for number in range(50)))
        assert found == [2 * number for number in range(50)]
        with pytest.raises(StorageFull, match="The disk is full"):
            await asking.ask("full")
        with pytest.raises(RuntimeError, match="could not answer: broken"):
            await asking.ask("broken")
        await _closed(tasks)

    asyncio.run(run())


def test_who_waits_when_the_other_side_ends_is_told() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        asking, _, tasks = await _linked({"never": never})
        waiting = asyncio.create_task(asking.ask("never"))
        await asyncio.sleep(0)
        tasks[1].cancel()
        with pytest.raises(Unavailable) as raised:
            await waiting
        assert raised.value.code == "gate_not_ready"
        await asyncio.wait(tasks)
        with pytest.raises(Unavailable):
            await asking.ask("never")
        asking.tell("anything")  # nobody is there to hear it
        await _closed(tasks)

    asyncio.run(run())


def test_news_comes_behind_the_answer_it_was_sent_behind() -> None:
    heard: list[tuple[int, bool]] = []

    async def run() -> None:
        links: list[Link] = []

        async def append(number: int) -> int:
            # As process.py does it: what is told in the next turn goes behind the answer of this one.
            asyncio.get_running_loop().call_soon(links[1].tell, "moment", number)
            return number

        def moment(number: int) -> None:
            asked = links[0]._asked.values()  # pyright: ignore[reportPrivateUsage]
            heard.append((number, all(one.done() for one in asked)))

        asking, answering, tasks = await _linked({"append": append}, {"moment": moment})
        links.extend((asking, answering))
        for number in range(100):
            assert await asking.ask("append", number) == number
        while len(heard) < 100:
            await asyncio.sleep(0)
        await _closed(tasks)

    asyncio.run(asyncio.wait_for(run(), 30))
    assert heard == [(number, True) for number in range(100)]


def test_a_board_is_the_same_memory() -> None:
    board, descriptor = Board.make()
    other = Board(descriptor)
    board.published_us, board.log_end, board.changes, board.closed = 2**62, 7, 3, True
    assert (other.published_us, other.log_end, other.changes, other.closed) == (2**62, 7, 3, True)
    board.closed = False
    assert not other.closed
    board.close()
    other.close()


def test_a_connection_goes_over_with_what_was_read() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near, far = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    assert received(other) == []
    assert sent(one, near.fileno(), b"x" * 100_000, 3)
    near.close()
    ((connection, data, returns),) = received(other)
    assert (data, returns) == (b"x" * 100_000, 3)
    connection.sendall(b"still there")
    assert far.recv(100) == b"still there"
    connection.close()
    other.close()
    assert not sent(one, far.fileno(), b"", 0)
    one.close()
    far.close()


def test_moments_put_together_are_what_was_recorded_in_all_of_them() -> None:
    """Against plain sums, with random moments, customers and beginnings."""
    chance = random.Random(11)
    followed = Followed(frozenset({1, 2}))

    async def run() -> None:
        board, _ = Board.make()
        recording = FarRecording(Link(answers={}, hear={}), board)
        recording.came(Moment(0, 100, (0,), Followed(), None, Lag(0, 0.0)))
        moments, all_rows = [100], []
        for _ in range(30):
            until_us = moments[-1] + chance.randint(1, 50)
            rows = tuple(
                TouchedUsage(
                    "t",
                    chance.choice((1, 2)),
                    f"c{customer}",
                    at,
                    at + 5,
                    1,
                    Decimal(chance.randint(-5, 9)) / 7,
                )
                for customer, at in ((n, chance.randint(0, 1000)) for n in range(chance.randint(0, 4)))
            )
            news = News(moments[-1], until_us, rows, frozenset({9}) if chance.random() < 0.2 else frozenset())
            board.published_us = until_us
            assert not recording.is_current
            recording.came(Moment(moments[-1], until_us, (until_us,), followed, news, Lag(0, 0.0)))
            assert recording.is_current
            all_rows += [(until_us, row) for row in rows]
            moments.append(until_us)
        assert recording.published == (moments[-1], (moments[-1],))
        for _ in range(100):
            after_us, until_us = sorted(chance.sample(moments, 2))
            found = recording.fresh.between(after_us, until_us, followed)
            assert found is not None
            wanted: dict[tuple[int, str], Decimal] = {}
            for at_us, row in all_rows:
                if after_us < at_us <= until_us:
                    key = (row.meter, row.customer)
                    wanted[key] = wanted.get(key, Decimal(0)) + row.total
            totals: dict[tuple[int, str], Decimal] = {}
            for row in found.usage:
                totals[row.meter, row.customer] = (
                    totals.get((row.meter, row.customer), Decimal(0)) + row.total
                )
            assert {key: round(value, 20) for key, value in totals.items()} == {
                key: round(value, 20) for key, value in wanted.items()
            }
        # A meter that was not followed yet, or a moment that is not among them: it has to be asked for.
        assert recording.fresh.between(moments[0], moments[2], Followed(frozenset({3}))) is None
        assert recording.fresh.between(moments[1] - 1, moments[3], followed) is None

    asyncio.run(run())


def test_silence_counts_as_being_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        now_s = [1000.0]
        monkeypatch.setattr("tallystick.flows.limits.far.time.monotonic", lambda: now_s[0])
        board, _ = Board.make()
        recording = FarRecording(Link(answers={}, hear={}), board)
        recording.came(Moment(0, 100, (0,), Followed(), None, Lag(3, 0.5)))
        assert recording.lag() == Lag(3, 0.5)
        now_s[0] += 40
        assert recording.lag() == Lag(3, 40.5)
        recording.came(Moment(100, 100, (0,), Followed(), None, Lag(0, 0.0)))
        assert recording.lag() == Lag(0, 0.0)

    asyncio.run(run())


def test_closing_waits_for_what_another_process_has_let_in() -> None:
    class Outside:
        told: list[str] = []  # noqa: RUF012

        def close(self) -> None:
            self.told.append("close")

        def open(self) -> None:
            self.told.append("open")

        async def quiet(self) -> None:
            assert self.told[-1] == "close"
            self.told.append("quiet")

    async def run() -> None:
        gate, outside = Gate(), Outside()
        gate.outside = outside
        gate.enter()
        assert not await gate.close("moving", wait_s_max=0.0)
        assert gate.reason is None
        gate.leave()
        assert await gate.close("moving", wait_s_max=1.0)
        assert gate.reason == "moving"
        gate.open()
        assert outside.told == ["close", "quiet", "open", "close", "quiet", "open"]

    asyncio.run(run())


def test_a_question_as_of_a_moment_that_is_about_to_be_published_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told before it is published; asked at once, usage would be as of the moment before."""

    class Publishing:
        recorded_at_us = 100

        def __init__(self) -> None:
            self.moments = Moments(lambda: self.recorded_at_us)

        async def wait_for_moment(self, after_us: int, timeout_s: float) -> int | None:
            return await self.moments.later_than(after_us, timeout_s)

    async def run() -> None:
        recorder = Publishing()
        seen: list[int] = []

        async def answered(*_: Any, **__: Any) -> None:
            seen.append(recorder.recorded_at_us)

        for name in ("usage", "price", "recorded_between"):
            monkeypatch.setattr(f"tallystick.flows.limits.questions.{name}", answered)
        monkeypatch.setattr("tallystick.flows.limits.questions.PUBLISHED_S_MAX", 0.01)
        system: Any = SimpleNamespace(recorder=recorder)
        questions = OwnQuestions(system)
        window: Any = None
        asked = [
            lambda at_us: questions.usage(UsageRequest("t", "m", as_of_us=at_us)),
            lambda at_us: questions.price("t", (), window, at_us),
            lambda at_us: questions.recorded_between(50, at_us, ()),
        ]
        for ask in asked:
            await ask(recorder.recorded_at_us)
            with pytest.raises(Unavailable):
                await ask(recorder.recorded_at_us + 7)
            monkeypatch.setattr("tallystick.flows.limits.questions.PUBLISHED_S_MAX", 30.0)
            waiting = asyncio.create_task(ask(recorder.recorded_at_us + 7))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            recorder.recorded_at_us += 7
            recorder.moments.tell()
            await waiting
            monkeypatch.setattr("tallystick.flows.limits.questions.PUBLISHED_S_MAX", 0.01)
        assert seen == [100, 107, 107, 114, 114, 121]

    asyncio.run(run())
