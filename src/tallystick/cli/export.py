"""`tallystick export`: events, readings or usage into files by day or month, here or in a bucket, once or again and again.

    <kind>/day=2026-09-01/part.parquet    one file a day (or month), in UTC
    export.json                           what is exported, and which parts are finished, as of when

A part is there whole or not at all. What is finished is not fetched again unless something in it has changed since: late
events, corrections, backfills. So the same command again goes on where the last one ended, and `--every` keeps a bucket
up to date.
"""

import enum
import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, BinaryIO

import httpx
import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tallystick.cli.client import URL_DEFAULT, Api, ApiError, Key, Url, json_text
from tallystick.cli.show import err, say
from tallystick.errors import TallystickError, Unavailable
from tallystick.flows.target import Target
from tallystick.metering.definition import timeout_of

MANIFEST = "export.json"
FORMAT = 1
MANIFEST_BYTES_MAX = 64 * 1024**2
ATTEMPTS = 5
EVERY_S_MIN = 1.0
_RETRY_S = 1.0
_CHUNK_BYTES = 1024**2
_ACCEPT = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "ndjson": "application/json"}
_CARRIED = ("time_weighted", "duration", "register")
"""Aggregations whose figure of a day may change by an event of another."""


class Kind(enum.StrEnum):
    """What can be exported."""

    EVENTS = "events"
    READINGS = "readings"
    USAGE = "usage"


class Form(enum.StrEnum):
    """How files are written."""

    PARQUET = "parquet"
    CSV = "csv"
    NDJSON = "ndjson"


class Span(enum.StrEnum):
    """What one file covers."""

    DAY = "day"
    MONTH = "month"


class Part(msgspec.Struct, frozen=True):
    """A finished part. `file` is empty where nothing was in it."""

    file: str
    events: int
    bytes: int
    checksum: str  # xxh3-128
    as_of: str


class Manifest(msgspec.Struct):
    """What lies in the place. `question` is all that decides what a part holds."""

    format: int
    question: dict[str, Any]
    parts: dict[str, Part]  # by the time the part begins


