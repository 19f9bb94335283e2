"""The commands as a person runs them, against a really running server."""

import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tallystick import __version__
from tallystick.cli.settings_page import settings_page

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]


def ok(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def summary(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(ok(result))


# -- words ------------------------------------------------------------------------------------------------------------
def test_version_and_help(run: Run) -> None:
    assert ok(run("--version")).strip() == __version__
    commands = (
        "serve",
        "demo",
        "ingest",
        "usage",
        "events",
        "meters",
        "explain",
        "apply",
        "doctor",
        "rebuild",
    )
    shown = ok(run("--help"))
    for command in commands:
        assert re.search(rf"\b{command}\b", shown)
        assert len(ok(run(command, "--help"))) > 200


def test_settings_page_is_the_table_of_settings() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()
    assert page == settings_page(), "run `make settings-docs`"


def test_errors_are_a_sentence(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = run("serve", "--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path / "d"))
        busy_demo = run("demo", "--port", str(port), "--data-dir", str(tmp_path / "e"))
    for result, wanted in (
        (run("usage", "no-such-meter"), "There is no meter 'no-such-meter'"),
        (run("usage", "x", "--key", "wrong"), "This key is not known"),
        (run("meters", "list", "--url", f"http://127.0.0.1:{port}"), "Nothing answers at"),
        (run("meters", "list", "--url", "nonsense"), "is not a URL"),
        (run("ingest", str(tmp_path / "none.csv")), "cannot be opened"),
        (run("usage", "x", "--filter", "nonsense"), "DIMENSION=VALUE"),
        (run("forecast", "backtest", "--csv", str(tmp_path / "none")), "there is no"),
        (busy, "--listen"),
        (busy_demo, "--port"),
    ):
        assert result.returncode == 1
        assert wanted in result.stderr
        assert "Traceback" not in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


# -- ingest -----------------------------------------------------------------------------------------------------------
def rows_of(number: int) -> list[dict[str, Any]]:
    chance = random.Random(number)
    return [
        {
            "call": f"c-{at}",
            "when": f"2026-03-0{at % 9 + 1}T00:00:{at % 60:02d}Z",
            "account": f"acme-{at % 7}",
            "n": f"{chance.randrange(10**6)}.{chance.randrange(100):02d}",
        }
        for at in range(number)
    ]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n")
    return str(path)


def write_ndjson(path: Path, rows: list[dict[str, Any]]) -> str:
    lines = [json.dumps({**row, "n": "@"}).replace('"@"', row["n"]) for row in rows]
    path.write_text("\n".join(lines))
    return str(path)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    table = pa.Table.from_pylist(rows)
    number = table.schema.get_field_index("n")
    pq.write_table(table.set_column(number, "n", table["n"].cast(pa.decimal128(20, 2))), path)
    return str(path)


@pytest.mark.parametrize("with_id", [True, False], ids=["ids", "digests"])
def test_the_same_rows_by_every_format_count_once(
    server: Any, run: Run, tmp_path: Path, with_id: bool
) -> None:
    kind = f"same.rows.{with_id}"
    meter = f"same_rows_{with_id}"
    rows = rows_of(5000)
    ok(
        run(
            "meters",
            "create",
            meter,
            "--event-type",
            kind,
            "--aggregation",
            "sum",
            "--value",
            "$.n",
            "--dimension",
            "account",
        )
    )
    options = [
        "--type",
        kind,
        "--subject",
        "account",
        "--time",
        "when",
        "--data",
        "n,account",
        "--summary",
        "json",
    ]
    options += ["--id", "call"] if with_id else []
    first = summary(run("ingest", write_csv(tmp_path / "a.csv", rows), *options))
    assert (first["recorded"], first["duplicates"], first["conflicts"], first["refused"]) == (5000, 0, 0, 0)
    usage = server.usage(meter, group_by="account")
    expected = {}
    for row in rows:
        whole, cents = row["n"].split(".")
        expected[row["account"],] = expected.get((row["account"],), 0) + int(whole) * 100 + int(cents)
    assert {group: round(float(value) * 100) for group, value in usage.items()} == expected
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    for path in (
        write_csv(tmp_path / "a.csv", rows),
        write_csv(tmp_path / "shuffled.csv", shuffled),
        write_ndjson(tmp_path / "b.ndjson", shuffled),
        write_parquet(tmp_path / "c.parquet", rows),
    ):
        again = summary(run("ingest", path, *options))
        assert (again["recorded"], again["duplicates"], again["conflicts"]) == (0, 5000, 0), path
        assert server.usage(meter, group_by="account") == usage


def test_refused_rows_are_named_and_kept(run: Run, tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"r{at}", "type": "refusals", "subject": "s"}) for at in range(4)]
    lines[1] = '{"id":"r1","type":"refusals"}'
    lines[2] = "nonsense"
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join(lines))
    rejects = tmp_path / "rejects.ndjson"
    result = run("ingest", str(path), "--rejects", str(rejects), "--summary", "json")
    assert result.returncode == 1
    told = json.loads(result.stdout)
    assert (told["recorded"], told["refused_by_reason"]) == (2, {"missing_subject": 1, "invalid_json": 1})
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert sorted((one["row"], one["code"]) for one in kept) == [(2, "missing_subject"), (3, "invalid_json")]
    path.write_text(lines[1])  # nothing of the request is taken: 422
    assert run("ingest", str(path), "--summary", "json").returncode == 1


def test_from_standard_input_and_dry_run(server: Any, run: Run) -> None:
    line = '{"id":"stdin-1","type":"stdin","subject":"s","data":{"n":1.50}}\n'
    assert ok(run("ingest", "-", "--format", "ndjson", "--dry-run", input=line)) == line
    assert summary(run("ingest", "-", "--format", "ndjson", "--summary", "json", input=line))["recorded"] == 1
    assert '"n": 1.50' in ok(run("events", "lookup", "stdin-1"))
    assert server.get("/v1/events/lookup", params={"id": "stdin-1"})["subject"] == "s"


def test_killed_half_way_and_taken_up(server: Any, tmp_path: Path) -> None:
    from .conftest import KEY, command_path, run_command

    rows = rows_of(300_000)
    path = write_csv(tmp_path / "big.csv", rows)
    state = tmp_path / "state"
    arguments = [
        "ingest",
        path,
        "--type",
        "killed",
        "--source",
        "killed",
        "--id",
        "call",
        "--subject",
        "account",
        "--time",
        "when",
        "--in-flight",
        "1",
    ]
    environment = {
        **os.environ,
        "TALLYSTICK_URL": server.url,
        "TALLYSTICK_KEY": KEY,
        "XDG_STATE_HOME": str(state),
    }
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            [command_path(), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Whatever a shell starts in the background ignores SIGINT, and so does all that it starts in turn.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        before = b""
        if number is signal.SIGKILL:
            give_up = time.monotonic() + 60
            while time.monotonic() < give_up and process.poll() is None and not list(state.rglob("*.json")):
                time.sleep(0.02)
        else:  # as soon as it has taken up what the first has left
            begun = (b"going on after row", b"Beginning anew")  # anew: where the server is far behind
            while not any(one in before for one in begun) and (line := process.stderr.readline()):
                before += line
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
        assert process.returncode != 0, f"it was done before it could be stopped: {before + told}"
        assert b"Traceback" not in before + told
    resumed = run_command(server.url, state, *arguments, "--summary", "json")
    assert "going on after row" in resumed.stderr
    told = summary(resumed)
    assert told["sent"] == len(rows)
    assert not list(state.rglob("*.json"))
    restarted = summary(run_command(server.url, state, *arguments, "--restart", "--summary", "json"))
    assert (restarted["recorded"], restarted["duplicates"], restarted["conflicts"]) == (0, len(rows), 0)


# -- questions --------------------------------------------------------------------------------------------------------
def test_usage_in_every_form(run: Run) -> None:
    ok(
        run(
            "meters",
            "create",
            "forms",
            "--event-type",
            "forms",
            "--aggregation",
            "sum",
            "--value",
            "$.n",
            "--dimension",
            "m",
        )
    )
    events = [
        {"id": f"f{at}", "type": "forms", "subject": "s", "data": {"n": 1234567.5, "m": "xy"[at % 2]}}
        for at in range(4)
    ]
    ok(run("ingest", "-", "--format", "ndjson", input="\n".join(map(json.dumps, events))))
    assert "4,938,270" in ok(run("usage", "forms"))
    assert "x  2,469,135" in ok(run("usage", "forms", "--group-by", "m", "--filter", "m=x,z"))
    assert json.loads(ok(run("usage", "forms", "--format", "json")))["rows"][0]["value"] == "4938270"
    csv = ok(run("usage", "forms", "--group-by", "m", "--format", "csv")).splitlines()
    assert csv[0] == "window_start,window_end,m,value"
    assert len(csv) == 3
    assert "nothing was used" in run("usage", "forms", "--customer", "nobody").stderr
    assert "counted" in ok(run("explain", "forms"))
    assert "f3" in ok(run("events", "--type", "forms", "--limit", "1"))
    assert len(ok(run("events", "--type", "forms", "--format", "json")).splitlines()) == 4


def test_apply_is_idempotent(server: Any, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "meters.yaml"
    text = "meters:\n- {key: applied, event_type: ap, aggregation: sum, value: $.n, dimensions: {a: $.a}}\n"
    path.write_text(text)
    assert "+ create applied" in ok(run("apply", str(path), "--dry-run"))
    assert run("meters", "show", "applied").returncode == 1
    ok(run("apply", str(path)))
    again = run("apply", str(path))
    assert ok(again) == ""
    assert "Nothing to do" in again.stderr
    assert server.get("/v1/meters/applied")["version"] == 1
    path.write_text(text.replace("{a: $.a}", "{a: $.x.a, b: $.b}"))
    shown = ok(run("apply", str(path)))
    assert "~ change applied" in shown
    assert "dimensions ~ a: $.a → $.x.a" in shown
    assert "dimensions + b: $.b" in shown
    assert server.get("/v1/meters/applied")["version"] == 2
    path.write_text(text.replace("sum", "summ").replace("$.a", "a"))
    wrong = run("apply", str(path))
    assert wrong.returncode == 1
    assert "meters.yaml:2" in wrong.stderr
    assert server.get("/v1/meters/applied")["version"] == 2


# -- doctor -----------------------------------------------------------------------------------------------------------
def test_doctor_finds_what_is_gone_and_mends_it(tmp_path: Path) -> None:
    from .conftest import Server, run_command

    server = Server(tmp_path / "data").start()

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_command(server.url, tmp_path / "state", *arguments, **options)

    directory = str(tmp_path / "data")
    try:
        ok(
            run(
                "meters",
                "create",
                "m",
                "--event-type",
                "t",
                "--aggregation",
                "sum",
                "--value",
                "$.n",
                "--dimension",
                "account",
            )
        )
        path = write_csv(tmp_path / "a.csv", rows_of(3000))
        ok(run("ingest", path, "--type", "t", "--subject", "account", "--time", "when", "--id", "call"))
        usage = server.usage("m", group_by="customer")
        assert len(usage) == 7
        assert json.loads(ok(run("doctor", "--full", "--format", "json")))["healthy"]
        in_use = run("doctor", "--data-dir", directory)
        assert in_use.returncode == 1
        assert "in use" in in_use.stderr
    finally:
        server.stop()
    assert json.loads(ok(run("doctor", "--data-dir", directory, "--format", "json")))["healthy"]
    # The recorder is told of one reading more than there is, as if one had been lost.
    # A roll-up that looks before the doctor does has the readings made anew: then there is nothing left to find.
    for _ in range(5):
        _lose_a_reading(tmp_path / "data")
        found = run("doctor", "--data-dir", directory, "--format", "json")
        if found.returncode != 0:
            break
    assert found.returncode == 1
    assert [one["code"] for one in json.loads(found.stdout)["findings"]] == ["readings_count"]
    ok(run("doctor", "--data-dir", directory, "--mend"))
    assert json.loads(ok(run("doctor", "--data-dir", directory, "--full", "--format", "json")))["healthy"]
    server.start()
    try:
        assert server.usage("m", group_by="customer") == usage
        assert "readings made anew, 3,000 of them" in run("rebuild").stderr
        assert "index made anew" in run("rebuild", "--part", "index").stderr
        again = run(
            "ingest",
            path,
            "--type",
            "t",
            "--subject",
            "account",
            "--time",
            "when",
            "--id",
            "call",
            "--summary",
            "json",
        )
        assert summary(again)["duplicates"] == 3000
        assert server.usage("m", group_by="customer") == usage
        assert run("doctor", "--key", "wrong").returncode == 1
    finally:
        server.stop()


def _lose_a_reading(directory: Path) -> None:
    with sqlite3.connect(directory / "recorder.sqlite") as connection:
        (table,) = connection.execute("select name from sqlite_master where type = 'table'").fetchone()
        columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
        for column in columns:
            for rowid, raw in connection.execute(f"select rowid, {column} from {table}").fetchall():
                if isinstance(raw, bytes) and b'"rows":3000' in raw:
                    changed = raw.replace(b'"rows":3000', b'"rows":3001')
                    connection.execute(f"update {table} set {column} = ? where rowid = ?", (changed, rowid))
                    return
    raise AssertionError("no coverage in the journal")


# -- demo -------------------------------------------------------------------------------------------------------------
def test_demo_makes_history_and_goes_on(tmp_path: Path) -> None:
    from .conftest import command_path

    for _ in range(2):
        process = subprocess.Popen(
            [command_path(), "demo", "--port", "0", "--days", "1", "--data-dir", str(tmp_path / "demo")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "tallystick events --limit 5" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
        told = "".join(lines) + rest
        assert process.returncode == 0, told
        assert "Traceback" not in told
        assert '"value":"' in told
        assert "has stopped" not in told


# -- pages ------------------------------------------------------------------------------------------------------------
PAGES = [
    "README.md",
    "docs/howto/quickstart.md",
    "docs/howto/meters.md",
    "docs/howto/ingest-files.md",
    "docs/howto/backup.md",
    "docs/howto/export.md",
    "docs/howto/retention.md",
    "docs/howto/limits.md",
    "docs/howto/access.md",
    "docs/howto/portal.md",
    "docs/howto/customers.md",
    "docs/howto/alerts.md",
    "docs/howto/corrections.md",
    "docs/howto/backfills.md",
    "docs/howto/formulas.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works_as_written(server: Any, page: str, tmp_path: Path) -> None:
    from .conftest import command_path

    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    if SHARED_DATA.is_dir():
        for path in SHARED_DATA.glob("*.csv"):
            (tmp_path / path.name).symlink_to(path)
    else:
        blocks = [block for block in blocks if "azure_llm_2023" not in block]
    script = "set -euo pipefail\n" + "\n".join(blocks).replace("http://127.0.0.1:8080", server.url)
    script = script.replace("curl -s ", "curl -sf ").replace("curl -sS ", "curl -sSf ")
    result = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=400,
        env={
            **os.environ,
            "PATH": f"{command_path().parent}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(tmp_path / "s"),
        },
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if page == "README.md":
        assert '"group":{"customer":"acme"},"value":"420"' in result.stdout
    if page.endswith("ingest-files.md") and SHARED_DATA.is_dir():
        answer = server.get("/v1/events", params={"type": "llm.requests", "limit": 1})
        assert answer["items"][0]["data"]["model"]
