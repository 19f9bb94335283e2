"""Data files, read in blocks of rows (rows.py).

A CSV cell in JSON number syntax is that number, any other cell a string, an empty one absent: what `POST /v1/events`
makes of a CSV body.
"""

import contextlib
import csv
import enum
import io
import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import zstandard

from tallystick.errors import TallystickError
from tallystick.sources.compressed import Counted, decompressed
from tallystick.sources.parquet import parquet_blocks, parquet_file
from tallystick.sources.rows import (
    COLUMNS_MAX,
    CONTENT_CHARACTERS_MAX,
    ROWS_PER_BLOCK,
    Refused,
    Rows,
    json_string,
)

LINE_BYTES_MAX = 4 * 1024 * 1024
ARRAY_BYTES_MAX = 256 * 1024 * 1024

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_QUOTED = re.compile(r'"[^"]*"')
_ESCAPED = re.compile("[\udc80-\udcff]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FileFormat(enum.StrEnum):
    """Formats of data files."""

    NDJSON = "ndjson"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class RowSource:
    """An open file. `size`: what `Rows.progress` counts up to; None when nobody knows (standard input)."""

    blocks: Iterator[Rows]
    size: int | None


def format_of(path: str) -> FileFormat | None:
    """The format that a name tells."""
    name = path.lower().removesuffix(".gz").removesuffix(".zst")
    for suffix, found in (
        (".ndjson", FileFormat.NDJSON),
        (".jsonl", FileFormat.NDJSON),
        (".json", FileFormat.JSON),
        (".csv", FileFormat.CSV),
        (".parquet", FileFormat.PARQUET),
    ):
        if name.endswith(suffix):
            return found
    return None


@contextlib.contextmanager
def open_rows(path: str, file_format: FileFormat | None) -> Generator[RowSource]:
    """Open a file (`-`: standard input), decompressing by its name or its first bytes.

    Raises TallystickError when it cannot be opened or its format is not known; reading the blocks raises it when the file
    as a whole cannot be read on.
    """
    if file_format is None and format_of(path) is None:
        raise TallystickError(f"{path}: say what it is with --format ndjson, json, csv or parquet.")
    with contextlib.ExitStack() as stack:
        if path == "-":
            raw: BinaryIO = sys.stdin.buffer
            size = None
        else:
            try:
                raw = stack.enter_context(Path(path).open("rb"))
                size = Path(path).stat().st_size
            except OSError as error:
                raise TallystickError(f"{path} cannot be opened: {error.strerror}.") from error
        yield rows_of_stream(raw, path, file_format, size=size)


def rows_of_stream(
    raw: BinaryIO, name: str, file_format: FileFormat | None, *, size: int | None
) -> RowSource:
    """The rows of an open file. `name` tells the format where `file_format` is None, and is what errors call it."""
    chosen = file_format or format_of(name)
    if chosen is None:
        raise TallystickError(f"{name}: its name does not tell whether it is NDJSON, JSON, CSV or Parquet.")
    if chosen is FileFormat.PARQUET:
        return _parquet_source(name, raw)
    counted = Counted(raw)
    blocks = _READERS[chosen](_plain_stream(counted, name), lambda: counted.read_bytes)
    return RowSource(_guarded(name, blocks), size)


def _plain_stream(counted: Counted, name: str) -> BinaryIO:
    try:
        return decompressed(io.BufferedReader(cast("Any", counted), 1 << 18))
    except OSError as error:
        raise TallystickError(f"{name} cannot be read: {error}.") from error


def _guarded(path: str, blocks: Iterator[Rows]) -> Iterator[Rows]:
    try:
        yield from blocks
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException) as error:
        raise TallystickError(f"{path} cannot be read on: {error}.") from error
    except TallystickError as error:
        raise TallystickError(f"{path}: {error}") from error


