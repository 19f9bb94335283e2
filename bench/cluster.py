"""What an event costs in a cluster, part by part, and how long a take-over takes. All processes on this machine."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import json as json_of
from msgspec.structs import replace
from tests.cluster.processes import Cluster, cpu_s
from tests.faults.server import KEY

from tallystick.catalog.coordination import Coordination
from tallystick.catalog.relational import RelationalCatalog
from tallystick.flows.journal import State
from tallystick.flows.move_target import Elsewhere, hand_over
from tallystick.metering.event import content_of, identities_of
from tallystick.metering.position import base_of
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.interface import FACTS, IDENTITY_SCHEMA

EVENTS_EACH = 1_000
_CONNECTIONS = 8
_RECORDED_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class ClusterCost:
    """`cpu_s_per_million` by part; latencies are of requests of EVENTS_EACH events."""

    events: int
    seconds: float
    cpu_s_per_million: Mapping[str, float]
    log_bytes_each: float
    latencies_s: list[float]
    refused: int
    takeover_s: float
    takeover_identities: int


def measure_cluster(
    directory: Path,
    *,
    seconds: float,
    nats: int = 3,
    partitions: int = 4,
    identities: int = 0,
    apis: int = 1,
    recorders: int = 2,
    events_per_s: float = 0,
) -> ClusterCost:
    """So many of each part; with two recorders or more one is killed in the end. `identities` are there before;
    `events_per_s`: of the load, 0 for all it can. Raises AssertionError when not every event acknowledged is recorded, once."""
    cluster = Cluster(directory, partitions=partitions, apis=apis, recorders=recorders, workers=0, nats=nats)
    with contextlib.closing(_Stopping(cluster)):
        cluster.start_backends()
        if identities:
            fill(cluster, identities)
        cluster.start_members()
        _wait_recorded(cluster)
        cluster.meter("n", event_type="call", aggregation="sum", value="$.n")
        ports = [member.port for member in cluster.of_role("api")]
        asyncio.run(_send(ports, "warm", min(1.0, seconds), events_per_s))
        _wait_recorded(cluster)
        before, held = _cpu(cluster), _events(cluster)
        began = time.perf_counter()
        acknowledged, latencies_s, refused = asyncio.run(_send(ports, "run", seconds, events_per_s))
        took_s = time.perf_counter() - began
        _wait_recorded(cluster)
        after = _cpu(cluster)
        recorded = _events(cluster) - held - _PROBES
        assert recorded >= acknowledged, f"{acknowledged} acknowledged, {recorded} recorded"
        assert recorded <= acknowledged + refused * EVENTS_EACH
        sent = _events(cluster) - identities
        log_bytes = sum(path.stat().st_size for path in (directory / "nats").rglob("*.blk") if path.is_file())
        known = _events(cluster)
        takeover_s = _take_over(cluster) if recorders > 1 else 0.0
        return ClusterCost(
            events=recorded,
            seconds=took_s,
            cpu_s_per_million={part: max(0.0, after[part] - before[part]) / recorded * 1e6 for part in after},
            log_bytes_each=log_bytes / sent / min(nats, 3),
            latencies_s=sorted(latencies_s),
            refused=refused,
            takeover_s=takeover_s,
            takeover_identities=known,
        )


def _take_over(cluster: Cluster) -> float:
    cluster.of_role("recorder")[0].kill()
    killed = time.perf_counter()
    _wait_recorded(cluster)
    return time.perf_counter() - killed


class _Stopping:
    def __init__(self, cluster: Cluster) -> None:
        self.close = cluster.stop


def fill(cluster: Cluster, identities: int) -> None:
    """So many events, recorded before anybody starts: straight into the store, as a move does it."""
    catalog_url = cluster.catalog_url
    catalog = RelationalCatalog(catalog_url)
    catalog.migrate()
    catalog.close()
    coordination = Coordination(catalog_url)
    store = ClickHouseStore(cluster.front.url(), query_time_s_max=300, query_memory_bytes_max=4 * 1024**3)
    try:
        store.migrate()
        coordination.partitions.prepare(cluster.partitions)
        each = identities // cluster.partitions
        schema = FACTS["events"]
        for partition in range(cluster.partitions):
            for first in range(0, each, _FILL_ROWS):
                rows = min(_FILL_ROWS, each - first)
                made = _fill_rows(schema, partition, first, rows)
                store.insert_facts("events", made, token=f"fill-{partition}-{first}")
        there = Elsewhere(
            name="the cluster",
            store=store,
            coordination=coordination,
            partitions=cluster.partitions,
            migrate_catalog=lambda: None,
            open_log=lambda row: _none(),
            copy_catalog=dict,
            close=lambda: None,
        )
        hand_over(there, State(recorded=each, recorded_at_us=_FILLED_US))
        for partition in range(cluster.partitions):
            _copy_index(coordination, store, partition, each)
    finally:
        store.close()
        coordination.close()


def _copy_index(coordination: Coordination, store: ClickHouseStore, partition: int, count: int) -> None:
    """The copy of the index, as the recorder of these events would have made it (flows/index_copy.py)."""
    table = coordination.partitions
    epoch = table.acquire(partition, "bench", ttl_us=600_000_000)
    assert epoch is not None
    view = store.partition(partition, epoch=epoch)
    last = base_of(partition) + count
    content = int(content_of(["fill"], ["s"], [b"{}"])[0]) & 0xFFFF_FFFF
    for first in range(0, count, _COPIED_ROWS):
        rows = min(_COPIED_ROWS, count - first)
        digests = identities_of(
            "default", ["/fill"] * rows, [f"f{partition}-{n}" for n in range(first, first + rows)]
        )
        halves = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).astype(np.uint64)
        order = np.argsort(halves[:, 0])
        columns = (
            halves[order, 0],
            (halves[order, 1] >> np.uint64(32)).astype(np.uint32),
            np.full(rows, content, np.uint32),
            order.astype(np.uint64) + np.uint64(base_of(partition) + first + 1),
        )
        copy = pa.Table.from_arrays([pa.array(column) for column in columns], schema=IDENTITY_SCHEMA)
        view.insert_identities(copy, through=last, token=f"copy-{first}")
    ((_, raw),) = table.states([partition]).values()
    state = replace(json_of.decode(raw, type=State), copied=last, copied_rows=count)
    table.save(partition, epoch, json_of.encode(state))
    table.release(partition, epoch)


async def _none() -> Any:
    raise AssertionError


def _fill_rows(schema: pa.Schema, partition: int, first: int, rows: int) -> pa.Table:
    numbers = np.arange(first, first + rows, dtype=np.uint64)
    ids = pc.binary_join_element_wise(  # pyright: ignore
        pa.scalar(f"f{partition}-"), pa.array(numbers).cast(pa.string()), ""
    )
    columns: dict[str, Any] = {
        "tenant": pa.repeat("default", rows),
        "source": pa.repeat("/fill", rows),
        "id": ids,
        "type": pa.repeat("fill", rows),
        "subject": pa.repeat("s", rows),
        "customer": pa.repeat("s", rows),
        "position": pa.array(numbers + np.uint64(base_of(partition) + 1)),
    }
    arrays: list[Any] = []
    for one in schema:
        if one.name in columns:
            arrays.append(columns[one.name].cast(one.type))
        elif pa.types.is_timestamp(one.type):
            arrays.append(pa.repeat(pa.scalar(_FILLED_US).cast(one.type), rows))
        elif pa.types.is_boolean(one.type):
            arrays.append(pa.repeat(True, rows))
        elif pa.types.is_integer(one.type):
            arrays.append(pa.repeat(pa.scalar(0).cast(one.type), rows))
        else:
            text = "{}" if one.name == "data" else ""
            arrays.append(pa.repeat(pa.scalar(text).cast(one.type), rows))
    return pa.Table.from_arrays(arrays, schema=schema)


_FILL_ROWS = 500_000
_COPIED_ROWS = 250_000
_FILLED_US = 1_750_000_000_000_000
_PROBES = 64
_probes = iter(range(1_000_000))


def _wait_recorded(cluster: Cluster) -> None:
    """Until everything acknowledged before is recorded, in every partition."""
    until = time.monotonic() + _RECORDED_S_MAX
    number = next(_probes)
    body = [
        {"id": f"p{number}-{n}", "source": "/probe", "type": "probe", "subject": "p"} for n in range(_PROBES)
    ]
    while cluster.request("POST", "/v1/events?wait=recorded", json=body).status_code != 200:
        assert time.monotonic() < until, "The recorders do not catch up."


def _events(cluster: Cluster) -> int:
    ((count,),) = cluster.ask_store("SELECT count() FROM events FORMAT JSONCompactEachRow")
    return int(count)


def _cpu(cluster: Cluster) -> dict[str, float]:
    """Processor seconds so far, by part."""
    front = cluster.front.pid
    postmaster = int((cluster.postgres.data / "postmaster.pid").read_text().splitlines()[0])
    database = 0.0
    for pid in [postmaster, *_children(postmaster)]:
        with contextlib.suppress(OSError):
            database += cpu_s(pid)
    return {
        "API": sum(member.cpu_s() for member in cluster.of_role("api")),
        "log": sum(cpu_s(node.process.pid) for node in cluster.servers.nodes if node.process is not None),
        "recorder": sum(member.cpu_s() for member in cluster.of_role("recorder")),
        "store": cpu_s(front),
        "catalog": database,
    }


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _send(
    ports: Sequence[int], run: str, seconds: float, events_per_s: float
) -> tuple[int, list[float], int]:
    """(events acknowledged, seconds of each request that was, requests that were not)"""
    until = time.monotonic() + seconds
    latencies: list[float] = []
    refused = 0
    numbers = iter(range(1_000_000_000))
    name = f"{run}-{os.getpid()}"

    pace_s = _CONNECTIONS * EVENTS_EACH / events_per_s if events_per_s else 0.0

    async def one(port: int) -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            body = _body(name, next(numbers))
            began = time.perf_counter()
            writer.write(
                b"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (KEY.encode(), len(body))
            )
            writer.write(body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            if head.split(b" ", 2)[1] == b"202":
                latencies.append(time.perf_counter() - began)
            else:
                refused += 1
                await asyncio.sleep(0.1)
            await asyncio.sleep(max(0.0, pace_s - (time.perf_counter() - began)))
        writer.close()

    await asyncio.gather(*(one(ports[number % len(ports)]) for number in range(_CONNECTIONS)))
    return len(latencies) * EVENTS_EACH, latencies, refused


def _body(name: str, number: int) -> bytes:
    rows = (
        f'{{"id":"{name}-{number}-{row}","source":"/bench","type":"call","subject":"s{(number * 7 + row) % 1000}",'
        f'"data":{{"n":{row},"model":"m{row % 8}","region":"r{row % 3}"}}}}'
        for row in range(EVENTS_EACH)
    )
    return ("[" + ",".join(rows) + "]").encode()


def figures(cost: ClusterCost) -> dict[str, float]:
    """What tools/plan_cluster.py is fed with."""
    return {f"cpu_s_per_million_{part}": value for part, value in cost.cpu_s_per_million.items()} | {
        "log_bytes_each": cost.log_bytes_each
    }


if __name__ == "__main__":
    import argparse
    import sys
    import tempfile

    parser = argparse.ArgumentParser(prog="python -m bench.cluster")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--nodes", type=int, help="so many API nodes and recorders")
    parser.add_argument("--events-per-second", type=float, default=0, help="0: all it can")
    parser.add_argument("--identities", type=int, default=0, help="that are recorded before it starts")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as made:
        cost = measure_cluster(
            Path(made),
            seconds=given.seconds,
            identities=given.identities,
            apis=given.nodes or 1,
            recorders=given.nodes or 2,
            events_per_s=given.events_per_second,
        )
        print(json.dumps(figures(cost), indent=1))
        print(
            f"take-over with {cost.takeover_identities:,} identities: {cost.takeover_s:.1f} s",
            file=sys.stderr,
        )
