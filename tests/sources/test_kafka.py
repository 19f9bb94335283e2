"""A Kafka source against librdkafka's own mock cluster: groups, rebalances, back-pressure, messages that cannot be read.

(The mock lets nobody into a group again that all have left.) What a real broker does, and its going away, is in test_kafka_broker.py."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from tests.sources.feed import RememberingFeed
from tests.sources.kafka_mock import (
    FETCH,
    NOT_COORDINATOR,
    NOT_LEADER,
    OFFSET_COMMIT,
    TIMED_OUT,
    MockKafka,
)

from tallystick.sources.kafka import KafkaSettings, KafkaSource, instance_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def mock() -> Iterator[MockKafka]:
    with MockKafka() as mock:
        yield mock


def settings(mock: MockKafka, topic: str, **more: object) -> KafkaSettings:
    given = {"group": topic, "instance": ""} | more
    return KafkaSettings(
        mock.brokers,
        (topic,),
        **given,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def running(source: KafkaSource) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        source.stop()
        async with asyncio.timeout(40):
            await task


async def test_every_message_comes_once_and_in_order_and_is_committed_when_it_ends(mock: MockKafka) -> None:
    topic, feed = mock.topic(), RememberingFeed()
    mock.send(topic, range(1000))
    source = KafkaSource(settings(mock, topic), feed)
    async with running(source):
        await feed.until(1000)
        assert source.lag() == 0
    assert set(feed.times().values()) == {1}
    for partition in range(4):
        numbers = [event["data"]["n"] for event in feed.events if event["data"]["n"] % 4 == partition]
        assert numbers == sorted(numbers)
    assert mock.committed(topic, topic) == 1000


async def test_nothing_is_committed_before_it_is_accepted(mock: MockKafka) -> None:
    topic, feed = mock.topic(), RememberingFeed()
    mock.send(topic, range(100))
    feed.failures = [RuntimeError("no")]
    with pytest.raises(RuntimeError):
        await KafkaSource(settings(mock, topic), feed).run()
    assert mock.committed(topic, topic) == 0


async def test_what_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on(mock: MockKafka) -> None:
    topic = mock.topic()
    feed = RememberingFeed(refuses=lambda event: None if "subject" in event else "missing_subject")
    bodies = [
        b"\xff\x00",
        b"{",
        b'{"type":"t"}',
        b'[{"id":"a","subject":"c"},{"id":"b"}]',
        b'{"subject":"c"}',
        None,
    ]
    for body in bodies:
        mock.producer.produce(topic, body, partition=0)
    mock.producer.produce(
        topic,
        b'{"n":1}',
        partition=0,
        headers=[("ce_id", b"9"), ("ce_source", b"/s"), ("ce_type", b"t"), ("ce_subject", b"c")],
    )
    mock.producer.produce(topic, b"{}", partition=0, headers=[("ce_id", b"\xff")])
    mock.send(topic, range(5))
    async with running(KafkaSource(settings(mock, topic), feed)):
        await feed.until(8)
    assert sorted((one.where, one.code) for one in feed.dead) == [
        (f"{topic}/0/0", "invalid_json"),
        (f"{topic}/0/1", "invalid_json"),
        (f"{topic}/0/2", "missing_subject"),
        (f"{topic}/0/3#2", "missing_subject"),
        (f"{topic}/0/7", "invalid_field"),
    ]
    assert b"\xff\x00" in [one.raw for one in feed.dead]
    times = feed.times()
    assert times["/s", "9"] == times["/", f"test:{topic}/0/4"] == times["/", "a"] == 1


async def test_a_group_that_begins_at_the_end_takes_what_comes_then(mock: MockKafka) -> None:
    topic, feed = mock.topic(), RememberingFeed()
    mock.send(topic, range(10))
    source = KafkaSource(settings(mock, topic, start="latest"), feed)
    async with running(source):
        async with asyncio.timeout(20):
            while source.lag() is None:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        mock.send(topic, range(10, 20))
        await feed.until(10)
    assert min(event["data"]["n"] for event in feed.events) == 10


def test_names_of_members_are_as_kafka_allows_them() -> None:
    assert instance_of("a.b-c_1") == "a.b-c_1"
    assert instance_of("a:b") != instance_of("a_b")
    assert len(instance_of("ü" * 500)) <= 249


async def test_faults_of_the_cluster_lose_nothing(mock: MockKafka) -> None:
    topic, feed = mock.topic(), RememberingFeed()
    mock.send(topic, range(100))
    mock.answer_next(FETCH, NOT_LEADER, TIMED_OUT, NOT_LEADER)
    source = KafkaSource(settings(mock, topic, batch_events_max=20), feed)
    async with running(source):
        await feed.until(100)
        mock.answer_next(OFFSET_COMMIT, NOT_COORDINATOR, TIMED_OUT)
        mock.move_group(topic, 2)
        mock.move_partition(topic, 1, 3)
        mock.send(topic, range(100, 200))
        await feed.until(200)
        mock.send(topic, range(200, 300))
        mock.set_down(3, down=True)
        mock.set_down(3, down=False)
        mock.send(topic, range(300, 400))
        await feed.until(400)
    assert len(feed.times()) == 400
    # A member that was thrown out at the end leaves the rest to come again: never more is committed than was accepted.
    assert 0 < mock.committed(topic, topic) <= 400
