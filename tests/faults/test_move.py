"""An embedded installation moves to a cluster under load, and a cluster to more partitions; both are killed on the way:
nothing lost, nothing doubled, and the same figures before and after."""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from tests.cluster.account import METER, Bookkeeper
from tests.cluster.load import ClusterClient, Load
from tests.cluster.processes import Cluster, Member, unusual
from tests.faults.server import KEY, Server
from tests.loopback import PLAIN
from tests.patience import patience

pytestmark = pytest.mark.slow

PARTITIONS = 4
READ_ONLY_S_MAX = 20.0
"""On a machine that does other things beside; a second or two on one that does not."""


def _migrate(url: str, to: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tallystick.cli.main", "migrate", "--to", str(to), "--url", url],
        env=os.environ | {"TALLYSTICK_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_moving_to_a_cluster_under_load(
    tmp_path: Path, make_server: Callable[..., Server], seed: int
) -> None:
    chance = random.Random(seed)
    server = make_server(tmp_path / "data", record_batch_events_max=5_000)
    server.start()
    server.meter("n", **METER)
    server.meter("most", event_type="call", aggregation="max", value="$.n")
    client = ClusterClient(0, seed, ports=[server.port])
    with Load(client, events_per_s=20_000):
        time.sleep(2.0)
    corrected, gone = ({"id": f"own-{n}", "source": "/own", "type": "own", "subject": "s"} for n in (1, 2))
    own = [corrected, gone]
    assert server.request("POST", "/v1/events?wait=recorded", json=own).status_code == 200
    correction = {
        "reason": "a test",
        "retract": [{"source": "/own", "id": "own-2"}],
        "replace": [corrected | {"data": {"a": 1}}],
    }
    assert server.request("POST", "/v1/events/corrections", json=correction).status_code == 200
    assert server.request("POST", "/v1/backfills", json={"key": "b", "reason": "r"}).status_code == 201
    staged = [
        {"id": f"st-{n}", "source": "/own", "type": "call", "subject": "s", "data": {"n": 0}}
        for n in range(9)
    ]
    assert server.request("POST", "/v1/backfills/b/events", json=staged).status_code in (
        200,
        202,
    )
    server.meter("kept", event_type="kept", aggregation="sum", value="$.n")
    limit = {"key": "all", "customer": "*", "meter": "kept", "amount": 10**9, "period": "month"}
    assert server.request("POST", "/v1/limits", json=limit).status_code == 201
    asked = {"customer": "s", "meter": "kept", "amount": 3, "ttl_seconds": 3600}
    held, used, given = (
        server.request("POST", "/v1/reservations", json=asked).json()["id"] for _ in range(3)
    )
    assert server.request("POST", f"/v1/reservations/{used}/settle", json={}).status_code == 200
    before = server.usage("n")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    cluster = Cluster(
        tmp_path / "cluster", partitions=PARTITIONS, apis=1, recorders=2, workers=0, nats=1, warm=True
    )
    try:
        cluster.start_backends()
        to = tmp_path / "cluster.toml"
        to.write_text("".join(f"{k} = {v!r}\n".replace("'", '"') for k, v in cluster.urls().items()))
        with Load(client, connections=2, events_per_s=2_000):
            # Killed on the way, and taken up again.
            began = server.request("POST", "/v1/admin/move", json=cluster.urls())
            assert began.status_code == 202, began.text
            time.sleep(chance.uniform(0.3, 2.0))
            server.kill()
            server.start()
            done = _migrate(server.url, to)
            assert done.returncode == 0, done.stdout + done.stderr + server.unusual()
            print(done.stdout + done.stderr)
        found = re.search(r"Read-only for ([0-9.]+) s", done.stdout + done.stderr)
        assert found is not None
        assert float(found[1]) < READ_ONLY_S_MAX * patience()
        # It answers, takes nothing in, and remembers that.
        refused = server.request("POST", "/v1/events", json=own)
        assert (refused.status_code, refused.json()["code"]) == (503, "moved")
        assert refused.headers["retry-after"]
        assert server.request("POST", "/v1/meters", json={"key": "x", **METER}).status_code == 503
        last = server.usage("n")
        server.kill()
        server.start(wait=False)
        server._wait_until_ready()
        assert server.request("POST", "/v1/events", json=own).status_code == 503
        assert server.usage("n")["rows"] == last["rows"]

        cluster.start_members()
        assert cluster.usage("n") == last["rows"]
        assert cluster.usage("most") == server.usage("most")["rows"]
        assert cluster.usage("n", as_of=moment) == server.usage("n", as_of=moment)["rows"]
        assert before["rows"]
        client.ports = [cluster.of_role("api")[0].port]
        again = cluster.request("POST", "/v1/events?wait=recorded", json=own).json()
        # The original content is a duplicate of what was recorded first, whatever became of it.
        assert (again["recorded"], again["duplicates"] + again["conflicts"]) == (0, 2), again
        with Load(client, events_per_s=2_000):
            time.sleep(2.0)
        keeper = Bookkeeper(cluster, client)
        keeper.settle()
        closed = cluster.request("POST", "/v1/backfills/b/close")
        assert closed.status_code == 200, closed.text
        seen = cluster.request("GET", "/v1/events/lookup", params={"source": "/own", "id": "own-1"}).json()
        assert len(seen["corrections"]) == 1
        for name, state in ((held, "held"), (used, "settled"), (given, "held")):
            assert cluster.request("GET", f"/v1/reservations/{name}").json()["state"] == state
        assert cluster.request("POST", f"/v1/reservations/{given}/settle", json={}).status_code == 200
        check = cluster.request("POST", "/v1/check", json={"customer": "s", "meter": "kept", "amount": 1})
        assert (check.json()["held"], check.json()["used"]) == ("3", "6"), check.text
        account = keeper.check()
        print(account)
        assert account.balances, account
        assert account.recorded == account.identities
    finally:
        cluster.stop()


def test_a_cluster_moves_to_more_partitions_under_load(tmp_path: Path, seed: int) -> None:
    """On the same servers, with other streams and databases. All processes but one are stopped for it."""
    chance = random.Random(seed)
    cluster = Cluster(
        tmp_path / "cluster",
        partitions=2,
        apis=1,
        recorders=1,
        workers=0,
        nats=1,
        warm=True,
        role="api,recorder,worker",
    )
    try:
        cluster.start()
        old, other = cluster.members["api-1"], cluster.members["recorder-1"]
        cluster.meter("n", **METER)
        client = ClusterClient(0, seed, ports=[old.port, other.port])
        with Load(client, events_per_s=4_000):
            time.sleep(2.0)
        own = [{"id": f"own-{n}", "source": "/own", "type": "own", "subject": "s"} for n in range(16)]
        assert cluster.request("POST", "/v1/events?wait=recorded", json=own).status_code == 200
        correction = {"reason": "a test", "retract": [{"source": "/own", "id": one["id"]} for one in own[:4]]}
        correction["replace"] = [one | {"data": {"a": 1}} for one in own[4:8]]
        assert cluster.request("POST", "/v1/events/corrections", json=correction).status_code == 200
        assert cluster.request("POST", "/v1/backfills", json={"key": "b", "reason": "r"}).status_code == 201
        staged = [
            {"id": f"st-{n}", "source": "/own", "type": "call", "subject": "s", "data": {"n": 0}}
            for n in range(9)
        ]
        assert cluster.request("POST", "/v1/backfills/b/events", json=staged).status_code in (200, 202)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

        here, there = cluster.urls(), _beside(cluster, partitions=4)
        to = tmp_path / "more.toml"

        def refused(urls: dict[str, Any]) -> str:
            _write(to, urls)
            asked = _migrate(old.url, to)
            assert asked.returncode != 0
            return " ".join((asked.stdout + asked.stderr).split())

        assert "Other processes record partitions" in refused(there)
        other.terminate()
        cluster.wait_recording()
        assert "a multiple of that" in refused({**there, "partitions": 3})
        assert "Name others" in refused({**there, "log_url": here["log_url"]})
        _write(to, there)
        client.ports = [old.port]
        with Load(client, connections=2, events_per_s=1_000):
            for step in ("", "read-only"):  # killed somewhere, and once nothing is taken in any more
                began = cluster.request("POST", "/v1/admin/move", json=there)
                assert began.status_code == 202, began.text
                time.sleep(chance.uniform(0.1, 1.0) if not step else 0)
                _until_move_is_at(old, step)
                old.kill()
                old.start()
                old.wait_live()
                cluster.wait_recording()
            done = _migrate(old.url, to)
            assert done.returncode == 0, done.stdout + done.stderr + unusual(old)
        print(done.stdout + done.stderr)
        found = re.search(r"Read-only for ([0-9.]+) s", done.stdout + done.stderr)
        assert found is not None
        assert float(found[1]) < READ_ONLY_S_MAX
        before, as_of = _usage(old, "n"), _usage(old, "n", as_of=moment)
        # Whoever else starts with the old settings takes nothing in either.
        other.start()
        other.wait_live()
        for member in (old, other):
            answer = _ask(member, "POST", "/v1/events", json=own)
            assert (answer.status_code, answer.json()["code"]) == (503, "moved")
            assert answer.headers["retry-after"]
        for member in (old, other):
            member.terminate()

        for name, member in cluster.members.items():
            member.settings = there | {"role": "api,recorder" if name == "api-1" else "recorder,worker"}
            member.directory = tmp_path / f"more-{name}"
            member.start()
        old.wait_live()
        cluster.wait_recording()
        cluster.database, cluster.partitions = "more", there["partitions"]
        assert cluster.usage("n") == before
        assert cluster.usage("n", as_of=moment) == as_of
        again = cluster.request("POST", "/v1/events?wait=recorded", json=own).json()
        assert (again["recorded"], again["duplicates"] + again["conflicts"]) == (0, len(own)), again
        with Load(client, events_per_s=1_000):
            time.sleep(1.0)
        keeper = Bookkeeper(cluster, client)
        keeper.settle()
        assert cluster.request("POST", "/v1/backfills/b/close").status_code == 200
        retract = {"reason": "again", "retract": [{"source": "/own", "id": one["id"]} for one in own[8:]]}
        assert cluster.request("POST", "/v1/events/corrections", json=retract).status_code == 200
        account = keeper.check()
        print(account)
        assert account.balances, account
        assert account.recorded == account.identities
    finally:
        cluster.stop()


def _beside(cluster: Cluster, *, partitions: int) -> dict[str, Any]:
    """Another installation on the servers of this one."""
    with psycopg.connect(cluster.catalog_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE more")
    store_url = cluster.front.url("more")
    parts = urlsplit(store_url)
    assert parts.username is not None
    assert parts.password is not None
    made = httpx.post(
        f"{parts.scheme}://{parts.hostname}:{parts.port}/",
        content="CREATE DATABASE more",
        auth=(parts.username, parts.password),
        verify=PLAIN,
    )
    assert made.status_code == 200, made.text
    return {
        "log_url": cluster.servers.url("more"),
        "store_url": store_url,
        "catalog_url": cluster.catalog_url.removesuffix("postgres") + "more",
        "partitions": partitions,
    }


def _until_move_is_at(member: Member, step: str) -> None:
    until = time.monotonic() + 120
    while True:
        seen = _ask(member, "GET", "/v1/admin/move").json()
        if seen["step"].startswith(step):
            return
        assert seen["state"] == "running", seen
        assert time.monotonic() < until, seen
        time.sleep(0.005)


def _write(to: Path, urls: dict[str, Any]) -> None:
    to.write_text("".join(f"{k} = {v!r}\n".replace("'", '"') for k, v in urls.items()))


def _ask(member: Member, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.request(method, member.url + path, headers=headers, verify=PLAIN, timeout=30, **options)


def _usage(member: Member, meter: str, **parameters: Any) -> list[dict[str, Any]]:
    """As Cluster.usage asks, of a process that takes nothing in any more."""
    document = {"from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z", **parameters}
    answer = _ask(member, "POST", f"/v1/meters/{meter}/usage", json=document)
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]
