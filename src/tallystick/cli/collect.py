"""`tallystick collect`: a folder whose data files become events, each object once, replaced ones as corrections."""

import fnmatch
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url
from tallystick.cli.collected import Journal, Taken, sha256_of, write_identity
from tallystick.cli.ingest import IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX, Outcome, Sender, with_file
from tallystick.cli.show import say
from tallystick.errors import TallystickError
from tallystick.sources.files import format_of, open_rows
from tallystick.sources.mapping import EventMaker, Events, Mapping
from tallystick.sources.rows import Refused
from tallystick.sources.sent import RETRACTED, Identity, sift, some

REJECTS = ".rejects.ndjson"
STATE = ".tallystick"
CORRECTIONS_MAX = 1_000
_REASON = "the object was replaced"


class Collector:
    """Takes the objects of one folder."""

    def __init__(
        self, api: Api, directory: Path, journal: Journal, mapping: Mapping, *, in_flight: int
    ) -> None:
        self._api, self._directory, self._journal, self._mapping = api, directory, journal, mapping
        self._in_flight = in_flight
        self._stopping = threading.Event()

    def objects(self, pattern: str, *, settle_s: float) -> Iterator[tuple[Path, str, os.stat_result]]:
        """Data files that are new or changed by their size and time, and are not being written, in order of their names."""
        for path in sorted(self._directory.rglob("*")):
            name = path.relative_to(self._directory).as_posix()
            hidden = any(part.startswith(".") for part in Path(name).parts)
            if hidden or name.endswith(REJECTS) or format_of(name) is None or not path.is_file():
                continue
            if not fnmatch.fnmatchcase(name, pattern):
                continue
            stat = path.stat()
            last = self._journal.last(name)
            if last is not None and (last.size, last.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
                continue
            if time.time() - stat.st_mtime >= settle_s:
                yield path, name, stat

    def take(self, path: Path, name: str, stat: os.stat_result) -> Taken | None:
        """One object; None when its content was taken already. Raises what the server refuses as a whole."""
        digest = sha256_of(path)
        last = self._journal.last(name)
        if last is not None and last.sha256 == digest:
            self._journal.note(replace(last, size=stat.st_size, mtime_ns=stat.st_mtime_ns))
            return None
        known = self._journal.identities(name, digest)
        counts: Counter[str] = Counter()
        fault = ""
        rejects: list[Refused] = []
        with self._journal.listing(name, digest) as listing:
            changed: list[str] = []
            try:
                with open_rows(str(path), None) as source:
                    batches = self._batches(path, source.blocks, known, changed, listing)
                    sender = Sender(self._api, wait=True, in_flight=self._in_flight)
                    for _, outcome in sender.run(batches):
                        self._count(outcome, counts, rejects)
            except TallystickError as error:
                if not str(error).startswith(str(path)):
                    raise
                fault = str(error)
            gone = [] if fault else [one for one, said in known.items() if said != RETRACTED]
            for identity, said in known.items():
                write_identity(listing, identity, said if fault else RETRACTED)
            self._correct(name, changed, gone, counts)
        self._reject(path, rejects)
        taken = Taken(
            name,
            stat.st_size,
            stat.st_mtime_ns,
            digest,
            events=counts["events"],
            replaced=counts["replaced"],
            retracted=counts["retracted"],
            refused=len(rejects),
            fault=fault,
        )
        self._journal.note(taken)
        return taken

    def _batches(
        self,
        path: Path,
        blocks: Iterator[Any],
        known: dict[Identity, str],
        changed: list[str],
        listing: IO[str],
    ) -> Iterator[Events]:
        """Events that are new. Those sent before are taken out of `known`, and put into `changed` where they differ."""
        maker = EventMaker(self._mapping)
        for rows in blocks:
            try:
                made = maker.events(rows)
            except TallystickError as error:
                raise TallystickError(f"{path}: {error}") from error  # a fault of this object alone
            sifted = sift(made, known)
            for identity, digest in sifted.entries:
                write_identity(listing, identity, digest)
            listing.flush()
            changed += [made.lines[at] for at in sifted.changed]
            fresh = some(made, sifted.fresh)
            fresh.refused, fresh.progress = made.refused, made.progress
            yield fresh

    @staticmethod
    def _count(outcome: Outcome, counts: Counter[str], rejects: list[Refused]) -> None:
        counts["events"] += outcome.recorded + outcome.accepted
        rejects += outcome.refused

    def _correct(self, name: str, changed: list[str], gone: list[Identity], counts: Counter[str]) -> None:
        """What a replaced object says otherwise, and what it no longer says. May be repeated."""
        for at in range(0, len(changed), CORRECTIONS_MAX):
            some = changed[at : at + CORRECTIONS_MAX]
            body = f'{{"reason":{json.dumps(f"{_REASON}: {name}"[:1000])},"replace":[{",".join(some)}]}}'
            missing: list[str] = []
            for result in self._corrections(body):
                if result["status"] == "not_found":
                    missing.append(some[result["index"]])
                elif result["status"] != "rejected":
                    counts["replaced"] += 1
            if missing:  # written down by a run that was cut off before it sent them
                again = Events(lines=missing, numbers=[0] * len(missing), ids=[""] * len(missing))
                for _, outcome in Sender(self._api, wait=True, in_flight=1).run(iter([again])):
                    counts["events"] += outcome.recorded + outcome.accepted
        for at in range(0, len(gone), CORRECTIONS_MAX):
            listed = [{"source": source, "id": one} for source, one in gone[at : at + CORRECTIONS_MAX]]
            body = json.dumps({"reason": f"{_REASON}: {name}"[:1000], "retract": listed})
            counts["retracted"] += sum(
                result["status"] not in ("not_found", "rejected") for result in self._corrections(body)
            )

    def _corrections(self, body: str) -> list[dict[str, Any]]:
        answer = self._api.send_until_through(
            "POST",
            "/v1/events/corrections",
            stopping=self._stopping,
            on_wait=say,
            content=body.encode(),
            headers={"content-type": "application/json"},
        )
        return answer.json()["results"]

    @staticmethod
    def _reject(path: Path, rejects: list[Refused]) -> None:
        """The report beside the object; none when all of it was taken."""
        report = path.with_name(path.name + REJECTS)
        if not rejects:
            report.unlink(missing_ok=True)
            return
        passing = path.with_name(f".{path.name}{REJECTS}")
        with passing.open("w", encoding="utf-8") as stream:
            for one in rejects:
                stream.write(
                    json.dumps(asdict(replace(one, content=one.content[:1000])), ensure_ascii=False) + "\n"
                )
        passing.replace(report)


def collect(  # noqa: PLR0917 -- options
    directory: Annotated[
        Path, typer.Option("--dir", help="The folder, with all folders in it.", show_default=False)
    ],
    mapping: Annotated[
        Path | None, typer.Option(help="YAML file: which column is what (as for `tallystick ingest`).")
    ] = None,
    pattern: Annotated[str, typer.Option(help="Which objects, by their path in the folder.")] = "*",
    every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between two looks; 0: look once, and end.")
    ] = 5.0,
    settle: Annotated[
        float,
        typer.Option(min=0.0, help="Seconds for which an object must not have changed before it is taken."),
    ] = 2.0,
    state: Annotated[
        Path | None,
        typer.Option(help="Where it is remembered what was taken. Default: .tallystick in the folder."),
    ] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, max=IN_FLIGHT_MAX, help="Requests under way at once.")
    ] = IN_FLIGHT_DEFAULT,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Take the data files of a folder as events, each once, and go on watching it.

    CSV, NDJSON, JSON and Parquet, plain, gzip or zstd. A changed object becomes corrections. Rejected lines stand beside
    their object, in NAME.rejects.ndjson. One JSON line for each object taken. Exit status 1 when, with --every 0,
    something was refused.
    """
    if not directory.is_dir():
        raise TallystickError(f"--dir: {directory} is no folder.")
    chosen = with_file(Mapping(), mapping)
    EventMaker(chosen)  # finds what is wrong with the mapping before anything is opened
    journal = Journal(state or directory / STATE)
    wrong = False
    try:
        with Api(url, key, connections_max=in_flight) as api:
            api.get("/health/live")
            collector = Collector(api, directory, journal, chosen, in_flight=in_flight)
            while True:
                for path, name, stat in collector.objects(pattern, settle_s=settle):
                    try:
                        taken = collector.take(path, name, stat)
                    except OSError as error:
                        say(f"{name}: {error}. It is looked at again.")
                        wrong = True
                        continue
                    if taken is not None:
                        typer.echo(json.dumps(asdict(taken)))
                        wrong = wrong or bool(taken.refused or taken.fault)
                if every == 0:
                    break
                time.sleep(every)
    finally:
        journal.close()
    if wrong:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(collect)
