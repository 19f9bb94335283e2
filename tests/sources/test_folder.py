"""Objects against a model: whatever comes, is replaced, is cut off, what counts is what the objects say at the end."""

import asyncio
import contextlib
import gzip
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.sources.memory import CutOffError, MemoryFeed

from tallystick.sources import objects
from tallystick.sources.folder import FolderRunner
from tallystick.sources.interface import SourceStoppedError
from tallystick.sources.source import Source, read_source

Rows = list[tuple[int, int]]
NO_EXPLAIN = [phase for phase in Phase if phase is not Phase.explain]


def source(**settings_: object) -> Source:
    return read_source(
        {
            "key": "s",
            "kind": "folder",
            "settings": {"dir": "x", "settle_seconds": 0, **settings_},
            "mapping": {"id": "id", "type": "t", "subject": "who", "data": {"n": "n"}},
        }
    )


def body(rows: Rows, *, bad: bool = False) -> bytes:
    """A row is an id and a figure; `bad` adds one without a subject, in the middle."""
    lines = [f"r{number},acme,{n}" for number, n in rows]
    if bad:
        lines.insert(len(lines) // 2, "lost,,1")
    return ("id,who,n\n" + "\n".join(lines) + "\n").encode()


def run(feed: MemoryFeed, directory: Path, cut_at: int | None = None) -> None:
    """A process that looks once, or is cut off."""
    feed.steps, feed.cut_at = 0, cut_at
    with contextlib.suppress(SourceStoppedError, CutOffError):
        asyncio.run(FolderRunner(feed.source, feed, directory).run())
    feed.cut_at = None


contents = st.dictionaries(st.integers(0, 8), st.integers(1, 9), max_size=8)
steps = st.lists(
    st.tuples(st.sampled_from("ab"), contents, st.booleans(), st.one_of(st.none(), st.integers(1, 14))),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50, phases=NO_EXPLAIN)
@given(steps, st.booleans())
def test_what_counts_is_what_the_objects_say(
    story: list[tuple[str, dict[int, int], bool, int | None]], large: bool
) -> None:
    feed = MemoryFeed(source())
    said: dict[str, dict[int, int]] = {}
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        if large:  # every object is taken block by block
            patch.setattr(objects, "SMALL_BYTES", -1)
            patch.setattr("tallystick.sources.files.ROWS_PER_BLOCK", 3)
        directory = Path(name)
        for time, (one, rows, bad, cut_at) in enumerate(story, 1):
            # Objects of their own rows: two that say the same row are another matter.
            own = {number + 100 * "ab".index(one): n for number, n in rows.items()}
            path = directory / f"{one}.csv"
            path.write_bytes(body(list(own.items()), bad=bad))
            os.utime(path, (time, time))
            said[one] = own
            run(feed, directory, cut_at)
        run(feed, directory)
        expected = {f"r{number}": n for rows in said.values() for number, n in rows.items()}
        counted = {event["id"]: event["data"]["n"] for event in feed.events.values() if event is not None}
        assert counted == expected, (story, large, feed.parts)
        before = feed.accepted
        run(feed, directory)
        assert feed.accepted == before


def test_many_objects_some_corrupt_some_twice(tmp_path: Path) -> None:
    """2,000 here; with 10,000 it was run once (docs/decisions/0044-sources.md)."""
    count = int(os.environ.get("TALLYSTICK_TEST_OBJECTS", "2000"))
    expected = corrupt = 0
    for at in range(count):
        rows = [(3 * at + row, at % 7 + 1) for row in range(3)]
        text = body(rows, bad=at % 50 == 0)
        path = tmp_path / f"{at % 10}" / f"{at:05}.csv.gz"
        path.parent.mkdir(exist_ok=True)
        if at % 100 == 99:
            corrupt += 1
            path.write_bytes(gzip.compress(text, mtime=0)[:20] + b"\xff" * 8)
            continue
        path.write_bytes(gzip.compress(text, mtime=0))
        expected += sum(n for _, n in rows)
        if at % 20 == 0:  # the same content under another name
            (path.parent / f"{at:05}-again.csv.gz").write_bytes(gzip.compress(text, mtime=1))
    feed = MemoryFeed(source())
    run(feed, tmp_path, cut_at=5 * (count // 64))
    run(feed, tmp_path)
    assert feed.total() == expected
    assert feed.conflicts == 0
    codes = [one.code for one in feed.letters.values()]
    assert codes.count("unreadable_object") == corrupt
    # Its name again, with the same content and another time.
    again = tmp_path / "1" / "00001.csv.gz"
    again.write_bytes(again.read_bytes())
    os.utime(again, (1, 1))
    run(feed, tmp_path)
    assert feed.total() == expected


def test_links_and_hidden_files_are_none(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "x.csv").write_bytes(body([(1, 1)]))
    (inside / "x.csv").symlink_to(outside / "x.csv")
    (inside / ".hidden.csv").write_bytes(body([(2, 1)]))
    (inside / "x.csv.rejects.ndjson").write_bytes(b"{}\n")
    feed = MemoryFeed(source())
    run(feed, inside)
    assert (feed.events, feed.lag) == ({}, 0)
