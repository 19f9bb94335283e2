"""A whole cluster on this machine, broken part by part under load: `make cluster`.

Starts three NATS servers, PostgreSQL, a ClickHouse front, two API nodes, two recorders and a worker on loopback, sends
events with duplicates and conflicts among them, kills (-9) and freezes every part in turn, and prints the account after
each. Ends with 1 when it does not balance.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.account import METER, Bookkeeper
from tests.cluster.faults import EACH_PART
from tests.cluster.load import ClusterClient, Load
from tests.cluster.processes import Cluster


def main() -> int:
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--fault-seconds", type=float, default=3.0, help="how long each fault lasts")
    parser.add_argument("--events-per-second", type=float, default=3_000, help="of the load; 0: all it can")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 2**24))
    parser.add_argument("--directory", type=Path, help="keep what is written there")
    given = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # so that everything is stopped
    directory = given.directory or Path(tempfile.mkdtemp(prefix="tallystick-cluster-"))
    directory.mkdir(parents=True, exist_ok=True)
    chance = random.Random(given.seed)
    print(f"seed {given.seed}, logs in {directory}; starting …", flush=True)
    began = time.monotonic()
    balances = False
    with Cluster(directory, partitions=given.partitions) as cluster:
        print(
            f"after {time.monotonic() - began:.1f} s: {len(cluster.servers.nodes)} NATS servers, PostgreSQL, a store, "
            f"{', '.join(cluster.members)}; {given.partitions} partitions",
            flush=True,
        )
        cluster.meter("n", **METER)
        client = ClusterClient(0, given.seed, ports=[member.port for member in cluster.of_role("api")])
        keeper = Bookkeeper(cluster, client)
        longest, account = 0.0, None
        for inflict in EACH_PART:
            with Load(client, events_per_s=given.events_per_second):
                time.sleep(0.5)
                since = time.monotonic()
                with inflict(cluster, chance) as what:
                    time.sleep(given.fault_seconds)
                time.sleep(1.0)
                until = time.monotonic()
            pause_s = client.longest_pause_s(since, until)
            longest = max(longest, pause_s)
            settled = time.monotonic()
            keeper.settle()
            account = keeper.check()
            balances = account.balances
            print(
                f"{what}: longest pause {pause_s:.2f} s, settled after {time.monotonic() - settled:.1f} s\n  {account}",
                flush=True,
            )
            if not balances:
                break
        print(
            f"\n{account}\nlongest pause {longest:.2f} s; {len(keeper.kept)} answers as of earlier moments unchanged; "
            f"{client.books.batches:,} batches in {time.monotonic() - began:.0f} s\n"
            + ("The account balances." if balances else "THE ACCOUNT DOES NOT BALANCE."),
            flush=True,
        )
    if balances and given.directory is None:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if balances else 1


if __name__ == "__main__":
    sys.exit(main())
