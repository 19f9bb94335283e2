"""`tallystick export` to a directory and to a real S3 server on loopback: what arrives adds up to what usage answers."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import Server, command_path

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
RANGE = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}


def ok(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stderr


def send(server: Server, kind: str, *numbers: int, day: int = 1) -> None:
    events = [
        {
            "id": f"{kind}-{number}",
            "source": "/x",
            "type": kind,
            "subject": f"c{number % 5}",
            "time": f"2026-03-{number % 9 + day:02d}T12:{number % 60:02d}:00.5Z",
            "data": {"n": f"{number}.25"},
        }
        for number in numbers
    ]
    with server.client() as client:
        for first in range(0, len(events), 5000):
            answer = client.post("/v1/events?wait=recorded", json=events[first : first + 5000])
            assert answer.status_code == 200, answer.text


@pytest.fixture
def kind(server: Server, request: pytest.FixtureRequest) -> str:
    """An event type of this test's own, with a meter of the same name and 3,000 events."""
    name = request.node.name.replace("[", "-").replace("]", "")
    with server.client() as client:
        answer = client.post(
            "/v1/meters",
            json={
                "key": name,
                "event_type": name,
                "aggregation": "sum",
                "value": "$.n",
                "dimensions": {"half": "$.n"},
            },
        )
        assert answer.status_code == 201, answer.text
    send(server, name, *range(3000))
    return name


def total(server: Server, meter: str) -> Decimal:
    rows = server.get(f"/v1/meters/{meter}/usage", params=RANGE)["rows"]
    return Decimal(rows[0]["value"])


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_parts_add_up_in_every_format(run: Run, server: Server, kind: str, tmp_path: Path, form: str) -> None:
    for what, options in (
        ("events", ["--type", kind]),
        ("readings", ["--meter", kind]),
        ("usage", ["--meter", kind, "--group-by", "customer"]),
    ):
        to = tmp_path / what
        said = ok(run("export", what, "--to", str(to), "--format", form, *options))
        assert "9 of 9 parts" in said
        parts = sorted(to.glob(f"{what}/day=*/part.{form}"))
        assert [part.parent.name for part in parts] == [f"day=2026-03-{day:02d}" for day in range(1, 10)]
        rows = [row for part in parts for row in read(part, form)]
        if what == "events":
            assert len(rows) == 3000
            values = [json.loads(row["data"]) if form != "ndjson" else row["data"] for row in rows]
            assert sum(Decimal(value["n"]) for value in values) == total(server, kind)
        else:
            assert sum(Decimal(row["value"]) for row in rows) == total(server, kind)


def read(part: Path, form: str) -> list[dict[str, Any]]:
    if form == "parquet":
        return pq.read_table(part).to_pylist()
    with part.open(newline="") as file:
        return list(csv.DictReader(file)) if form == "csv" else [json.loads(line) for line in file]


def test_again_fetches_what_has_changed_and_nothing_else(
    run: Run, server: Server, kind: str, tmp_path: Path
) -> None:
    command = ("export", "readings", "--meter", kind, "--to", str(tmp_path / "e"), "--by", "day")
    ok(run(*command))
    assert "0 of 9 parts" in ok(run(*command))
    send(server, kind, 9000)  # late, into the first day
    with server.client() as client:
        answer = client.post(
            "/v1/events/corrections",
            json={"reason": "wrong", "retract": [{"source": "/x", "id": f"{kind}-1"}]},
        )
    assert answer.status_code == 200, answer.text
    assert "2 of 9 parts" in ok(run(*command))
    table = ds.dataset(tmp_path / "e" / "readings", partitioning="hive").to_table()
    assert table.num_rows == 3000
    assert sum(table["value"].to_pylist()) == total(server, kind)
    other = run("export", "events", "--type", kind, "--to", str(tmp_path / "e"))
    assert other.returncode == 1
    assert "another export" in other.stderr


