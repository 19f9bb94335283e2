"""Measure Tallystick on this machine: `make bench`, or `python -m bench --quick`.

Starts the real server on a directory of its own under .bench/, loads it, asks it, kills it, and does the same with
SQLite, PostgreSQL and the bare engine on the same rows. Every count and every answer is checked: a run that loses or
doubles an event, or gets another figure than calculated, fails. Stop every other work on the machine first.
"""

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from bench import ingest, lone, machine, peers
from bench.dataset import Answer, Dataset, expected_answers
from bench.questions import QUESTIONS, Timed, ask_tallystick, compare, time_question
from bench.report import Findings, Table, goals, ms, rate, ratio
from bench.server import KEY, METERS, Server, serving

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
SHARES = (0.0, 0.01, 0.5)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. Seconds are of load or of asking, preparation and checks come on top."""

    events: int = 10_000_000
    events_more: int = 0  # a second, larger dataset for Tallystick alone
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
    bare_rows: int = 1_000_000
    part_s_max: float = 3600.0


QUICK = Sizes(
    events=500_000, cell_s=3.0, sustained_s=8.0, countable_s=8.0, peer_s=5.0, bare_s=4.0, log_s=1.0, crash_s=1.5,
    runs=10, question_s_max=10.0, identities=1_000_000, derived_events=50_000, bare_rows=500_000, part_s_max=300.0,
)  # fmt: skip
TINY = Sizes(
    events=6_000, cell_s=0.5, sustained_s=0.7, countable_s=1.5, countable_events_per_s=3_000, peer_s=0.3, bare_s=0.3,
    log_s=0.1, crash_s=0.3, runs=3, question_s_max=2.0, identities=60_000, derived_events=2_000, bare_rows=2_000,
    part_s_max=120.0,
)  # fmt: skip
"""For the test that the harness runs. Its figures mean nothing."""


class PartTimeoutError(Exception):
    """A part took longer than it may."""


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


# -- the parts ------------------------------------------------------------------------------------------------------


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
        task = bench.progress.add_task("ingest", total=len(ingest.CONNECTIONS) * len(SHARES))
        bench.findings.tables.append(table)
        for events in sorted(ingest.CONNECTIONS, reverse=True):
            for share in SHARES:
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
        bench.questions[system] = {}
        for question in QUESTIONS:
            served: set[str] = set()

            def ask(question: Any = question, served: set[str] = served, server: Server = server) -> Answer:
                answer, served_from = ask_tallystick(server.http, question)
                served.add(served_from)
                return answer

            timed = time_question(ask, runs=sizes.runs, seconds_max=sizes.question_s_max)
            compare(question.name, system, timed.answer, expected[question.name])
            if "events" in served:
                bench.say(f"note: {question.title} was answered from events, not from readings")
            bench.questions[system][question.name] = replace(timed, served_from=", ".join(sorted(served)))
            bench.say(f"{dataset.events:,} events, {question.title}: {ms(timed.p50_s)} ms")
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


PARTS: dict[str, Callable[[Bench], None]] = {
    "ingest": part_ingest,
    "countable": part_countable,
    "loaded": part_loaded,
    "bare": part_bare,
    "sqlite": part_sqlite,
    "postgres": part_postgres,
    "lone": part_lone,
}


# -- side by side -----------------------------------------------------------------------------------------------------


def beside(bench: Bench) -> list[Table]:
    """What needs several parts: ingest and questions of all systems. A part that has not run leaves dashes."""
    figures = bench.figures
    ours = figures.get("same_rows")
    stores = Table(
        "Ingest beside other stores",
        "The same rows (the first ones of the dataset) on this machine in this run. Tallystick: through the API, until "
        "recorded, HTTP and the sending process included. Rows that warm up or choose a way are not timed. SQLite (WAL, synchronous=FULL, INSERT OR IGNORE) and PostgreSQL (default durability, "
        "ON CONFLICT DO NOTHING, the fastest of COPY or multi-row INSERT on 1 or 4 connections): one transaction for "
        "1,000 rows with a unique key on (tenant, source, id) and the indexes the questions need, rows prepared before "
        "the clock, no HTTP. Bare chDB: Arrow batches into the same table of facts, synced; no identity, no readings.",
        ("store", "events/s", "Tallystick is", "bytes an event"),
    )
    stores.rows.append(
        ("Tallystick, batches of 1,000", rate(ours), "", _bytes(figures.get("bytes_per_event")))
    )
    for name, key, size in (
        ("SQLite, batches of 1,000", "sqlite_ingest", "sqlite_bytes"),
        ("PostgreSQL, batches of 1,000", "postgres_ingest", "postgres_bytes"),
        ("bare chDB, batches of 10,000", "bare_chdb_10000", ""),
        ("bare chDB, batches of 100,000", "bare_chdb_100000", ""),
    ):
        stores.rows.append(
            (name, rate(figures.get(key)), ratio(ours, figures.get(key)), _bytes(figures.get(size)))
        )
    found = (
        [stores]
        if len(figures.keys() & {"same_rows", "sqlite_ingest", "postgres_ingest", "bare_chdb"}) > 1
        else []
    )

    if bench.questions:
        found.append(_question_table(bench))
    return found


def _question_table(bench: Bench) -> Table:
    systems = list(bench.questions)
    ours = bench.questions.get("Tallystick")
    table = Table(
        f"Questions, {bench.sizes.events:,} events",
        "Milliseconds, p50 of the warm runs (in brackets the first asking, the process started anew and the files "
        "dropped from the page cache as far as the system follows that advice). Tallystick over HTTP with JSON, the "
        "others by their drivers. All answers are equal, row by row, to figures calculated from the rows with NumPy. "
        "×: how many times as long as Tallystick.",
        ("question", *systems),
    )
    for question in QUESTIONS:
        row = [question.title]
        for system in systems:
            timed = bench.questions[system].get(question.name)
            if timed is None:
                row.append("–")
                continue
            text = f"{ms(timed.p50_s)} ({ms(timed.cold_s)})"
            if ours is not None and question.name in ours and system != "Tallystick":
                text += f", {ratio(timed.p50_s, ours[question.name].p50_s)}"
            row.append(text)
        table.rows.append(row)
    sums = {
        system: sum(timed.p50_s for timed in asked.values())
        for system, asked in bench.questions.items()
        if len(asked) == len(QUESTIONS)
    }
    table.rows.append(
        (
            "all five",
            *(
                "–" if system not in sums
                else ms(sums[system]) + ("" if system == "Tallystick" else f", {ratio(sums[system], sums.get('Tallystick'))}")
                for system in systems
            ),
        )
    )  # fmt: skip
    if "Tallystick" in sums:
        bench.figures["mix_s"] = sums["Tallystick"]
    if "PostgreSQL" in sums:
        bench.figures["postgres_mix_s"] = sums["PostgreSQL"]
    if (
        ours
        and bench.sizes.events_more
        and (more := bench.questions.get(f"Tallystick, {bench.sizes.events_more:,}"))
    ):
        bench.figures["growth"] = max(
            more[name].p50_s / ours[name].p50_s for name in ("customer_year", "top") if name in more
        )
    # The goals speak of the largest dataset asked.
    largest = next((bench.questions[name] for name in reversed(systems) if name.startswith("Tallystick")), {})
    for name, timed in largest.items():
        bench.figures[f"question_{name}"] = timed.p50_s
    return table


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


def _bytes(value: float | None) -> str:
    return f"{value:.1f}" if value is not None else "–"


def _highest(bench: Bench, key: str, value: float) -> None:
    bench.figures[key] = max(value, bench.figures.get(key, 0.0))


def _json_of(command: list[str], *, seconds_max: float) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_max, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{command[2]} failed: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


# -- the run ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _at_most(seconds: float) -> Generator[None]:
    """Raise PartTimeoutError in here when it takes longer."""

    def over(number: int, frame: FrameType | None) -> None:
        raise PartTimeoutError(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(directory: Path, sizes: Sizes, names: list[str], console: Console, *, keep: bool = False) -> Findings:
    """Run these parts; one that fails says so and the rest goes on. `directory` is made, and removed unless kept."""
    findings = Findings()
    directory.mkdir(parents=True)
    started = time.perf_counter()
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    )  # fmt: skip
    try:
        machine.describe(directory, findings, _settings(sizes))
        findings.tables[0].show(console)
        with progress:
            bench = Bench(directory, sizes, findings, console, progress)
            whole = progress.add_task("[bold]all parts", total=len(names))
            for name in names:
                part = PARTS[name]
                console.print(f"[bold]{part.__doc__}[/bold]")
                shown = len(findings.tables)
                begun = time.perf_counter()
                try:
                    with _at_most(sizes.part_s_max):
                        part(bench)
                except Exception as error:
                    findings.failures.append(f"{name}: {type(error).__name__}: {error}")
                    console.print(f"  FAILED {findings.failures[-1]}", style="red", markup=False)
                for task in progress.task_ids:
                    if task != whole:
                        progress.remove_task(task)
                progress.advance(whole)
                for table in findings.tables[shown:]:
                    table.show(console)
                bench.say(f"took {time.perf_counter() - begun:,.0f} s")
        for table in [*beside(bench), goals(findings.figures)]:
            findings.tables.append(table)
            table.show(console)
    finally:
        if keep:
            console.print(f"Data kept in {directory}.")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    console.print(f"The whole run took {time.perf_counter() - started:,.0f} s.")
    for failure in findings.failures:
        console.print(f"FAILED {failure}", style="red", markup=False)
    return findings


def _settings(sizes: Sizes) -> list[tuple[str, str]]:
    more = f" and {sizes.events_more:,}" if sizes.events_more else ""
    return [
        ("dataset", f"{sizes.events:,}{more} events over one year, 1,000 customers, 8 models, 3 regions"),
        (
            "load",
            f"{sizes.cell_s:g} s a line of ingest, {sizes.sustained_s:g} s on top of the dataset, "
            f"{sizes.countable_s:g} s of probes, {sizes.peer_s:g} s of batches of 1,000 into each other store",
        ),
    ]


def document(findings: Findings, command: str) -> str:
    """docs/benchmarks.md: how to read it, and the tables of the run."""
    head = f"""# Benchmarks

