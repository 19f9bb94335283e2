"""`GET /v1/export/…`: events and readings as a stream, in bounded memory, and which parts there are to fetch.

NDJSON (one object a line), CSV (RFC 4180, times in RFC 3339, decimals without trailing zeros) or Parquet. A stream that
ends early is cut off on the wire, never ended as if it were whole.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from litestar import Request, get
from litestar.response import Stream

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import TIME, array, objects, operation, query
from tallystick.flows.export import Export, ExportRequest, export, parts
from tallystick.flows.position import position_of, token_of
from tallystick.flows.system import System
from tallystick.flows.usage import wait_for_position
from tallystick.metering.position import Vector
from tallystick.store.interface import PART_SPANS, PartSpan

Connection = Request[Any, Any, Any]

FORMATS = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; header=present",
    "parquet": "application/vnd.apache.parquet",
}
ROWS_AT_ONCE = 20_000
_csv: Any = pacsv


# -- writing ---------------------------------------------------------------------------------------------------------
def pieces_of(given: Export, form: str) -> Iterator[bytes]:
    """The export in this format, piece by piece."""
    if form == "parquet":
        yield from _parquet(given)
        return
    if form == "csv":
        yield (",".join(f'"{name}"' for name in given.schema.names) + "\r\n").encode()
    for block in given.blocks:
        for first in range(0, block.num_rows, ROWS_AT_ONCE):
            rows = block.slice(first, ROWS_AT_ONCE)
            yield _csv_rows(rows) if form == "csv" else _ndjson_rows(rows)


def _parquet(given: Export) -> Iterator[bytes]:
    sink = _Drained()
    writer: Any = pq.ParquetWriter(sink, given.schema, compression="zstd")
    # Closed only at the end: the footer of a file that was cut off would make it look whole.
    for block in given.blocks:
        writer.write_table(block)
        yield sink.drain()
    writer.close()
    yield sink.drain()


class _Drained(io.RawIOBase):
    """A file that is read from the beginning while it is written at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any, /) -> int:
        self._pieces.append(bytes(piece))
        self._written += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._written

    def drain(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _texts(rows: pa.Table) -> dict[str, list[Any]]:
    """The columns as what JSON holds: times and decimals as text."""
    found: dict[str, list[Any]] = {}
    for field in rows.schema:
        column = rows[field.name]
        if pa.types.is_timestamp(field.type):
            known: dict[int, str] = {}
            values = column.cast(pa.int64()).to_pylist()
            for value in values:
                if value not in known:
                    known[value] = wire.time_text(value)
            found[field.name] = [known[value] for value in values]
        elif pa.types.is_decimal(field.type):
            found[field.name] = [_decimal_text(value) for value in column.to_pylist()]
        else:
            found[field.name] = column.to_pylist()
    return found


def _decimal_text(value: Decimal | None) -> str | None:
    return None if value is None else wire.decimal_text(value)


def _ndjson_rows(rows: pa.Table) -> bytes:
    columns = _texts(rows)
    for name in ("data", "extensions"):
        if name in columns and "source" in columns:  # a dimension may bear the name
            columns[name] = [
                None if value is None else msgspec.Raw(value.encode()) for value in columns[name]
            ]
    names = list(columns)
    encoder = msgspec.json.Encoder()
    return encoder.encode_lines(
        [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    )


def _csv_rows(rows: pa.Table) -> bytes:
    columns = _texts(rows)
    table = pa.table(
        {
            name: pa.array(values, pa.string()) if rows.schema.field(name).type != pa.uint64() else rows[name]
            for name, values in columns.items()
            if rows.schema.field(name).type not in (pa.uint32(),)
        }
        | {name: rows[name] for name in columns if rows.schema.field(name).type == pa.uint32()}
    ).select(rows.schema.names)
    sink = io.BytesIO()
    _csv.write_csv(table, sink, _csv.WriteOptions(include_header=False, quoting_style="needed", eol="\r\n"))
    return sink.getvalue()


async def _streamed(system: System, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, each made in a thread when the one before has been sent; the store's answer is closed with it."""
    loop = asyncio.get_running_loop()
    try:
        while (piece := await loop.run_in_executor(system.questions, next, pieces, None)) is not None:
            if piece:
                yield piece
    finally:
        close: Any = getattr(pieces, "close", None)
        if close is not None:
            await asyncio.shield(loop.run_in_executor(system.questions, close))


# -- routes ----------------------------------------------------------------------------------------------------------
def _read(request: Connection, fields: Fields, kind: str) -> ExportRequest:
    token = fields.text("after") if kind == "events" else None
    after: Vector = ()
    if token is not None:
        after = fields.faults.attempt(lambda: position_of(token, pointer="after"), ())
    wanted = ExportRequest(
        tenant=caller(request).tenant,
        types=fields.texts("type") if kind == "events" else None,
        meter=fields.required_text("meter") if kind == "readings" else None,
        version=fields.integer("version", least=1, most=1_000_000_000) if kind == "readings" else None,
        customers=fields.texts("customer"),
        from_us=fields.time_us("from"),
        to_us=fields.time_us("to"),
        as_of_us=fields.time_us("as_of"),
        after=after,
    )
    if wanted.from_us is not None and wanted.to_us is not None and wanted.from_us >= wanted.to_us:
        fields.fault("to", "empty_range", "The range [from, to) is empty: from must be earlier than to.")
    return wanted


async def _answer(request: Connection, kind: str) -> Stream:
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    form = fields.choice("format", tuple(FORMATS)) or "ndjson"
    position = fields.text("min_position")
    wanted = _read(request, fields, kind)
    fields.finish()
    if position is not None:
        await wait_for_position(system, position_of(position, pointer="min_position"))
    given = await export(system, wanted, bound=who.customer)
    headers = {
        "Tallystick-Position": token_of(given.position),
        "Tallystick-As-Of": wire.time_text(given.as_of_us),
    }
    pieces = _streamed(system, pieces_of(given, form))
    return Stream(pieces, media_type=FORMATS[form], headers=headers, status_code=200)


_RANGE = [
    query("customer", "Of these customers.", repeated=True),
    query("from", "Event time, inclusive.", schema=TIME),
    query("to", "Event time, exclusive.", schema=TIME),
    query(
        "as_of",
        "As it was at this moment. Default: the latest; the answer's `Tallystick-As-Of`.",
        schema=TIME,
    ),
]
_STREAM = [
    query(
        "format",
        "How rows are written.",
        schema={"type": "string", "enum": list(FORMATS), "default": "ndjson"},
    ),
    query("min_position", "Wait until this position is recorded."),
]
_EVENTS = [query("type", "The event's type.", repeated=True)]
_READINGS = [
    query("meter", "The meter's key.", required=True),
    query("version", "Of the meter.", schema={"type": "integer"}),
]
_ANSWER = {media.partition(";")[0]: {} for media in FORMATS.values()}


@get(
    "/v1/export/events",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="Export events",
            tag="Events",
            description="Every event that counts as of a moment, corrections applied, in no stated order. With `after`, those "
            "recorded or corrected behind a position: `Tallystick-Position` of the answer before.",
            parameters=[*_EVENTS, *_RANGE, query("after", "Only what came behind this position."), *_STREAM],
            answer_types=_ANSWER,
        )
    },
)
async def export_events(request: Connection) -> Stream:
    """A stream of events."""
    return await _answer(request, "events")


@get(
    "/v1/export/readings",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Export readings",
            tag="Usage",
            description="What each event contributes to a meter: the rows behind its figures.",
            parameters=[*_READINGS, *_RANGE, *_STREAM],
            answer_types=_ANSWER,
            errors=(404,),
        )
    },
)
async def export_readings(request: Connection) -> Stream:
    """A stream of readings."""
    return await _answer(request, "readings")


