"""`tallystick collect` over a folder, against a really running server."""

import gzip
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
EVER = ("--from", "2020-01-01", "--to", "2040-01-01")
TYPE = "collected"


def csv_of(*rows: tuple[str, int]) -> bytes:
    lines = ["id,subject,time,n", *(f"{name},acme,2026-05-01T00:00:00Z,{n}" for name, n in rows)]
    return ("\n".join(lines) + "\n").encode()


def test_each_object_once_replaced_ones_as_corrections(run: Run, tmp_path: Path, server: Any) -> None:
    import httpx

    headers = {"authorization": "Bearer dev"}
    meter = {"key": "collected", "event_type": TYPE, "aggregation": "sum", "value": "$.n"}
    made = httpx.post(f"{server.url}/v1/meters", json=meter, headers=headers, trust_env=False)
    assert made.status_code == 201, made.text
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    mapping = tmp_path / "m.yaml"
    mapping.write_text(f"id: id\ntype: {TYPE}\n")

    def total() -> int:
        asked = {"from": "2020-01-01T00:00:00Z", "to": "2040-01-01T00:00:00Z"}
        answer = httpx.post(
            f"{server.url}/v1/meters/collected/usage", json=asked, headers=headers, trust_env=False
        )
        return int(answer.json()["rows"][0]["value"])

    def collect(*more: str) -> tuple[int, list[dict[str, Any]]]:
        ended = run(
            "collect", "--dir", str(folder), "--mapping", str(mapping), "--every", "0", "--settle", "0", *more
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]

    (folder / "a.csv").write_bytes(csv_of(("a1", 1), ("a2", 2), ("a3", 4)))
    (folder / "deep" / "b.csv.gz").write_bytes(gzip.compress(csv_of(("b1", 10))))
    (folder / "c.csv.zst").write_bytes(zstandard.compress(csv_of(("c1", 100))))
    table = {"id": ["d1"], "subject": ["acme"], "time": ["2026-05-01T00:00:00Z"], "n": [1000]}
    pq.write_table(pa.table(table), folder / "d.parquet")
    (folder / "copy.csv").write_bytes((folder / "a.csv").read_bytes())
    (folder / "notes.txt").write_text("not data")
    status, found = collect()
    assert status == 0
    assert [one["path"] for one in found] == ["a.csv", "c.csv.zst", "copy.csv", "d.parquet", "deep/b.csv.gz"]
    assert [one["events"] for one in found] == [3, 1, 0, 1, 1]
    assert total() == 1117

    os.utime(folder / "a.csv")  # touched, not changed
    assert collect() == (0, [])

    (folder / "copy.csv").unlink()
    (folder / "a.csv").write_bytes(csv_of(("a1", 1), ("a2", 20), ("a4", 8)))
    _, (one,) = collect()
    assert (one["events"], one["replaced"], one["retracted"]) == (1, 1, 1)
    assert total() == 1110 + 29

    (folder / "a.csv").write_bytes(csv_of(("a1", 1), ("a3", 4), ("a4", 8)))
    collect()  # a2 gone, a3 back
    assert total() == 1110 + 13

    (folder / "late.ndjson").write_text(
        '{"id":"l1","subject":"acme","time":"2026-01-01T00:00:00Z","n":5}\n'
        '{"id":"l2","subject":"","time":"2026-01-01T00:00:00Z","n":5}\nnonsense\n'
    )
    (folder / "torn.csv.gz").write_bytes(gzip.compress(csv_of(("t1", 7)))[:-4])
    status, found = collect()
    assert status == 1
    assert found[0]["refused"] == 2
    assert found[1]["fault"]
    report = [json.loads(line) for line in (folder / "late.ndjson.rejects.ndjson").read_text().splitlines()]
    assert sorted((each["row"], each["code"]) for each in report) == [
        (2, "missing_subject"),
        (3, "invalid_json"),
    ]
    before = total()

    (folder / "torn.csv.gz").write_bytes(gzip.compress(csv_of(("t1", 7), ("t2", 3))))
    (folder / ".tallystick" / "journal.ndjson").write_bytes(b"")  # forgotten: nothing counts twice
    collect()
    assert total() in (before + 10, before + 3)
    assert total() == 1110 + 13 + 5 + 10
