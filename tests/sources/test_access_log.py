"""Logs through their rotations: every line once."""

import asyncio
import contextlib
import json
import os
import shutil
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.memory import CutOffError, MemoryFeed

from tallystick.sources.access_log import AccessLogRunner, read_combined
from tallystick.sources.interface import SourceStoppedError
from tallystick.sources.source import Source, read_source

LINE = (
    '203.0.113.7 - ada [10/Oct/2025:13:55:36 +0200] "GET /v1/things?x=1 HTTP/1.1" 200 2326 '
    '"https://example.com/" "curl/8.5 \\"q\\""'
)
MAPPING = {"type": "request", "subject": "user", "data": {"n": "bytes", "path": "path"}}


def source(form: str = "combined") -> Source:
    return read_source(
        {"key": "web", "kind": "access_log", "format": form, "settings": {"path": "x"}, "mapping": MAPPING}
    )


def line(number: int) -> str:
    return f'::1 - ada [10/Oct/2025:13:55:36 +0000] "GET /{number} HTTP/1.1" 200 {number} "-" "x"\n'


def follow(feed: MemoryFeed, path: Path, cut_at: int | None = None) -> None:
    """Until there is nothing more, or the process is cut off. Long after anything was written."""
    feed.steps, feed.cut_at = 0, cut_at
    late = max((one.stat().st_mtime for one in path.parent.iterdir()), default=0) + 60
    with contextlib.suppress(SourceStoppedError, CutOffError):
        asyncio.run(AccessLogRunner(feed.source, feed, path, now_s=lambda: late).run())
    feed.cut_at = None


def test_a_combined_line() -> None:
    assert read_combined(LINE) == {
        "remote_address": "203.0.113.7",
        "user": "ada",
        "time": "2025-10-10T11:55:36Z",
        "method": "GET",
        "path": "/v1/things",
        "query": "x=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 2326,
        "referer": "https://example.com/",
        "user_agent": 'curl/8.5 \\"q\\"',
    }
    common = '::1 - - [10/Oct/2025:13:55:36 +0000] "-" 400 -'
    assert read_combined(common) == {
        "remote_address": "::1",
        "time": "2025-10-10T13:55:36Z",
        "status": 400,
        "bytes": 0,
    }
    assert read_combined("nonsense") is None
    assert read_combined(LINE.replace("Oct", "Okt")) is None


def test_what_is_no_line_is_a_dead_letter_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text(line(1) + "nonsense\n" + line(2)[:-10])
    feed = MemoryFeed(source())
    follow(feed, path)
    assert (feed.total(), [one.raw for one in feed.letters.values()]) == (1, [b"nonsense"])
    with path.open("a") as stream:
        stream.write(line(2)[-10:])
    follow(feed, path)
    assert feed.total() == 3


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    path.write_text(
        json.dumps({"user": "ada", "bytes": 5, "path": "/", "time": "2025-10-10T00:00:00Z"}) + "\n{\n"
    )
    feed = MemoryFeed(source("json"))
    follow(feed, path)
    assert (feed.total(), len(feed.letters)) == (5, 1)


moves = st.lists(
    st.tuples(
        st.sampled_from(["write", "rename", "truncate", "write and rename"]),
        st.integers(0, 5),
        st.one_of(st.none(), st.integers(1, 8)),
    ),
    max_size=8,
)


@settings(max_examples=80)
@given(moves)
def test_every_line_once_through_rotations(story: list[tuple[str, int, int | None]]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        path = Path(name) / "access.log"
        feed = MemoryFeed(source())
        number = rotations = expected = 0
        path.touch()
        follow(feed, path)

        def write(count: int) -> None:
            nonlocal number, expected
            with path.open("a") as stream:
                for _ in range(count):
                    number += 1
                    expected += number
                    stream.write(line(number))

        def rename() -> None:
            nonlocal rotations
            if path.exists():
                rotations += 1
                for older in range(rotations, 1, -1):
                    if (one := Path(f"{path}.{older - 1}")).exists():
                        one.rename(f"{path}.{older}")
                path.rename(f"{path}.1")
                path.touch()

        for move, count, cut_at in story:
            if move == "truncate" and path.exists():
                follow(feed, path)  # what is not read before it is truncated nobody can read
                os.truncate(path, 0)
            write(count)
            follow(feed, path, cut_at)
            if "rename" in move:
                if move == "write and rename":
                    write(1)
                rename()
                follow(feed, path)
        follow(feed, path)
        assert feed.total() == expected


def test_a_log_that_was_rotated_several_times_unseen(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    feed = MemoryFeed(source())
    (tmp_path / "access.log.4").write_text(line(1000))  # was there before anybody followed
    os.utime(tmp_path / "access.log.4", (1, 1))
    path.write_text(line(1))
    os.utime(path, (10, 10))
    follow(feed, path)
    path.write_text(line(1) + line(2))
    for moment in (20, 30, 40):
        os.utime(path, (moment, moment))
        for number in (2, 1):
            if (one := Path(f"{path}.{number}")).exists():
                one.rename(f"{path}.{number + 1}")
        path.rename(f"{path}.1")
        path.write_text(line(moment))
    os.utime(path, (50, 50))
    shutil.copy(path, tmp_path / "access.log-20260101")
    (tmp_path / "access.log.bak").write_text(line(5000))
    follow(feed, path)
    assert feed.total() == 1 + 2 + 20 + 30 + 40
    follow(feed, path)
    assert feed.total() == 93
