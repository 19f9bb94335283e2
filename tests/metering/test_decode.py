"""Verdicts a reader can check by eye: what goes in, what is said of it."""

import base64
import json

import pytest

from tallystick.errors import BadRequest, Invalid, TallystickError, TooLarge, UnsupportedMediaType
from tallystick.metering.decode import BODY_CODES, EVENT_CODES, Decoded, Limits, decode
from tallystick.metering.envelope import Verdicts
from tallystick.metering.event import content_of, identity_of

NOW_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
LIMITS = Limits(events_max=5, event_bytes_max=100, depth_max=4, future_tolerance_us=3_600_000_000)
JSON = "application/json"
NDJSON = "application/x-ndjson"


def read(
    body: str | bytes,
    content_type: str = JSON,
    *,
    headers: dict[str, str] | None = None,
    limits: Limits = LIMITS,
) -> Decoded:
    return decode(
        body.encode() if isinstance(body, str) else body,
        content_type=content_type,
        ce_headers=headers or {},
        tenant="default",
        received_at_us=NOW_US,
        limits=limits,
    )


def event(members: str = "") -> str:
    """A good event, with these members of JSON text added."""
    return '{"id":"1","type":"t","subject":"s"' + ("," + members if members else "") + "}"


def codes(decoded: Decoded) -> list[tuple[int, str]]:
    return [(rejection.index, rejection.code) for rejection in decoded.rejected]


def test_an_event_becomes_a_row():
    decoded = read(
        '{"specversion":"1.0","id":"a","source":"/x","type":"t","subject":"s","time":"2025-12-31T23:00:00+01:00",'
        '"data":{ "n" : 1e400 }}'
    )
    events = decoded.events
    assert (decoded.rejected, decoded.indices) == ([], None)
    assert (events.tenant, events.received_at_us, len(events)) == ("default", NOW_US, 1)
    assert (events.id, events.source, events.type, events.subject) == (["a"], ["/x"], ["t"], ["s"])
    assert events.time_us.tolist() == [NOW_US - 2 * 3_600_000_000]
    assert events.time_given.tolist() == [True]
    assert events.data == [b'{ "n" : 1e400 }']
    assert events.attributes == [b""]
    assert events.identity == [identity_of("default", "/x", "a")]
    assert events.content.tolist() == content_of(["t"], ["s"], [b'{ "n" : 1e400 }']).tolist()


def test_defaults():
    events = read(event()).events
    assert (events.source, events.data, events.time_us.tolist(), events.time_given.tolist()) == (
        ["/"],
        [b""],
        [NOW_US],
        [False],
    )


def test_null_is_absent():
    events = read(
        event('"source":null,"time":null,"data":null,"specversion":null,"x":null,"data_base64":null')
    ).events
    assert (events.source, events.data, events.attributes, events.time_given.tolist()) == (
        ["/"],
        [b""],
        [b""],
        [False],
    )


DEEPEST = '"data":{"a":[[[1]]]}'  # four containers, as many as LIMITS allows

GOOD = [
    (DEEPEST, "data", DEEPEST.removeprefix('"data":')),
    ('"data":{"a":"{{{{[[[["}', "data", '{"a":"{{{{[[[["}'),
    ('"data":{"n":' + "9" * 40 + "}", "data", '{"n":' + "9" * 40 + "}"),
    ('"data":{"n":1E-400,"m":-0.0}', "data", '{"n":1E-400,"m":-0.0}'),
    ('"data":{}', "data", "{}"),
    ('"data":{"":1," ":2}', "data", '{"":1," ":2}'),
    ('"data":{"a":{"a":{"a":1}}}', "data", '{"a":{"a":{"a":1}}}'),
    ('"data":{"a":":","b":"\\":","c":" :"}', "data", '{"a":":","b":"\\":","c":" :"}'),
    ('"data":{"a":"\\ud83d\\ude00","b":"\\\\ud800"}', "data", '{"a":"\\ud83d\\ude00","b":"\\\\ud800"}'),
    ('"data_base64":"' + base64.b64encode(b' {"a":1} ').decode() + '"', "data", '{"a":1}'),
    ('"datacontenttype":"application/json"', "attributes", '{"datacontenttype":"application/json"}'),
    (
        '"traceparent":"00-1","dataschema":"x","n":1.50',
        "attributes",
        '{"dataschema":"x","traceparent":"00-1","n":1.50}',
    ),
    ('"source":"' + "ü" * 1024 + '"', "source", "ü" * 1024),
]