def test_killed_and_taken_up_again(server: Server, kind: str, tmp_path: Path, run: Run) -> None:
    to = tmp_path / "e"
    environment = {**os.environ, "TALLYSTICK_URL": server.url, "TALLYSTICK_KEY": "dev"}
    command = ["export", "events", "--type", kind, "--to", str(to), "--format", "ndjson"]
    half = subprocess.Popen([command_path(), *command], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (to / "export.json").exists() and time.monotonic() < until:
        time.sleep(0.001)
    half.send_signal(signal.SIGKILL)
    half.wait()
    finished = json.loads((to / "export.json").read_text())["parts"]
    ok(run(*command))
    rows = [row for part in to.glob("events/*/part.ndjson") for row in read(part, "ndjson")]
    assert len({row["id"] for row in rows}) == len(rows) == 3000
    assert finished.items() <= json.loads((to / "export.json").read_text())["parts"].items()
    assert not list(to.rglob("*.partial"))


def test_every_keeps_up(server: Server, kind: str, tmp_path: Path) -> None:
    to = tmp_path / "e"
    environment = {**os.environ, "TALLYSTICK_URL": server.url, "TALLYSTICK_KEY": "dev"}
    command = ["export", "usage", "--meter", kind, "--to", str(to), "--format", "ndjson", "--every", "PT1S"]
    running = subprocess.Popen([command_path(), *command], env=environment, stderr=subprocess.DEVNULL)

    def exported() -> Decimal:
        parts = to.glob("usage/*/part.ndjson")
        return sum((Decimal(row["value"]) for part in parts for row in read(part, "ndjson")), Decimal(0))

    try:
        for more in (9001, 9002):
            send(server, kind, more)
            until = time.monotonic() + 60
            while exported() != total(server, kind):
                assert time.monotonic() < until
                time.sleep(0.1)
    finally:
        running.terminate()
        running.wait(90)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real S3 server; the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    until = time.monotonic() + 60
    while True:
        try:
            httpx.put(f"http://127.0.0.1:{port}/bucket", trust_env=False, timeout=30)
            break
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.1)
    yield port
    process.terminate()
    process.wait(90)
    log.close()


def test_a_bucket_takes_exports_and_backups(
    run: Run, server: Server, kind: str, s3: int, tmp_path: Path
) -> None:
    options = f"?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{s3}"
    place = f"s3://key:secret@bucket/some/place{options}"
    said = ok(run("export", "readings", "--meter", kind, "--to", place, "--by", "month"))
    assert "secret" not in said
    assert "1 of 1 parts" in said
    assert "0 of 1 parts" in ok(run("export", "readings", "--meter", kind, "--to", place, "--by", "month"))
    files = pafs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        region="us-east-1",
        scheme="http",
        endpoint_override=f"127.0.0.1:{s3}",
    )
    table = pq.read_table("bucket/some/place/readings/month=2026-03/part.parquet", filesystem=files)
    assert sum(table["value"].to_pylist()) == total(server, kind)

    place = f"s3://key:secret@bucket/backup{options}"
    ok(run("backup", place))
    ok(run("backup", "verify", place))
    ok(run("restore", place, "--data-dir", str(tmp_path / "new")))
    again = Server(tmp_path / "new").start()
    try:
        assert total(again, kind) == total(server, kind)
    finally:
        again.stop()


def test_refused(run: Run, tmp_path: Path) -> None:
    for words, said in (
        (("readings",), "needs --meter"),
        (("usage", "--meter", "m", "--type", "t"), "no --type"),
        (("usage", "--meter", "m", "--window", "month"), "--by month"),
        (("events", "--every", "often"), "ISO 8601"),
        (("readings", "--meter", "no-such-meter"), "no-such-meter"),
    ):
        result = run("export", *words, "--to", str(tmp_path / "e"))
        assert result.returncode == 1
        assert said in result.stderr
    assert not (tmp_path / "e").exists()
