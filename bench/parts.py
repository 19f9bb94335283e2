"""The parts of a run: what is measured, in which order, and the tables it makes."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from bench import alerts, gate, ingest, lone, machine, peers
from bench.dataset import Answer, Dataset, expected_answers
from bench.questions import QUESTIONS, Timed, ask_tallystick, compare, time_question
from bench.report import Findings, Table, ms, rate
from bench.server import KEY, METERS, Server, serving

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. Seconds are of load or of asking, preparation and checks come on top."""

    events: int = 10_000_000
    events_more: int = 0  # a second, larger dataset for Tallystick alone
    shares: tuple[float, ...] = (0.0, 0.01, 0.5)  # of duplicates
    cell_s: float = 8.0
    sustained_s: float = 60.0
    countable_s: float = 20.0
    countable_events_per_s: float = 50_000
    peer_s: float = 30.0
    bare_s: float = 10.0
    log_s: float = 3.0
    crash_s: float = 3.0
    runs: int = 15
    question_s_max: float = 30.0
    identities: int = 5_000_000
    derived_events: int = 100_000
    rebuilt_events: int = 20_000_000  # fewer, and the start is a good part of it
    rolled_up_events: int = 1_000_000  # all of their rows are held in memory
    rolled_up_runs: int = 2
    rolled_up_settle_s: float = 15.0  # longer than the pause between two steps
    rolled_up_idle_s: float = 21.0  # two intervals of the keeper
    bare_rows: int = 1_000_000
    billing_customers: int = 10_000
    billing_events: int = 10_000_000
    billing_previews: int = 200
    key_turns: int = 60
    gate_calls_per_s: int = 5_000
    alerts: int = 1_000
    alerts_settle_s: float = 3.0
    cluster_nodes: tuple[int, ...] = (1, 2, 4)
    part_s_max: float = 3600.0


QUICK = Sizes(
    events=500_000, cell_s=3.0, sustained_s=8.0, countable_s=8.0, peer_s=5.0, bare_s=4.0, log_s=1.0, crash_s=1.5,
    runs=10, question_s_max=10.0, identities=1_000_000, derived_events=50_000, rebuilt_events=500_000, bare_rows=500_000,
    billing_customers=1_000, billing_events=100_000, rolled_up_runs=1, part_s_max=300.0,
)  # fmt: skip
TINY = Sizes(
    events=6_000, cell_s=0.5, sustained_s=0.7, countable_s=1.5, countable_events_per_s=3_000, peer_s=0.3, bare_s=0.3,
    log_s=0.1, crash_s=0.3, runs=3, question_s_max=2.0, identities=60_000, derived_events=2_000, rebuilt_events=5_000, bare_rows=2_000,
    billing_customers=30, billing_events=600, gate_calls_per_s=200, alerts=60, cluster_nodes=(1,), part_s_max=600.0,
    shares=(0.0, 0.5), billing_previews=10, key_turns=4, alerts_settle_s=0.3,
    rolled_up_events=5_000, rolled_up_runs=1, rolled_up_settle_s=0.1, rolled_up_idle_s=0.5,
)  # fmt: skip
"""For the test that the harness runs. Its figures mean nothing."""


@dataclass(slots=True)
class Bench:
    """One run: where its data lies, what it found, and the state that later parts build on."""

    directory: Path
    sizes: Sizes
    findings: Findings
    console: Console
    progress: Progress

    questions: dict[str, dict[str, Timed]] = field(default_factory=dict[str, dict[str, Timed]])
    """What was asked, by system and by question."""
    expected: dict[int, dict[str, Answer]] = field(default_factory=dict[int, dict[str, Answer]])
    """Calculated answers, by the size of the dataset and by question."""
    run_number: int = 1

    @property
    def figures(self) -> dict[str, float]:
        return self.findings.figures

    def next_run(self) -> int:
        self.run_number += 1
        return self.run_number

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False, highlight=False)

    def answers_of(self, dataset: Dataset) -> dict[str, Answer]:
        if dataset.events not in self.expected:
            self.expected[dataset.events] = expected_answers(dataset)
        return self.expected[dataset.events]


