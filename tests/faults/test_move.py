"""An embedded installation moves to a cluster under load, and is killed on the way: nothing lost, nothing doubled, and the
same figures before and after."""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.account import METER, Bookkeeper
from tests.cluster.load import ClusterClient, Load
from tests.cluster.processes import Cluster
from tests.faults.server import KEY, Server
from tests.patience import patience

pytestmark = pytest.mark.slow

PARTITIONS = 4
READ_ONLY_S_MAX = 20.0
"""On a machine that does other things beside; a second or two on one that does not."""


def _migrate(server: Server, to: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tallystick.cli.main", "migrate", "--to", str(to), "--url", server.url],
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
    before = server.usage("n")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    cluster = Cluster(tmp_path / "cluster", partitions=PARTITIONS, apis=1, recorders=2, workers=0, nats=1)
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
            done = _migrate(server, to)
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
        account = keeper.check()
        print(account)
        assert account.balances, account
        assert account.recorded == account.identities
    finally:
        cluster.stop()
