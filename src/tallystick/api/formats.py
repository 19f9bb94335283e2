"""How one usage answer is written: JSON, CSV, Parquet or an Arrow stream, chosen by `Accept`.

CSV is RFC 4180: CRLF line ends, quotes where a cell holds a comma, a quote or a line end. A missing dimension is an
empty cell, an empty string a quoted empty cell. Cells are what was measured, letter for letter: a dimension that begins
with `=` is written as it is, so a spreadsheet that evaluates formulas must be told to read the column as text.

Parquet and Arrow are written a batch of rows at a time, so that what is held of them is one batch. Figures are
decimal(38, 18) where all of a column fit, decimal(76, 18) where those do, strings otherwise: never a float. The members
of the JSON answer beside `rows` stand in the schema's metadata.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tallystick.api.problem import NotAcceptable
from tallystick.api.wire import decimal_text, time_text
from tallystick.flows.overview import Change
from tallystick.flows.position import token_of
from tallystick.flows.usage import UsageAnswer
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.query import UsageRow

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"

BATCH_ROWS = 10_000
CHANGE_COLUMNS = ("previous_start", "previous_end", "previous", "change", "change_percent")
"""What each row says in addition when it is compared with the one before."""

_FRACTION_DIGITS = 18
_DECIMAL_128, _DECIMAL_256 = pa.decimal128(38, _FRACTION_DIGITS), pa.decimal256(76, _FRACTION_DIGITS)
_LIMITS = (
    (_DECIMAL_128, Decimal(10) ** (38 - _FRACTION_DIGITS)),
    (_DECIMAL_256, Decimal(10) ** (76 - _FRACTION_DIGITS)),
)
_EXACT = Context(prec=100)


class _Row(msgspec.Struct, frozen=True, gc=False):
    window_start: str
    window_end: str
    group: dict[str, str | None]
    value: str | None


class _ComparedRow(_Row, frozen=True, gc=False):
    previous_start: str
    previous_end: str
    previous: str | None
    change: str | None
    change_percent: str | None


class _Total(msgspec.Struct, frozen=True):
    group: Mapping[str, str | None]
    value: str | None


class _Usage(msgspec.Struct, frozen=True):
    meter: str
    version: int
    aggregation: str
    unit: str | None
    from_: str = msgspec.field(name="from")
    to: str
    window: str | None
    timezone: str
    rows: Sequence[_Row]
    position: str
    served_from: str
    totals: Sequence[_Total] | msgspec.UnsetType = msgspec.UNSET


@lru_cache(256)
def chosen(accept: str | None, offered: tuple[str, ...]) -> str:
    """The offered media type that an `Accept` header likes best; the first offered where it has no preference.

    RFC 9110, section 12.5.1: the most specific range that matches a type gives it its weight. Raises NotAcceptable.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best, best_weight = "", 0.0
    for kind in offered:
        matching = [(specific, weight) for name, specific, weight in ranges if _covers(name, kind)]
        weight = max(matching)[1] if matching else 0.0
        if weight > best_weight:
            best, best_weight = kind, weight
    if not best:
        raise NotAcceptable(f"This answer can be had as {' or '.join(offered)}, not as {accept[:80]!r}.")
    return best


def _range(part: str) -> tuple[str, int, float]:
    """A media range, how specific it is (0 for any, 1 for any subtype, 2), and its weight."""
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                weight = 0.0
    return name, 0 if name == "*/*" else 1 if name.endswith("/*") else 2, weight


def _covers(name: str, kind: str) -> bool:
    return name in ("*/*", kind) or (name.endswith("/*") and kind.startswith(name[:-1]))


def usage_json(
    answer: UsageAnswer, changes: Sequence[Change] | None = None, totals: Sequence[UsageRow] | None = None
) -> bytes:
    """The answer as API.md has it; with `changes`, one for each row, what it is compared with; with `totals`, those."""
    return msgspec.json.encode(usage_document(answer, _Times(), changes, totals))