def part_ingest(bench: Bench) -> None:
    """1. Ingest through the real server, and how soon events count."""
    sizes = bench.sizes
    table = Table(
        "Ingest through the server",
        f"The server process and the load generator (bench/load.py, a process of its own) on this machine, HTTP on "
        f"loopback, every acknowledgement synced, {len(METERS)} meters in force (each event makes one reading with two "
        "dimensions). acknowledged/s: answered with 202. recorded/s: events decided (new or duplicate, readings "
        "included) by the whole time until none was waiting. CPU: seconds of the server's processor time for a million "
        "events. Memory: the highest seen. After each line the counts were equal: acknowledged by the client = "
        "accepted = recorded + duplicates + conflicts.",
        ("batch, duplicates", "requests/s", "acknowledged/s", "recorded/s", "CPU s/M", "p50 ms", "p99 ms", "resident MB", "refused"),
    )  # fmt: skip
    directory = bench.directory / "ingest"
    with serving(directory) as server:
        server.make_meters()
        ingest.measure_cell(
            server, events=1000, repeat_share=0.0, seconds=min(2.0, sizes.cell_s), run=bench.next_run()
        )
        task = bench.progress.add_task("ingest", total=len(ingest.CONNECTIONS) * len(sizes.shares))
        bench.findings.tables.append(table)
        for events in sorted(ingest.CONNECTIONS, reverse=True):
            for share in sizes.shares:
                cell = ingest.measure_cell(
                    server, events=events, repeat_share=share, seconds=sizes.cell_s, run=bench.next_run()
                )
                table.rows.append(_cell_row(f"{events:,}, {share:.0%}", cell))
                bench.say(
                    f"batches of {events:,}, {share:.0%} duplicates: {rate(cell.recorded_per_s)} recorded/s"
                )
                if share == 0:
                    bench.figures[f"recorded_{events}"] = cell.recorded_per_s
                    bench.figures[f"accepted_{events}"] = cell.load["accepted_per_s"]
                    bench.figures[f"p99_s_{events}"] = cell.load["p99_ms"] / 1e3
                _highest(bench, "resident_bytes", cell.resident_bytes)
                bench.progress.advance(task)


def part_countable(bench: Bench) -> None:
    """2. How soon an acknowledged event counts, under a steady load."""
    with serving(bench.directory / "countable") as server:
        server.make_meters()
        ingest.measure_cell(
            server, events=1000, repeat_share=0.0, seconds=min(1.0, bench.sizes.cell_s), run=bench.next_run()
        )
        found = ingest.measure_countable(
            server,
            seconds=bench.sizes.countable_s,
            events_per_s=bench.sizes.countable_events_per_s,
            run=bench.next_run(),
        )
    offered = f"{found.load['accepted_per_s']:,.0f} of {found.offered_per_s:,.0f} events/s offered were acknowledged"
    table = Table(
        "Acknowledged → countable",
        f"Single probe events beside a steady load ({offered}, batches of 1,000). First line: from the probe's "
        "acknowledgement until a usage question that demands its position is answered, with the probe in it; the "
        "question itself is part of the time. Every answer counted every probe exactly once.",
        ("what", "probes", "p50 ms", "p99 ms", "longest ms"),
    )
    for what, values in (
        ("acknowledged → counted by a question", found.usage_s),
        ("sent → answered, with ?wait=recorded", found.wait_s),
        ("the same question, nothing to wait for", found.question_s),
    ):
        p50_s, p99_s = ingest.spread(values)
        table.rows.append((what, str(len(values)), ms(p50_s), ms(p99_s), ms(max(values))))
    bench.figures["countable_p50_s"], bench.figures["countable_p99_s"] = ingest.spread(found.usage_s)
    bench.findings.tables.append(table)


def part_loaded(bench: Bench) -> None:
    """3. The query mix, sizes, ingest on top and restart, with the datasets loaded."""
    for events in (bench.sizes.events, bench.sizes.events_more):
        if events:
            _loaded(bench, Dataset(events))


