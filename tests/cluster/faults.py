"""What can be done to a running cluster, and undone: each fault is a context in which it lasts."""

import contextlib
import random
import time
from collections.abc import Callable, Generator

from tests.cluster.processes import Cluster, leader

from tallystick.flows import lease

LEASE_S = lease.TTL_S
"""Until the others take over from a recorder that is silent."""

Fault = Callable[[Cluster, random.Random], "contextlib.AbstractContextManager[str]"]


@contextlib.contextmanager
def log_leader_killed(cluster: Cluster, chance: random.Random) -> Generator[str]:
    partition = chance.randrange(cluster.partitions)
    node = leader(cluster.servers, partition)
    node.kill()
    yield f"{node.name}, leader of partition {partition}, killed"
    node.start()


@contextlib.contextmanager
def log_leader_frozen(cluster: Cluster, chance: random.Random) -> Generator[str]:
    partition = chance.randrange(cluster.partitions)
    node = leader(cluster.servers, partition)
    node.freeze()
    yield f"{node.name}, leader of partition {partition}, frozen"
    node.thaw()


@contextlib.contextmanager
def log_quorum_lost(cluster: Cluster, chance: random.Random) -> Generator[str]:
    nodes = chance.sample(list(cluster.servers.nodes), 2)
    for node in nodes:
        node.kill()
    yield f"{nodes[0].name} and {nodes[1].name} killed: no quorum"
    for node in nodes:
        node.start()


@contextlib.contextmanager
def log_cut_off(cluster: Cluster, chance: random.Random) -> Generator[str]:
    drop = chance.random() < 0.5
    for cable in cluster.cables:
        cable.drop() if drop else cable.cut()
    yield f"network between api-1 and the log {'refuses' if drop else 'swallows everything'}"
    for cable in cluster.cables:
        cable.mend()


@contextlib.contextmanager
def link_cut(cluster: Cluster, chance: random.Random) -> Generator[str]:
    """By the kernel where namespaces may be made, otherwise as `log_cut_off`."""
    namespace = cluster.namespace
    if namespace is None:
        with log_cut_off(cluster, chance) as what:
            yield what
        return
    links = {"the log": namespace.log, "all but the log": namespace.rest}
    cut = chance.choice([("the log",), ("all but the log",), tuple(links)])
    for name in cut:
        links[name].cut()
    yield f"link between api-2 and {' and '.join(cut)} taken down"
    namespace.mend()


@contextlib.contextmanager
def member_killed(cluster: Cluster, chance: random.Random, role: str) -> Generator[str]:
    member = chance.choice(cluster.of_role(role))
    member.kill()
    yield f"{member.name} killed"
    member.start()
    member.wait_live()


@contextlib.contextmanager
def member_frozen(cluster: Cluster, chance: random.Random, role: str, least_s: float = 0.0) -> Generator[str]:
    member = chance.choice(cluster.of_role(role))
    member.freeze()
    began = time.monotonic()
    yield f"{member.name} frozen" + (f", for longer than its lease of {LEASE_S:.0f} s" if least_s else "")
    time.sleep(max(0.0, least_s - (time.monotonic() - began)))
    member.thaw()


def recorder_killed(cluster: Cluster, chance: random.Random) -> "contextlib.AbstractContextManager[str]":
    return member_killed(cluster, chance, "recorder")


def recorder_frozen(cluster: Cluster, chance: random.Random) -> "contextlib.AbstractContextManager[str]":
    """It wakes after its partitions have gone to another, in the midst of whatever it did."""
    return member_frozen(cluster, chance, "recorder", LEASE_S + chance.uniform(1.0, 2.5))


def api_killed(cluster: Cluster, chance: random.Random) -> "contextlib.AbstractContextManager[str]":
    return member_killed(cluster, chance, "api")


def api_frozen(cluster: Cluster, chance: random.Random) -> "contextlib.AbstractContextManager[str]":
    return member_frozen(cluster, chance, "api")


def worker_killed(cluster: Cluster, chance: random.Random) -> "contextlib.AbstractContextManager[str]":
    return member_killed(cluster, chance, "worker")


def worker_frozen(cluster: Cluster, chance: random.Random) -> "contextlib.AbstractContextManager[str]":
    return member_frozen(cluster, chance, "worker")


@contextlib.contextmanager
def catalog_restarted(cluster: Cluster, chance: random.Random) -> Generator[str]:
    mode = chance.choice(("fast", "immediate"))
    cluster.postgres.stop(mode)
    yield f"PostgreSQL stopped ({mode})"
    cluster.postgres.start()


@contextlib.contextmanager
def catalog_frozen(cluster: Cluster, chance: random.Random) -> Generator[str]:
    del chance
    cluster.postgres.freeze()
    yield "PostgreSQL frozen"
    cluster.postgres.thaw()


@contextlib.contextmanager
def store_killed(cluster: Cluster, chance: random.Random) -> Generator[str]:
    del chance
    cluster.front.kill()
    yield "store killed"
    cluster.front.start()


@contextlib.contextmanager
def store_frozen(cluster: Cluster, chance: random.Random) -> Generator[str]:
    del chance
    cluster.front.freeze()
    yield "store frozen"
    cluster.front.thaw()


@contextlib.contextmanager
def nothing(cluster: Cluster, chance: random.Random) -> Generator[str]:
    """Load alone: what the client does (duplicate delivery, repetition) is all that is unusual."""
    del cluster, chance
    yield "duplicate delivery only"


EACH_PART: tuple[Fault, ...] = (
    *(log_leader_killed, log_leader_frozen, api_killed, api_frozen, recorder_killed, recorder_frozen),
    *(worker_killed, worker_frozen, store_killed, store_frozen, catalog_restarted, catalog_frozen),
)
"""Every part killed, and every part frozen."""

SUITE: tuple[Fault, ...] = (
    *(log_leader_killed, log_quorum_lost, log_cut_off, recorder_frozen, recorder_killed, nothing),
    *(catalog_restarted, store_killed, store_frozen, log_leader_frozen, api_killed, catalog_frozen),
    link_cut,
)
