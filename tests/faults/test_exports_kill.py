"""kill -9 between any two steps of a continuous export: every row is in the files of exactly one manifest."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer
from tests.api.questions.lake_reader import manifests_of, rows_of
from tests.faults.server import Server

pytestmark = pytest.mark.slow

Make = Callable[..., Server]
STEPS = ("planned", "file", "file:2", "files", "manifest", "advanced")
WAIT_S = 120


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client: Any = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="lake")
    yield client
    client.close()
    server.stop()


def send(server: Server, numbers: range) -> None:
    events = [
        {
            "id": f"e{number}",
            "type": "call",
            "subject": f"c{number % 3}",
            "time": f"2026-07-{1 + number % 3:02d}T00:00:00Z",
            "data": {"n": number},
        }
        for number in numbers
    ]
    answer = server.request("POST", "/v1/events?wait=recorded", json=events)
    assert answer.status_code == 200, answer.text


def export_all(server: Server, count: int) -> None:
    """Until the export has so many rows."""
    until_s = time.monotonic() + WAIT_S
    while server.get("/v1/exports/usage")["state"]["rows"] < count:
        assert time.monotonic() < until_s, server.get("/v1/exports/usage")
        assert server.request("POST", "/v1/exports/usage/run").status_code == 202
        time.sleep(0.1)


def killed(server: Server, step: str, numbers: range) -> None:
    server.start(kill_at_step=f"exports_{step}", wait=False)
    until_s = time.monotonic() + WAIT_S
    while server.exit_code is None:
        assert time.monotonic() < until_s, step
        with contextlib.suppress(httpx.TransportError):  # not there yet, or gone already
            send(server, numbers)
            server.request("POST", "/v1/exports/usage/run")
        time.sleep(0.1)
    assert server.exit_code == -9


def downloaded(bucket: Any, root: Path) -> None:
    listed = bucket.list_objects_v2(Bucket="lake", Prefix="some/default/usage/")
    for one in listed["Contents"]:
        path = root / one["Key"].removeprefix("some/default/usage/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.get_object(Bucket="lake", Key=one["Key"])["Body"].read())


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_killed_at_each_step(
    make_server: Make, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    if kind == "bucket":
        client = request.getfixturevalue("bucket")
        url, endpoint = "s3://lake/some", client.meta.endpoint_url
    else:
        client, url, endpoint = None, f"file://{tmp_path}/out", ""
    server = make_server(export_urls=url, export_s3_endpoint=endpoint)
    server.start()
    server.meter("n", event_type="call", aggregation="sum", value="$.n")
    made = server.request(
        "POST", "/v1/exports", json={"key": "usage", "what": "usage", "url": url, "every": "P1D"}
    )
    assert made.status_code == 201, made.text
    server.kill()
    for index, step in enumerate(STEPS):
        killed(server, step, range(index * 30, index * 30 + 30))
    server.start()
    count = 30 * len(STEPS)
    send(server, range(count))  # what did not arrive
    export_all(server, count)

    root = tmp_path / "out" / "default" / "usage"
    if client is not None:
        downloaded(client, root)
    rows = rows_of(root)
    summed = Counter[int]()
    for row in rows:
        summed[int(row["value"])] += row["sign"]
    assert summed == dict.fromkeys(range(count), 1)
    (usage,) = server.usage("n")["rows"]
    assert sum(row["value"] * row["sign"] for row in rows) == int(usage["value"])
    # What was killed in between has left nothing beside what counts, because it was written again under its name.
    named = {file["path"] for manifest in manifests_of(root) for file in manifest["files"]}
    assert {str(path.relative_to(root)) for path in (root / "data").rglob("*.parquet")} == named