def _ask(bench: Bench, server: Server, dataset: Dataset, system: str, expected: Mapping[str, Answer]) -> None:
    """The query mix; `system` is what its figures go by. Every answer must be the one calculated."""
    bench.questions[system] = {}
    for question in QUESTIONS:
        served: set[str] = set()

        def ask(question: Any = question, served: set[str] = served) -> Answer:
            answer, served_from = ask_tallystick(server.http, question)
            served.add(served_from)
            return answer

        timed = time_question(ask, runs=bench.sizes.runs, seconds_max=bench.sizes.question_s_max)
        compare(question.name, system, timed.answer, expected[question.name])
        if "events" in served:
            bench.say(f"note: {question.title} was answered from events, not from readings")
        bench.questions[system][question.name] = replace(timed, served_from=", ".join(sorted(served)))
        bench.say(
            f"{dataset.events:,} events, {question.title}: {ms(timed.p50_s)} ms ({', '.join(sorted(served))})"
        )


def _loaded(bench: Bench, dataset: Dataset) -> None:
    sizes = bench.sizes
    directory = bench.directory / f"loaded-{dataset.events}"
    main = dataset.events == sizes.events
    sent = 0
    with serving(directory) as server:
        server.make_meters()
        if main:
            sent = _send(bench, server, dataset)
    fill_s = _fill(bench, directory, dataset, begin_with=sent)
    expected = bench.answers_of(dataset)
    machine.forget_cached(directory)
    system = "Tallystick" if main else f"Tallystick, {dataset.events:,}"
    with serving(directory) as server:
        _ask(bench, server, dataset, f"{system}, before roll-ups", expected)
        rolled_up_s = server.wait_until_rolled_up(idle_s=sizes.rolled_up_idle_s, seconds_max=900)
        bench.say(f"{dataset.events:,} events: rolled up {rolled_up_s:.0f} s after the first question")
        _ask(bench, server, dataset, system, expected)
        asked_bytes = server.resident_bytes()[0]
        end_code = server.stop()
    _disk(bench, directory, dataset)
    server = Server(directory)
    try:
        ready_s = server.wait_until_ready()
        cell = ingest.measure_cell(
            server, events=1000, repeat_share=0.0, seconds=sizes.sustained_s, run=bench.next_run()
        )
        table = Table(
            f"On top of {dataset.events:,} recorded events",
            f"{_how_loaded(dataset, sent, fill_s)} Then {sizes.sustained_s:g} s of batches of 1,000, without duplicates, with that many identities in the index.",
            ("batch, duplicates", "requests/s", "acknowledged/s", "recorded/s", "CPU s/M", "p50 ms", "p99 ms", "resident MB", "refused"),
            [_cell_row("1,000, 0%", cell)],
        )  # fmt: skip
        bench.findings.tables.append(table)
        bench.figures["recorded_loaded"] = cell.recorded_per_s
        _highest(bench, "resident_bytes", cell.resident_bytes)
        bench.say(f"on top of {dataset.events:,}: {rate(cell.recorded_per_s)} recorded/s")
        server, restart = ingest.measure_restart(directory, server, seconds=sizes.crash_s)
    finally:
        server.stop()
    bench.figures["restart_ready_s"] = restart.ready_s
    bench.findings.tables.append(
        Table(
            f"Memory and restart with {dataset.events:,} events and more",
            "Killed with kill -9 under load and started again on the same directory. Ready: acknowledges events. "
            "Recovered: an event sent then is recorded, and so everything acknowledged before it. The "
            f"{restart.acknowledged:,} events acknowledged shortly before the kill were all recorded, once.",
            ("what", "figure"),
            [
                ("resident memory after the questions", f"{asked_bytes / 1e6:,.0f} MB"),
                ("resident memory at full load, highest", f"{cell.resident_bytes / 1e6:,.0f} MB"),
                ("  of it not backed by files", f"{cell.anonymous_bytes / 1e6:,.0f} MB"),
                (f"start until ready, after SIGTERM (ended with {end_code})", f"{ready_s:.2f} s"),
                ("start until ready, after kill -9", f"{restart.ready_s:.2f} s"),
                ("start until recovered, after kill -9", f"{restart.recovered_s:.2f} s"),
                ("  events recorded after the kill", f"{restart.replayed:,}"),
            ],
        )
    )


