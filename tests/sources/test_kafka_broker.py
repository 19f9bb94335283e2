"""A Kafka source against a real broker: restarts of either, rebalances, waiting for longer than a member may be silent."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.patience import patience
from tests.sources.feed import RememberingFeed
from tests.sources.kafka_broker import KafkaBroker

from tallystick.sources import kafka
from tallystick.sources.interface import SourceFaultError
from tallystick.sources.kafka import KafkaSettings, KafkaSource

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
PARTITIONS = 4
QUICK = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(Path(tmp_path_factory.mktemp("kafka")))
    broker.start()
    yield broker
    broker.kill()


class Topic:
    """One of the broker's, and who writes to it."""

    def __init__(self, broker: KafkaBroker, name: str) -> None:
        self.broker, self.name = broker, name
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
        for created in admin.create_topics([NewTopic(name, PARTITIONS, 1)]).values():
            created.result(20)
        self.producer = Producer(
            {"bootstrap.servers": broker.address, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        )

    def send(self, numbers: range) -> None:
        for number in numbers:
            body = b'{"id":"%d","type":"t","subject":"c","data":{"n":%d}}' % (number, number)
            self.producer.produce(self.name, body, partition=number % PARTITIONS)
            if number % 1000 == 0:
                self.producer.poll(0)
        assert self.producer.flush(90) == 0

    def committed(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.broker.address, "group.id": self.name, "log_level": 0})
        found = consumer.committed([TopicPartition(self.name, one) for one in range(PARTITIONS)], timeout=10)
        consumer.close()
        return sum(max(0, one.offset) for one in found)

    def source(
        self, feed: RememberingFeed, *, instance: str = "", more: object = None, events_max: int = 500
    ) -> KafkaSource:
        settings = KafkaSettings(
            self.broker.address,
            (self.name,),
            group=self.name,
            instance=instance,
            batch_events_max=events_max,
            more={**QUICK, **(more or {})},  # type: ignore[dict-item]
        )
        return KafkaSource(settings, feed)


@pytest.fixture
def topic(broker: KafkaBroker, request: pytest.FixtureRequest) -> Topic:
    return Topic(broker, request.node.name[:200])


@asynccontextmanager
async def running(source: KafkaSource) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        source.stop()
        async with asyncio.timeout(120):
            await task


async def until_all(count: int, *feeds: RememberingFeed) -> None:
    async with asyncio.timeout(120):
        while len(set().union(*(feed.times() for feed in feeds))) < count:
            await asyncio.sleep(0.05)


async def test_whoever_comes_back_goes_on_at_once(topic: Topic) -> None:
    topic.send(range(1000))
    feed = RememberingFeed()
    async with running(topic.source(feed, instance="a:1")):
        await feed.until(1000)
    assert topic.committed() == 1000
    topic.send(range(1000, 1100))
    begun = time.monotonic()
    async with running(topic.source(feed, instance="a:1")):
        await feed.until(1100)
    assert time.monotonic() - begun < 5 * patience()  # and not when the group has given up the one that was
    assert set(feed.times().values()) == {1}


async def test_what_was_not_accepted_comes_again(topic: Topic) -> None:
    topic.send(range(1000))
    feed = RememberingFeed()
    feed.failures = [RuntimeError("no")]
    with pytest.raises(RuntimeError):
        await topic.source(feed, instance="a").run()
    assert topic.committed() == 0
    async with running(topic.source(feed, instance="a")):
        await feed.until(1000)
    assert topic.committed() == 1000


async def test_the_one_that_was_replaced_ends(topic: Topic) -> None:
    """Two processes that both believe to be the source: the group knows the later one alone."""
    topic.send(range(100))
    first, second = RememberingFeed(), RememberingFeed()
    old = asyncio.create_task(topic.source(first, instance="a").run())
    await first.until(100)
    async with running(topic.source(second, instance="a")):
        with pytest.raises(SourceFaultError):
            async with asyncio.timeout(120):
                await old
        topic.send(range(100, 200))
        await until_all(200, first, second)


async def test_back_pressure_pauses_and_keeps_the_place_in_the_group(topic: Topic) -> None:
    feed = RememberingFeed()
    feed.gate.clear()
    topic.send(range(100))
    source = topic.source(feed, more={"max.poll.interval.ms": 6000}, events_max=30)
    async with running(source):
        await asyncio.sleep(8)  # longer than a member may be silent
        topic.send(range(100, 5000))
        await asyncio.sleep(2)
        assert not feed.events
        assert len(source._waiting) <= 100  # what was on its way already
        feed.gate.set()
        await feed.until(5000)
    assert set(feed.times().values()) == {1}
    assert topic.committed() == 5000


async def test_partitions_move_between_two_and_nothing_comes_twice(topic: Topic) -> None:
    first, second = RememberingFeed(), RememberingFeed()
    topic.send(range(400))
    one, two = topic.source(first, events_max=20), topic.source(second, events_max=20)
    async with running(one):
        await first.until(400)
        async with running(two):
            async with asyncio.timeout(90):
                while len(one._owned) != 2 or len(two._owned) != 2:
                    await asyncio.sleep(0.05)
            topic.send(range(400, 4000))
            await until_all(4000, first, second)
            assert second.events
        topic.send(range(4000, 4100))
        await until_all(4100, first, second)
    assert set((first.times() + second.times()).values()) == {1}


async def test_a_topic_that_is_not_there_is_said(broker: KafkaBroker) -> None:
    settings = KafkaSettings(broker.address, ("none",), group="none", instance="")
    with pytest.raises(SourceFaultError, match=r"(?i)topic"):
        async with asyncio.timeout(120):
            await KafkaSource(settings, RememberingFeed()).run()


async def test_the_broker_goes_and_comes_back(broker: KafkaBroker, topic: Topic) -> None:
    feed = RememberingFeed()
    topic.send(range(2000))
    # A broker that was killed may have forgotten a member with a name, and fence it: the keeper would begin it again.
    source = topic.source(feed)
    async with running(source):
        await feed.until(500)
        await asyncio.to_thread(broker.kill)
        async with asyncio.timeout(120):
            while not source.trouble:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(topic.send, range(2000, 3000))
        await feed.until(3000)
        async with asyncio.timeout(120):
            while source.trouble:  # one connection of several may be the last to come back
                await asyncio.sleep(0.05)
    assert topic.committed() == 3000


async def test_brokers_that_do_not_answer_are_said_and_ending_does_not_wait_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = KafkaBroker(tmp_path / "kafka")  # of its own: one that was killed makes no topics for a while
    broker.start()
    topic = Topic(broker, "usage")
    monkeypatch.setattr(kafka, "TROUBLE_S_MAX", 1.0)
    monkeypatch.setattr(kafka, "_ASK_S", 1.0)
    feed = RememberingFeed()
    topic.send(range(100))
    source = topic.source(feed, instance="a")
    task = asyncio.create_task(source.run())
    await feed.until(100)
    await asyncio.to_thread(broker.kill)
    begun = time.monotonic()
    with pytest.raises(SourceFaultError):
        async with asyncio.timeout(90):
            await task
    took_s = time.monotonic() - begun
    await asyncio.to_thread(broker.start)
    assert took_s < 15 * patience()
    await asyncio.to_thread(topic.send, range(100, 200))
    async with running(topic.source(feed, instance="a")):
        await feed.until(200)
    await asyncio.to_thread(broker.kill)
