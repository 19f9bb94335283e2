"""The log on JetStream: the contract on one server and on three, and what can happen to a stream."""

import asyncio
import contextlib
import itertools
import json
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.cut import Cable
from tests.cluster.nats import NatsServers
from tests.log.contract import LARGE, LogContract, OpenLog, read_all
from tests.log.events import events_of, ids_read, numbered, rows_put_in, rows_read

from tallystick.errors import Invalid, StorageFull, Unavailable
from tallystick.log import fetcher, jetstream, nats_config, nats_connection, publisher
from tallystick.log import message as messages
from tallystick.log.interface import LogDamagedError, LogTrimmedError
from tallystick.log.jetstream import JetStreamLog
from tallystick.log.nats_stream import Ack
from tallystick.log.nats_url import NatsUrl
from tallystick.log.tally import EventTally

_streams = itertools.count()


def new_stream() -> str:
    return f"test{next(_streams)}"


async def open_at(url: str, **options: Any) -> JetStreamLog:
    return await JetStreamLog.open(
        url, **({"waiting_events_max": LARGE, "unrecorded_events_max": LARGE} | options)
    )


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[JetStreamLog]:
    log = await open_at(url, **options)
    try:
        yield log
    finally:
        await log.close()


@pytest.fixture(scope="module")
def one_node(fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    with servers_in(fast_directory, tmp_path_factory, count=1) as servers:
        yield servers


@pytest.fixture(scope="module")
def three_nodes(
    fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsServers]:
    with servers_in(fast_directory, tmp_path_factory, count=3) as servers:
        yield servers


@contextlib.contextmanager
def servers_in(
    fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory, **options: Any
) -> Iterator[NatsServers]:
    base = fast_directory or tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(prefix="tallystick-test-", dir=base) as directory:
        servers = NatsServers.start(Path(directory), **options)
        try:
            yield servers
        finally:
            servers.stop()


class JetStreamContract(LogContract):
    @pytest.fixture
    async def open_log(self, servers: NatsServers) -> AsyncIterator[OpenLog]:
        stream = new_stream()
        logs: list[JetStreamLog] = []

        async def open_log(
            *, waiting_events_max: int = LARGE, unrecorded_events_max: int = LARGE
        ) -> JetStreamLog:
            log = await open_at(
                servers.url(stream),
                waiting_events_max=waiting_events_max,
                unrecorded_events_max=unrecorded_events_max,
            )
            logs.append(log)
            return log

        yield open_log
        for log in logs:
            await log.close()


class TestOneNode(JetStreamContract):
    @pytest.fixture
    def servers(self, one_node: NatsServers) -> NatsServers:
        return one_node


@pytest.mark.slow
class TestThreeNodes(JetStreamContract):
    @pytest.fixture
    def servers(self, three_nodes: NatsServers) -> NatsServers:
        return three_nodes


# Positions and messages.


def test_the_last_event_of_a_message_has_the_last_of_its_positions() -> None:
    assert messages.end_of(0) == 0
    assert messages.end_of(1) == 2**15 - 1
    assert messages.positions_of(3, 2).tolist() == [2**16 - 2, 2**16 - 1]
    assert messages.positions_of(1, messages.ROWS_MAX)[0] == 2**14
    assert messages.end_of(messages.SEQUENCE_MAX) < 2**52


@given(sequence=st.integers(0, 2**37), within=st.integers(0, 2**14 - 2))
def test_reading_behind_a_position_begins_with_the_right_message(sequence: int, within: int) -> None:
    assert messages.sequence_behind(messages.end_of(sequence)) == sequence + 1
    if sequence:
        assert messages.sequence_behind((sequence << 14) + within) == sequence


def sealed(count: int = 3, *, partition: int = 5) -> bytes:
    body = messages.blocks.encode(messages.blocks.batch_of([numbered(0, count)]))
    return messages.seal(body, rows=count, partition=partition)


def test_a_message_comes_out_as_it_went_in() -> None:
    block = messages.unseal(sealed(), sequence=9, partition=5)
    assert rows_read([block]) == rows_put_in(numbered(0, 3))
    assert (block.first, block.last) == (10 * 2**14 - 3, 10 * 2**14 - 1)


@given(data=st.data())
def test_a_changed_message_is_noticed(data: st.DataObject) -> None:
    whole = sealed()
    place = data.draw(st.integers(0, len(whole) - 1).filter(lambda each: each != 3))  # byte 3 means nothing
    value = data.draw(st.integers(0, 255).filter(lambda each: each != whole[place]))
    changed = whole[:place] + bytes([value]) + whole[place + 1 :]
    with pytest.raises(ValueError, match=r"it|format"):
        messages.unseal(changed, sequence=1, partition=5)
    with pytest.raises(ValueError, match="it"):
        messages.unseal(whole[:place], sequence=1, partition=5)


@given(
    told=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 100)), max_size=40),
    start=st.integers(0, 10),
    bounds=st.tuples(st.integers(0, 150), st.integers(0, 150)),
)
def test_events_between_messages(told: list[tuple[int, int]], start: int, bounds: tuple[int, int]) -> None:
    tally = EventTally(start)
    sequence = start
    exact: dict[int, int] = {}
    for step, rows in told:
        sequence += step
        exact[sequence] = rows
        tally.told(sequence, rows)
    after, through = sorted(max(start, min(sequence, each)) for each in bounds)
    if all(step == 1 for step, _ in told):
        expected = sum(rows for each, rows in exact.items() if after < each <= through)
        assert tally.between(after, through) == expected
    else:
        between = tally.between(after, through)
        assert 0 <= between <= 100 * (through - after)
        assert between >= tally.between(after, max(after, through - 1))
    assert tally.between(through, through) == 0


