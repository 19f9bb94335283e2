"""Plan a cluster: how many machines for so many events a second, from measured costs of an event.

    python tools/plan_cluster.py --events-per-second 1_000_000
    python -m bench.cluster > costs.json && python tools/plan_cluster.py --costs costs.json

Two steps. The sizes come from costs: processor seconds of a part for a million events, bytes an event. Then a simulation,
second by second, of a day with its peak hours: what arrives goes through the API and the log into the recorders; at the
peak a failure domain is lost (its machines of every part), its partitions stand still until the lease is over and its
index is filled, and the others take over. The plan holds when nothing is refused and the backlog is worked off in time.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

MEASURED = {
    "cpu_s_per_million_API": 8.36,
    "cpu_s_per_million_log": 6.45,
    "cpu_s_per_million_recorder": 13.03,
    "cpu_s_per_million_store": 17.57,
    "cpu_s_per_million_catalog": 1.18,
    "log_bytes_each": 75.0,
}
"""One run of `bench --only cluster` on a machine with two cores that did other things beside: docs/howto/one-million.md."""

STORE_BYTES_EACH = 40.0  # of an event with one reading, compressed, one replica (the goal of `make bench`)
REQUEST_BYTES_EACH = 130.0  # JSON on the wire, batches of 1,000, before compression
INDEX_BYTES_EACH = 22.0  # of an identity on disk (docs/benchmarks.md)
INDEX_FILL_PER_S = 1_000_000.0  # assumed: the index alone adds 1.5 to 2.3 M/s (decision 0003), the store has to be read beside
LEASE_S = 5.0
REPLICAS = 3  # of the log
STORE_REPLICAS = 2
PARTITIONS_MAX = 64
TAKEOVER_S = 30.0  # that filling a partition's index may take
PROCESS_CORES = 1.3  # that one process of Tallystick can use: its Python runs on one at a time
USED_MAX = 0.6
"""Of a machine's processors at the peak: the rest is for the loss of a domain, merges and questions."""


@dataclass(frozen=True, slots=True)
class Wanted:
    events_per_s: float  # mean of the peak hour
    cores: int
    domains: int
    burst: float  # the highest second over the mean of the peak hour
    days_kept: int
    identities: float


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    machines: int
    used: float  # of their processors at the peak
    used_without_a_domain: float
    processes: int  # of Tallystick; 0: servers that use all processors by themselves


@dataclass(frozen=True, slots=True)
class Plan:
    partitions: int
    parts: tuple[Part, ...]
    log_bytes_per_s: float  # written by each of the log's machines
    network_in_bytes_per_s: float
    store_bytes: float
    index_bytes_each_partition: float

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