@pytest.mark.parametrize(("members", "column", "expected"), GOOD)
def test_accepted(members: str, column: str, expected: str):
    decoded = read(event(members))
    assert codes(decoded) == []
    value = getattr(decoded.events, column)[0]
    assert (value.decode() if isinstance(value, bytes) else value) == expected


BAD = [
    ("missing_id", '{"type":"t","subject":"s"}'),
    ("missing_id", '{"id":"","type":"t","subject":"s"}'),
    ("missing_id", '{"id":null,"type":"t","subject":"s"}'),
    ("missing_type", '{"id":"1","subject":"s"}'),
    ("missing_subject", '{"id":"1","type":"t"}'),
    ("missing_subject", '{"id":"1","type":"t","subject":""}'),
    ("invalid_field", '{"id":1,"type":"t","subject":"s"}'),
    ("invalid_field", '{"id":"a\\u0000","type":"t","subject":"s"}'),
    ("invalid_field", '{"id":"1","type":"t","subject":"' + "s" * 257 + '"}'),
    ("invalid_field", '{"id":"1","type":"' + "t" * 257 + '","subject":"s"}'),
    ("invalid_field", '{"id":"' + "1" * 513 + '","type":"t","subject":"s"}'),
    ("invalid_field", event('"datacontenttype":1')),
    ("invalid_field", event('"data":{},"data_base64":"e30="')),
    ("invalid_source", event('"source":""')),
    ("invalid_source", event('"source":{}')),
    ("invalid_source", event('"source":"' + "x" * 1025 + '"')),
    ("unsupported_specversion", event('"specversion":"0.3"')),
    ("unsupported_specversion", event('"specversion":1.0')),
    ("invalid_time", event('"time":""')),
    ("invalid_time", event('"time":1767225600')),
    ("invalid_time", event('"time":"2026-01-01"')),
    ("invalid_time", event('"time":"2026-01-01T00:00:00"')),
    ("invalid_time", event('"time":"2026-02-30T00:00:00Z"')),
    ("invalid_time", event('"time":"1969-12-31T23:59:59Z"')),
    ("time_in_future", event('"time":"2026-01-01T01:00:00.000001Z"')),
    ("data_not_object", event('"data":[]')),
    ("data_not_object", event('"data":"{}"')),
    ("data_not_object", event('"data":false')),
    ("data_not_object", event('"data_base64":"W10="')),
    ("data_not_object", event('"data_base64":"?"')),
    ("data_not_object", event('"data_base64":5')),
    ("event_too_large", event('"data":{"a":"' + "x" * 100 + '"}')),
    ("event_too_large", event('"ext":"' + "x" * 100 + '"')),
    ("duplicate_key", event('"id":"2"')),
    ("duplicate_key", event('"\\u0069d":"2"')),
    ("duplicate_key", event('"ext":1,"ext":1')),
    ("duplicate_key", event('"data":{"a":1,"a":1}')),
    ("duplicate_key", event('"data":{"a" :1,"\\u0061"\t: 1}')),
    ("duplicate_key", event('"data":{"b":[{"a":1},{"a":1,"c":":","a":1}]}')),
    ("duplicate_key", event('"data_base64":"' + base64.b64encode(b'{"a":1,"a":2}').decode() + '"')),
    ("nesting_too_deep", event('"data":{"a":[[[[]]]]}')),
    ("nesting_too_deep", event('"ext":[[[[[]]]]]')),
    ("invalid_event", "1"),
    ("invalid_event", "[]"),
    ("invalid_event", "null"),
    ("invalid_json", event('"data":{"a":"\\ud800"}')),
    ("invalid_json", event('"data":{"a":"\\ud800\\u0041"}')),
    ("invalid_json", '{"id":"\\udc00","type":"t","subject":"s"}'),
]


