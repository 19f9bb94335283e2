"""The worker against receivers that fail, hang, redirect, answer slowly and come back after a day."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.delivery.receiver import Answer, Receiver, receiving
from tests.delivery.rig import NOW_US, SECRET, TENANT, rigged
from tests.patience import patience

from tallystick.catalog.delivering import DeliverySearch
from tallystick.flows.deliver import PLACES_PER_CHANNEL, RETRY_S

DAY_S = 86_400


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def test_one_message_signed_and_logged(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            rig.clock.move_to(time.time_ns() // 1000)
            rig.add("hook", receiver.url("/hook"))
            name = rig.tell("a", "hook")
            await rig.step()
            [got] = receiver.received
            verified = Webhook(SECRET).verify(got.body, got.headers)
            assert verified["type"] == "alert.fired"
            assert verified["data"] == {"n": "a"}
            assert (got.id, got.headers["content-type"]) == (name, "application/json")
            found = rig.delivery(name)
            assert (found.status, found.attempts, found.last_status) == ("delivered", 1, 200)
            [attempt] = rig.catalog.delivery_attempts(found)
            assert attempt.request_headers["webhook-signature"].startswith("v1,")
            assert (attempt.answer, attempt.error, attempt.target) == ("ok", None, receiver.url("/hook"))
            assert SECRET not in repr(attempt)
            await rig.step(seconds=DAY_S)
            assert len(receiver.received) == 1
            text = rig.metrics.exposition().decode()
            assert (
                'tallystick_delivery_attempts_total{channel_type="webhook",outcome="delivered"} 1.0' in text
            )

    asyncio.run(work())


def test_the_whole_schedule_then_dead_then_sent_again(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            receiver.answers["/"] = Answer(500, body=b"no")
            rig.add("hook", receiver.url())
            name = rig.tell("a", "hook")
            await rig.step()
            for number, wait_s in enumerate(RETRY_S, 1):
                assert len(receiver.received) == number
                assert rig.delivery(name).due_at_us == rig.clock.now_us() + wait_s * 1_000_000
                await rig.step(seconds=wait_s - 0.001)
                assert len(receiver.received) == number, "not before it is due"
                await rig.step(seconds=0.001)
            dead = rig.delivery(name)
            assert (dead.status, dead.attempts, dead.last_error) == ("dead", len(RETRY_S) + 1, "status")
            assert dead.finished_at_us == rig.clock.now_us()
            assert {one.id for one in receiver.received} == {name}
            assert {one.body for one in receiver.received} == {receiver.received[0].body}
            receiver.answers.clear()
            rig.catalog.resend_delivery(TENANT, name, now_us=rig.clock.now_us())
            await rig.step()
            assert rig.delivery(name).status == "delivered"
            assert receiver.received[-1].id == name
            assert [one.status for one in rig.catalog.delivery_attempts(dead)] == [500] * 11 + [200]

    asyncio.run(work())


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        (Answer(302, {"location": "/other"}), "redirect", 302),
        (Answer(307, {"location": "http://169.254.169.254/"}), "redirect", 307),
        (Answer(404), "status", 404),
        (Answer(after_s=20), "timed_out", None),
        (Answer(body=b"x" * 50, slow_s=0.1), "timed_out", None),
    ],
    ids=["redirects", "to a private address", "not found", "hangs", "drips"],
)
def test_what_is_no_success(
    tmp_path: Path, receiver: Receiver, answer: Answer, error: str, status: int | None
) -> None:
    async def work() -> None:
        async with rigged(tmp_path, time_s_max=1.0) as rig:
            receiver.answers["/"] = answer
            rig.add("hook", receiver.url())
            name = rig.tell("a", "hook")
            await rig.step()
            found = rig.delivery(name)
            assert (found.status, found.last_error, found.last_status) == ("pending", error, status)
            assert len(receiver.received) == 1, "redirects are not followed"

    asyncio.run(work())


def test_nobody_there_and_an_answer_without_end(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            rig.add("nobody", "http://127.0.0.1:9/")
            rig.add("long", receiver.url())
            receiver.answers["/"] = Answer(body=b"x" * 10_000_000)
            first, second = rig.tell("a", "nobody"), rig.tell("b", "long")
            await rig.step()
            assert rig.delivery(first).last_error == "connect_failed"
            assert rig.delivery(second).status == "delivered"
            [attempt] = rig.catalog.delivery_attempts(rig.delivery(second))
            assert len(attempt.answer) == 4096

    asyncio.run(work())


def test_retry_after_is_kept_to(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            receiver.answers["/"] = Answer(429, {"retry-after": "120"})
            rig.add("hook", receiver.url())
            name = rig.tell("a", "hook")
            await rig.step()
            assert rig.delivery(name).due_at_us == NOW_US + 120_000_000
            receiver.answers["/"] = Answer(503, {"retry-after": "Wed, 15 Jul 2026 12:10:00 GMT"})
            await rig.step(seconds=120)
            assert rig.delivery(name).due_at_us == NOW_US + 600_000_000

    asyncio.run(work())


def test_gone_disables_the_channel(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            receiver.answers["/"] = Answer(410)
            rig.add("hook", receiver.url(), ordered=True)
            first, second = rig.tell("a", "hook"), rig.tell("b", "hook")
            await rig.step()
            assert [rig.delivery(one).status for one in (first, second)] == ["dead", "dead"]
            assert rig.catalog.channel(TENANT, "hook").disabled_reason == "gone"
            assert rig.catalog.audit(TENANT).items[0].action == "channel.disable"
            await rig.step(seconds=DAY_S)
            assert len(receiver.received) == 1

    asyncio.run(work())


def test_private_addresses_are_refused_again_at_sending(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path, allow_private=False) as rig:
            rig.add("hook", receiver.url())
            name = rig.tell("a", "hook")
            await rig.step()
            assert rig.delivery(name).last_error == "address_refused"
            assert receiver.received == []

    asyncio.run(work())


def test_one_that_hangs_delays_nobody(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path, time_s_max=4) as rig:
            receiver.answers["/hangs"] = Answer(after_s=20)
            rig.add("hangs", receiver.url("/hangs"))
            rig.add("good", receiver.url("/good"))
            for number in range(50):
                rig.tell(f"h{number}", "hangs")
            running = asyncio.create_task(rig.deliverer.run())
            await asyncio.to_thread(receiver.wait_for, PLACES_PER_CHANNEL, "/hangs")
            started = time.monotonic()
            for number in range(30):
                rig.tell(f"g{number}", "good")
            got = await asyncio.to_thread(receiver.wait_for, 30, "/good")
            assert len(got) == 30
            assert time.monotonic() - started < 3 * patience()
            assert len(receiver.at("/hangs")) <= PLACES_PER_CHANNEL, "it has its own places and no more"
            await rig.deliverer.stop()
            await running

    asyncio.run(work())


def test_in_order_one_that_fails_holds_back_those_behind(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            receiver.answers["/"] = Answer(500)
            rig.add("hook", receiver.url(), ordered=True)
            names = [rig.tell(f"n{number}", "hook") for number in range(4)]
            await rig.step()
            await rig.step(seconds=5)
            assert [one.id for one in receiver.received] == names[:1] * 2
            receiver.answers.clear()
            await rig.step(seconds=30)
            for _ in range(3):
                await rig.step()
            assert [one.id for one in receiver.received[2:]] == names

    asyncio.run(work())


def test_after_a_day_away_everything_once_per_id(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            # Away are the endpoint at first, then the worker itself.
            receiver.answers["/"] = Answer(503)
            rig.add("hook", receiver.url())
            names = [rig.tell(f"n{number}", "hook") for number in range(40)]
            await rig.step()
            failed = len(receiver.received)
            rig.clock.advance(seconds=DAY_S)
            receiver.answers.clear()
            for _ in range(60):
                await rig.step()
            arrived = [one.id for one in receiver.received[failed:]]
            assert sorted(arrived) == sorted(names)
            found = rig.catalog.deliveries(TENANT, DeliverySearch(status="delivered"), limit=100).items
            assert len(found) == len(names)

    asyncio.run(work())


def test_sent_and_not_written_down_is_sent_again_under_the_same_id(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            rig.add("hook", receiver.url())
            name = rig.tell("a", "hook")
            write = rig.deliverer._write

            async def crash(*args: Any) -> None:
                raise RuntimeError("the process dies here")

            monkeypatch.setattr(rig.deliverer, "_write", crash)
            await rig.step()
            await rig.step(seconds=1)
            assert len(receiver.received) == 1, "whoever has it may still be at it"
            monkeypatch.setattr(rig.deliverer, "_write", write)
            await rig.step(seconds=60)
            assert [one.id for one in receiver.received] == [name, name]
            assert (rig.delivery(name).status, rig.delivery(name).attempts) == ("delivered", 2)

    asyncio.run(work())


def test_what_a_stop_breaks_off_is_due_at_once_for_whoever_comes_next(
    tmp_path: Path, receiver: Receiver
) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            receiver.answers["/"] = Answer(after_s=20)
            rig.add("hook", receiver.url())
            names = [rig.tell("a", "hook"), rig.tell("b", "hook")]
            running = asyncio.create_task(rig.deliverer.run())
            await asyncio.to_thread(receiver.wait_for, 2)
            await rig.deliverer.stop()
            await running
            assert all(rig.delivery(name).status == "pending" for name in names)
        receiver.answers.clear()
        receiver.received.clear()
        async with rigged(tmp_path) as rig:  # the clock has not moved
            await rig.step()
            assert sorted(one.id for one in receiver.received) == sorted(names)
            assert {(rig.delivery(name).status, rig.delivery(name).attempts) for name in names} == {
                ("delivered", 2)
            }

    asyncio.run(work())


def test_it_wakes_when_something_is_enqueued(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with rigged(tmp_path, look_s=60) as rig:
            rig.add("hook", receiver.url())
            running = asyncio.create_task(rig.deliverer.run())
            await asyncio.sleep(0.2)
            started = time.monotonic()
            await asyncio.to_thread(rig.tell, "a", "hook")
            assert await asyncio.to_thread(receiver.wait_for, 1)
            assert time.monotonic() - started < 2 * patience()
            await rig.deliverer.stop()
            await running

    asyncio.run(work())


def test_a_catalog_that_fails_is_asked_again(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            rig.add("hook", receiver.url())
            take, failed = rig.catalog.take_deliveries, []

            def failing(*args: Any, **options: Any) -> Any:
                if len(failed) < 3:
                    failed.append(1)
                    raise RuntimeError("not now")
                return take(*args, **options)

            monkeypatch.setattr(rig.catalog, "take_deliveries", failing)
            running = asyncio.create_task(rig.deliverer.run())
            rig.tell("a", "hook")
            assert await asyncio.to_thread(receiver.wait_for, 1)
            assert len(failed) == 3
            await rig.deliverer.stop()
            await running

    asyncio.run(work())
