"""The Python client: no event lost and none twice, whatever fails."""

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.sink import Sink, running

from tallystick_client import (
    AsyncClient,
    Client,
    InvalidEvent,
    Options,
    Rejection,
    SpoolFull,
    TallystickError,
)
from tallystick_client.segment import HEADER_BYTES, Segment

SOURCE = str(Path(__file__).parents[2] / "sdk" / "python" / "src")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running() as made:
        yield made


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tallystick_client")


def options(**members: Any) -> Options:
    return Options(
        **{"flush_s": 0.01, "retry_s_min": 0.005, "retry_s_max": 0.05, "timeout_s": 5.0, **members}
    )


def check(sink: Sink, ids: list[str]) -> None:
    assert set(sink.taken) == set(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("on_disk", [False, True])
def test_every_event_arrives_through_every_failure(sink: Sink, tmp_path: Path, *, on_disk: bool) -> None:
    steps = ["refuse", "lose", "cut", "429", "413", "", "403", "lose", "cut", "502", ""] * 2
    random.Random(7).shuffle(steps)
    sink.script = [(step, {"Retry-After": "0"} if step == "429" else {}) for step in steps]
    with Client(
        sink.url,
        "key",
        options=options(spool=tmp_path / "spool" if on_disk else None, batch_events_max=100),
    ) as client:
        ids = [client.track("call", f"s{n % 7}", {"n": n}) for n in range(3000)]
        assert client.flush(20)
        stats = client.stats()
    check(sink, ids)
    assert (stats.tracked, stats.accepted, stats.waiting) == (3000, 3000, 0)
    assert max(sink.taken.values()) > 1, "nothing was sent twice: the script did not bite"


def test_an_event_on_the_wire(sink: Sink) -> None:
    with Client(sink.url, "key", options=options(source="app")) as client:
        one = client.track(
            "call",
            'a"ä\n',
            {"d": Decimal("1e-3"), "at": datetime(2026, 1, 2, tzinfo=UTC), "deep": {"x": [1, None, True]}},
        )
        two = client.track("call", "s", id="mine", source="other", time="2026-01-01T00:00:00Z")
        assert client.flush(5)
    event = sink.events[one]
    assert event["subject"] == 'a"ä\n'
    assert event["source"] == "app"
    assert event["data"] == {"d": "0.001", "at": "2026-01-02T00:00:00+00:00", "deep": {"x": [1, None, True]}}
    assert abs((datetime.fromisoformat(event["time"]) - datetime.now(UTC)).total_seconds()) < 60
    assert two == "mine"
    assert sink.events["mine"] == {
        "id": "mine",
        "source": "other",
        "type": "call",
        "subject": "s",
        "time": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("arguments", "members"),
    [
        (("", "s"), {}),
        (("t", ""), {}),
        (("t", "s" * 257), {}),
        (("t", "s"), {"id": ""}),
        (("t", "s", {"x": float("nan")}), {}),
        (("t", "s", {"x": object()}), {}),
        (("t", "s", {"x": Decimal("NaN")}), {}),
        (("t", "s", {"x": "y" * 2_000_000}), {}),
        (("t", "s"), {"time": datetime(2026, 1, 1)}),  # noqa: DTZ001 -- what is tested
    ],
)
def test_what_no_server_would_take_is_told_at_once(arguments: tuple[Any, ...], members: Any) -> None:
    with Client(NOWHERE, "key") as client, pytest.raises(InvalidEvent):
        client.track(*arguments, **members)


def test_rejected_events_are_told_and_do_not_hold_up_the_rest(sink: Sink) -> None:
    sink.rejected_subject = "bad"
    told: list[Rejection] = []
    with Client(sink.url, "key", options=options(on_rejected=told.append)) as client:
        ids = [client.track("call", "bad" if n % 10 == 3 else "good", {"n": n}) for n in range(100)]
        assert client.flush(5)
        only = client.track("call", "bad")  # nothing accepted: a 422
        assert client.flush(5)
        assert client.stats().rejected == 11
    check(sink, [each for n, each in enumerate(ids) if n % 10 != 3])
    assert [each.event["id"] for each in told] == [*ids[3::10], only]
    assert told[0].code == "no"


def test_a_batch_that_is_too_large_is_split(sink: Sink) -> None:
    sink.events_max = 3
    with Client(sink.url, "key", options=options()) as client:
        ids = [client.track("call", "s", {"n": n}) for n in range(50)]
        assert client.flush(10)
    check(sink, ids)
    assert set(sink.taken.values()) == {1}


def test_retry_after_is_kept(sink: Sink) -> None:
    sink.script = [("429", {"Retry-After": "1"})]
    with Client(sink.url, "key", options=options()) as client:
        client.track("call", "s")
        assert not client.flush(0.5)
        assert sink.requests == 1
        assert client.flush(5)


def test_a_full_spool_raises_drops_or_waits(sink: Sink) -> None:
    small = {"spool_bytes_max": 2 << 20, "segment_bytes": 1 << 20}
    data = {"x": "y" * 10_000}
    with Client(NOWHERE, "key", options=options(on_full="raise", close_s_max=0, **small)) as client:

        def fill() -> None:
            for _ in range(1000):
                client.track("call", "s", data)

        with pytest.raises(SpoolFull):
            fill()
        assert 100 < client.stats().waiting < 220
    with Client(NOWHERE, "key", options=options(on_full="drop", close_s_max=0, **small)) as client:
        for _ in range(300):
            client.track("call", "s", data)
        stats = client.stats()
        assert stats.tracked + stats.dropped == 300
        assert stats.dropped > 50
    with Client(sink.url, "key", options=options(**small)) as client:
        ids = [client.track("call", "s", data) for _ in range(1000)]
        assert client.flush(20)
    check(sink, ids)


def test_many_threads(sink: Sink) -> None:
    ids: list[list[str]] = [[] for _ in range(4)]
    with Client(sink.url, "key", options=options(segment_bytes=1 << 16)) as client:

        def work(mine: list[str]) -> None:
            mine.extend(client.track("call", "s", {"n": n}) for n in range(2000))

        threads = [threading.Thread(target=work, args=(mine,)) for mine in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    check(sink, [each for mine in ids for each in mine])


_VICTIM = """
import os, signal, sys
from tallystick_client import Client, Options
client = Client(sys.argv[1], "key", options=Options(spool=sys.argv[2], segment_bytes=1 << 17, retry_s_min=0.01))
for n in range(5000):
    print(client.track("call", "s", {"n": n}))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(url: str, spool: Path) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", _VICTIM, url, str(spool)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stdout.split()


def test_what_killed_processes_left_is_sent_by_the_next(sink: Sink, tmp_path: Path) -> None:
    ids = _killed(NOWHERE, tmp_path) + _killed(sink.url, tmp_path)
    assert len(ids) == 10_000
    with Client(sink.url, "key", options=options(spool=tmp_path)) as client:
        assert client.flush(20)
        assert client.stats().damaged == 0
    check(sink, ids)
    assert list(tmp_path.iterdir()) == []


def test_what_a_closed_client_could_not_send_is_kept(sink: Sink, tmp_path: Path) -> None:
    first = Client(NOWHERE, "key", options=options(spool=tmp_path))
    ids = [first.track("call", "s") for _ in range(10)]
    first.sync()
    assert not first.close(0.05)
    with pytest.raises(SpoolFull):
        first.track("call", "s")
    with Client(sink.url, "key", options=options(spool=tmp_path)) as client:
        assert client.flush(5)
    check(sink, ids)


def test_a_living_process_keeps_its_own(sink: Sink, tmp_path: Path) -> None:
    with Client(NOWHERE, "key", options=options(spool=tmp_path, close_s_max=0)) as first:
        first.track("call", "s")
        with Client(sink.url, "key", options=options(spool=tmp_path)) as second:
            assert second.stats().waiting == 0
        assert first.stats().waiting == 1


def test_a_fork_sends_its_own_events_and_no_others(sink: Sink, tmp_path: Path) -> None:
    code = """
import os, sys
from tallystick_client import Client, Options
client = Client(sys.argv[1], "key", options=Options(spool=sys.argv[2], flush_s=0.5))
client.track("call", "parent", id="p1")
child = os.fork()
client.track("call", "child" if child == 0 else "parent", id="c" if child == 0 else "p2")
print("id", client._core.maker.new_id(), flush=True)
if child:
    os.waitpid(child, 0)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, sink.url, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sink.taken == {"p1": 1, "p2": 1, "c": 1}
    assert len(set(ended.stdout.split())) == 3, "parent and child make the same ids"


def test_a_machine_that_went_down_leaves_holes_and_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "1.ndjson"
    segment = Segment.new(path, 65_536)
    lines = [b'{"id":"%d"}\n' % n for n in range(1000)]
    for line in lines:
        segment.append(line)
    segment.acknowledge(sum(map(len, lines[:10])), 10)
    segment.close()
    content = bytearray(path.read_bytes())
    written = HEADER_BYTES + sum(map(len, lines))
    content[4096:8192] = bytes(4096)  # a page that never got there
    content[written - 3 : written] = bytes(3)  # a line cut off
    path.write_bytes(content)
    found, damaged = Segment.left(path)
    kept = b""
    while piece := found.batch(100, 1000):
        kept += piece
        found.acknowledge(len(piece), piece.count(b"\n"))
    found.close()
    got = kept.splitlines(keepends=True)
    assert set(got) < set(lines[10:])
    whole, at = [], HEADER_BYTES
    for line in lines:
        if at + len(line) <= 4096 or (at >= 8192 and at + len(line) < written):
            whole.append(line)
        at += len(line)
    assert got == whole[10:]
    assert damaged >= 1
    again, _ = Segment.left(path)
    assert again.lines == 0
    again.close()
    # a mark that was being written when the end came: from the front again
    content[19:39] = b"0000000000000000007" + b"\0"
    path.write_bytes(content)
    found, _ = Segment.left(path)
    assert found.lines == len(whole)
    found.close()


def test_what_is_no_segment_is_put_aside(sink: Sink, tmp_path: Path) -> None:
    other = tmp_path / "1-dead"
    other.mkdir()
    (other / "lock").touch()
    (other / "x.ndjson").write_bytes(b"something else" * 100)
    with Client(sink.url, "key", options=options(spool=tmp_path)) as client:
        client.track("call", "s")
        assert client.flush(5)
    assert sink.taken.total() == 1


def test_asyncio(sink: Sink) -> None:
    async def main() -> list[str]:
        small = {"spool_bytes_max": 2 << 20, "segment_bytes": 1 << 20}
        async with AsyncClient(sink.url, "key", options=options(**small)) as client:
            ids = [await client.track("call", "s", {"x": "y" * 5000}) for _ in range(1000)]
            assert await client.flush(10)
            assert client.stats().accepted == 1000
            return ids

    check(sink, asyncio.run(main()))


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://h?x=1", "localhost:80"])
def test_an_address_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLYSTICK_URL", raising=False)
    with pytest.raises(TallystickError):
        Client(url)


def test_options_out_of_range_are_all_named() -> None:
    with pytest.raises(TallystickError, match=r"flush_s.*on_full.*source"):
        Options(flush_s=0, on_full="x", source="")  # type: ignore[arg-type]