@pytest.mark.parametrize(("code", "text"), BAD)
def test_rejected_alone_in_good_company(code: str, text: str):
    for decoded in (
        read(f"[{event()}, {text} ,{event()}]"),
        read(f"{event()}\n{text}\n{event()}", NDJSON),
    ):
        assert codes(decoded) == [(1, code)]
        assert decoded.indices == [0, 2]
        assert decoded.events.id == ["1", "1"]


def test_every_code_is_documented_and_shown():
    by_subject = {"unknown_subject"}  # asked of the catalog, after decoding
    assert {code for code, _ in BAD} | {"invalid_row"} | by_subject == set(EVENT_CODES)
    assert {code for code, *_ in REFUSED} | {
        "body_too_large",
        "invalid_encoding",
        "unsupported_encoding",
    } == set(BODY_CODES)


def test_all_faults_of_an_event_are_named_and_its_id():
    (rejection,) = read('{"id":"x","data":1,"time":"never"}').rejected
    assert (rejection.index, rejection.id, rejection.code) == (0, "x", "missing_type")
    assert rejection.detail.endswith("Also: missing_subject, invalid_time, data_not_object.")


REFUSED = [
    ("invalid_json", BadRequest, JSON, b""),
    ("invalid_json", BadRequest, JSON, b"{"),
    ("invalid_json", BadRequest, JSON, b'{"id":"1"} x'),
    ("invalid_json", BadRequest, JSON, b'[{"id":"1","data":{"a":NaN}}]'),
    ("invalid_json", BadRequest, JSON, b'{"id":"1","data":{"a":Infinity}}'),
    ("invalid_json", BadRequest, JSON, b'{"id":"1","data":{"a":01}}'),
    ("invalid_json", BadRequest, JSON, b'[{"id":"\\ud800"},]'),
    ("invalid_json", BadRequest, JSON, b'{"id":"\xff"}'),
    ("invalid_json", BadRequest, JSON, b'{"data":{"a":"\xed\xa0\x80"}}'),
    ("invalid_body", BadRequest, JSON, b"5"),
    ("invalid_body", BadRequest, JSON, b"null"),
    ("invalid_body", BadRequest, "application/cloudevents+json", b"[]"),
    ("invalid_body", BadRequest, "application/cloudevents-batch+json", b"{}"),
    ("nesting_too_deep", BadRequest, JSON, b"[" * 100_000),
    ("nesting_too_deep", BadRequest, JSON, b'{"data":' + b'{"a":' * 100_000),
    ("too_many_events", TooLarge, JSON, b"[1,1,1,1,1,1]"),
    ("too_many_events", TooLarge, JSON, b"[" + b"1," * 1000 + b"1]"),
    ("too_many_events", TooLarge, JSON, f"[{','.join([event()] * 6)}]".encode()),
    ("too_many_events", TooLarge, NDJSON, b"1\n" * 6),
    ("too_many_events", TooLarge, NDJSON, f"{event()}\n".encode() * 6),
    ("too_many_events", TooLarge, "text/csv", b"id\n" + b"1\n" * 6),
    ("no_events", Invalid, JSON, b" [ ] "),
    ("no_events", Invalid, NDJSON, b"\n \r\n"),
    ("no_events", Invalid, "text/csv", b"id,type,subject\n\n"),
    ("invalid_csv", BadRequest, "text/csv", b""),
    ("invalid_csv", BadRequest, "text/csv", b"id,id\n1,2"),
    ("invalid_csv", BadRequest, "text/csv", b"id,\n1,2"),
    ("invalid_csv", BadRequest, "text/csv", b'id,type\n1,"a"b\n'),
    ("invalid_csv", BadRequest, "text/csv", b'id,type\n1,"a'),
    ("invalid_csv", BadRequest, "text/csv", b"id\n\xff"),
    ("unsupported_media_type", UnsupportedMediaType, "text/csv; header=absent", b"1"),
    ("unsupported_media_type", UnsupportedMediaType, "text/plain", b"x"),
    ("unsupported_media_type", UnsupportedMediaType, "application/json; charset=latin-1", b"{}"),
    ("unsupported_media_type", UnsupportedMediaType, 'application/json; charset="utf-16"', b"{}"),
]


