"""What a message of a queue says, as a record."""

import json

import pytest

from tallystick.sources.message import UnreadableError, attributes_of, names_ids, record_of

TIME_US = 1_700_000_000_123_000
TIME = "2023-11-14T22:13:20.123000Z"


def test_an_event_keeps_its_own_identity_and_time() -> None:
    event = b'{"id":"a","source":"/s","type":"t","time":"2026-01-01T00:00:00Z","data":{"n":1.10}}'
    assert record_of(event, {}, TIME_US) == event


def test_an_event_without_time_has_that_of_its_message_and_all_its_digits() -> None:
    said = record_of(b' {"type":"t","data":{"n":1.10}}\n', {}, TIME_US)
    assert said == b'{"time":"' + TIME.encode() + b'","type":"t","data":{"n":1.10}}'
    assert json.loads(record_of(b"{}", {}, TIME_US)) == {"time": TIME}
    assert record_of(b"{}", {}, None) == b"{}"


def test_a_key_that_is_there_twice_stays_there_twice() -> None:
    assert record_of(b'{"a":1,"a":2}', {}, TIME_US).count(b'"a"') == 2


def test_each_element_of_an_array_has_the_time() -> None:
    found = json.loads(record_of(b'[{"id":"a"},{"time":"x"}]', {}, TIME_US))
    assert found == [{"time": TIME, "id": "a"}, {"time": "x"}]


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_a_tombstone_is_nothing(body: bytes) -> None:
    assert record_of(body, {}, TIME_US) == b""


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 5000, b"7"])
def test_what_cannot_be_read_stays_as_it_is(body: bytes) -> None:
    assert record_of(body, {}, TIME_US) == body


def test_binary_mode_takes_attributes_from_headers() -> None:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"7"),
        ("CE_Source", "/ü".encode()),
        ("ce_type", b"t"),
        ("ce_subject", b"c"),
        ("ce_region", b"eu"),
        ("ce_empty", None),
        ("content-type", b"application/json"),
        ("other", b"\xff"),
    ]
    assert json.loads(record_of(b'{"n":1}', attributes_of(headers, "ce_"), TIME_US)) == {
        "specversion": "1.0",
        "id": "7",
        "source": "/ü",
        "type": "t",
        "subject": "c",
        "region": "eu",
        "datacontenttype": "application/json",
        "time": TIME,
        "data": {"n": 1},
    }


def test_headers_of_something_else_make_no_event() -> None:
    assert attributes_of([("content-type", b"application/json"), ("ce_type", b"t")], "ce_") == {}
    assert attributes_of([("ce-id", "%C3%BC")], "ce-", percent=True) == {"id": "ü"}


def test_a_header_that_is_not_utf8_is_said() -> None:
    with pytest.raises(UnreadableError, match="ce_id"):
        attributes_of([("ce_id", b"\xff")], "ce_")


def test_a_body_in_binary_mode_that_is_not_json_is_said() -> None:
    with pytest.raises(UnreadableError, match="not JSON"):
        record_of(b"hello", {"id": "1"}, None)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"id":"a"}', True),
        (b'{"type":"a"}', False),
        (b'{"id":null}', False),
        (b'[{"id":"a"},{"id":"b"}]', True),
        (b'[{"id":"a"},{"id":""}]', False),
        (b"{", True),
    ],
)
def test_whether_an_event_says_its_id(body: bytes, named: bool) -> None:
    assert names_ids(body) is named