def usage_document(
    answer: UsageAnswer,
    times: "_Times | None" = None,
    changes: Sequence[Change] | None = None,
    totals: Sequence[UsageRow] | None = None,
) -> msgspec.Struct:
    """The same, not yet encoded: for answers that hold several."""
    times = _Times() if times is None else times
    names = answer.group_by
    empty: dict[str, str | None] = {}
    rows: list[_Row] = []
    for number, row in enumerate(answer.rows):
        start, end = times[row.window_start_us], times[row.window_end_us]
        group = dict(zip(names, row.group, strict=True)) if names else empty
        if changes is None:
            rows.append(_Row(start, end, group, _value(row.value)))
        else:
            rows.append(
                _ComparedRow(start, end, group, _value(row.value), *_change_cells(changes[number], times))
            )
    return _Usage(
        meter=answer.meter.key,
        version=answer.meter.version,
        aggregation=str(answer.meter.aggregation),
        unit=answer.meter.unit,
        from_=times[answer.from_us],
        to=times[answer.to_us],
        window=answer.window,
        timezone=answer.timezone,
        rows=rows,
        position=token_of(answer.position),
        served_from=answer.served_from,
        totals=msgspec.UNSET
        if totals is None
        else [_Total(dict(zip(names, row.group, strict=True)), _value(row.value)) for row in totals],
    )


def usage_csv(answer: UsageAnswer, changes: Sequence[Change] | None = None) -> bytes:
    """`window_start,window_end,<groups…>,value`, one line a row, beginning with a header; with `changes` five more."""
    times = _Times()
    lines = [csv_header(answer, () if changes is None else CHANGE_COLUMNS)]
    lines.extend(
        _line(
            [
                times[row.window_start_us],
                times[row.window_end_us],
                *row.group,
                _value(row.value),
                *(() if changes is None else _change_cells(changes[number], times)),
            ]
        )
        for number, row in enumerate(answer.rows)
    )
    return "".join(lines).encode()


def csv_header(answer: UsageAnswer, more: Sequence[str] = ()) -> str:
    return _line(["window_start", "window_end", *answer.group_by, "value", *more])


def csv_lines(rows: pa.RecordBatch) -> bytes:
    """Rows of columns (window_start, window_end, the groups, value) as lines of a CSV."""
    times = _Times()
    start, end, *groups, value = rows.columns
    cells: list[list[str | None]] = [
        *([times[time_us] for time_us in column.cast(pa.int64()).to_pylist()] for column in (start, end)),
        *(column.to_pylist() for column in groups),
        [_value(figure) for figure in value.to_pylist()],
    ]
    return "".join([_line(row) for row in zip(*cells, strict=True)]).encode()


def _change_cells(change: Change, times: "_Times") -> tuple[str, str, str | None, str | None, str | None]:
    return (
        times[change.start_us],
        times[change.end_us],
        _value(change.previous),
        _value(change.change),
        _value(change.percent),
    )