def export(  # noqa: PLR0917 -- options
    kind: Annotated[Kind, typer.Argument(help="What to export.")],
    to: Annotated[
        str, typer.Option("--to", help="A directory or s3://bucket/path?region=…&endpoint_override=…")
    ],
    form: Annotated[Form, typer.Option("--format", help="Of the files.")] = Form.PARQUET,
    by: Annotated[Span, typer.Option("--by", help="What one file covers, in UTC.")] = Span.DAY,
    from_: Annotated[
        str | None, typer.Option("--from", help="Event time, inclusive (RFC 3339). Default: all.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Event time, exclusive. Default: now.")] = None,
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Events of this type; repeatable.")
    ] = None,
    meter: Annotated[str | None, typer.Option("--meter", help="For readings and usage.")] = None,
    customer: Annotated[
        list[str] | None, typer.Option("--customer", help="Of this customer; repeatable.")
    ] = None,
    window: Annotated[str, typer.Option("--window", help="For usage: hour, day or month.")] = "day",
    group_by: Annotated[list[str] | None, typer.Option("--group-by", help="For usage; repeatable.")] = None,
    every: Annotated[
        str | None,
        typer.Option("--every", help="Keep running: again after this time (ISO 8601, such as PT1H)."),
    ] = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Export events, readings or usage to files, by day or month. The same command again goes on, or brings up to date."""
    every_s = None if every is None else _seconds(every)
    question = _question(
        kind,
        form=form.value,
        by=by.value,
        types=event_type or [],
        meter=meter,
        customers=customer or [],
        window=window,
        group_by=group_by or [],
        **{"from": from_, "until": until},
    )
    target = Target(to)
    stopping = threading.Event()
    with Api(url, key) as api:
        while True:
            try:
                _Round(api, target, question).run()
            except (ApiError, Unavailable) as error:
                # The next round takes up what this one left.
                if every_s is None or (isinstance(error, ApiError) and error.status_code < 500):
                    raise
                say(f"Not finished: {error.detail}")
            if every_s is None:
                return
            stopping.wait(every_s)


def _question(kind: Kind, **given: Any) -> dict[str, Any]:
    if kind is Kind.EVENTS:
        if given["meter"]:
            raise TallystickError("--meter is for readings and usage; events are chosen by --type.")
    elif not given["meter"] or given["types"]:
        raise TallystickError(f"`export {kind}` needs --meter, and no --type: the meter has one.")
    if kind is not Kind.USAGE:
        if given["group_by"]:
            raise TallystickError("--group-by is for usage.")
        given["window"] = None
    elif given["window"] not in ("minute", "hour", "day", "month"):
        raise TallystickError(
            "--window: minute, hour, day or month is needed: windows that a file ends with."
        )
    elif given["window"] == "month" and given["by"] == "day":
        raise TallystickError("--window month needs --by month.")
    return {"kind": kind.value, **given}


def _seconds(text: str) -> float:
    us = timeout_of(text)
    if us is None or us < EVERY_S_MIN * 1_000_000:
        raise TallystickError(
            "--every: an ISO 8601 duration of a second or more is needed, such as PT1H or P1D."
        )
    return us / 1_000_000


class _Round:
    """One export, from what there is to what is there."""

    def __init__(self, api: Api, target: Target, question: Mapping[str, Any]) -> None:
        self._api = api
        self._target = target
        self._question = dict(question)
        self._kind = Kind(question["kind"])

    def run(self) -> None:
        manifest = self._manifest()
        path, parameters = self._parts_request()
        until = self._question["until"]
        asked = {"from": self._question["from"], "to": until}
        range_ = {name: value for name, value in asked.items() if value is not None}
        found = self._api.get(path, **parameters, **range_, by=self._question["by"])
        as_of, parts = found["as_of"], found["parts"]
        always = self._kind is Kind.USAGE and self._carried()
        if always and parts:
            parts = _without_gaps(parts, self._question["by"], until)
        due = [part for part in parts if always or _is_due(manifest.parts.get(part["from"]), part)]
        total = sum(part["events"] for part in due)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as shown:
            task = shown.add_task(f"{self._kind}", total=total)
            for part in due:
                shown.update(task, description=part["from"][:10])
                manifest.parts[part["from"]] = self._part(part, as_of, range_)
                self._target.write(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
                shown.advance(task, part["events"])
        say(
            f"{self._target.name}: {len(due):,} of {len(parts):,} parts written, {total:,} events, as of {as_of}; "
            f"the others have not changed."
        )

    def _manifest(self) -> Manifest:
        raw = self._target.read(MANIFEST, bytes_max=MANIFEST_BYTES_MAX)
        if raw is None:
            return Manifest(FORMAT, self._question, {})
        try:
            found = msgspec.json.decode(raw, type=Manifest)
        except msgspec.DecodeError as error:
            raise TallystickError(f"{MANIFEST} in {self._target.name} cannot be read: {error}.") from error
        if found.format != FORMAT or found.question != self._question:
            raise TallystickError(
                f"{self._target.name} holds another export: {json.dumps(found.question)}. Choose another place."
            )
        return found

    def _parts_request(self) -> tuple[str, dict[str, Any]]:
        question = self._question
        if self._kind is Kind.EVENTS:
            return "/v1/export/events/parts", {"type": question["types"], "customer": question["customers"]}
        return "/v1/export/readings/parts", {"meter": question["meter"], "customer": question["customers"]}

    def _carried(self) -> bool:
        return self._api.get(f"/v1/meters/{self._question['meter']}")["aggregation"] in _CARRIED

    def _part(self, part: Mapping[str, Any], as_of: str, range_: Mapping[str, str]) -> Part:
        question = self._question
        # The first and the last part may be cut by the range.
        edges = {
            "from": max(part["from"], range_.get("from", part["from"]), key=_instant),
            "to": min(part["to"], range_.get("to", part["to"]), key=_instant),
        }
        name = f"{self._kind}/{question['by']}={part['from'][: 10 if question['by'] == 'day' else 7]}/part.{question['form']}"
        size = 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._target.writing(name) as file:
                    size = self._fetch(file, edges, as_of)
                break
            except (Unavailable, httpx.HTTPError) as error:
                if attempt == ATTEMPTS or (isinstance(error, ApiError) and error.status_code < 500):
                    detail = error.detail if isinstance(error, Unavailable) else str(error)
                    raise Unavailable(f"{name}: {detail}") from error
                threading.Event().wait(_RETRY_S * attempt)
        return Part(name, part["events"], size, self._target.checksum(name), as_of)

    def _fetch(self, file: BinaryIO, edges: Mapping[str, str], as_of: str) -> int:
        question = self._question
        if self._kind is Kind.USAGE:
            body = {
                **edges,
                "as_of": as_of,
                "window": question["window"],
                "group_by": question["group_by"],
                **({"customer": question["customers"]} if question["customers"] else {}),
            }
            answer = self._api.send(
                "POST",
                f"/v1/meters/{question['meter']}/usage",
                json=body,
                headers={"accept": _ACCEPT[question["form"]]},
            )
            content = _lines(answer) if question["form"] == "ndjson" else answer.content
            file.write(content)
            return len(content)
        _, parameters = self._parts_request()
        size = 0
        with self._api.stream(
            f"/v1/export/{self._kind}",
            params={**parameters, **edges, "as_of": as_of, "format": question["form"]},
        ) as pieces:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
        return size


def _is_due(done: Part | None, part: Mapping[str, Any]) -> bool:
    """Whether a part was never exported, or has changed since. One from which only facts have gone (retention) has not:
    what was exported of it is all that is left."""
    return done is None or _instant(part["changed_at"]) > _instant(done.as_of)


def _lines(answer: httpx.Response) -> bytes:
    from tallystick.cli.client import parsed

    return "".join(json_text(row) + "\n" for row in parsed(answer.text)["rows"]).encode()


def _without_gaps(parts: Sequence[Mapping[str, Any]], by: str, until: str | None) -> list[Mapping[str, Any]]:
    """All parts from the first one up to the end of the range: a level is carried over days without events."""
    known = {part["from"]: part for part in parts}
    end = datetime.now(UTC) if until is None else _instant(until)
    start = _instant(parts[0]["from"])
    found: list[Mapping[str, Any]] = []
    while start < end:
        later = start + timedelta(days=1 if by == "day" else 32)
        later = later if by == "day" else later.replace(day=1)
        name = _text(start)
        empty = {"from": name, "to": _text(later), "events": 0, "changed_at": name}
        found.append(known.get(name, empty))
        start = later
    return found


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def register(app: typer.Typer) -> None:
    app.command("export")(export)
