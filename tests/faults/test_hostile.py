"""Numbers, texts and bodies that others stumble over, sent to a real server: exact, or refused in words."""

import gzip
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import zstandard
from tests.faults.server import KEY, Server

pytestmark = pytest.mark.slow

JSON = {"content-type": "application/json"}
TENTHS = int(os.environ.get("TALLYSTICK_TENTHS") or 1_000_000)
"""A float's sum is off by 1e-6 at a million of them. Ten million take minutes and were counted exactly too."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("hostile") / "data")
    server.start()
    for aggregation in ("sum", "min", "max", "latest", "average"):
        server.meter(
            aggregation, event_type="call", aggregation=aggregation, value="$.n", dimensions={"g": "$.g"}
        )
    server.meter("tenths", event_type="tenth", aggregation="sum", value="$.n")
    yield server
    server.end()


def post(server: Server, body: bytes | str, **headers: str) -> httpx.Response:
    return server.request(
        "POST",
        "/v1/events?wait=recorded",
        content=body,
        headers=JSON | {k.replace("_", "-"): v for k, v in headers.items()},
    )


def event_with(number: str, event_id: str, group: str) -> str:
    """`number` as it stands, so that no library of ours or the test's has read it first."""
    return f'{{"id":"{event_id}","type":"call","subject":"s","data":{{"n":{number},"g":"{group}"}}}}'


def value(server: Server, meter: str, group: str) -> str:
    rows = server.usage(meter, filter={"g": {"eq": group}}, to="2035-01-01T00:00:00Z")["rows"]
    return rows[0]["value"] if rows else "none"


@pytest.mark.parametrize(
    ("group", "numbers", "total"),
    [
        ("eighteen", ["0.000000000000000001", "0.123456789012345678"], "0.123456789012345679"),
        ("texts", ['"0.000000000000000001"', '"1e-18"'], "0.000000000000000002"),
        (
            "large",
            ["99999999999999999999", "0.000000000000000001"],
            "99999999999999999999.000000000000000001",
        ),
        (
            "cancelled",
            ["99999999999999999999", "-99999999999999999998.999999999999999999"],
            "0.000000000000000001",
        ),
        ("tenths", ["0.1", "0.2"], "0.3"),
        (
            "no float",
            ["0.1000000000000000055511151231257827", "9007199254740993"],
            "9007199254740993.100000000000000006",
        ),
        ("exponents", ["1e19", "1E-18", "-0"], "10000000000000000000.000000000000000001"),
    ],
)
def test_every_digit_arrives(server: Server, group: str, numbers: list[str], total: str) -> None:
    body = ",".join(event_with(number, f"{group}-{place}", group) for place, number in enumerate(numbers))
    answer = post(server, f"[{body}]")
    assert answer.json()["recorded"] == len(numbers), answer.text
    assert value(server, "sum", group) == total


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("1e400", "number_out_of_range"),
        ("-1e400", "number_out_of_range"),
        ("1" * 40, "number_out_of_range"),
        ("1e999999999", "number_out_of_range"),
        ("100000000000000000000", "number_out_of_range"),
        ('"NaN"', "value_not_numeric"),
        ('"0x10"', "value_not_numeric"),
        ('" 1"', "value_not_numeric"),
        ("true", "value_not_numeric"),
        ("null", "value_missing"),
    ],
)
def test_a_number_no_meter_can_take_is_kept_and_explained(server: Server, number: str, reason: str) -> None:
    event_id = f"odd {number[:50]} {len(number)}"
    answer = post(
        server,
        json.dumps(event_id).join(['{"id":', ',"type":"call","subject":"s","data":{"n":' + number + "}}"]),
    )
    assert answer.json()["recorded"] == 1, answer.text
    found = server.get("/v1/events/lookup", params={"source": "/", "id": event_id})
    assert {reading["excluded"] for reading in found["readings"]} == {reason}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1.", ".5", "01", "+1", "0x10", "1_000"])
def test_what_is_no_json_number_is_refused(server: Server, number: str) -> None:
    answer = post(server, event_with(number, "x", "refused"))
    check_refused(answer, 400)


