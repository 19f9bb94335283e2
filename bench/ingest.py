"""Ingest through the real server: how fast events are acknowledged and recorded, and how soon they count."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.load import body_template
from bench.report import percentile
from bench.server import KEY, Counted, Server

CONNECTIONS = {1: 64, 100: 16, 1000: 8}
DRAIN_S_MAX = 180.0
_LOAD = str(Path(__file__).with_name("load.py"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement under load. `accepted` is what the load generator saw acknowledged."""

    events_a_request: int
    repeat_share: float
    load: dict[str, Any]
    drain_s: float  # from the end of the load until the last event was recorded
    cpu_s: float  # of the server, draining included
    recorded: int
    duplicates: int
    conflicts: int
    resident_bytes: int
    anonymous_bytes: int

    @property
    def accepted(self) -> int:
        return self.load["accepted"]

    @property
    def recorded_per_s(self) -> float:
        """Events decided (new ones and repeats) by the whole time until none was waiting."""
        return self.accepted / (self.load["seconds"] + self.drain_s)


def load_command(
    server: Server, *, events: int, seconds: float, run: int, repeat_share: float, events_per_s: float | None
) -> list[str]:
    command = [sys.executable, _LOAD, "--port", str(server.port), "--key", KEY, "--events", str(events)]
    command += ["--connections", str(CONNECTIONS.get(events, 8)), "--seconds", str(seconds)]
    command += ["--repeat-share", str(repeat_share), "--run", str(run)]
    return command if events_per_s is None else [*command, "--events-per-s", str(events_per_s)]


def offer(
    server: Server,
    *,
    events: int,
    seconds: float,
    run: int,
    repeat_share: float = 0.0,
    events_per_s: float | None = None,
) -> dict[str, Any]:
    """Run the load generator in its own process; what it prints. Raises RuntimeError when it fails."""
    command = load_command(
        server, events=events, seconds=seconds, run=run, repeat_share=repeat_share, events_per_s=events_per_s
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def measure_cell(server: Server, *, events: int, repeat_share: float, seconds: float, run: int) -> Cell:
    """Load for so long, wait until everything is recorded, and check that nothing was lost or counted twice.

    Raises RuntimeError when the counts do not agree. `run` must differ from every other measurement's on this server.
    """
    before = server.counted()
    cpu_before_s = server.cpu_s()
    with server.memory_watched() as memory:
        load = offer(server, events=events, seconds=seconds, run=run, repeat_share=repeat_share)
        ended = time.perf_counter()
        after = server.wait_until_recorded(before.decided + load["accepted"], seconds_max=DRAIN_S_MAX)
        drain_s = time.perf_counter() - ended
    cell = Cell(
        events_a_request=events,
        repeat_share=repeat_share,
        load=load,
        drain_s=drain_s,
        cpu_s=server.cpu_s() - cpu_before_s,
        recorded=after.recorded - before.recorded,
        duplicates=after.duplicates - before.duplicates,
        conflicts=after.conflicts - before.conflicts,
        resident_bytes=max(seen[0] for seen in memory),
        anonymous_bytes=max(seen[1] for seen in memory),
    )
    accepted = after.accepted - before.accepted
    if not load["accepted"] == accepted == cell.recorded + cell.duplicates + cell.conflicts:
        raise RuntimeError(
            f"counts differ: the client saw {load['accepted']} acknowledged, the server {accepted}; recorded "
            f"{cell.recorded} + duplicates {cell.duplicates} + conflicts {cell.conflicts}"
        )
    if cell.conflicts or (repeat_share == 0 and cell.duplicates):
        raise RuntimeError(f"{cell.duplicates} duplicates and {cell.conflicts} conflicts that nobody sent")
    return cell


@dataclass(frozen=True, slots=True)
class Countable:
    """Seconds from the acknowledgement of a probe until a question counted it (asked with its position), from sending
    it until `?wait=recorded` was answered, and of the same question with nothing to wait for. Sorted by nothing."""

    usage_s: list[float]
    wait_s: list[float]
    question_s: list[float]
    offered_per_s: float
    load: dict[str, Any]


def measure_countable(server: Server, *, seconds: float, events_per_s: float, run: int) -> Countable:
    """Send single probe events beside a steady load. Raises RuntimeError when a probe is not counted exactly once."""
    offered: list[dict[str, Any]] = []
    failed: list[BaseException] = []

    def steady() -> None:
        try:
            offered.append(offer(server, events=1000, seconds=seconds, run=run, events_per_s=events_per_s))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=steady, daemon=True)
    until = time.perf_counter() + seconds
    thread.start()
    usage_s: list[float] = []
    wait_s: list[float] = []
    question_s: list[float] = []
    sent = 0
    time.sleep(min(1.0, seconds / 4))  # the load generator makes its bodies first
    while time.perf_counter() < until - 0.2 and not failed:
        sent += 1
        posted = server.http.post("/v1/events", json=_probe(run, sent))
        acknowledged = time.perf_counter()
        _check(posted, 202)
        counted = _probes(server, min_position=posted.json()["position"])
        usage_s.append(time.perf_counter() - acknowledged)
        if counted != sent:
            raise RuntimeError(f"after {sent} probes the question counts {counted}")
        asked = time.perf_counter()
        _probes(server)
        question_s.append(time.perf_counter() - asked)
        sent += 1
        asked = time.perf_counter()
        _check(server.http.post("/v1/events?wait=recorded", json=_probe(run, sent)), 200)
        wait_s.append(time.perf_counter() - asked)
        time.sleep(0.02)
    thread.join()
    if failed:
        raise failed[0]
    if (counted := _probes(server)) != sent:
        raise RuntimeError(f"after {sent} probes the question counts {counted}")
    return Countable(usage_s, wait_s, question_s, events_per_s, offered[0])