# -- CSV --------------------------------------------------------------------------------------------------------------
class _Lines:
    """Lines of a CSV file for `csv.reader`. It may be asked on after it raised for a line that is too long."""

    def __init__(self, stream: BinaryIO) -> None:
        self._text = io.TextIOWrapper(
            stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )  # what is no UTF-8 is a fault of its row
        self._again = ""
        self.number = 0
        self.last = ""
        self.is_utf8 = True

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line, self._again = self._again, ""
        if not line:
            line = self._text.readline(LINE_BYTES_MAX + 1)
            if not line:
                raise StopIteration
            self.number += 1
        self.last = line
        self.is_utf8 = self.is_utf8 and (line.isascii() or _ESCAPED.search(line) is None)
        if len(line) > LINE_BYTES_MAX:
            while line and line[-1] not in "\r\n":
                line = self._text.readline(LINE_BYTES_MAX)
            raise csv.Error(f"the line is longer than {LINE_BYTES_MAX:,} characters")
        return line

    def separator(self) -> str:
        """What stands between cells: a comma; where the first line has none, the semicolon, tab or bar that it has."""
        self._again = next(self, "")
        bare = _QUOTED.sub("", self._again)
        return next((one for one in ",;\t|" if one in bare), ",")


def _csv_blocks(stream: BinaryIO, progress: Callable[[], int]) -> Iterator[Rows]:
    lines = _Lines(stream)
    csv.field_size_limit(LINE_BYTES_MAX)
    try:
        reader = csv.reader(lines, strict=True, delimiter=lines.separator())
        header = next(reader, None)
    except csv.Error as error:
        raise TallystickError(f"The first line cannot be read: {error}.") from error
    if header is None:
        return
    names = [name.strip() for name in header]
    if not lines.is_utf8 or "\0" in lines.last:
        raise TallystickError("The first line is not UTF-8. Convert the file, for example with `iconv`.")
    if len(names) > COLUMNS_MAX or len(set(names)) != len(names) or not all(names):
        raise TallystickError(
            f"The first line must name the columns, each once, at most {COLUMNS_MAX}; it is {','.join(header)[:200]!r}."
        )
    cells: list[list[str]] = []
    numbers: list[int] = []
    refused: list[Refused] = []
    try:
        for row in _csv_lines(reader, lines, len(names)):
            if isinstance(row, Refused):
                refused.append(row)
            else:
                cells.append(row)
                numbers.append(lines.number)
            if len(cells) + len(refused) >= ROWS_PER_BLOCK:
                yield _csv_rows(names, cells, numbers, refused, progress())
                cells, numbers, refused = [], [], []
    except EOFError:
        # Cut off: what came before counts. Where bytes are others than they were, the block at hand is in doubt.
        if cells or refused:
            yield _csv_rows(names, cells, numbers, refused, progress())
        raise
    if cells or refused:
        yield _csv_rows(names, cells, numbers, refused, progress())


def _csv_lines(reader: Any, lines: _Lines, width: int) -> Iterator[list[str] | Refused]:
    while True:
        lines.is_utf8 = True
        try:
            row: list[str] | None = next(reader, None)
        except csv.Error as error:
            detail = f"The row cannot be read: {error}. A quote within quotes is written twice."
            yield _refused_row(lines.number, detail, lines.last)
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) != width:
            detail = f"The row has {len(row)} cells; the header has {width}."
            yield _refused_row(lines.number, detail, ",".join(row))
        elif not lines.is_utf8:
            detail = "The row is not UTF-8. Convert the file, for example with `iconv`."
            yield _refused_row(lines.number, detail, ",".join(row))
        else:
            yield row


def _refused_row(number: int, detail: str, content: str) -> Refused:
    return Refused(number, "invalid_row", detail, _kept(content.encode(errors="surrogateescape")))


def _csv_rows(
    names: Sequence[str], cells: list[list[str]], numbers: list[int], refused: list[Refused], progress: int
) -> Rows:
    columns: dict[str, list[str | None]] = {}
    turned = zip(*cells, strict=True) if cells else ((),) * len(names)
    for name, column in zip(names, turned, strict=True):
        texts = {cell: _cell(cell) for cell in set(column)}
        columns[name] = [texts[cell] for cell in column]
    return Rows(numbers, columns, refused=refused, progress=progress)


def _cell(cell: str) -> str | None:
    if not cell:
        return None
    return cell if _NUMBER.fullmatch(cell) else json_string(cell)


# -- JSON -------------------------------------------------------------------------------------------------------------
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def _ndjson_blocks(stream: BinaryIO, progress: Callable[[], int]) -> Iterator[Rows]:
    def lines() -> Iterator[tuple[int, bytes]]:
        number = 0
        while line := stream.readline(LINE_BYTES_MAX + 1):
            number += 1
            rest = line
            while len(rest) >= LINE_BYTES_MAX and rest[-1:] != b"\n":
                rest = stream.readline(LINE_BYTES_MAX)
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line := line.strip():
                yield number, line

    yield from _object_blocks(lines(), progress)