`make bench` measures this on your machine; `python -m bench --quick` does so in about four minutes with less of
everything. Stop other work first: load generator, server and the other stores share the machine's processors. What
each figure means stands above its table. Every count and every answer was checked during the run.

The run below: `{command}`, on {time.strftime("%Y-%m-%d", time.gmtime())}.
"""
    tables = [findings.tables[0], *findings.tables[-1:], *findings.tables[1:-1]]
    failed = "".join(f"\nThis part failed: {failure}\n" for failure in findings.failures)
    return "\n".join([head + failed, *(table.markdown() for table in tables)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--events",
        type=lambda text: int(text.replace("_", "")),
        help="events of the dataset (default 10_000_000)",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="three to four minutes in all, small sizes")
    size.add_argument(
        "--full", action="store_true", help="longer load, and 50 M events on top of which to ingest"
    )
    size.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--hundred-million", action="store_true", help="ask and load 100 M events too (15 to 20 GB of disk)"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=tuple(PARTS),
        metavar="NAME",
        help=f"only this part: {', '.join(PARTS)}; repeatable",
    )
    parser.add_argument("--cell-seconds", type=float, help="load of each line of ingest")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / ".bench", help="where the data goes (default .bench)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the data there")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    given = parser.parse_args(arguments)  # fmt: skip

    sizes = QUICK if given.quick else TINY if given.tiny else Sizes()
    if given.full:
        sizes = replace(sizes, cell_s=15.0, countable_s=40.0, events_more=50_000_000, part_s_max=7200.0)
    if given.events is not None:
        sizes = replace(sizes, events=given.events)
    if given.cell_seconds is not None:
        sizes = replace(sizes, cell_s=given.cell_seconds)
    if given.hundred_million:
        sizes = replace(sizes, events_more=100_000_000, part_s_max=7200.0)
    if not 2000 <= sizes.events <= 1_000_000_000 or not 0.1 <= sizes.cell_s <= 600:
        parser.error("--events must be 2,000 to 1,000,000,000 and --cell-seconds 0.1 to 600")

    def ended(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)  # so that servers are stopped and data is removed

    signal.signal(signal.SIGTERM, ended)
    console = Console(width=None if sys.stdout.isatty() else 150)
    directory = given.directory.absolute() / time.strftime("run-%Y%m%d-%H%M%S")
    findings = run(directory, sizes, given.only or list(PARTS), console, keep=given.keep)
    with contextlib.suppress(OSError):
        given.directory.rmdir()  # when it is empty
    if given.write:
        command = "python -m bench " + " ".join(arguments if arguments is not None else sys.argv[1:])
        DOCUMENT.write_text(document(findings, command.strip()), encoding="utf-8")
        console.print(f"Written: {DOCUMENT}")
    return 1 if findings.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