def _send(bench: Bench, server: Server, dataset: Dataset) -> int:
    """Measure the first rows of the dataset through the API, as the other stores get them; how many went in."""
    bench.progress.add_task("send the first rows", total=None)
    seconds = bench.sizes.peer_s
    found = _json_of(
        [
            sys.executable, "-m", "bench.send", "--port", str(server.port), "--key", KEY,
            "--events", str(dataset.events), "--seconds", str(seconds),
        ],
        seconds_max=seconds * 10 + 300,
    )  # fmt: skip
    bench.figures["same_rows"] = found["measured"] / found["seconds"]
    bench.say(f"{found['measured']:,} rows through the API: {rate(bench.figures['same_rows'])} recorded/s")
    return found["sent"]


def _how_loaded(dataset: Dataset, sent: int, fill_s: float) -> str:
    filled = dataset.events - sent
    through = f"The first {sent:,} came through the API, the others" if sent else "They"
    if not filled:
        return "All came through the API."
    return (
        f"{through} were handed to the log as decoding would ({rate(filled / fill_s)} events/s): synced log, identity "
        "index, facts and readings are the recorder's, only HTTP and decoding were left out."
    )


def _fill(bench: Bench, directory: Path, dataset: Dataset, *, begin_with: int) -> float:
    if begin_with >= dataset.events:
        return 0.0
    command = [
        sys.executable,
        "-m",
        "bench.fill",
        "--directory",
        str(directory),
        "--events",
        str(dataset.events),
    ]
    command += ["--begin-with", str(begin_with)]
    task = bench.progress.add_task(f"load {dataset.events:,}", total=dataset.events)
    with (
        directory.with_name(directory.name + ".fill.log").open("wb") as errors,
        _child(command, errors) as child,
    ):
        last: dict[str, Any] = {}
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith('{"done"'):
                last = json.loads(line)
                bench.progress.update(task, completed=last["done"])
        code = child.wait(60)
    if code or "seconds" not in last:
        words = Path(errors.name).read_text(errors="replace")[-800:]
        raise RuntimeError(f"loading {dataset.events:,} events failed: {words}")
    bench.say(f"loaded the other {dataset.events - begin_with:,} events in {last['seconds']:,.1f} s")
    return last["seconds"]


@contextlib.contextmanager
def _child(command: list[str], errors: Any) -> Generator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _disk(bench: Bench, directory: Path, dataset: Dataset) -> None:
    found = _json_of([sys.executable, "-m", "bench.disk", str(directory)], seconds_max=300)
    whole = found.pop("whole directory, parts merged away included")
    kept = sum(found.values())
    reserved = found.get("log file", 0)
    table = Table(
        f"On disk, {dataset.events:,} events",
        "Each event with a random id of 16 hexadecimal digits (8 bytes at the least, in facts and identity index each), "
        "about 85 bytes of data, and one reading. Tables by their active parts. The log keeps its file's size when it "
        "forgets events, so that file does not grow with history.",
        ("what", "bytes", "bytes an event"),
        [(name, f"{size:,}", f"{size / dataset.events:.1f}") for name, size in sorted(found.items(), key=lambda pair: -pair[1])],
    )  # fmt: skip
    table.rows.append(("all of these", f"{kept:,}", f"{kept / dataset.events:.1f}"))
    table.rows.append(
        ("all but the log file", f"{kept - reserved:,}", f"{(kept - reserved) / dataset.events:.1f}")
    )
    table.rows.append(
        ("whole directory, with parts not yet deleted", f"{whole:,}", f"{whole / dataset.events:.1f}")
    )
    bench.findings.tables.append(table)
    bench.figures["bytes_per_event"] = (kept - reserved) / dataset.events


def part_bare(bench: Bench) -> None:
    """4. The bare engine: the same rows into the same table of facts, synced, and nothing else."""
    for batch in (10_000, 100_000):
        found = _json_of(
            [
                sys.executable, "-m", "bench.peers", "--directory", str(bench.directory / f"bare-{batch}"),
                "--rows", str(bench.sizes.bare_rows), "--batch", str(batch), "--seconds", str(bench.sizes.bare_s),
            ],
            seconds_max=bench.sizes.bare_s + 240,
        )  # fmt: skip
        bench.figures[f"bare_chdb_{batch}"] = found["events_per_s"]
        _highest(bench, "bare_chdb", found["events_per_s"])
        bench.say(f"bare chDB insert, batches of {batch:,}: {rate(found['events_per_s'])} rows/s")


