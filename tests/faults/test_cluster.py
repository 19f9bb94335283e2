"""A cluster of real processes, broken under load, round after round: the account balances by identity after each, and
every answer as of an earlier moment stays what it was. `-s` shows the account of each round.

TALLYSTICK_FAULT_ROUNDS sets how many rounds (each fault once), TALLYSTICK_FAULT_SEED repeats a run.
"""

import os
import random
import time
from pathlib import Path

import pytest
from tests.cluster.account import METER, Bookkeeper
from tests.cluster.faults import SUITE
from tests.cluster.load import ClusterClient, Load
from tests.cluster.namespace import why_not
from tests.cluster.processes import Cluster

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("TALLYSTICK_FAULT_ROUNDS") or len(SUITE))
FAULT_S = (0.5, 1.6)
EVENTS_PER_S = 1_500
GONE_EVENTS = 400
ERASED_S_MAX = 120.0


def test_a_cluster_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    # Each fault comes about as often as every other, in an order that the seed decides.
    order = [inflict for _ in range(-(-ROUNDS // len(SUITE))) for inflict in chance.sample(SUITE, len(SUITE))]
    obstacle = why_not()
    if obstacle is not None:
        print(f"cuts by closed ports alone: {obstacle}")
    with Cluster(tmp_path, partitions=4, cables=True, namespace=obstacle is None, warm=True) as cluster:
        cluster.meter("n", **METER)
        client = ClusterClient(0, seed, ports=[member.port for member in cluster.of_role("api")])
        keeper = Bookkeeper(cluster, client)
        leave(cluster)
        longest_s = 0.0
        for number, inflict in enumerate(order[:ROUNDS], 1):
            with Load(client, events_per_s=EVENTS_PER_S):
                time.sleep(0.2)
                since = time.monotonic()
                with inflict(cluster, chance) as what:
                    time.sleep(chance.uniform(*FAULT_S))
                time.sleep(0.3)
                until = time.monotonic()
            longest_s = max(longest_s, client.longest_pause_s(since, until))
            settling = time.monotonic()
            keeper.settle()
            settled_s = time.monotonic() - settling
            account = keeper.check()
            print(
                f"round {number}/{ROUNDS}: {what}; settled after {settled_s:.1f} s\n  {account}", flush=True
            )
            assert account.balances, f"{what}\n{account}"
            assert account.recorded == account.identities
        print(f"longest pause {longest_s:.2f} s; {len(keeper.kept)} answers as of earlier moments unchanged")
        check_gone(cluster)


def leave(cluster: Cluster) -> None:
    """A tenant that comes, sends, and is deleted: it is erased while everything else goes on."""
    key = cluster.request("POST", "/v1/tenants", json={"key": "gone"}).json()["admin_key"]
    events = [{"id": f"own-{n}", "source": "/s", "type": "call", "subject": "s"} for n in range(GONE_EVENTS)]
    sent = cluster.request(
        "POST", "/v1/events?wait=recorded", json=events, headers={"authorization": f"Bearer {key}"}
    )
    assert sent.status_code in (200, 202), sent.text
    assert cluster.request("DELETE", "/v1/tenants/gone").status_code == 204


def check_gone(cluster: Cluster) -> None:
    until = time.monotonic() + ERASED_S_MAX
    while True:
        audit = cluster.request("GET", "/v1/audit?resource=tenant/gone").json()["items"]
        if "tenant.erase" in {row["action"] for row in audit}:
            break
        assert time.monotonic() < until, audit
        time.sleep(0.5)
    left: list[int] = []
    for table in ("events", "forgotten"):
        statement = f"SELECT count() FROM {table} WHERE tenant = 'gone' FORMAT JSONCompactEachRow"
        ((count,),) = cluster.ask_store(statement)
        left.append(int(count))
    assert left == [0, GONE_EVENTS]
