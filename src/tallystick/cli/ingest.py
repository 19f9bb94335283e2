"""`tallystick ingest`: a data file through the public API, as fast as it takes it, and safely again.

Rows become events with ids that depend on the file alone, so that whatever was sent twice counts once. The place reached
is noted in a small file, only to save time when a run is taken up again.
"""

import hashlib
import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import yaml
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from tallystick.cli.client import URL_DEFAULT, Api, ApiError, Key, Url
from tallystick.cli.show import TableOrJson, err, print_json, print_table, say
from tallystick.errors import TallystickError
from tallystick.sources.files import FileFormat, RowSource, open_rows
from tallystick.sources.mapping import EventMaker, Events, Mapping, columns_of, read_mapping
from tallystick.sources.rows import Refused

IN_FLIGHT_DEFAULT = 4
IN_FLIGHT_MAX = 64
EXAMPLES_MAX = 3
_STATE_EVERY_S = 1.0
_RECORDED_S_MAX = 10.0
_LOOK_AGAIN_S = 0.25
_BATCH_BYTES_MAX = 8 * 1024 * 1024
_POOL_PAUSE_S = 0.2


@dataclass(slots=True)
class Outcome:
    """What became of the events of one or of many requests."""

    sent: int = 0
    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    accepted: int = 0  # durable; what became of them was not waited for
    refused: list[Refused] = field(default_factory=list[Refused])


@dataclass(slots=True)
class Summary:
    """A run so far. `rows`: how many are behind it, in the order of the file."""

    rows: int = 0
    last_id: str = ""
    last_source: str = "/"
    sent: int = 0
    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[list[Any]]] = field(default_factory=dict[str, list[list[Any]]])

    def add(self, outcome: Outcome) -> None:
        self.sent += outcome.sent
        self.recorded += outcome.recorded
        self.duplicates += outcome.duplicates
        self.conflicts += outcome.conflicts
        self.accepted += outcome.accepted
        for one in outcome.refused:
            self.refused[one.code] += 1
            examples = self.examples.setdefault(one.code, [])
            if len(examples) < EXAMPLES_MAX:
                examples.append([one.row, one.detail])


class StateFile:
    """Where an interrupted run had got to, under a name made of everything that decides which events are sent."""

    def __init__(self, path: str, mapping: Mapping, url: str, key: str | None) -> None:
        found = Path(path).resolve()
        stat = found.stat()
        named = [
            str(found),
            stat.st_size,
            stat.st_mtime_ns,
            asdict(mapping),
            url,
            hashlib.sha256((key or "").encode()).hexdigest(),
        ]
        name = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        self.path = home / "tallystick" / "ingest" / f"{name}.json"
        self._saved_at = time.monotonic()

    def load(self) -> Summary | None:
        try:
            kept: dict[str, Any] = json.loads(self.path.read_text())
            kept["refused"] = Counter(kept["refused"])
            return Summary(**kept)
        except (OSError, ValueError, TypeError, KeyError):
            return None  # a state that cannot be read costs time, nothing else

    def save(self, summary: Summary, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._saved_at < _STATE_EVERY_S:
            return
        self._saved_at = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        passing = self.path.with_suffix(".new")
        passing.write_text(json.dumps(asdict(summary)))
        passing.replace(self.path)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


class Sender:
    """Sends batches, several at once, and adds up what becomes of them in the order of the file."""

    def __init__(self, api: Api, *, wait: bool, in_flight: int) -> None:
        self._api = api
        self._path = "/v1/events?wait=recorded" if wait else "/v1/events"
        self._in_flight = in_flight
        self._stopping = threading.Event()
        self._told = False

    def _tell_once(self, why: str) -> None:
        if not self._told:
            self._told = True
            say(f"{why} Trying again.")

    def run(self, batches: Iterator[Events]) -> Iterator[tuple[Events, Outcome]]:
        """Each batch with its outcome, in order. On the way out, batches under way are waited for."""
        under_way: deque[tuple[Events, Future[Outcome]]] = deque()
        pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="send")
        try:
            for batch in batches:
                under_way.append((batch, pool.submit(self._send, batch)))
                if len(under_way) >= 2 * self._in_flight:
                    yield self._oldest(under_way)
            while under_way:
                yield self._oldest(under_way)
        finally:
            self._stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _oldest(under_way: deque[tuple[Events, Future[Outcome]]]) -> tuple[Events, Outcome]:
        batch, future = under_way.popleft()
        return batch, future.result()

    def _send(self, batch: Events) -> Outcome:
        outcome = Outcome(refused=list(batch.refused))
        for first, behind in _pieces(batch.lines):
            self._send_piece(batch, first, behind, outcome)
        return outcome

    def _send_piece(self, batch: Events, begin: int, end: int, outcome: Outcome) -> None:
        body = "\n".join(batch.lines[begin:end]).encode()
        try:
            answer: dict[str, Any] = self._api.send_until_through(
                "POST",
                self._path,
                stopping=self._stopping,
                on_wait=self._tell_once,
                content=body,
                headers={"content-type": "application/x-ndjson"},
            ).json()
        except ApiError as error:
            if error.status_code == 413 and end - begin > 1:
                middle = (begin + end) // 2
                self._send_piece(batch, begin, middle, outcome)
                self._send_piece(batch, middle, end, outcome)
                return
            if error.status_code == 413:
                results = [{"index": 0, "status": "rejected", "code": error.code, "detail": error.detail}]
            elif "results" in error.document:
                results = error.document["results"]
            else:
                raise
            answer = {"results": results}
        outcome.sent += end - begin
        for name in ("recorded", "duplicates", "conflicts", "accepted"):
            setattr(outcome, name, getattr(outcome, name) + answer.get(name, 0))
        for result in answer["results"]:
            if result["status"] == "rejected":
                at = begin + result["index"]
                outcome.refused.append(
                    Refused(batch.numbers[at], result["code"], result["detail"], batch.lines[at][:1000])
                )