def part_sqlite(bench: Bench) -> None:
    """5. SQLite with the same rows and questions."""
    with peers.sqlite_peer(bench.directory / "sqlite") as peer:
        _peer(bench, peer, "sqlite")


def part_postgres(bench: Bench) -> None:
    """6. PostgreSQL with the same rows and questions."""
    with peers.postgres_peer(bench.directory / "postgres") as (peer, settings):
        bench.say(f"{peers.postgres_version()}: {settings}")
        _peer(bench, peer, "postgres")


def _peer(bench: Bench, peer: peers.Peer, key: str) -> None:
    dataset = Dataset(bench.sizes.events)
    bench.progress.add_task(f"load {peer.name}", total=None)
    loaded = peer.load(dataset, seconds=bench.sizes.peer_s, seconds_max=bench.sizes.part_s_max * 0.6)
    bench.figures[f"{key}_ingest"] = loaded.events_per_s
    bench.figures[f"{key}_bytes"] = loaded.bytes_per_event
    bench.say(
        f"{peer.name}: {rate(loaded.events_per_s)} events/s in batches of 1,000 over {loaded.measured_events:,} events "
        f"({loaded.way})"
    )
    expected = bench.answers_of(dataset)
    peer.make_cold()
    asked: dict[str, Timed] = {}
    for question in QUESTIONS:
        timed = time_question(
            lambda question=question: peer.ask(question),
            runs=bench.sizes.runs,
            seconds_max=bench.sizes.question_s_max,
        )
        compare(question.name, peer.name, timed.answer, expected[question.name])
        asked[question.name] = timed
    bench.questions[peer.name] = asked


def part_lone(bench: Bench) -> None:
    """7. The parts on their own."""
    bench.progress.add_task("parts on their own", total=None)
    sizes = bench.sizes
    table = lone.measure(
        bench.directory, seconds=sizes.log_s, identities=sizes.identities, events=sizes.derived_events
    )
    bench.findings.tables.append(table)


def part_rebuild(bench: Bench) -> None:
    """8. All readings built again, while events come in."""
    bench.progress.add_task("rebuild", total=None)
    command = [sys.executable, "-m", "bench.rebuild", "--directory", str(bench.directory / "rebuild")]
    found = _json_of(
        [*command, "--events", str(bench.sizes.rebuilt_events)], seconds_max=bench.sizes.part_s_max
    )
    table = Table(
        "Rebuild",
        "All readings of a meter with two dimensions thrown away and built again in the background.",
        ("events", "seconds", "events/s", "recorded beside it, events/s"),
    )
    per_s = found["events"] / found["seconds"]
    table.rows.append(
        (rate(found["events"]), f"{found['seconds']:.2f}", rate(per_s), rate(found["beside_per_s"]))
    )
    bench.figures["rebuilt_per_s"] = per_s
    bench.findings.tables.append(table)


def part_rollups(bench: Bench) -> None:
    """14. What roll-ups cost: the same events recorded without and with them."""
    sizes = bench.sizes
    bench.progress.add_task("rollups", total=None)
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    stored: dict[str, int] = {}
    for number in range(sizes.rolled_up_runs):
        for kept in (False, True):
            directory = bench.directory / f"rollups-{number}-{kept}"
            command = [sys.executable, "-m", "bench.rollups", "--directory", str(directory)]
            command += ["--events", str(sizes.rolled_up_events), "--settle-s", str(sizes.rolled_up_settle_s)]
            found[kept].append(
                _json_of(command if kept else [*command, "--without"], seconds_max=sizes.part_s_max)
            )
            if kept:
                stored = _json_of([sys.executable, "-m", "bench.disk", str(directory)], seconds_max=300)
            shutil.rmtree(directory)
    table = Table(
        "Roll-ups",
        f"{sizes.rolled_up_events:,} events of a tenth of a year (rows made beforehand, no HTTP) recorded without roll-ups and "
        f"with all views of them, the second half measured. Processor time: until all was rolled up. Bytes: "
        "of everything kept but the log, right after.",
        ("roll-ups", "recorded/s", "CPU s/M", "readings rolled up", "bytes an event"),
    )
    per_s = {kept: sum(run["per_s"] for run in runs) / len(runs) for kept, runs in found.items()}
    cpu_s = {kept: sum(run["cpu_s_per_million"] for run in runs) / len(runs) for kept, runs in found.items()}
    whole = sum(size for name, size in stored.items() if not name.startswith(("whole", "log")))
    rolled = sum(size for name, size in stored.items() if name.startswith("rollups"))
    per_event = {False: (whole - rolled) / sizes.rolled_up_events, True: whole / sizes.rolled_up_events}
    for kept, runs in found.items():
        table.rows.append(
            (
                "with" if kept else "without",
                rate(per_s[kept]),
                f"{cpu_s[kept]:.2f}",
                rate(min(run["rolled_up"] for run in runs)),
                f"{per_event[kept]:.1f}",
            )
        )
    bench.figures["rollups_recorded_share"] = 1 - per_s[True] / per_s[False]
    bench.figures["rollups_storage_share"] = rolled / whole
    bench.findings.tables.append(table)


