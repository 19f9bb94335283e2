"""A NATS JetStream source against a real server: acknowledged behind acceptance, delivered again, through a restart."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from tests.cluster.nats import NatsServers
from tests.sources.feed import RememberingFeed

from tallystick.sources.interface import SourceFaultError
from tallystick.sources.nats import NatsSettings, NatsSource, connection_of, durable_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    servers = NatsServers.start(Path(tmp_path_factory.mktemp("nats")), user="me", password="p@:")
    yield servers
    servers.stop()


def url(servers: NatsServers) -> str:
    return f"nats://me:p%40%3A@127.0.0.1:{servers.nodes[0].port}"


@asynccontextmanager
async def stream(servers: NatsServers, name: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(
        f"nats://127.0.0.1:{servers.nodes[0].port}",
        user="me",
        password="p@:",
    )
    made = client.jetstream()
    await made.add_stream(StreamConfig(name=name, subjects=[f"{name}.>"]))
    try:
        yield made
    finally:
        await client.close()


def event(number: int) -> bytes:
    return b'{"id":"%d","type":"t","subject":"c","data":{"n":%d}}' % (number, number)


@asynccontextmanager
async def running(source: NatsSource) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        source.stop()
        async with asyncio.timeout(20):
            await task


async def behind(made: JetStreamContext, name: str) -> tuple[int, int]:
    """Messages acknowledged up to, and those that wait for it."""
    found = await made.consumer_info(name, "d")
    assert found.ack_floor is not None
    return found.ack_floor.stream_seq, found.num_ack_pending or 0


async def test_what_is_acknowledged_is_accepted(servers: NatsServers) -> None:
    feed = RememberingFeed()
    async with stream(servers, "one") as made:
        for number in range(500):
            await made.publish("one.a", event(number))
        settings = NatsSettings(url(servers), "one", "d", batch_events_max=100)
        feed.failures = [RuntimeError("no")]
        with pytest.raises(RuntimeError):
            await NatsSource(settings, feed).run()
        assert (await behind(made, "one"))[0] == 0
        async with running(NatsSource(settings, feed)):
            await feed.until(500)
        assert set(feed.times().values()) == {1}
        assert await behind(made, "one") == (500, 0)
        await made.publish("one.a", event(500))
        async with running(NatsSource(settings, feed)):
            await feed.until(501)
        assert len(feed.events) == 501


async def test_long_waiting_is_not_delivered_again_and_silence_is(servers: NatsServers) -> None:
    feed = RememberingFeed()
    settings = NatsSettings(url(servers), "two", "d", "two.b", batch_events_max=100, ack_wait_s=1)
    async with stream(servers, "two") as made:
        await made.publish("two.a", event(0))
        await made.publish("two.b", event(1))
        feed.gate.clear()
        async with running(NatsSource(settings, feed)):
            await asyncio.sleep(2.5)
            info = await made.consumer_info("two", "d")
            assert (info.num_redelivered, info.num_ack_pending) == (0, 1)
            feed.gate.set()
            await feed.until(1)
        await made.publish("two.b", event(2))
        feed.failures = [RuntimeError("died")]
        with pytest.raises(RuntimeError):
            await NatsSource(settings, feed).run()
        async with running(NatsSource(settings, feed)):
            await feed.until(2)
    assert [one["id"] for one in feed.events] == ["1", "2"]


async def test_identity_is_what_the_message_says(servers: NatsServers) -> None:
    feed = RememberingFeed()
    async with stream(servers, "three") as made:
        await made.publish("three.a", b'{"type":"t"}')
        await made.publish("three.a", b'{"type":"t"}', headers={"Nats-Msg-Id": "m1"})
        await made.publish(
            "three.a",
            b'{"n":1}',
            headers={"ce-specversion": "1.0", "ce-id": "%C3%BC", "ce-source": "/s", "ce-type": "t"},
        )
        await made.publish("three.a", b"{")
        await made.publish("three.a", b"x", headers={"ce-id": "7"})
        await made.publish("three.a", b"")
        async with running(NatsSource(NatsSettings(url(servers), "three", "d"), feed)):
            await feed.until(3)
            async with asyncio.timeout(10):
                while (await behind(made, "three"))[0] < 6:
                    await asyncio.sleep(0.05)
    assert set(feed.times()) == {("/", "test:three/1"), ("/", "test:three:m1"), ("/s", "ü")}
    assert all(one["time"].endswith("Z") for one in feed.events)
    assert [(one.where, one.code) for one in feed.dead if one.where != "three/4"] == [
        ("three/5", "invalid_json")
    ]
    assert {one.where for one in feed.dead} == {"three/4", "three/5"}


async def test_a_server_that_goes_is_a_fault_and_nothing_is_lost(servers: NatsServers) -> None:
    feed = RememberingFeed()
    settings = NatsSettings(url(servers), "four", "d", batch_events_max=50, ack_wait_s=2)
    async with stream(servers, "four") as made:
        for number in range(300):
            await made.publish("four.a", event(number))
    task = asyncio.create_task(NatsSource(settings, feed).run())
    await feed.until(100)
    servers.nodes[0].kill()
    with pytest.raises(SourceFaultError):
        async with asyncio.timeout(20):
            await task
    with pytest.raises(SourceFaultError):
        await NatsSource(settings, feed).run()
    servers.nodes[0].start()
    await asyncio.to_thread(servers.wait_ready)
    async with running(NatsSource(settings, feed)):
        await feed.until(300)


async def test_a_stream_that_is_not_there_is_said(servers: NatsServers) -> None:
    with pytest.raises(SourceFaultError, match="no stream 'none'"):
        await NatsSource(NatsSettings(url(servers), "none", "d"), RememberingFeed()).run()
    wrong = NatsSettings(url(servers).replace("p%40", "x"), "one", "d")
    with pytest.raises(SourceFaultError, match=r"(?i)authorization") as raised:
        await NatsSource(wrong, RememberingFeed()).run()
    assert "x%3A" not in str(raised.value)


def test_where_the_servers_are() -> None:
    assert connection_of("nats://a:1,b") == (["nats://a:1", "nats://b:4222"], {})
    assert connection_of("nats://t@a")[1] == {"token": "t"}
    assert connection_of("tls://u:p%40@a")[1].keys() == {"user", "password", "tls"}
    with pytest.raises(SourceFaultError):
        connection_of("http://a")
    with pytest.raises(SourceFaultError):
        connection_of("nats://a:x")


def test_names_of_consumers_are_as_nats_allows_them() -> None:
    assert durable_of("a-b_1") == "a-b_1"
    assert durable_of("a.b") != durable_of("a_b")