@pytest.mark.parametrize(("code", "error", "content_type", "body"), REFUSED)
def test_refused_as_a_whole(code: str, error: type[TallystickError], content_type: str, body: bytes):
    with pytest.raises(error) as caught:
        read(body, content_type)
    assert caught.value.code == code


def test_the_place_is_named():
    with pytest.raises(BadRequest, match=r"byte 12, line 2"):
        read(b'[{"id":"1"}\nx]')
    with pytest.raises(BadRequest, match=r"byte 8, line 1"):
        read(b'{"id":"1\xff"}')
    assert "Line 3 " in read(f"{event()}\n\n{{\n", NDJSON).rejected[0].detail


def test_deep_lines_are_rejected_alone():
    bomb = '{"a":' * 100_000
    deep = event('"data":{"a":' + "[" * 500 + "]" * 500 + "}")
    decoded = read(f"{event()}\n{bomb}\n{deep}", NDJSON)
    assert codes(decoded) == [(1, "nesting_too_deep"), (2, "nesting_too_deep")]
    assert decoded.rejected[1].id == "1"


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "Application/JSON ; charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/cloudevents+json; charset=utf-8",
        "application/x-ndjson",
        "application/ndjson;charset=utf8",
    ],
)
def test_content_types_of_one_event(content_type: str):
    assert read("\ufeff " + event(), content_type).events.id == ["1"]


def test_lines_may_end_with_crlf_and_be_blank():
    decoded = read(f"\r\n{event()}\r\n\r\nnonsense\r\n{event()}\r\n", NDJSON)
    assert codes(decoded) == [(1, "invalid_json")]
    assert read(f"{event()}\r\n{event()}\r\n", NDJSON).events.id == ["1", "1"]


@pytest.mark.parametrize(
    "lines",
    [
        ['{"id":"1"}{"id":"2"}', '{"id":"3"}'],
        ['{"id":"1","data":{"a":[{}', "{}]}}", '{"id":"2"} {"id":"3"}'],
        ['{"id":"1","data":{}', '"type":"t"}'],
    ],
)
def test_a_line_is_one_value(lines: list[str]):
    assert read("\n".join(lines), NDJSON).rejected[0].code == "invalid_json"


CSV = """\
id,source,type,subject,time,model,tokens, note
1,/s,t,acme,2025-12-31T00:00:00Z,gpt-4,12.50,"a ""b"", c"
2,,t,007,,007,-1e400,
3,,t,x,,,,
4,,t,x
5,,,x,soon,é,+1, 1
"""


def test_csv():
    decoded = read(CSV, "text/csv; charset=utf-8; header=present", limits=LIMITS)
    events = decoded.events
    assert codes(decoded) == [(3, "invalid_row"), (4, "missing_type")]
    assert "line 5" in decoded.rejected[0].detail
    assert decoded.rejected[1].id == "5"
    assert decoded.indices == [0, 1, 2]
    assert events.source == ["/s", "/", "/"]
    assert events.subject == ["acme", "007", "x"]
    assert events.time_given.tolist() == [True, False, False]
    assert events.data == [
        b'{"model":"gpt-4","tokens":12.50,"note":"a \\"b\\", c"}',
        b'{"model":"007","tokens":-1e400}',
        b"",
    ]


