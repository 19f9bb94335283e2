"""Folders and buckets (a real S3 server on loopback) through a running system: each row once, whatever happens to objects."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from moto.server import ThreadedMotoServer
from tests.api.questions.live import ADMIN_KEY, Live, Tenant, opened
from tests.sources.waiting import settled, state_of, total, until

from tallystick.flows.sources import feed

BUCKET = "usage"
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=BUCKET)
    client.endpoint = f"http://{host}:{port}"
    yield client
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYSTICK_SECRET_S3", "secret")
        patch.setattr(feed, "FULL_S", 0.2)
        with opened(tmp_path_factory.mktemp("live"), sources="all", dead_letters_max=100) as live:
            live.directory = Path(live.system.settings.data_dir) / "sources"  # type: ignore[attr-defined]
            yield live


@pytest.fixture(scope="module")
def root(live: Live) -> Tenant:
    tenant = Tenant(live, "default", ADMIN_KEY)
    for kind in ("a", "b", "c", "d", "many"):
        tenant.meter(key=f"sum-{kind}", event_type=kind, aggregation="sum", value="$.n")
    return tenant


def csv_of(*rows: tuple[str, Any]) -> bytes:
    lines = ["id,subject,time,n", *(f"{name},acme,2026-05-01T00:00:00Z,{n}" for name, n in rows)]
    return ("\n".join(lines) + "\n").encode()


def put(path: Path, body: bytes) -> None:
    """A file that is there all at once."""
    passing = path.with_name(f".{path.name}")
    passing.write_bytes(body)
    passing.replace(path)


def folder(root: Tenant, key: str, **more: Any) -> Path:
    """A source over a folder of its own."""
    directory = Path(root.live.system.settings.data_dir) / "sources" / key
    directory.mkdir(parents=True)
    definition = {
        "key": key,
        "kind": "folder",
        "settings": {"dir": key, "settle_seconds": 0, "every_seconds": 1},
        "mapping": {"type": key},
        **more,
    }
    made = root.post("/v1/sources", definition)
    assert made.status_code == 201, made.text
    return directory


def test_every_format_once_and_replaced_ones_as_corrections(root: Tenant) -> None:
    directory = folder(root, "a")
    put(directory / "a.csv", csv_of(("a1", 1), ("a2", 2), ("a3", 4)))
    put(directory / "b.csv.gz", gzip.compress(csv_of(("b1", 10))))
    line = b'{"id":"c1","type":"a","subject":"acme","time":"2026-05-01T00:00:00Z","data":{"n":100}}\n'
    put(directory / "c.ndjson.zst", zstandard.compress(line))
    table = {"id": ["d1"], "subject": ["acme"], "time": ["2026-05-01T00:00:00Z"], "n": [1000]}
    parquet = io.BytesIO()
    pq.write_table(pa.table(table), parquet)
    put(directory / "d.parquet", parquet.getvalue())
    put(directory / "copy.csv", (directory / "a.csv").read_bytes())
    settled(root, "a", 9)
    assert total(root, "sum-a") == 1117

    put(directory / "a.csv", csv_of(("a1", 5), ("a3", 4), ("a4", 7)))
    (directory / "copy.csv").unlink()
    until(lambda: total(root, "sum-a") == 5 + 4 + 7 + 1110)

    def counted() -> bool:
        parts = {one["part"]: one["state"] for one in root.answer("/v1/sources/a")["progress"]}
        return (parts["o/a.csv"]["replaced"], parts["o/a.csv"]["retracted"]) == (1, 1)

    until(counted)

    # Back to what it was: what was retracted is restored.
    put(directory / "a.csv", csv_of(("a1", 1), ("a2", 2), ("a3", 4)))
    until(lambda: total(root, "sum-a") == 1117)


def test_a_dead_letter_is_mended_and_is_one_event(root: Tenant) -> None:
    directory = folder(root, "b")
    body = csv_of(("x1", 1), ("x2", 2)).replace(b"x2,acme", b"x2,")
    put(directory / "b.csv", body + b"half a line\n")
    state = settled(root, "b", 1)
    assert (state["rejected"], state["dead_letters"]) == (2, 2)
    path = directory / "b.csv.rejects.ndjson"
    report = [json.loads(one) for one in until(path.exists) and path.read_text().splitlines()]
    assert {(one["row"], one["code"]) for one in report} == {(3, "missing_subject"), (4, "invalid_row")}

    letters = root.answer("/v1/dead_letters?source=b")["items"]
    bad = next(one for one in letters if one["code"] == "missing_subject")
    assert root.post(f"/v1/dead_letters/{bad['id']}/retry").json()["status"] == "open"
    event = {**json.loads(bad["raw"]), "subject": "acme"}
    path = f"/v1/dead_letters/{bad['id']}"
    assert root.send("PUT", path, json={"raw": json.dumps(event)}).json()["edited"] is True
    done = root.post(f"{path}/retry").json()
    assert (done["status"], done["event"]) == ("retried", {"source": "/", "id": "x2"})
    assert total(root, "sum-b") == 3
    assert root.post(f"{path}/retry").status_code == 409
    assert root.send("PUT", path, json={"raw": "{}"}).json()["code"] == "dead_letter_closed"

    # All of them, twice: what is no record stays, and nothing counts again.
    for _ in range(2):
        assert root.post("/v1/dead_letters/retry", {"source": "b"}).json() == {
            "retried": 0,
            "refused": 1,
            "more": False,
        }
    rest = root.answer("/v1/dead_letters?source=b")["items"]
    fixed = {"subject": "acme", "time": "2026-05-01T00:00:00Z", "n": 40}
    assert root.send("PUT", f"/v1/dead_letters/{rest[0]['id']}", json={"raw": json.dumps(fixed)}).is_success
    assert root.post("/v1/dead_letters/retry").json()["retried"] == 1
    assert total(root, "sum-b") == 43
    # The object is put right: what was mended is in it now, and what is not any more goes.
    put(directory / "b.csv", csv_of(("x1", 1), ("x2", 2), ("x3", 4)))
    until(lambda: total(root, "sum-b") == 7)
    until(lambda: not (directory / "b.csv.rejects.ndjson").exists())


def test_a_bucket(root: Tenant, s3: Any) -> None:
    def put(name: str, body: bytes) -> None:
        s3.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=body)

    def row(name: str, n: Any) -> bytes:
        return json.dumps({"request": {"id": name, "who": "acme"}, "n": n, "ok": n != 0}).encode() + b"\n"

    put("z.ndjson", row("z1", 1) + row("z2", 2) + row("z0", 0))
    put("cut.ndjson.gz", gzip.compress(row("cut", 5))[:-6])
    stream = io.BytesIO()
    pq.write_table(pa.table({"request": [{"id": "p1", "who": "acme"}], "n": [8], "ok": [True]}), stream)
    put("p.parquet", stream.getvalue())
    definition = {
        "key": "c",
        "kind": "bucket",
        "settings": {
            "url": f"s3://{BUCKET}/in",
            "endpoint": s3.endpoint,
            "region": "us-east-1",
            "access_key_id": "key",
            "secret_access_key": "${TALLYSTICK_SECRET_S3}",
            "every_seconds": 1,
            "rejected_prefix": "refused",
        },
        "mapping": {
            "id": "$.request.id",
            "type": "c",
            "subject": "request.who",
            "data": {"raw": "n"},
            "compute": {"data.n": "data.n * 10"},
            "where": "data.ok",
        },
    }
    made = root.post("/v1/sources", definition)
    assert made.status_code == 201, made.text
    assert "secret" not in json.dumps(made.json()["settings"]).replace(
        "secret_access_key", ""
    ).lower().replace("tallystick_secret_s3", "")
    settled(root, "c", 3)
    # Of the object that is cut off in its last bytes the row before the cut is there, and counts.
    until(lambda: total(root, "sum-c") == 160)
    letters = until(lambda: root.answer("/v1/dead_letters?source=c")["items"])
    assert [one["code"] for one in letters] == ["unreadable_object"]
    listed = until(lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix="in/refused/").get("Contents"))
    assert [one["Key"] for one in listed] == ["in/refused/cut.ndjson.gz.rejected.ndjson"]

    # Late, by name before what was taken; put again as it was; replaced; mended.
    put("a.ndjson", row("y1", 3))
    put("z.ndjson", row("z1", 1) + row("z2", 2) + row("z0", 0))
    put("again.ndjson", row("z1", 1))
    put("cut.ndjson.gz", gzip.compress(row("cut", 5)))
    until(lambda: total(root, "sum-c") == 190)
    put("z.ndjson", row("z1", 1) + row("z2", 4))
    until(lambda: total(root, "sum-c") == 210)
    assert root.answer("/v1/dead_letters?source=c")["items"] == []
    until(lambda: "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="in/refused/"))


def test_rows_without_ids_are_of_their_object(root: Tenant) -> None:
    directory = folder(root, "d")
    body = b"subject,time,n\n" + b"acme,2026-05-01T00:00:00Z,1\n" * 3
    put(directory / "one.csv", body)
    put(directory / "two.csv", body)
    settled(root, "d", 6)
    assert total(root, "sum-d") == 6
    put(directory / "two.csv", body[: -len(b"acme,2026-05-01T00:00:00Z,1\n")])
    until(lambda: total(root, "sum-d") == 5)


def test_a_changed_definition_goes_on_and_too_many_letters_hold_it_up(root: Tenant) -> None:
    directory = folder(root, "many")
    put(directory / "1.csv", csv_of(("m1", 1), ("m2", 2)))
    settled(root, "many", 2)
    settings = {"dir": "many", "settle_seconds": 0, "every_seconds": 1}
    mapping = {"type": "many", "where": "data.n != 4"}
    etag = root.get("/v1/sources/many").headers["etag"]
    changed = root.send(
        "PUT",
        "/v1/sources/many",
        json={"kind": "folder", "settings": settings, "mapping": mapping},
        headers={"if-match": etag},
    )
    assert changed.status_code == 200, changed.text
    assert root.send(
        "PUT", "/v1/sources/many", json={"kind": "bucket", "settings": {"url": "s3://b"}}
    ).json()["code"] in ("kind_immutable", "invalid")
    put(directory / "2.csv", csv_of(("m3", 4), ("m4", 8)))
    until(lambda: total(root, "sum-many") == 11)

    bad = csv_of(*((f"bad{at}", 1) for at in range(150))).replace(b",acme,", b",,")
    put(directory / "3.csv", bad + b"m5,acme,2026-05-01T00:00:00Z,16\n")
    state = until(lambda: (state_of(root, "many")["status"] == "waiting" and state_of(root, "many")) or None)
    assert state["fault"].startswith("dead_letters_full")
    assert state["dead_letters"] == 100
    assert root.post("/v1/dead_letters/discard", {"source": "many"}).json() == {
        "discarded": 100,
        "more": False,
    }
    until(lambda: state_of(root, "many")["dead_letters"] == 50)
    until(lambda: total(root, "sum-many") == 27)
    until(lambda: state_of(root, "many")["rejected"] == 150)


def test_pause_resume_archive_and_faults(root: Tenant) -> None:
    made = root.post(
        "/v1/sources", {"key": "gone", "kind": "folder", "settings": {"dir": "nowhere"}, "paused": True}
    )
    assert made.json()["state"]["status"] == "paused"
    etag = made.headers["etag"]
    assert root.post("/v1/sources/gone/resume").status_code == 200
    state = until(lambda: (state_of(root, "gone")["fault"] and state_of(root, "gone")) or None)
    assert (state["status"], "no folder" in state["fault"]) == ("failed", True)
    stale = root.send("PUT", "/v1/sources/gone", json={"kind": "folder"}, headers={"if-match": etag})
    assert stale.status_code in (412, 422)
    figures = root.live.send("GET", "/metrics").text
    assert 'tallystick_source_up{kind="folder"' in figures
    assert root.send("DELETE", "/v1/sources/gone").status_code == 204
    assert state_of(root, "gone")["status"] == "archived"
    assert "gone" not in [one["key"] for one in root.answer("/v1/sources")["items"]]
    assert root.post("/v1/sources/gone/pause").json()["code"] == "source_archived"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"dir": "../.."}, "source_outside"),
        ({"dir": "/etc"}, "source_outside"),
        ({}, "missing"),
        ({"dir": "x", "nonsense": 1}, "unknown_member"),
    ],
)
def test_what_a_folder_may_not_be(root: Tenant, settings: Any, code: str) -> None:
    answer = root.post("/v1/sources", {"key": "x", "kind": "folder", "settings": settings})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, code), answer.text


def test_secrets_are_named_and_belong_to_their_tenant(live: Live, root: Tenant) -> None:
    other = live.tenant()

    def ask(tenant: Tenant, secret: str) -> list[str]:
        settings = {"url": "s3://b", "secret_access_key": secret}
        answer = tenant.post(
            "/v1/sources", {"key": "s", "kind": "bucket", "settings": settings, "paused": True}
        )
        return [one["code"] for one in answer.json().get("errors", [])]

    assert ask(root, "in the open") == ["secret_in_the_open"]
    assert ask(other, "${TALLYSTICK_SECRET_S3}") == ["secret_not_allowed"]
    assert ask(root, "${TALLYSTICK_ADMIN_KEY}") == ["secret_not_allowed"]
    assert ask(other, f"${{TALLYSTICK_SECRET_{other.key.upper()}__S3}}") == []
    assert root.get("/v1/sources/s").status_code == 404
    assert root.get("/v1/dead_letters").json()["items"] is not None


def test_letters_of_another_tenant_are_nobodys(live: Live, root: Tenant) -> None:
    other = live.tenant()
    number = root.answer("/v1/dead_letters?status=any")["items"][0]["id"]
    assert other.answer("/v1/dead_letters?status=any")["items"] == []
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        assert other.send(method, f"/v1/dead_letters/{number}{path}").status_code == 404


def test_faults_of_a_definition_all_at_once(root: Tenant) -> None:
    answer = root.post(
        "/v1/sources",
        {
            "key": "k",
            "kind": "kafka",
            "format": "csv",
            "settings": {"topics": [], "start": "x"},
            "mapping": {"compute": {"data.n": "data.n +", "nope": "1"}, "where": "unknown > 1"},
        },
    )
    found = {(one["pointer"], one["code"]) for one in answer.json()["errors"]}
    assert ("/settings/brokers", "missing") in found
    assert ("/format", "invalid_value") in found
    assert ("/mapping/where", "unknown_variable") in found
    assert ("/mapping/compute/data.n", "invalid_expression") in found
    assert ("/mapping/compute/nope", "unknown_member") in found