def _cell_row(name: str, cell: ingest.Cell) -> tuple[str, ...]:
    load = cell.load
    return (
        name,
        rate(load["requests_per_s"]),
        rate(load["accepted_per_s"]),
        rate(cell.recorded_per_s),
        f"{cell.cpu_s / cell.accepted * 1e6:.2f}" if cell.accepted else "–",
        f"{load['p50_ms']:.1f}",
        f"{load['p99_ms']:.1f}",
        f"{cell.resident_bytes / 1e6:,.0f}",
        str(load["refused"]),
    )


def _highest(bench: Bench, key: str, value: float) -> None:
    bench.figures[key] = max(value, bench.figures.get(key, 0.0))


def _json_of(command: list[str], *, seconds_max: float) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_max, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{command[2]} failed: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def part_cluster(bench: Bench) -> None:
    """9. What an event costs in a cluster, part by part, and a take-over."""
    from bench.cluster import EVENTS_EACH, measure_cluster

    cost = measure_cluster(bench.directory / "cluster", seconds=bench.sizes.cell_s)
    p50_s, p99_s = ingest.spread(cost.latencies_s)
    table = Table(
        "A cluster on this machine",
        f"One API node, two recorders, three NATS servers (sync always, three replicas), PostgreSQL and the ClickHouse front "
        f"of the tests, four partitions, requests of {EVENTS_EACH:,} events, one meter: all of it and the load on this "
        "machine, so that rates say little and costs say what a machine of its own would spend. CPU: seconds of all "
        "processes of a part for a million events; the log's are of three servers. Take-over: from kill -9 of one "
        "recorder until events of all partitions are recorded again, the lease of 4 s included. Every event acknowledged "
        "was recorded once.",
        ("what", "value"),
    )
    table.rows.append(("acknowledged/s", rate(cost.events / cost.seconds)))
    table.rows.extend((f"CPU s/M, {part}", f"{value:.2f}") for part, value in cost.cpu_s_per_million.items())
    table.rows.append(("acknowledged p50 ms", ms(p50_s)))
    table.rows.append(("acknowledged p99 ms", ms(p99_s)))
    table.rows.append(("requests refused", str(cost.refused)))
    table.rows.append(("bytes in the log for an event", f"{cost.log_bytes_each:.0f}"))
    table.rows.append((f"take-over, {cost.takeover_identities:,} identities, s", f"{cost.takeover_s:.1f}"))
    bench.figures["cluster_takeover_s"] = cost.takeover_s
    bench.findings.tables.append(table)
    by_nodes = Table(
        "A cluster of more nodes",
        f"The same load, {_NODES_EVENTS_PER_S:,} events/s, on so many API nodes and as many recorders: seconds of all processes of a "
        "part for a million events. What every process does anyway (asking 20 times a second how far the others are, twice "
        "whether it has its leases) is in it, and is all that should grow.",
        ("nodes", *cost.cpu_s_per_million),
    )
    for nodes in bench.sizes.cluster_nodes:
        found = measure_cluster(
            bench.directory / f"cluster-{nodes}",
            seconds=bench.sizes.cell_s,
            apis=nodes,
            recorders=nodes,
            events_per_s=_NODES_EVENTS_PER_S,
        )
        by_nodes.rows.append((str(nodes), *(f"{value:.2f}" for value in found.cpu_s_per_million.values())))
    bench.findings.tables.append(by_nodes)