# -- columns ---------------------------------------------------------------------------------------------------------
def usage_columns(
    answer: UsageAnswer,
    kind: str,
    changes: Sequence[Change] | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[bytes]:
    """The answer as a Parquet file or an Arrow stream, in pieces: `window_start`, `window_end` (timestamps in UTC), a
    string for each group, `value`, and with `changes` those of CHANGE_COLUMNS.

    A group named like one of these columns is called `group.<name>`."""
    more = (
        None
        if changes is None
        else [
            _figure_type(one.previous for one in changes),
            _figure_type(one.change for one in changes),
            _figure_type(one.percent for one in changes),
        ]
    )
    schema = columns_schema(answer, _figure_type(row.value for row in answer.rows), more)
    sink = Drained()
    with column_writer(sink, schema, kind) as writer:
        for first in range(0, len(answer.rows), batch_rows):
            writer.write_batch(_batch(answer, changes, schema, first, first + batch_rows))
            yield sink.drain()
    yield sink.drain()


def column_writer(sink: "Drained", schema: pa.Schema, kind: str) -> Any:
    """What writes batches as a Parquet file or an Arrow stream, whole once it is closed."""
    if kind == PARQUET:
        return pq.ParquetWriter(sink, schema, compression="zstd")
    return pa.ipc.new_stream(sink, schema)


class Drained(io.RawIOBase):
    """A file that is read from the beginning while it is written at the end; what was read is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any, /) -> int:
        kept = bytes(piece)
        self._pieces.append(kept)
        self._written += len(kept)
        return len(kept)

    def tell(self) -> int:
        return self._written

    def drain(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def columns_schema(
    answer: UsageAnswer, value: pa.DataType, changes: Sequence[pa.DataType] | None = None
) -> pa.Schema:
    """Of an answer whose figures have the type `value`; `changes`: the types of previous, change and change_percent."""
    fixed = ["window_start", "window_end", "value", *(() if changes is None else CHANGE_COLUMNS)]
    taken = set(fixed)
    fields = [
        pa.field("window_start", TIMESTAMP, nullable=False),
        pa.field("window_end", TIMESTAMP, nullable=False),
    ]
    for name in answer.group_by:
        column = name
        while column in taken:
            column = f"group.{column}"
        taken.add(column)
        fields.append(pa.field(column, pa.string()))
    fields.append(pa.field("value", value))
    if changes is not None:
        fields += [
            pa.field("previous_start", TIMESTAMP, nullable=False),
            pa.field("previous_end", TIMESTAMP, nullable=False),
            *(pa.field(name, kind) for name, kind in zip(CHANGE_COLUMNS[2:], changes, strict=True)),
        ]
    return pa.schema(
        fields,
        metadata={
            "meter": answer.meter.key,
            "version": str(answer.meter.version),
            "aggregation": str(answer.meter.aggregation),
            "unit": answer.meter.unit or "",
            "from": time_text(answer.from_us),
            "to": time_text(answer.to_us),
            "window": answer.window or "",
            "timezone": answer.timezone,
            "position": token_of(answer.position),
            "served_from": answer.served_from,
        },
    )


def figure_type(least: Decimal, greatest: Decimal) -> pa.DataType:
    """The type of a column of figures between these, none of more than 18 digits after the point."""
    return _figure_type(iter((least, greatest)))


def _figure_type(figures: Iterator[Decimal | None]) -> pa.DataType:
    found = 0
    for figure in figures:
        if figure is None:
            continue
        exponent = figure.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -_FRACTION_DIGITS and _inexact(figure):
            return pa.string()
        while not -_LIMITS[found][1] < figure < _LIMITS[found][1]:
            found += 1
            if found == len(_LIMITS):
                return pa.string()
    return _LIMITS[found][0]


def _inexact(figure: Decimal) -> bool:
    return _EXACT.quantize(figure, Decimal(1).scaleb(-_FRACTION_DIGITS)) != figure


def _batch(
    answer: UsageAnswer, changes: Sequence[Change] | None, schema: pa.Schema, first: int, end: int
) -> pa.RecordBatch:
    rows = answer.rows[first:end]
    columns: list[list[Any]] = [[row.window_start_us for row in rows], [row.window_end_us for row in rows]]
    columns += [[row.group[place] for row in rows] for place in range(len(answer.group_by))]
    columns.append([row.value for row in rows])
    if changes is not None:
        some = changes[first:end]
        columns += [
            [one.start_us for one in some],
            [one.end_us for one in some],
            [one.previous for one in some],
            [one.change for one in some],
            [one.percent for one in some],
        ]
    arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(column: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        return pa.array(
            [
                None if one is None else _EXACT.quantize(one, Decimal(1).scaleb(-_FRACTION_DIGITS))
                for one in column
            ],
            kind,
        )
    if pa.types.is_timestamp(kind):
        return pa.array(column, pa.int64()).cast(kind)
    return pa.array([decimal_text(one) if isinstance(one, Decimal) else one for one in column], kind)


# -- cells -----------------------------------------------------------------------------------------------------------
class _Times(dict[int, str]):
    """Times as text; an answer repeats few of them in many rows."""

    def __missing__(self, time_us: int) -> str:
        text = self[time_us] = time_text(time_us)
        return text


def _value(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _line(cells: Sequence[str | None]) -> str:
    return ",".join([_cell(cell) for cell in cells]) + "\r\n"


def _cell(cell: str | None) -> str:
    if cell is None:
        return ""
    if not cell or any(mark in cell for mark in ',"\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell
