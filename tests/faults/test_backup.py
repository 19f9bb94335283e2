"""The commands `backup` and `restore` with a real server: under load, and killed in the middle."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.account import METER, settle
from tests.faults.client import Client
from tests.faults.server import KEY, Server

pytestmark = pytest.mark.slow

Make = Callable[..., Server]
ENDED_S_MAX = 120


def command(*words: str, server: Server | None = None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")}
    environment["TALLYSTICK_ADMIN_KEY"] = KEY
    if server is not None:
        environment |= {"TALLYSTICK_URL": server.url}
    return subprocess.Popen(
        [sys.executable, "-m", "tallystick.cli.main", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=ENDED_S_MAX)
    assert process.returncode == 0, said
    return said


def refused(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=ENDED_S_MAX)
    assert process.returncode == 1, said
    return said


def test_backup_under_load_and_restore_killed_and_repeated(
    make_server: Make, seed: int, tmp_path: Path
) -> None:
    server = make_server(tmp_path / "data")
    server.start()
    server.meter("n", **METER)
    client = Client(server.port, seed)
    asyncio.run(client.load(1.0))
    load = threading.Thread(target=lambda: asyncio.run(client.load(6.0)))
    load.start()
    done(command("backup", str(tmp_path / "b"), server=server))
    load.join()
    settle(server, client)
    manifest = (tmp_path / "b" / "manifest.json").read_text()
    assert "Sound" in done(command("backup", "verify", str(tmp_path / "b")))
    assert "finished backup" in refused(command("backup", str(tmp_path / "b"), server=server))
    as_of = server.request("GET", "/v1/admin/backups").json()["as_of"]
    then = server.usage("n", as_of=as_of)
    now = server.usage("n")
    assert 0 < int(then["rows"][0]["value"]) < int(now["rows"][0]["value"])
    assert server.terminate() == 0

    for wait_s in (0.0, 0.3):  # from the moment the data directory begins to be filled
        half = command("restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "new"))
        marker = tmp_path / "new" / "restore-unfinished"
        until = time.monotonic() + ENDED_S_MAX
        while not marker.exists():
            assert time.monotonic() < until
            assert half.poll() is None, half.communicate()
            time.sleep(0.005)
        time.sleep(wait_s)
        half.send_signal(signal.SIGKILL)
        half.communicate()
        if marker.exists():
            assert "not finished" in refused(command("serve", "--data-dir", str(tmp_path / "new")))
    if not marker.exists():
        pytest.skip("The restore was done before it could be killed.")
    done(command("restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "new")))
    again = make_server(tmp_path / "new")
    again.start()
    assert again.usage("n", as_of=as_of)["rows"] == then["rows"]
    # What was acknowledged when the backup was taken, and more that the client sends again, counts once.
    client.port = again.port
    settle(again, client)
    for batch in range(client.books.batches):
        body, _ = client._body(batch, conflicting=False)
        answer = again.request(
            "POST", "/v1/events", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 202, answer.text
    until = time.monotonic() + 120
    while again.usage("n")["rows"][0]["value"] != now["rows"][0]["value"] and time.monotonic() < until:
        time.sleep(0.2)
    assert again.usage("n")["rows"][0]["value"] == now["rows"][0]["value"]
    assert again.terminate() == 0
    assert (tmp_path / "b" / "manifest.json").read_text() == manifest


def test_backup_killed_in_the_middle_and_offline(make_server: Make, seed: int, tmp_path: Path) -> None:
    server = make_server(tmp_path / "data")
    server.start()
    server.meter("n", **METER)
    client = Client(server.port, seed)
    asyncio.run(client.load(1.0))
    settle(server, client)
    total = server.usage("n")["rows"]
    answer = server.request("POST", "/v1/admin/backups", json={"to": str(tmp_path / "b")})
    assert answer.status_code == 202, answer.text
    until = time.monotonic() + 90
    while not (tmp_path / "b" / "progress.json").exists() and time.monotonic() < until:
        time.sleep(0.001)
    server.kill()
    if not (tmp_path / "b" / "manifest.json").exists():
        assert "no finished backup" in refused(command("backup", "verify", str(tmp_path / "b")))
        done(command("backup", str(tmp_path / "b"), "--data-dir", str(tmp_path / "data")))
    done(command("backup", "verify", str(tmp_path / "b")))
    server.start()
    assert server.usage("n")["rows"] == total
    assert server.terminate() == 0
    done(command("restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "new")))
    again = make_server(tmp_path / "new")
    again.start()
    assert again.usage("n")["rows"] == total