def part_keys(bench: Bench) -> None:
    """11. What checking a key costs the way in."""
    command = [sys.executable, "-m", "bench.keys", "--directory", str(bench.directory / "keys")]
    command += ["--turns", str(bench.sizes.key_turns)]
    found = _json_of(command, seconds_max=bench.sizes.part_s_max)
    table = Table(
        "Checking keys",
        "The way in without a socket, the same requests with the check of the key and without it, taking turns; µs of the event "
        "loop's thread a request.",
        ("events a request", "µs", "of it the check", "share"),
    )
    for events in (1, 100, 1000):
        table.rows.append(
            (
                f"{events:,}",
                f"{found[f'checked_{events}_us']:.1f}",
                f"{found[f'more_{events}_us']:.1f}",
                f"{found[f'share_{events}']:.1%}",
            )
        )
    bench.figures["key_share"] = found["share_1"]
    bench.findings.tables.append(table)


def part_gate(bench: Bench) -> None:
    """12. Checks and reservations, alone and beside what is taken in."""
    sizes = bench.sizes
    bench.findings.tables.append(
        gate.measure(
            bench.directory / "gate",
            seconds=sizes.cell_s,
            per_s=sizes.gate_calls_per_s,
            events_per_s=int(sizes.countable_events_per_s),
            figures=bench.figures,
        )
    )


def part_alerts(bench: Bench) -> None:
    """13. From an event to its transition, beside what is taken in."""
    sizes = bench.sizes
    bench.findings.tables.append(
        alerts.measure(
            bench.directory / "alerts",
            seconds=sizes.countable_s,
            events_per_s=int(sizes.countable_events_per_s),
            alerts=sizes.alerts,
            settle_s=sizes.alerts_settle_s,
        )
    )


def part_billing(bench: Bench) -> None:
    """10. A month billed: previews, a backtest, and the run that makes every invoice final."""
    sizes = bench.sizes
    customers, events = sizes.billing_customers, sizes.billing_events
    command = [sys.executable, "-m", "bench.billing", "--directory", str(bench.directory / "billing")]
    command += [
        "--customers",
        str(customers),
        "--events",
        str(events),
        "--previews",
        str(sizes.billing_previews),
    ]
    found = _json_of(command, seconds_max=sizes.part_s_max)
    p50_s, p99_s = ingest.spread(found["preview_s"])
    bench.findings.tables.append(
        Table(
            f"A month billed, {customers:,} customers, {events:,} events",
            "One process with all parts, asked through its API without a socket; ten charges a customer, eight of them of one "
            "meter with a filter each. The run closes the month and finalizes every invoice. The backtest rates every "
            "customer's month twice. Every invoice was read back, and its quantities add up to what the events say.",
            ("what", "value"),
            [
                ("run, s", f"{found['run_s']:.2f}"),
                ("run, CPU s", f"{found['run_cpu_s']:.2f}"),
                ("invoices/s", rate(found["invoices"] / found["run_s"])),
                ("preview p50 ms", ms(p50_s)),
                ("preview p99 ms", ms(p99_s)),
                ("preview, CPU ms", ms(found["preview_cpu_s"])),
                ("backtest, customers/s", rate(customers / found["backtest_s"])),
            ],
        )
    )
    bench.figures["billing_each_s"] = found["run_s"] / found["invoices"]
    bench.figures["preview_p99_s"] = p99_s
    bench.figures["backtest_per_s"] = customers / found["backtest_s"]


_NODES_EVENTS_PER_S = 5_000

PARTS: dict[str, Callable[[Bench], None]] = {
    "ingest": part_ingest,
    "countable": part_countable,
    "loaded": part_loaded,
    "bare": part_bare,
    "sqlite": part_sqlite,
    "postgres": part_postgres,
    "lone": part_lone,
    "rebuild": part_rebuild,
    "rollups": part_rollups,
    "cluster": part_cluster,
    "billing": part_billing,
    "keys": part_keys,
    "gate": part_gate,
    "alerts": part_alerts,
}
