"""An AMQP source against a real RabbitMQ: acknowledged behind acceptance, delivered again, through a restart."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, DeliveryMode
from tests.sources.feed import RememberingFeed
from tests.sources.rabbitmq import RabbitMq

from tallystick.sources.amqp import AmqpSettings, AmqpSource
from tallystick.sources.interface import SourceFaultError
from tallystick.sources.message import UnreadableError

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    rabbit = RabbitMq(Path(tmp_path_factory.mktemp("rabbit")))
    rabbit.start()
    yield rabbit
    rabbit.remove()


@asynccontextmanager
async def channel(rabbit: RabbitMq, queue: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(rabbit.url)
    async with connection:
        made = await connection.channel()
        await made.declare_queue(queue, durable=True)
        yield made


async def send(made: AbstractChannel, queue: str, body: bytes, **more: object) -> None:
    message = aio_pika.Message(body, delivery_mode=DeliveryMode.PERSISTENT, **more)  # type: ignore[arg-type]
    await made.default_exchange.publish(message, routing_key=queue)


async def left(rabbit: RabbitMq, queue: str) -> int:
    async with channel(rabbit, queue) as made:
        found = await made.declare_queue(queue, durable=True, passive=True)
        return found.declaration_result.message_count or 0


def event(number: int) -> bytes:
    return b'{"id":"%d","type":"t","subject":"c","data":{"n":%d}}' % (number, number)


@asynccontextmanager
async def running(source: AmqpSource) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        source.stop()
        async with asyncio.timeout(20):
            await task


async def test_what_is_acknowledged_is_accepted(rabbit: RabbitMq) -> None:
    feed = RememberingFeed()
    settings = AmqpSettings(rabbit.url, "one", 100)
    async with channel(rabbit, "one") as made:
        for number in range(500):
            await send(made, "one", event(number))
        feed.failures = [RuntimeError("no")]
        with pytest.raises(RuntimeError):
            await AmqpSource(settings, feed).run()
        assert not feed.events
        async with running(AmqpSource(settings, feed)):
            await feed.until(500)
        assert set(feed.times().values()) == {1}
        assert await left(rabbit, "one") == 0
        await send(made, "one", event(500))
        async with running(AmqpSource(settings, feed)):
            await feed.until(501)
    assert len(feed.events) == 501


async def test_identity_is_what_the_event_or_its_message_says(rabbit: RabbitMq) -> None:
    feed = RememberingFeed()
    at = datetime(2026, 3, 1, tzinfo=UTC)
    async with channel(rabbit, "two") as made:
        await send(made, "two", b'{"type":"t"}', message_id="m1", timestamp=at)
        headers = {
            "cloudEvents:id": "7",
            "cloudEvents:source": "/s",
            "cloudEvents:type": "t",
            "cloudEvents:specversion": "1.0",
        }
        await send(made, "two", b'{"n":1}', headers=headers, content_type="application/json")
        await send(made, "two", b"x", headers=headers)
        await send(made, "two", b"{")
        async with running(AmqpSource(AmqpSettings(rabbit.url, "two"), feed)):
            await feed.until(2)
            async with asyncio.timeout(10):
                while len(feed.dead) < 2:
                    await asyncio.sleep(0.05)
    assert set(feed.times()) == {("/", "test:two/m1"), ("/s", "7")}
    assert feed.events[0]["time"] == "2026-03-01T00:00:00Z"
    assert sorted(one.code for one in feed.dead) == ["invalid_json", "invalid_json"]
    assert await left(rabbit, "two") == 0


def test_what_nobody_names_cannot_be_told_apart() -> None:
    """(aio-pika gives every message an id that it sends: others do not.)"""

    def read(body: bytes, *, message_id: str | None = None, needs_ids: bool = True) -> bytes:
        source = AmqpSource(AmqpSettings("", "q", needs_ids=needs_ids), RememberingFeed())
        message = SimpleNamespace(
            body=body, message_id=message_id, headers={}, content_type=None, timestamp=None
        )
        return source._read(cast("AbstractIncomingMessage", message))

    with pytest.raises(UnreadableError) as raised:
        read(b'{"type":"t"}')
    assert raised.value.code == "missing_id"
    assert read(b'{"id":"a"}')
    assert read(b'{"type":"t"}', message_id="m")
    assert read(b'{"type":"t"}', needs_ids=False)


async def test_a_queue_that_is_not_there_and_a_wrong_password_are_said(rabbit: RabbitMq) -> None:
    with pytest.raises(SourceFaultError, match="no queue 'none'"):
        await AmqpSource(AmqpSettings(rabbit.url, "none"), RememberingFeed()).run()
    wrong = rabbit.url.replace(":guest@", ":sesame@")
    with pytest.raises(SourceFaultError) as raised:
        await AmqpSource(AmqpSettings(wrong, "none"), RememberingFeed()).run()
    assert "sesame" not in str(raised.value)


async def test_a_broker_that_goes_is_a_fault_and_nothing_is_lost(rabbit: RabbitMq) -> None:
    feed = RememberingFeed()
    settings = AmqpSettings(rabbit.url, "three", 50)
    async with channel(rabbit, "three") as made:
        for number in range(300):
            await send(made, "three", event(number))
    task = asyncio.create_task(AmqpSource(settings, feed).run())
    await feed.until(100)
    feed.gate.clear()
    await asyncio.to_thread(rabbit.kill)
    feed.gate.set()
    with pytest.raises(SourceFaultError):
        async with asyncio.timeout(20):
            await task
    await asyncio.to_thread(rabbit.start)
    async with running(AmqpSource(settings, feed)):
        await feed.until(300)
        async with asyncio.timeout(20):
            while await left(rabbit, "three"):
                await asyncio.sleep(0.05)
    assert await left(rabbit, "three") == 0
