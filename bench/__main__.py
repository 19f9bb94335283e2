"""Measure Tallystick on this machine: `make bench`, or `python -m bench --quick`.

Starts the real server on a directory of its own under .bench/, loads it, asks it, kills it, and does the same with
SQLite, PostgreSQL and the bare engine on the same rows. Every count and every answer is checked: a run that loses or
doubles an event, or gets another figure than calculated, fails. Stop every other work on the machine first.
"""

import argparse
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from bench import machine
from bench.beside import beside
from bench.parts import PARTS, QUICK, ROOT, TINY, Bench, Sizes
from bench.report import Findings, goals

DOCUMENT = ROOT / "docs" / "benchmarks.md"


class PartTimeoutError(Exception):
    """A part took longer than it may."""


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