def _pieces(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Slices whose bodies are not too large (characters are counted: at most four bytes each)."""
    begin, size = 0, 0
    for at, line in enumerate(lines):
        if size and size + len(line) > _BATCH_BYTES_MAX // 4:
            yield begin, at
            begin, size = at, 0
        size += len(line) + 1
    if begin < len(lines):
        yield begin, len(lines)


# -- the command ------------------------------------------------------------------------------------------------------
_MAPPING = "Which column is what"


def ingest(  # noqa: PLR0917 -- options
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Data files; - is standard input.", show_default=False),
    ],
    format_: Annotated[
        FileFormat | None,
        typer.Option("--format", help="Where the name does not tell (.gz and .zst are seen through)."),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML file with the options below.", rich_help_panel=_MAPPING)
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Column, or a template such as {model}/{client}. Without: a digest of the row.",
            rich_help_panel=_MAPPING,
        ),
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Type of all events.", rich_help_panel=_MAPPING)
    ] = None,
    type_column: Annotated[
        str | None, typer.Option(help="Column. Default: type.", rich_help_panel=_MAPPING)
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Source of all events.", rich_help_panel=_MAPPING)
    ] = None,
    source_column: Annotated[
        str | None, typer.Option(help="Column. Default: source.", rich_help_panel=_MAPPING)
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Column. Default: subject.", rich_help_panel=_MAPPING)
    ] = None,
    subject_value: Annotated[
        str | None, typer.Option(help="Subject of all events.", rich_help_panel=_MAPPING)
    ] = None,
    time_: Annotated[
        str | None, typer.Option("--time", help="Column. Default: time.", rich_help_panel=_MAPPING)
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            help="rfc3339 (default), unix, unix_ms, or offset: seconds from --time-base.",
            rich_help_panel=_MAPPING,
        ),
    ] = None,
    time_base: Annotated[
        str | None, typer.Option(help="Where offsets count from: RFC 3339.", rich_help_panel=_MAPPING)
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="IANA zone of times that have no offset.", rich_help_panel=_MAPPING)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Columns for data: a,b=c is a, and c under the name b. Default: all others.",
            rich_help_panel=_MAPPING,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="Columns whose values are text, whatever they look like: a,b.", rich_help_panel=_MAPPING
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first events, and send nothing.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait to learn which events were new; a little faster.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin at the first row, even if a run was interrupted.")
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option(help="Write refused rows with their reasons here, one JSON a line.")
    ] = None,
    in_flight: Annotated[
        int,
        typer.Option(
            min=1, max=IN_FLIGHT_MAX, help="Requests under way at once. 1 keeps the order of the file."
        ),
    ] = IN_FLIGHT_DEFAULT,
    summary_format: Annotated[
        TableOrJson, typer.Option("--summary", help="Form of the summary.")
    ] = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Send the rows of data files as events. Sending a file again changes nothing.

    [dim]tallystick ingest requests.csv --type llm.request --id event_id --time timestamp --subject service[/dim]

    JSON without mapping options is taken as events as they are. Exit status 1 when rows were refused.
    """
    given = Mapping(
        id=id_,
        type=type_,
        type_column=type_column,
        source=source,
        source_column=source_column,
        subject=subject,
        subject_value=subject_value,
        time=time_,
        time_format=time_format,
        time_base=time_base,
        time_zone=time_zone,
        data=None if data is None else columns_of(data),
        text=None if text is None else tuple(column.strip() for column in text.split(",")),
    )
    chosen = with_file(given, mapping)
    EventMaker(chosen)  # finds what is wrong with the mapping before anything is opened
    if files.count("-") > 1:
        raise TallystickError("Standard input can be read once.")
    if dry_run:
        for file in files:
            _show_first(file, format_, chosen)
        return
    refused = 0
    with Api(url, key, connections_max=in_flight) as api, _rejects_file(rejects) as write_reject:
        api.get("/health/live")  # a wrong address is told at once, not after all attempts
        for file in files:
            state = None if file == "-" else _state_file(file, chosen, api.url, key)
            if state is not None and restart:
                state.forget()
            started = time.monotonic()
            before = (state and state.load()) or Summary()
            summary = _ingest_file(api, file, format_, chosen, state, not no_wait, in_flight, write_reject)
            refused += summary.refused.total()
            _print_summary(
                file, summary, time.monotonic() - started, summary.sent - before.sent, summary_format
            )
    if refused:
        raise typer.Exit(1)


def with_file(given: Mapping, path: Path | None) -> Mapping:
    """The options, and what they leave open from the mapping file."""
    if path is None:
        return given
    try:
        document = yaml.safe_load(path.read_bytes()[: 1024 * 1024])
    except (OSError, yaml.YAMLError) as error:
        raise TallystickError(f"--mapping: {path} cannot be read: {error}.") from error
    from_file = read_mapping(document)
    pairs = {name: value for name, value in asdict(from_file).items() if value is not None}
    return Mapping(**(pairs | {name: value for name, value in asdict(given).items() if value is not None}))


def _state_file(file: str, mapping: Mapping, url: str, key: str | None) -> StateFile:
    try:
        return StateFile(file, mapping, url, key)
    except OSError as error:
        raise TallystickError(f"{file} cannot be opened: {error.strerror}.") from error


_WriteRejects = Callable[[str, list[Refused]], None]


def _write_nothing(file: str, refused: list[Refused]) -> None:
    """For runs without --rejects."""


@contextmanager
def _rejects_file(path: Path | None) -> Generator[_WriteRejects]:
    if path is None:
        yield _write_nothing
        return
    with path.open("w", encoding="utf-8") as stream:

        def write(file: str, refused: list[Refused]) -> None:
            for one in refused:
                stream.write(json.dumps({"file": file, **asdict(one)}, ensure_ascii=False) + "\n")
            stream.flush()

        yield write


def _show_first(file: str, format_: FileFormat | None, mapping: Mapping) -> None:
    with open_rows(file, format_) as source:
        maker = EventMaker(mapping)
        for rows in source.blocks:
            events = maker.events(rows)
            for line in events.lines[:5]:
                typer.echo(line)
            for one in events.refused[:5]:
                say(f"row {one.row}: {one.code}: {one.detail}")
            return
    say(f"{file} has no rows.")


def _ingest_file(  # noqa: PLR0917
    api: Api,
    file: str,
    format_: FileFormat | None,
    mapping: Mapping,
    state: StateFile | None,
    wait: bool,
    in_flight: int,
    write_reject: _WriteRejects,
) -> Summary:
    summary = _taken_up(api, file, state)
    skip = summary.rows
    with open_rows(file, format_) as source, _progress(file, source, summary.sent) as show:
        maker = EventMaker(mapping)

        def batches() -> Iterator[Events]:
            rows_read = 0
            for rows in source.blocks:
                # Made of skipped rows too: the running number of equal rows depends on them.
                events = maker.events(rows)
                rows_read += len(rows) + len(rows.refused)
                if rows_read > skip:
                    yield events

        try:
            for events, outcome in Sender(api, wait=wait, in_flight=in_flight).run(batches()):
                summary.add(outcome)
                summary.rows += len(events.lines) + len(events.refused)
                if events.ids and not outcome.refused:
                    summary.last_id, summary.last_source = events.ids[-1], _source_of(events.lines[-1])
                write_reject(file, outcome.refused)
                if state is not None:
                    state.save(summary)
                show(events.progress, summary)
        except BaseException:
            if state is not None and summary.rows > skip:
                state.save(summary, now=True)
                say(f"Stopped after {summary.rows:,} rows. The same command goes on from there.")
            raise
    if state is not None:
        state.forget()
    return summary


def _taken_up(api: Api, file: str, state: StateFile | None) -> Summary:
    """What an interrupted run has left, provided the server still has what it sent."""
    kept = state.load() if state is not None else None
    if kept is None:
        return Summary()
    if not kept.last_id:
        return Summary()
    if not _is_there(api, kept):
        say(
            f"{file}: an earlier run was interrupted, but the server does not have its events. Beginning anew."
        )
        return Summary()
    say(f"{file}: going on after row {kept.rows:,} (--restart begins anew).")
    return kept


def _is_there(api: Api, kept: Summary) -> bool:
    """What was acknowledged last may not be recorded yet where much is waiting: asked again for a while."""
    until_s = time.monotonic() + _RECORDED_S_MAX
    while True:
        try:
            api.get("/v1/events/lookup", id=kept.last_id, source=kept.last_source)
        except ApiError as error:
            if error.status_code != 404 or time.monotonic() > until_s:
                return False
        else:
            return True
        time.sleep(_LOOK_AGAIN_S)


def _source_of(line: str) -> str:
    try:
        return str(cast("dict[str, Any]", json.loads(line)).get("source") or "/")
    except ValueError:
        return "/"


class _Rate(ProgressColumn):
    """Events a second, of this run."""

    def render(self, task: Task) -> Text:
        elapsed_s = task.elapsed or 0
        return Text(
            f"{task.fields['sent'] / elapsed_s:,.0f}/s" if elapsed_s > 0.5 else "…/s", justify="right"
        )


@contextmanager
def _progress(file: str, source: RowSource, sent_before: int) -> Generator[Callable[[int, Summary], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[sent]:,} events"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(Path(file).name, total=source.size, sent=0)

        def show(done: int, summary: Summary) -> None:
            progress.update(task, completed=done, sent=summary.sent - sent_before)

        yield show


def _print_summary(file: str, summary: Summary, seconds: float, sent_now: int, form: TableOrJson) -> None:
    rate = sent_now / seconds if seconds > 0 else 0.0
    figures = {
        "rows": summary.rows,
        "sent": summary.sent,
        "recorded": summary.recorded,
        "duplicates": summary.duplicates,
        "conflicts": summary.conflicts,
        "accepted": summary.accepted,
        "refused": summary.refused.total(),
    }
    if form is TableOrJson.JSON:
        print_json(
            {
                "file": file,
                **figures,
                "refused_by_reason": dict(summary.refused),
                "seconds": round(seconds, 3),
                "events_per_second": round(rate),
            }
        )
        return
    meanings = {
        "rows": "in the file",
        "sent": "events",
        "recorded": "new, and counted",
        "duplicates": "known already, not counted again",
        "conflicts": "known with another content, not counted; see: tallystick events --status conflict",
        "accepted": "durable; not waited for",
        "refused": "not taken",
    }
    rows = [
        [name, f"{figure:,}", meanings[name]] for name, figure in figures.items() if figure or name == "sent"
    ]
    print_table([file, "number", ""], rows, right=["number"])
    for code, examples in summary.examples.items():
        for row, detail in examples:
            say(f"  row {row}: {code}: {detail}")
        if summary.refused[code] > len(examples):
            say(f"  … {summary.refused[code] - len(examples):,} more: {code}")
    say(f"{seconds:,.1f} s, {rate:,.0f} events/s")


def register(app: typer.Typer) -> None:
    app.command("ingest", no_args_is_help=True)(ingest)