def size(wanted: Wanted, costs: dict[str, float]) -> Plan:
    """Machines enough that the peak fits when one failure domain is gone."""
    peak = wanted.events_per_s * wanted.burst
    parts: list[Part] = []
    for name in ("API", "log", "recorder", "store"):
        cores_busy = costs[f"cpu_s_per_million_{name}"] * peak / 1e6
        machines = max(wanted.domains, math.ceil(cores_busy / (wanted.cores * USED_MAX)))
        # Spread evenly over the domains, and enough when one of them is gone.
        per_domain = math.ceil(machines / wanted.domains)
        while cores_busy > per_domain * (wanted.domains - 1) * wanted.cores:
            per_domain += 1
        machines = per_domain * wanted.domains
        left = per_domain * (wanted.domains - 1)
        used, used_left = cores_busy / (machines * wanted.cores), cores_busy / (left * wanted.cores)
        processes = math.ceil(cores_busy / PROCESS_CORES) if name in ("API", "recorder") else 0
        parts.append(Part(name, machines, used, used_left, -(-processes // machines) * machines))
    recorders = next(part for part in parts if part.name == "recorder").processes
    # At least one for each process, and each index filled soon enough; the number is fixed for good, so a power of two.
    least = max(recorders, wanted.identities / INDEX_FILL_PER_S / TAKEOVER_S)
    partitions = 1
    while partitions < min(PARTITIONS_MAX, least):
        partitions *= 2
    log_machines = next(part for part in parts if part.name == "log").machines
    return Plan(
        partitions=partitions,
        parts=tuple(parts),
        log_bytes_per_s=peak * costs["log_bytes_each"] * REPLICAS / log_machines,
        network_in_bytes_per_s=peak * REQUEST_BYTES_EACH,
        store_bytes=wanted.events_per_s * 0.5 * 86_400 * wanted.days_kept * STORE_BYTES_EACH * STORE_REPLICAS,
        index_bytes_each_partition=wanted.identities * INDEX_BYTES_EACH / partitions,
    )


@dataclass(frozen=True, slots=True)
class Simulated:
    backlog_max: float  # events
    longest_wait_s: float
    caught_up_s: float  # after the loss; infinite: never
    refused: float


def simulate(
    wanted: Wanted, plan: Plan, costs: dict[str, float], *, backlog_max: float = 50_000_000
) -> Simulated:
    """Ten minutes at the peak in tenths of seconds; a domain is lost after one minute and does not come back."""
    step_s, lost_at_s, end_s = 0.1, 60.0, 600.0
    partitions, domains = plan.partitions, wanted.domains
    identities_each = wanted.identities / partitions
    down_s = LEASE_S + identities_each / INDEX_FILL_PER_S
    recorder, store = plan.part("recorder"), plan.part("store")
    backlog = [0.0] * partitions
    highest = refused = longest = 0.0
    caught_up_s = math.inf
    for tick in range(int(end_s / step_s)):
        now = tick * step_s
        lost = now >= lost_at_s
        rate = wanted.events_per_s * (wanted.burst if int(now) % 10 == 0 else 1.0)
        share = (domains - 1) / domains if lost else 1.0
        # What recorders and the store have processors for, together.
        capacity = min(
            recorder.machines * share * wanted.cores * 1e6 / costs["cpu_s_per_million_recorder"],
            store.machines * share * wanted.cores * 1e6 / costs["cpu_s_per_million_store"],
        )
        standing = {
            partition
            for partition in range(partitions)
            if lost and partition % domains == 0 and now < lost_at_s + down_s
        }
        waiting = [backlog[partition] + rate * step_s / partitions for partition in range(partitions)]
        free = capacity * step_s
        working = [partition for partition in range(partitions) if partition not in standing]
        needed = sum(waiting[partition] for partition in working)
        done = min(1.0, free / needed) if needed else 1.0
        for partition in working:
            waiting[partition] *= 1.0 - done
        whole = sum(waiting)
        if whole > backlog_max:
            refused += whole - backlog_max
            waiting = [one * backlog_max / whole for one in waiting]
        backlog = waiting
        highest = max(highest, sum(backlog))
        longest = max(longest, max(backlog) / (rate / partitions))
        if lost and now > lost_at_s + down_s and sum(backlog) < rate * step_s and caught_up_s == math.inf:
            caught_up_s = now - lost_at_s
    return Simulated(highest, longest, caught_up_s, refused)


def report(wanted: Wanted, plan: Plan, found: Simulated) -> str:
    """The plan as Markdown."""
    lines = [
        f"{wanted.events_per_s:,.0f} events/s in the peak hour, bursts of {wanted.burst:g} times that, machines of "
        f"{wanted.cores} cores in {wanted.domains} failure domains, {wanted.identities:,.0f} identities.",
        "",
        "| part | machines | processes | busy at the peak | busy with a domain lost |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {part.name} | {part.machines} | {part.processes or '–'} | {part.used:.0%} | {part.used_without_a_domain:.0%} |"
        for part in plan.parts
    ]
    lines += [
        "",
        "| | |",
        "|---|---:|",
        f"| partitions | {plan.partitions} |",
        f"| network into the API | {plan.network_in_bytes_per_s * 8 / 1e9:.2f} Gbit/s |",
        f"| synced writes of each of the log's machines | {plan.log_bytes_per_s / 1e6:.0f} MB/s |",
        f"| store, {wanted.days_kept} days at half the peak, {STORE_REPLICAS} replicas | {plan.store_bytes / 1e12:.1f} TB |",
        f"| identity index of each partition | {plan.index_bytes_each_partition / 1e9:.1f} GB |",
        f"| a domain lost: greatest backlog | {found.backlog_max:,.0f} events |",
        f"| longest until an event counts | {found.longest_wait_s:.1f} s |",
        f"| caught up again after | {found.caught_up_s:.1f} s |",
        f"| refused | {found.refused:,.0f} |",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events-per-second", type=float, default=1_000_000)
    parser.add_argument("--cores", type=int, default=16, help="of each machine")
    parser.add_argument("--domains", type=int, default=3, help="failure domains, such as zones")
    parser.add_argument("--burst", type=float, default=1.5)
    parser.add_argument("--days", type=int, default=400, help="that events are kept")
    parser.add_argument("--identities", type=float, default=1e9, help="that the indexes hold")
    parser.add_argument("--costs", type=Path, help="what `python -m bench.cluster` printed")
    given = parser.parse_args()
    costs = MEASURED | (json.loads(given.costs.read_text()) if given.costs else {})
    wanted = Wanted(
        given.events_per_second, given.cores, given.domains, given.burst, given.days, given.identities
    )
    plan = size(wanted, costs)
    found = simulate(wanted, plan, costs)
    print(report(wanted, plan, found))
    return 0 if found.refused == 0 and found.caught_up_s < math.inf else 1


if __name__ == "__main__":
    raise SystemExit(main())