DEEP = '{"a":' * 200 + "1" + "}" * 200
BOMBS = {
    "nested": (f'{{"id":"x","type":"t","subject":"s","data":{DEEP}}}'.encode(), {}, (400, 422)),
    "nested very deep": (b"[" * 5_000_000, {}, (400,)),
    "nested objects": (b'{"a":' * 2_000_000, {}, (400,)),
    "invalid utf-8": (b'{"id":"\xff\xfe","type":"t","subject":"s"}', {}, (400, 422)),
    "lone surrogate": (b'{"id":"\\ud800","type":"t","subject":"s"}', {}, (400, 422)),
    "duplicate keys": (b'{"id":"x","type":"t","subject":"s","data":{"n":1,"n":2}}', {}, (400, 422)),
    "duplicate envelope keys": (b'{"id":"x","id":"y","type":"t","subject":"s"}', {}, (400, 422)),
    "duplicate keys, escaped": (
        b'{"id":"x","type":"t","subject":"s","data":{"n":1,"\\u006e":2}}',
        {},
        (400, 422),
    ),
    "a NUL": (b'{"id":"x\\u0000","type":"t","subject":"s"}', {}, (400, 422)),
    "empty": (b"", {}, (400, 422)),
    "cut off": (b'[{"id":"x","type":"t","subject":"s"}', {}, (400,)),
    "no gzip": (b"hello", {"content_encoding": "gzip"}, (400,)),
    "gzip cut off": (gzip.compress(b"[]" * 1000)[:-6], {"content_encoding": "gzip"}, (400,)),
    "unknown encoding": (b"[]", {"content_encoding": "br"}, (415,)),
    "33 MiB": (b" " * (33 * 1024**2), {}, (413,)),
    "33 MiB, zipped": (gzip.compress(b" " * (33 * 1024**2)), {"content_encoding": "gzip"}, (413,)),
    "256 MiB, zipped": (gzip.compress(b"0" * (256 * 1024**2), 1), {"content_encoding": "gzip"}, (413,)),
    "zstd bomb": (zstandard.compress(b"0" * (200 * 1024**2)), {"content_encoding": "zstd"}, (413,)),
    "10,001 events": (
        ("[" + ",".join(['{"id":"x","type":"t","subject":"s"}'] * 10_001) + "]").encode(),
        {},
        (413,),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_body_that_cannot_be_is_refused_in_words(server: Server, name: str) -> None:
    body, headers, statuses = BOMBS[name]
    before = server.totals()["events"]
    try:
        answer = post(server, body, **headers)
    except httpx.WriteError:  # answered and closed before all of it was read, and the answer lost with that
        assert 413 in statuses
    else:
        check_refused(answer, *statuses)
    assert server.totals()["events"] == before
    assert server.get("/health/live") == {"status": "ok"}


def check_refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text[:2000]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"]
    assert len(problem["detail"]) > 15
    assert "Traceback" not in answer.text


def test_a_tenth_a_million_times_is_a_tenth_of_a_million(server: Server) -> None:
    """Sent as 0.1, one event each."""
    events_each = 10_000
    event = '{"id":"@@@@@-%d","type":"tenth","subject":"s","data":{"n":0.1}}'
    template_bytes = ("[" + ",".join(event.replace("%d", str(n)) for n in range(events_each)) + "]").encode()
    began = time.monotonic()

    with httpx.Client(timeout=60, headers=JSON | {"authorization": f"Bearer {KEY}"}) as client:

        def one(number: int) -> str:
            body = template_bytes.replace(b"@@@@@", b"%05d" % number)
            for _ in range(600):
                answer = client.post(f"{server.url}/v1/events", content=body)
                if answer.status_code != 503:  # asked to come again, which changes nothing
                    break
                time.sleep(0.1)
            assert answer.status_code == 202, answer.text
            return answer.json()["position"]

        with ThreadPoolExecutor(3) as pool:
            positions = list(pool.map(one, range(TENTHS // events_each)))
    sent_s = time.monotonic() - began
    latest = max(positions, key=lambda token: (len(token), token))
    for _ in range(60):
        answer = server.request(
            "GET", "/v1/meters/tenths/usage", params={"min_position": latest, "from": "2020-01-01T00:00:00Z"}
        )
        if answer.status_code == 200:
            break
    print(f"{TENTHS} events acknowledged in {sent_s:.1f} s, counted in {time.monotonic() - began:.1f} s")
    rows: list[dict[str, Any]] = answer.json()["rows"]
    assert rows[0]["value"] == str(TENTHS // 10)