def test_a_tally_of_many_messages_stays_small() -> None:
    tally = EventTally(0)
    for sequence in range(1, 50_001):
        tally.told(sequence, 1 + sequence % 9)
    assert len(tally._sequences) <= 8192  # pyright: ignore[reportPrivateUsage]
    assert abs(tally.between(0, 50_000) - 5 * 50_000) < 100
    tally.forget_through(49_999)
    assert tally.between(50_000, 50_010) == 50


# The URL.


def test_a_url_says_everything() -> None:
    read = NatsUrl.read(
        "nats://ann:s%40crt@one:4333,two,[::1]:4444/?stream=log_a&replicas=5&monitor=http://one:8222,http://two:8222"
    )
    assert read.servers == ("nats://one:4333", "nats://two:4222", "nats://[::1]:4444")
    assert (read.stream, read.replicas, read.user, read.password) == ("log_a", 5, "ann", "s@crt")
    assert read.monitors == ("http://one:8222", "http://two:8222")
    assert "crt" not in repr(read)
    assert NatsUrl.read("nats://one").replicas == 1
    assert NatsUrl.read("nats://one,two,three").replicas == 3
    assert NatsUrl.read("tls://t0ken@one").token == "t0ken"
    assert NatsUrl.read("tls://one").tls_context() is not None
    assert NatsUrl.read("nats://one").tls_context() is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://one", ["nats://"]),
        ("nats://", ["host:port"]),
        ("nats://one:port/", ["host:port"]),
        ("nats://one/?replicas=2&stream=a.b&colour=red", ["1, 3 or 5", "a.b", "colour"]),
        ("nats://one/?certificate=a.pem", ["belong together"]),
        ("nats://one/?stream=a&stream=b", ["twice"]),
    ],
)
def test_a_wrong_url_is_refused_with_all_its_faults(url: str, words: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        NatsUrl.read(url)
    assert all(word in refused.value.detail for word in words)
    assert len(refused.value.faults) == len(words)


# The stream.


@pytest.mark.anyio
async def test_one_request_larger_than_a_message_is_stored_in_order(one_node: NatsServers) -> None:
    async with opened(one_node.url(new_stream())) as log:
        large = events_of([str(number) for number in range(40_000)])
        positions = await log.append(large)
        assert len(positions) == 40_000
        assert bool(np.all(positions[1:] > positions[:-1]))
        found = await read_all(log, events_max=10_000)
        assert len(found) >= 3
        assert ids_read(found) == large.id
        assert [each for block in found for each in range(block.first, block.last + 1)] == positions.tolist()


@pytest.mark.anyio
async def test_incompressible_events_are_cut_where_a_message_is_full(
    fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    noise = np.random.default_rng(1)
    with servers_in(fast_directory, tmp_path_factory, max_payload=64 * 1024) as servers:
        async with opened(servers.url()) as log:
            events = events_of([str(n) for n in range(40)], data=[noise.bytes(9_000) for _ in range(40)])
            too_large = events_of(["large"], data=[noise.bytes(70_000)])
            stored, refused, after = await asyncio.gather(
                log.append(events), log.append(too_large), log.append(numbered(0)), return_exceptions=True
            )
            assert len(stored) == 40  # type: ignore[arg-type]
            assert isinstance(refused, Invalid)
            assert "max_payload" in refused.detail
            assert len(after) == 1  # type: ignore[arg-type]
            assert rows_read(await read_all(log)) == rows_put_in(events) + rows_put_in(numbered(0))


@pytest.mark.anyio
async def test_several_processes_append_and_read_one_partition(one_node: NatsServers) -> None:
    url = one_node.url(new_stream())
    async with opened(url) as first, opened(url) as second, opened(url) as reader:
        acknowledged: dict[str, int] = {}

        async def write(log: JetStreamLog, name: str) -> None:
            for number in range(60):
                request = events_of([f"{name}-{number}-{row}" for row in range(1 + number % 3)])
                positions = await log.append(request)
                acknowledged.update(zip(request.id, positions.tolist(), strict=True))

        seen: dict[str, int] = {}

        async def follow() -> None:
            after = 0
            while len(seen) < 4 * 120:
                assert await reader.wait_for(after, timeout_s=30)
                before = dict(acknowledged)
                for block in await reader.read(after, events_max=50):
                    assert block.first > after
                    seen.update(zip(ids_read([block]), range(block.first, block.last + 1), strict=True))
                    after = block.last
                assert all(seen[each] == at for each, at in before.items() if at <= after)

        await asyncio.gather(
            follow(), *(write(log, f"{name}{log is first}") for log in (first, second) for name in "ab")
        )
        assert seen == acknowledged
        assert list(seen.values()) == sorted(seen.values())
        assert reader.behind(0) == len(seen)


@pytest.mark.anyio
async def test_what_another_process_trims_counts_as_recorded_here(
    one_node: NatsServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "_POLL_S", 0.02)
    url = one_node.url(new_stream())
    async with opened(url, unrecorded_events_max=10) as writer, opened(url) as recorder:
        await writer.append(numbered(0, 12))
        with pytest.raises(Unavailable) as refused:
            await writer.append(numbered(12))
        assert refused.value.code == "recorder_behind"
        assert await recorder.wait_for(0, timeout_s=30)
        await recorder.trim(recorder.end)
        async with asyncio.timeout(30):
            while writer.trimmed_through < writer.end:
                await asyncio.sleep(0.01)
        await writer.append(numbered(12))
        with pytest.raises(LogTrimmedError):
            await writer.read(0, events_max=1)


@pytest.mark.anyio
async def test_a_reader_that_lags_behind_a_trim_is_told(one_node: NatsServers) -> None:
    url = one_node.url(new_stream())
    async with opened(url) as reader, opened(url) as recorder:
        for number in range(4):
            await recorder.append(numbered(number))
        assert await reader.wait_for(messages.end_of(3), timeout_s=30)
        await recorder.trim(messages.end_of(2))
        with pytest.raises(LogTrimmedError, match=str(messages.end_of(2))):
            await reader.read(0, events_max=1)
        assert ids_read(await read_all(reader, messages.end_of(2))) == ["2", "3"]


@pytest.mark.anyio
async def test_a_message_that_is_no_block_is_named(one_node: NatsServers) -> None:
    stream = new_stream()
    async with opened(one_node.url(stream)) as log:
        await log.append(numbered(0))
        client = await nats.connect(f"nats://127.0.0.1:{one_node.nodes[0].port}")
        await client.request(f"{stream}.log.0", b"somebody else's")
        await client.close()
        await log.append(numbered(1))
        found = await log.read(0, events_max=1)
        assert ids_read(found) == ["0"]
        with pytest.raises(LogDamagedError, match=r"32768 to 49151 \(message 2 of the stream"):
            await log.read(found[-1].last, events_max=LARGE)
        assert ids_read(await log.read(messages.end_of(2), events_max=LARGE)) == ["1"]


@pytest.mark.anyio
async def test_a_message_that_is_missing_is_named(
    one_node: NatsServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(one_node.url(new_stream())) as log:
        for number in range(3):
            await log.append(numbered(number))
        fetch = log._stream.fetch

        async def without_the_second(*arguments: Any, **options: Any) -> list[Any]:
            return [each for each in await fetch(*arguments, **options) if each.sequence != 2]

        monkeypatch.setattr(log._stream, "fetch", without_the_second)
        assert ids_read(await log.read(0, events_max=1)) == ["0"]
        with pytest.raises(LogDamagedError, match=r"message 2 .* missing"):
            await log.read(messages.end_of(1), events_max=1)
        assert ids_read(await log.read(messages.end_of(2), events_max=1)) == ["2"]


@pytest.mark.anyio
async def test_a_publish_whose_acknowledgement_was_lost_is_one_message(
    one_node: NatsServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_ATTEMPT_S", 0.1)
    async with opened(one_node.url(new_stream())) as log:
        lost: set[str] = set()
        arrived = log._publisher.ack_arrived

        def lose_the_first(token: str, outcome: Ack | Exception) -> None:
            if token in lost:
                assert isinstance(outcome, Ack)
                assert outcome.is_duplicate
                arrived(token, outcome)
            lost.add(token)

        monkeypatch.setattr(log._stream, "_on_ack", lose_the_first)
        for number in range(3):
            positions = await log.append(numbered(number * 2, 2))
            assert positions.tolist() == messages.positions_of(number + 1, 2).tolist()
        assert len(lost) == 3
        assert ids_read(await read_all(log)) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.anyio
@pytest.mark.parametrize("held", [0, 1, 4])
async def test_positions_given_before_are_never_given_again(one_node: NatsServers, held: int) -> None:
    """The stream was lost, or replaced by an older copy, while events up to message 3 are recorded."""
    url = one_node.url(new_stream())
    if held:
        async with opened(url) as log:
            for number in range(held):
                await log.append(numbered(number))
    recorded = messages.end_of(3)
    async with opened(url, positions_after=recorded) as log:
        assert log.end == messages.end_of(max(held, 3))
        assert log.trimmed_through == (recorded if held < 3 else 0)
        assert await log.append(numbered(held)) == messages.end_of(max(held, 3) + 1)
    async with opened(url) as log:
        assert log.end == messages.end_of(max(held, 3) + 1)
        assert ids_read(await read_all(log, log.end - 1)) == [str(held)]


async def api(servers: NatsServers, what: str, body: dict[str, object] | None = None) -> dict[str, Any]:
    client = await nats.connect(f"nats://127.0.0.1:{servers.nodes[0].port}")
    answer = await client.request(f"$JS.API.{what}", json.dumps(body or {}).encode(), timeout=5)
    await client.close()
    return json.loads(answer.data)


@pytest.mark.anyio
async def test_a_stream_deleted_and_made_anew_is_noticed(
    one_node: NatsServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "_POLL_S", 0.02)
    stream = new_stream()
    async with opened(one_node.url(stream), publish_s_max=0.2) as log:
        await log.append(numbered(0))
        await api(one_node, f"STREAM.DELETE.{stream}-0")
        with pytest.raises(Unavailable):
            await log.append(numbered(1))
        async with asyncio.timeout(30):
            while not log._is_missing:
                await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="does not exist any more"):
            await log.append(numbered(1))
        async with opened(one_node.url(stream)) as other:  # somebody who did not know better
            await other.append(numbered(1))
            async with asyncio.timeout(30):
                while log._fault is None:
                    await asyncio.sleep(0.01)
        with pytest.raises(LogDamagedError, match="not the one that was opened"):
            await log.append(numbered(2))
        with pytest.raises(LogDamagedError):
            await log.read(0, events_max=1)


@pytest.mark.anyio
async def test_a_stream_made_anew_is_noticed_by_its_first_acknowledgement(one_node: NatsServers) -> None:
    stream = new_stream()
    async with opened(one_node.url(stream)) as log:
        for number in range(3):
            await log.append(numbered(number))
        config = (await api(one_node, f"STREAM.INFO.{stream}-0"))["config"]
        await api(one_node, f"STREAM.DELETE.{stream}-0")
        await api(one_node, f"STREAM.CREATE.{stream}-0", config)
        with pytest.raises(LogDamagedError, match=r"Message 1 .* was given anew"):
            await log.append(numbered(3))
        with pytest.raises(LogDamagedError):
            await log.append(numbered(4))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_age": 10**9 * 3600, "duplicate_window": 120 * 10**9}, "max_age"),
        ({"storage": "memory"}, "storage=memory"),
        ({"discard": "old"}, "discard=old"),
        ({"metadata": {}}, "not an event log"),
        ({"allow_direct": False}, "allow_direct"),
    ],
)
async def test_a_stream_that_could_lose_events_is_refused(
    one_node: NatsServers, changed: dict[str, object], words: str
) -> None:
    stream = new_stream()
    async with opened(one_node.url(stream)):
        config = (await api(one_node, f"STREAM.INFO.{stream}-0"))["config"]
    await api(one_node, f"STREAM.DELETE.{stream}-0")
    assert "error" not in await api(one_node, f"STREAM.CREATE.{stream}-0", config | changed)
    with pytest.raises(Invalid, match=words):
        await open_at(one_node.url(stream))


@pytest.mark.anyio
async def test_a_stream_of_another_partition_is_refused(one_node: NatsServers) -> None:
    stream = new_stream()
    async with opened(one_node.url(stream), partition=1) as log:
        await log.append(numbered(0))
    config = (await api(one_node, f"STREAM.INFO.{stream}-1"))["config"]
    other = {"name": f"{stream}-2", "subjects": [f"{stream}.log.2"]}
    republish = {"republish": {"src": f"{stream}.log.2", "dest": f"{stream}.stored.2"}}
    assert "error" not in await api(one_node, f"STREAM.CREATE.{stream}-2", config | other | republish)
    with pytest.raises(LogDamagedError, match="partition 1, not 2"):
        await open_at(one_node.url(stream), partition=2)


@pytest.mark.anyio
async def test_more_replicas_than_servers_are_refused_in_words(one_node: NatsServers) -> None:
    with pytest.raises(Invalid, match="replicas=3"):
        await open_at(one_node.url(new_stream(), replicas=3), open_s_max=1)


@pytest.mark.anyio
async def test_a_login_is_needed_where_the_server_wants_one(
    fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with servers_in(fast_directory, tmp_path_factory, user="ann", password="secret") as servers:
        async with opened(servers.url()) as log:
            await log.append(numbered(0))
        servers.password = "wrong"
        with pytest.raises(Invalid, match="does not let us in") as refused:
            await open_at(servers.url(), open_s_max=1)
        assert "wrong" not in refused.value.detail


@pytest.mark.anyio
async def test_nobody_there(fast_directory: Path | None) -> None:
    with pytest.raises(Unavailable, match="no NATS server answers") as refused:
        await open_at("nats://127.0.0.1:1", open_s_max=0.2)
    assert refused.value.retry_after_s == 5


@pytest.mark.anyio
async def test_servers_that_do_not_sync_are_refused(
    one_node: NatsServers, fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monitor = f"http://127.0.0.1:{one_node.nodes[0].monitor_port}"
    async with opened(one_node.url(new_stream(), monitor=monitor)):
        pass
    with servers_in(fast_directory, tmp_path_factory, sync_interval="2m") as servers:
        monitor = f"http://127.0.0.1:{servers.nodes[0].monitor_port}"
        with pytest.raises(Invalid, match="sync_interval: always"):
            await open_at(servers.url(monitor=monitor))
    with pytest.raises(Unavailable, match="monitoring"):
        await open_at(one_node.url(new_stream(), monitor="http://127.0.0.1:1"))


@pytest.mark.anyio
async def test_full_servers_refuse_and_go_on_when_there_is_room(
    fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    noise = np.random.default_rng(1)
    with servers_in(fast_directory, tmp_path_factory, max_file_store="2MB") as servers:
        async with opened(servers.url()) as log:
            stored: list[str] = []
            refused: StorageFull | None = None
            while refused is None and len(stored) < 100:
                try:
                    await log.append(events_of([str(len(stored))], data=[noise.bytes(100_000)]))
                    stored.append(str(len(stored)))
                except StorageFull as error:
                    refused = error
            assert stored
            assert refused is not None
            assert "make room" in refused.detail
            assert ids_read(await read_all(log)) == stored
            await log.trim(log.end)
            await log.append(numbered(1))


# Servers that die. Each test has servers of its own.


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_killed_server_comes_back_with_everything(tmp_path: Path) -> None:
    servers = NatsServers.start(tmp_path)
    try:
        async with opened(servers.url()) as log:
            await log.append(numbered(0, 10))
            for emptied in (False, True):
                if emptied:
                    await log.trim(log.end)
                end = log.end
                servers.nodes[0].kill()
                waiting = asyncio.ensure_future(log.append(numbered(10)))
                await asyncio.sleep(0.3)
                assert not waiting.done()
                servers.nodes[0].start()
                assert (await waiting).tolist() == [end + 2**14]
                assert log.trimmed_through == (end if emptied else 0)
            assert ids_read(await read_all(log, log.trimmed_through)) == ["10"]
    finally:
        servers.stop()


class Load:
    """Ten writers that send again what was refused, as a client does, and remember where each event was stored."""

    def __init__(self, log: JetStreamLog) -> None:
        self.log = log
        self.acknowledged: dict[str, int] = {}
        self.refused: set[str] = set()
        self.longest_s = 0.0
        self._stopping = False
        self._last_s = asyncio.get_running_loop().time()

    async def write(self, writer: int) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            if self._stopping:
                return
            request = events_of([f"{writer}-{number}-{row}" for row in range(1 + number % 5)])
            while not self._stopping:
                try:
                    positions = await self.log.append(request)
                except Unavailable:
                    self.refused.update(request.id)
                    await asyncio.sleep(0.05)
                else:
                    self.acknowledged.update(zip(request.id, positions.tolist(), strict=True))
                    self.longest_s = max(self.longest_s, loop.time() - self._last_s)
                    self._last_s = loop.time()
                    break

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        writers = [asyncio.ensure_future(self.write(number)) for number in range(10)]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*writers)

    async def more(self, count: int = 50) -> None:
        """Until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(60):
            while len(self.acknowledged) < wanted:
                await asyncio.sleep(0.01)

    async def check(self) -> None:
        """Every acknowledged event lies where it was said to, and what was never refused lies there once."""
        places: dict[str, list[int]] = {}
        for block in await read_all(self.log, events_max=10_000):
            for each, position in zip(ids_read([block]), range(block.first, block.last + 1), strict=True):
                places.setdefault(each, []).append(position)
        for each, position in self.acknowledged.items():
            assert position in places[each]
            assert len(places[each]) == 1 or each in self.refused
        assert set(places) - set(self.acknowledged) <= self.refused


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_leader_killed_and_frozen_under_load(tmp_path: Path) -> None:
    servers = NatsServers.start(tmp_path, count=3)
    try:
        async with opened(servers.url()) as log:
            load = Load(log)
            async with load.running():
                await load.more()
                leader = servers.leader("tallystick-0")
                leader.kill()
                await load.more()
                leader.start()
                await load.more()
                await asyncio.to_thread(servers.wait_ready)
                frozen = servers.leader("tallystick-0")
                frozen.freeze()
                await load.more()
                frozen.thaw()
                await load.more()
            await load.check()
            assert load.longest_s < publisher.PUBLISH_S_MAX
            assert not load.refused
    finally:
        servers.stop()


@pytest.mark.slow
@pytest.mark.anyio
async def test_without_a_quorum_everything_is_refused_and_then_goes_on(tmp_path: Path) -> None:
    servers = NatsServers.start(tmp_path, count=3)
    try:
        async with opened(servers.url(), publish_s_max=2) as log:
            load = Load(log)
            async with load.running():
                await load.more()
                for node in servers.nodes[:2]:
                    node.kill()
                async with asyncio.timeout(30):
                    while not load.refused:
                        await asyncio.sleep(0.05)
                stored = len(load.acknowledged)
                await asyncio.sleep(1)
                assert len(load.acknowledged) == stored
                for node in servers.nodes[:2]:
                    node.start()
                await load.more()
            await load.check()
    finally:
        servers.stop()


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_client_whose_server_freezes_goes_to_another(tmp_path: Path) -> None:
    servers = NatsServers.start(tmp_path, count=3)
    try:
        async with opened(servers.url()) as log:
            await log.append(numbered(0))
            server = log._stream.connection.server
            mine = next(node for node in servers.nodes if server == f"127.0.0.1:{node.port}")
            mine.freeze()
            assert len(await log.append(numbered(1))) == 1
            assert ids_read(await read_all(log)) == ["0", "1"]
            mine.thaw()
    finally:
        servers.stop()


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_client_whose_server_is_cut_off_from_the_others_goes_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        nats_connection.random, "randrange", lambda count: 0
    )  # the URL's first is tried first
    monkeypatch.setattr(jetstream, "_MOVE_S", 1.0)
    servers = NatsServers.start(tmp_path, count=3)
    try:
        url = servers.url()
        async with opened(url) as log:
            await log.append(numbered(0))
        servers.nodes[0].isolate()
        async with opened(url) as log:
            assert ids_read(await read_all(log)) == ["0"]
            await log.append(numbered(1))
            assert log._stream.connection.server != f"127.0.0.1:{servers.nodes[0].port}"
    finally:
        servers.stop()


@pytest.mark.anyio
async def test_frequent_trims_are_one_purge(one_node: NatsServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "_POLL_S", 0.05)
    monkeypatch.setattr(jetstream, "_TRIM_PAUSE_S", 3600)
    async with opened(one_node.url(new_stream())) as log:
        purges: list[int] = []
        purge = log._stream.purge

        async def counted(*, before: int) -> None:
            purges.append(before)
            await purge(before=before)

        monkeypatch.setattr(log._stream, "purge", counted)
        for number in range(5):
            await log.append(numbered(number))
            await log.trim(log.end)
        async with asyncio.timeout(30):
            while log.trimmed_through < log.end:
                await asyncio.sleep(0.01)
        assert purges[0] == 2
        assert purges[-1] == 6
        assert log.behind(log.end) == 0


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("count", [1, 3])
async def test_a_cut_between_client_and_servers_under_load(tmp_path: Path, count: int) -> None:
    """Acknowledgements are lost on the way, messages arrive late and twice."""
    choose = random.Random(count)
    servers = NatsServers.start(tmp_path, count=count)
    cables = [Cable(node.port) for node in servers.nodes]
    try:
        async with opened(servers.url(ports=[cable.port for cable in cables])) as log:
            load = Load(log)
            async with load.running():
                await load.more()
                for _ in range(6):
                    for cable in cables:
                        choose.choice([cable.cut, cable.drop])()
                    await asyncio.sleep(choose.choice([0.1, 0.5, 3.0]))
                    for cable in cables:
                        cable.mend()
                    await load.more()
            await load.check()
    finally:
        for cable in cables:
            cable.close()
        servers.stop()


def test_no_constant_contradicts_another() -> None:
    assert publisher.PUBLISH_S_MAX * 2 < nats_config.DUPLICATE_WINDOW_S
    assert fetcher.BUFFER_BYTES_MAX > 8 * 1024**2