def _probe(run: int, number: int) -> dict[str, Any]:
    return {
        "id": f"probe-{run}-{number}",
        "source": "/bench",
        "type": "bench.probe",
        "subject": f"prober-{run}",
    }


def _probes(server: Server, *, min_position: str | None = None) -> int:
    parameters = {"group_by": "customer"} | ({"min_position": min_position} if min_position else {})
    answer = _check(server.http.get("/v1/meters/bench_probes/usage", params=parameters), 200).json()
    return sum(int(row["value"]) for row in answer["rows"])


def _check(response: httpx.Response, status: int) -> httpx.Response:
    if response.status_code != status:
        raise RuntimeError(f"{response.request.url}: {response.status_code} {response.text[:500]}")
    return response


@dataclass(slots=True)
class Acknowledged:
    """Events a client was told are durable, and those of requests that had no answer when the server died."""

    events: int = 0
    unanswered: int = 0


@contextmanager
def sending_until_dead(server: Server, *, senders: int = 4) -> Generator[Acknowledged]:
    """Batches of 1,000 from threads, until the server is no more; the counts are whole when the context is left."""
    total = Acknowledged()
    lock = threading.Lock()
    over = threading.Event()
    template = body_template(
        1000, seed=1, begin_us=int(time.time() * 1e6) - 86_400_000_000, span_us=86_400_000_000
    )

    def send(sender: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30.0) as http:
            for number in range(1_000_000):
                if over.is_set():
                    return
                body = template.replace(b"@@@@@@@@@@@@", b"k%03d%08d" % (sender, number))
                try:
                    answer = http.post(
                        "/v1/events",
                        content=body,
                        headers={
                            "Authorization": f"Bearer {KEY}",
                            "Content-Type": "application/cloudevents-batch+json",
                        },
                    )
                except httpx.HTTPError:
                    with lock:
                        total.unanswered += 1000
                    return
                if answer.status_code == 202:
                    with lock:
                        total.events += 1000

    threads = [threading.Thread(target=send, args=(sender,), daemon=True) for sender in range(senders)]
    for thread in threads:
        thread.start()
    try:
        yield total
    finally:
        over.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds from starting the process again after kill -9: until it is ready (acknowledges), and until an event
    sent then is recorded, which comes after all that was acknowledged before. `replayed`: events that were waiting."""

    ready_s: float
    recovered_s: float
    replayed: int
    acknowledged: int


def measure_restart(directory: Path, server: Server, *, seconds: float) -> tuple[Server, Restart]:
    """Kill the server under load and start it again; the new server (to be stopped by the caller) and what it took.

    Raises RuntimeError when an acknowledged event is missing.
    """
    before = server.counted()
    with sending_until_dead(server) as total:
        time.sleep(seconds)
        at_death = server.counted()
        server.kill()
    again = Server(directory)
    try:
        return again, _recovery(again, before, at_death, total)
    except BaseException:
        again.stop()
        raise


def _recovery(server: Server, before: Counted, at_death: Counted, total: Acknowledged) -> Restart:
    ready_s = server.wait_until_ready()
    until = time.perf_counter() + DRAIN_S_MAX
    probe = _probe(time.time_ns(), 1)
    # Answered with 200 once it is recorded; with 202 when that took longer than the server waits.
    while (answer := server.http.post("/v1/events?wait=recorded", json=probe)).status_code != 200:
        if time.perf_counter() > until:
            raise RuntimeError(f"not recovered within {DRAIN_S_MAX:.0f} s: {answer.text[:300]}")
    recovered_s = time.perf_counter() - server.started
    after = server.wait_until_recorded(before.decided + total.events + 1, seconds_max=DRAIN_S_MAX)
    found = after.recorded - before.recorded - 1
    if not total.events <= found <= total.events + total.unanswered:
        raise RuntimeError(
            f"{total.events} events were acknowledged before the kill ({total.unanswered} had no answer), "
            f"{found} are recorded"
        )
    return Restart(ready_s, recovered_s, max(0, after.decided - at_death.decided - 1), total.events)


def spread(values: list[float]) -> tuple[float, float]:
    """p50 and p99."""
    return percentile(values, 0.5), percentile(values, 0.99)