_PARTS = objects(
    {
        "as_of": TIME,
        "parts": array(
            objects({"from": TIME, "to": TIME, "events": {"type": "integer"}, "changed_at": TIME})
        ),
    }
)
_BY = query("by", "Length of a part.", schema={"type": "string", "enum": list(PART_SPANS), "default": "day"})
_PARTS_DESCRIPTION = (
    "Days or months (UTC) that events lie in, how many count, and when the latest of them was recorded or corrected: what "
    "was exported as of that moment or later is still right."
)


@get(
    "/v1/export/events/parts",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="Which events there are to export",
            tag="Events",
            description=_PARTS_DESCRIPTION,
            parameters=[*_EVENTS, *_RANGE, _BY],
            answer=_PARTS,
        )
    },
)
async def event_parts(request: Connection) -> dict[str, Any]:
    """The parts there are."""
    return await _parts(request, "events")


@get(
    "/v1/export/readings/parts",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Which readings there are to export",
            tag="Usage",
            description=_PARTS_DESCRIPTION,
            parameters=[*_READINGS, *_RANGE, _BY],
            answer=_PARTS,
            errors=(404,),
        )
    },
)
async def reading_parts(request: Connection) -> dict[str, Any]:
    """The parts there are of the meter's events."""
    return await _parts(request, "readings")


async def _parts(request: Connection, kind: str) -> dict[str, Any]:
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    span: PartSpan = "month" if fields.choice("by", PART_SPANS) == "month" else "day"
    wanted = _read(request, fields, kind)
    fields.finish()
    found, as_of_us = await parts(system, wanted, span, bound=who.customer)
    return {
        "as_of": wire.time_text(as_of_us),
        "parts": [
            {
                "from": wire.time_text(part.from_us),
                "to": wire.time_text(part.to_us),
                "events": part.events,
                "changed_at": wire.time_text(part.changed_at_us),
            }
            for part in found
        ],
    }


ROUTES = [export_events, export_readings, event_parts, reading_parts]
