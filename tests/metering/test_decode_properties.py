"""The fast way and the exact way say the same, and repeated keys are found exactly."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallystick.errors import TallystickError
from tallystick.metering.decode import Decoded, Limits, decode
from tallystick.metering.instant import instant_us
from tallystick.metering.json_text import depth_of, duplicate_key, members_at_most
from tallystick.metering.verdict import EVENT_CODES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW_US = 1_767_225_600_000_000
LIMITS = Limits(events_max=50, event_bytes_max=200, depth_max=3, future_tolerance_us=3_600_000_000)


class Members(list[tuple[str, Any]]):
    """A JSON object as it is written: keys in order, repeated ones too."""


def write(value: Any, draw: Any) -> str:
    """JSON text of a value, with blanks and escapes where they may be."""
    blank = draw(st.sampled_from(["", "", "", " ", "\t"]))
    if isinstance(value, Members):
        members = (f"{write(key, draw)}{blank}:{write(one, draw)}" for key, one in value)
        return "{" + ",".join(members) + blank + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(one, draw) for one in value) + "]"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        if value == "id" and draw(st.integers(0, 9)) == 0:
            text = '"\\u0069d"'
        return blank + text
    return str(value.raw) if isinstance(value, Literal) else json.dumps(value)


class Literal:
    def __init__(self, raw: str) -> None:
        self.raw = raw

    def __repr__(self) -> str:
        return self.raw


TEXTS = st.sampled_from(["a", "b", "", ":", '":', " :", "{[", "\\", "é", "😀", "x\ny", "\0"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
KEYS = st.sampled_from(["a", "b", "c", "", ":", '":', "é"])
NUMBERS = st.sampled_from(["0", "-1", "1.5", "1e400", "-0.0", "9" * 40]).map(Literal)
SCALARS = NUMBERS | TEXTS | st.sampled_from([None, True, False])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4).map(Members),
    max_leaves=8,
)
OBJECTS = st.lists(st.tuples(KEYS, VALUES), max_size=4).map(Members)
FLAT = st.dictionaries(KEYS, SCALARS, max_size=4).map(lambda members: Members(members.items()))
TIMES = st.sampled_from(
    [
        "2025-01-01T00:00:00Z",
        "2025-12-31T23:59:60Z",
        "2025-06-30T12:00:00.123456789+05:45",
        "2025-01-01t00:00:00.5z",
        "2025-01-01 00:00:00Z",
        "2025-01-01T00:00Z",
        "2025-01-01T00:00:00+0100",
        "1969-01-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ]
)


@st.composite
def events(draw: Any, *, good: bool = False) -> Members:
    def usual(strategy: Any, otherwise: Any) -> Any:
        return draw(strategy if good or draw(st.integers(0, 15)) else otherwise)

    members: list[tuple[str, Any]] = [
        (name, usual(st.sampled_from(["a", "b:", "é"]), VALUES))
        for name in ("id", "type", "subject")
        if good or draw(st.integers(0, 20))
    ]
    optional: dict[str, Any] = {
        "source": (st.sampled_from(["/", "/x"]), VALUES),
        "time": (
            TIMES.filter(lambda time: time[4:] == "-01-01T00:00:00Z" and time[:4] == "2025"),
            TIMES | VALUES,
        ),
        "data": (FLAT | OBJECTS if not good else FLAT, VALUES),
        "specversion": (st.just("1.0"), VALUES),
        "datacontenttype": (st.just("application/json"), VALUES),
    }
    for name, (likely, otherwise) in optional.items():
        if draw(st.booleans()):
            members.append((name, usual(likely, otherwise)))
    if not good and draw(st.integers(0, 15)) == 0:
        members.append((draw(st.sampled_from(["id", "data", "ext", "data_base64", "source"])), draw(VALUES)))
    return Members(draw(st.permutations(members)))


def outcome(body: bytes, content_type: str, *, fast: bool, limits: Limits = LIMITS) -> object:
    try:
        decoded = decode(
            body,
            content_type=content_type,
            ce_headers={},
            tenant="t",
            received_at_us=NOW_US,
            limits=limits,
            fast=fast,
        )
    except TallystickError as error:
        return type(error), error.code, error.detail
    return comparable(decoded)


def comparable(decoded: Decoded) -> object:
    columns = {name: getattr(decoded.events, name) for name in decoded.events.__dataclass_fields__}
    arrays = {
        name: (value.dtype, value.tolist())
        for name, value in columns.items()
        if isinstance(value, np.ndarray)
    }
    return columns | arrays, decoded.rejected, decoded.indices


@settings(max_examples=120, deadline=None)
@given(st.data(), st.lists(events(), max_size=4), st.sampled_from([1, 12]))
def test_fast_and_exact_agree_on_json(data: Any, batch: list[Members], times: int):
    texts = [write(one, data.draw) for one in batch] * times  # many: times are then read through Arrow
    array = ("[" + ",".join(texts) + "]").encode()
    assert outcome(array, "application/json", fast=True) == outcome(array, "application/json", fast=False)
    lines = "\n".join(texts).encode()
    assert outcome(lines, "application/x-ndjson", fast=True) == outcome(
        lines, "application/x-ndjson", fast=False
    )
    for text in texts[:1]:
        one = text.encode()
        assert outcome(one, "application/json", fast=True) == outcome(one, "application/json", fast=False)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.lists(events(good=True), min_size=1, max_size=4))
def test_good_events_are_accepted_and_arrays_and_lines_are_the_same(data: Any, batch: list[Members]):
    texts = [write(one, data.draw) for one in batch]
    array = outcome(("[" + ",".join(texts) + "]").encode(), "application/json", fast=True)
    assert array == outcome("\n".join(texts).encode(), "application/x-ndjson", fast=True)
    assert isinstance(array, tuple)
    _, rejected, indices = array
    assert (rejected, indices) == ([], None)


CELLS = st.sampled_from(
    ["", "a", "1", "-1.50", "007", "1e400", "2025-01-01T00:00:00Z", "é", 'x"y', "a,b", "x\0"]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["id", "type", "subject", "source", "time", "x", "y"]), unique=True, min_size=1),
    st.lists(st.lists(CELLS, min_size=7, max_size=7), max_size=40),
    st.integers(0, 20),
)
def test_fast_and_exact_agree_on_csv(names: list[str], rows: list[list[str]], ragged: int):
    def line(cells: list[str]) -> str:
        return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)

    lines = [line(names)] + [line(row[: len(names) - (place == ragged)]) for place, row in enumerate(rows)]
    body = "\n".join(lines).encode()
    assert outcome(body, "text/csv", fast=True) == outcome(body, "text/csv", fast=False)


def repeated_keys(text: str) -> list[str]:
    """The oracle: every key that is there twice in one object."""
    found: list[str] = []

    def look(members: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in members]
        found.extend({key for key in keys if keys.count(key) > 1})

    json.loads(text, object_pairs_hook=look, parse_int=str, parse_float=str)
    return found


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(OBJECTS | FLAT, min_size=1, max_size=4))
def test_repeated_keys_are_found_exactly(data: Any, objects: list[Members]):
    event = [("id", "1"), ("type", "t"), ("subject", "s")]
    texts = [write(Members([*event, ("data", one)]), data.draw) for one in objects]
    wide = replace(LIMITS, depth_max=50, event_bytes_max=10_000)
    decoded = decode(
        f"[{','.join(texts)}]".encode(),
        content_type="",
        ce_headers={},
        tenant="t",
        received_at_us=NOW_US,
        limits=wide,
    )
    assert [rejection.index for rejection in decoded.rejected] == [
        place for place, text in enumerate(texts) if repeated_keys(text)
    ]
    assert {rejection.code for rejection in decoded.rejected} <= {"duplicate_key"}
    for text in texts:
        assert (duplicate_key(text) is None) == (not repeated_keys(text))
        assert members_at_most(text.encode()) == members_at_most(text.encode() + b" " * 3000)


@settings(max_examples=200, deadline=None)
@given(st.data(), VALUES)
def test_depth_is_what_a_parser_sees(data: Any, value: Any):
    def depth(parsed: Any) -> int:
        inner = parsed.values() if isinstance(parsed, dict) else parsed if isinstance(parsed, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    text = write(value, data.draw)
    # Repeated keys would hide what stands behind the first of them: count them all by making them different.
    parsed = json.loads(text, object_pairs_hook=lambda members: dict(enumerate(one for _, one in members)))
    assert depth_of(text.encode()) == depth(parsed)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["", "application/x-ndjson", "text/csv"]))
@example(b"[[", "")
@example(b":", "application/x-ndjson")
def test_noise_is_answered_the_same_both_ways(body: bytes, content_type: str):
    assert outcome(body, content_type, fast=True) == outcome(body, content_type, fast=False)


@settings(max_examples=120, deadline=None)
@given(st.data(), st.lists(events(), min_size=1, max_size=3), st.integers(0, 400), st.binary(max_size=2))
def test_damaged_bodies_are_answered_the_same_both_ways(
    data: Any, batch: list[Members], at: int, noise: bytes
):
    whole = ("[" + ",".join(write(one, data.draw) for one in batch) + "]").encode()
    body = whole[: at % len(whole)] + noise + whole[at % len(whole) + len(noise) :]
    for content_type in ("application/json", "application/x-ndjson"):
        answer = outcome(body, content_type, fast=True)
        assert answer == outcome(body, content_type, fast=False)
        if isinstance(answer, tuple) and isinstance(answer[1], list):
            assert {rejection.code for rejection in answer[1]} <= set(EVENT_CODES)


@settings(max_examples=200)
@given(
    st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))))
)
def test_times_are_what_the_calendar_says(moment: datetime):
    assert instant_us(moment.isoformat()) == (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T15:59:60.5-08:00", "2017-01-01T00:00:00.5Z"),
        ("2026-01-01T00:00:00.1234569Z", "2026-01-01T00:00:00.123456Z"),
        ("2026-01-01t02:00:00z", "2026-01-01T02:00:00Z"),
        ("2026-01-01T00:00:00-00:00", "2026-01-01T00:00:00Z"),
    ],
)
def test_times_that_mean_the_same(text: str, expected: str):
    assert instant_us(text) == instant_us(expected)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T12:00:60Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00Z\n",
        "２026-01-01T00:00:00Z",
    ],
)
def test_times_that_are_none(text: str):
    with pytest.raises(ValueError, match=r"T\d\d:"):
        instant_us(text)