def test_csv_without_a_required_column():
    assert codes(read("id,type\n1,t\n", "text/csv")) == [(0, "missing_subject")]


HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-subject": "s"}


def test_binary_mode():
    decoded = read(
        b' {"a": 1} ',
        "application/json",
        headers=HEADERS | {"CE-Source": "/x", "ce-time": "2025-12-31T00:00:00Z", "ce-traceparent": "00"},
    )
    events = decoded.events
    assert (events.id, events.source, events.data) == (["1"], ["/x"], [b'{"a": 1}'])
    assert json.loads(events.attributes[0]) == {"datacontenttype": "application/json", "traceparent": "00"}


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("41c5/28%20%C3%BC", "41c5/28 ü"),
        ("%F0%9F%98%80+1", "😀+1"),
        ("100%", "100%"),
        ("ü", "ü"),
        ("ü".encode().decode("latin-1"), "ü"),
        ('"a \\"b%22"', 'a "b"'),
        ("  a ", "a"),
    ],
)
def test_binary_mode_decodes_headers(wire: str, text: str):
    assert read(b"", "", headers=HEADERS | {"ce-id": wire}).events.id == [text]


@pytest.mark.parametrize(
    ("code", "body", "content_type", "headers"),
    [
        ("missing_id", b"{}", JSON, {"ce-type": "t", "ce-subject": "s"}),
        ("unsupported_specversion", b"{}", JSON, HEADERS | {"ce-specversion": "0.3"}),
        ("data_not_object", b"[1]", JSON, HEADERS),
        ("data_not_object", b"hello", "text/plain", HEADERS),
        ("data_not_object", b"\xff", "application/octet-stream", HEADERS),
        ("duplicate_key", b'{"a":1,"a":2}', JSON, HEADERS),
        ("nesting_too_deep", b'{"a":' * 100_000, JSON, HEADERS),
        ("event_too_large", b'{"a":"' + b"x" * 100 + b'"}', JSON, HEADERS),
        ("invalid_field", b"{}", JSON, HEADERS | {"ce-subject": "%FF"}),
        ("invalid_field", b"{}", JSON, HEADERS | {"ce-trace": "%FF"}),
        ("invalid_field", b"{}", JSON, HEADERS | {"ce-id": "%00"}),
    ],
)
def test_binary_mode_rejects(code: str, body: bytes, content_type: str, headers: dict[str, str]):
    assert codes(read(body, content_type, headers=headers)) == [(0, code)]


def test_binary_mode_with_json_that_is_none():
    with pytest.raises(BadRequest, match="byte 1"):
        read(b"{", JSON, headers=HEADERS)


def test_structured_mode_wins_over_headers():
    assert read(event(), "application/cloudevents+json", headers={"ce-id": "other"}).events.id == ["1"]


USUAL = [
    (JSON, event('"source":"/","time":"2025-01-01T00:00:00Z","data":{"a":1,"b":"\\u00e9: \\""}')),
    (JSON, event('"datacontenttype":"application/json","data":{"a": {"b": [1.5, ":"]}, "c" : "x :"}')),
    (JSON, "[" + event() + ",\n" + event('"data":{}') + "]"),
    (NDJSON, event() + "\r\n" + event('"data" : {"a":1}') + "\n"),
    ("text/csv", "id,type,subject,time,n\n1,t,s,,5\n2,t,s,2025-01-01T00:00:00+01:00,\n"),
]


@pytest.mark.parametrize(("content_type", "body"), USUAL)
def test_the_usual_goes_the_fast_way(content_type: str, body: str, monkeypatch: pytest.MonkeyPatch):
    def exact_way(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Verdicts, "judge", exact_way)
    assert read(body, content_type).rejected == []
