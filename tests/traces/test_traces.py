"""Two real traces through a really running server: every figure of their reference, exactly, and again after everything
was sent a second time by other routes, shuffled, a fifth of it once more with fresh times."""

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.traces.trace")

from tests.faults.server import KEY, Server  # noqa: E402 -- rewritten first
from tests.traces.trace import METERS, Event, answered, azure, data_directory, figures, servegen  # noqa: E402

DATA = data_directory()
SHARED_MISSING = (
    "TRACES NOT TESTED: there is no ../shared/data beside the checkout (or set TALLYSTICK_SHARED)"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared_data,
    pytest.mark.skipif(DATA is None, reason=SHARED_MISSING),
]

Body = tuple[bytes, dict[str, str]]


def as_json(events: list[Event]) -> Body:
    return json.dumps(events).encode(), {"content-type": "application/json"}


def as_cloudevents(events: list[Event]) -> Body:
    whole = [{"specversion": "1.0"} | event for event in events]
    body = json.dumps(whole, separators=(",", ":")).encode()
    return body, {"content-type": "application/cloudevents-batch+json"}


def as_ndjson(events: list[Event]) -> Body:
    return "\n".join(map(json.dumps, events)).encode(), {"content-type": "application/x-ndjson"}


def as_csv(events: list[Event]) -> Body:
    text = io.StringIO()
    names = ["id", "source", "type", "subject", "time"]
    members = list(events[0]["data"])
    writer = csv.writer(text)
    writer.writerow(names + members)
    writer.writerows(
        [event[name] for name in names] + [event["data"][member] for member in members] for event in events
    )
    return text.getvalue().encode(), {"content-type": "text/csv"}


def zipped(route: Callable[[list[Event]], Body]) -> Callable[[list[Event]], Body]:
    def whole(events: list[Event]) -> Body:
        body, headers = route(events)
        return gzip.compress(body, 1), headers | {"content-encoding": "gzip"}

    return whole


ROUTES = [as_json, as_ndjson, as_csv, as_cloudevents, zipped(as_json), zipped(as_csv), zipped(as_ndjson)]


def send(server: Server, events: list[Event], *, first_route: int, events_each: int) -> Counter[str]:
    """All events, each request by the next route; what became of them."""

    def one(number: int) -> dict[str, Any]:
        some = events[number * events_each : (number + 1) * events_each]
        # A CSV has one set of columns.
        route = ROUTES[(number + first_route) % len(ROUTES)]
        if len({tuple(event["data"]) for event in some}) > 1 and route in (ROUTES[2], ROUTES[5]):
            route = as_json
        body, headers = route(some)
        answer = server.request("POST", "/v1/events?wait=recorded", content=body, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    total: Counter[str] = Counter()
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(one, range(-(-len(events) // events_each))):
            assert answer["rejected"] == 0, answer["results"][:3]
            names = ("recorded", "duplicates", "conflicts", "accepted")
            total.update({name: answer[name] for name in names if name in answer})
    return total


def check_figures(server: Server) -> None:
    """Every table of the reference, each once; nothing of it is left out but what is said here."""
    assert DATA is not None
    checked = 0
    for figure in figures(DATA):
        answer = server.usage(figure.meter, **figure.question)
        found = answered(figure, answer["rows"], figure.question.get("timezone", "UTC"))
        assert found == figure.expected, f"{figure.name}, served from {answer['served_from']}"
        if "limit" in figure.question:
            assert list(found) == list(figure.expected)
        checked += len(found)
    print(f"{checked} figures equal")
    # Not asked here: the rated amounts (prices come later) and interpolated percentiles (ours are nearest-rank).
    assert checked == 1_822


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    server.start()
    for meter in METERS:
        server.meter(**meter)
    yield server
    server.end()


def test_by_http_and_once_more_by_other_routes(server: Server) -> None:
    assert DATA is not None
    everything = azure(DATA) + servegen(DATA)
    assert len(everything) == 28_185 + 251_524
    began = time.monotonic()
    sent = send(server, everything, first_route=0, events_each=7_001)
    print(f"{len(everything)} events in {time.monotonic() - began:.1f} s: {dict(sent)}")
    assert sent == {"recorded": len(everything), "duplicates": 0, "conflicts": 0}
    check_figures(server)

    chance = random.Random(20_250_303)
    again = [event | {"data": dict(reversed(event["data"].items()))} for event in everything]
    fifth = [
        event | {"time": "2026-01-01T00:00:00Z"} for event in chance.sample(everything, len(everything) // 5)
    ]
    altered = [event | {"subject": "somebody else"} for event in chance.sample(everything, 1000)]
    repeats = again + fifth + altered
    chance.shuffle(repeats)
    began = time.monotonic()
    sent = send(server, repeats, first_route=3, events_each=4_999)
    print(f"{len(repeats)} events again in {time.monotonic() - began:.1f} s: {dict(sent)}")
    assert sent == {"recorded": 0, "duplicates": len(again) + len(fifth), "conflicts": len(altered)}
    check_figures(server)
    totals = server.totals()
    assert totals["events"] == len(everything)
    assert totals["duplicates"] == len(again) + len(fifth)
    assert totals["conflicts"] == len(altered)


AZURE_OPTIONS = [
    *("--id", "event_id", "--type", "llm.request", "--source", "/azure", "--subject", "service"),
    *("--time", "timestamp", "--time-zone", "UTC", "--data", "service,context_tokens,generated_tokens"),
]
SERVEGEN_OPTIONS = [
    *(
        "--id",
        "{client}/{t_offset_s}",
        "--type",
        "llm.requests",
        "--source",
        "/servegen",
        "--subject",
        "client",
    ),
    *("--time", "t_offset_s", "--time-format", "offset", "--time-base", "2025-03-03T00:00:00Z"),
    *("--data", "model,client,requests"),
]


def ingest(server: Server, directory: Path, name: str, options: list[str]) -> dict[str, Any]:
    """`tallystick ingest`, in a process of its own; its summary."""
    assert DATA is not None
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tallystick.cli.main", "ingest", str(DATA / name)),
            *(*options, "--summary", "json", "--url", server.url, "--key", KEY),
        ],
        capture_output=True,
        check=False,
        cwd=directory,
        env=os.environ | {"XDG_STATE_HOME": str(directory), "HOME": str(directory)},
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    return json.loads(ended.stdout)


def test_by_command_line_then_by_http(server: Server, tmp_path: Path) -> None:
    assert DATA is not None
    for name, options, events in (
        ("azure_llm_2023.csv", AZURE_OPTIONS, 28_185),
        ("servegen_requests.csv", SERVEGEN_OPTIONS, 251_524),
    ):
        summary = ingest(server, tmp_path, name, options)
        print(name, summary)
        assert summary["recorded"] == events
    check_figures(server)
    everything = azure(DATA) + servegen(DATA)
    sent = send(server, everything, first_route=1, events_each=9_973)
    assert sent == {"recorded": 0, "duplicates": len(everything), "conflicts": 0}
    check_figures(server)