def _json_blocks(stream: BinaryIO, progress: Callable[[], int]) -> Iterator[Rows]:
    text = stream.read(ARRAY_BYTES_MAX + 1).removeprefix(_BYTE_ORDER_MARK)
    if len(text) > ARRAY_BYTES_MAX:
        raise TallystickError(
            f"A JSON array of more than {ARRAY_BYTES_MAX:,} bytes is too large; write NDJSON (one object a line)."
        )
    try:
        parts = [msgspec.Raw(text)] if text.lstrip()[:1] == b"{" else _array_decoder.decode(text)
    except msgspec.DecodeError as error:
        raise TallystickError(f"This is not a JSON array: {error}.") from error
    # Copied one by one, since a line break within an object would be two lines of NDJSON.
    yield from _object_blocks(((n, bytes(part)) for n, part in enumerate(parts, 1)), progress)


def _object_blocks(items: Iterator[tuple[int, bytes]], progress: Callable[[], int]) -> Iterator[Rows]:
    rows = Rows([], {}, objects=[])
    objects: list[bytes] = []
    try:
        for number, text in items:
            members = _members(number, text)
            if isinstance(members, Refused):
                rows.refused.append(members)
            else:
                _add_members(rows, number, members)
                objects.append(text)
            if len(rows.numbers) + len(rows.refused) >= ROWS_PER_BLOCK:
                yield _even(rows, objects, progress())
                rows, objects = Rows([], {}), []
    except EOFError:
        # Cut off: what came before counts. Where bytes are others than they were, the block at hand is in doubt.
        if rows.numbers or rows.refused:
            yield _even(rows, objects, progress())
        raise
    if rows.numbers or rows.refused:
        yield _even(rows, objects, progress())


def _members(number: int, text: bytes) -> dict[str, msgspec.Raw] | Refused:
    if len(text) > LINE_BYTES_MAX:
        detail = f"The line is longer than {LINE_BYTES_MAX:,} bytes."
        return Refused(number, "event_too_large", detail, _kept(text))
    try:
        if not text.isascii():
            text.decode()
        return _object_decoder.decode(text)
    except UnicodeDecodeError as error:
        return Refused(number, "invalid_json", f"Not UTF-8 (byte {error.start}).", _kept(text))
    except msgspec.DecodeError as error:
        return Refused(number, "invalid_json", f"Not a JSON object: {error}.", _kept(text))


def _kept(text: bytes) -> str:
    """Bytes that are no UTF-8 as `\\xe9`: they can be mended, and cannot be taken for other text when a row is tried again."""
    return text[:CONTENT_CHARACTERS_MAX].decode(errors="backslashreplace")


def _add_members(rows: Rows, number: int, members: dict[str, msgspec.Raw]) -> None:
    at = len(rows.numbers)
    rows.numbers.append(number)
    for name, raw in members.items():
        column = rows.columns.get(name)
        if column is None:
            if len(rows.columns) >= COLUMNS_MAX:
                raise TallystickError(f"Row {number}: more than {COLUMNS_MAX} different members.")
            column = rows.columns[name] = []
        if len(column) < at:
            column.extend([None] * (at - len(column)))
        value = bytes(raw).decode()
        column.append(None if value in ("null", '""') else value)


def _even(rows: Rows, objects: list[bytes], progress: int) -> Rows:
    for column in rows.columns.values():
        column.extend([None] * (len(rows.numbers) - len(column)))
    rows.objects, rows.progress = objects, progress
    return rows


# -- Parquet ----------------------------------------------------------------------------------------------------------
def _parquet_source(path: str, raw: BinaryIO) -> RowSource:
    try:
        # A pipe cannot be read from its end, where Parquet has its directory.
        found = parquet_file(io.BytesIO(raw.read()) if path == "-" else raw)
    except (pa.ArrowException, OSError) as error:
        raise TallystickError(f"{path} is not a Parquet file: {error}.") from error
    return RowSource(_guarded(path, parquet_blocks(found)), found.metadata.num_rows)


_READERS: dict[FileFormat, Callable[[BinaryIO, Callable[[], int]], Iterator[Rows]]] = {
    FileFormat.NDJSON: _ndjson_blocks,
    FileFormat.JSON: _json_blocks,
    FileFormat.CSV: _csv_blocks,
}
