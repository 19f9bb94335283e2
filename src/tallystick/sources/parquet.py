"""Rows of a Parquet file (rows.py says what they are)."""

from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from tallystick.errors import TallystickError
from tallystick.sources.rows import ROWS_PER_BLOCK, Rows, json_string, json_text

_compute = cast(Any, pyarrow.compute)
_parquet = cast(Any, pyarrow.parquet)


def parquet_file(raw: BinaryIO) -> Any:
    """A file's directory, which stands at its end. Raises pyarrow.ArrowException and OSError when it is no Parquet file."""
    return _parquet.ParquetFile(raw)


def parquet_blocks(file: Any) -> Iterator[Rows]:
    """The rows of a file. Raises TallystickError for a column that JSON has no values for."""
    done = 0
    for batch in file.iter_batches(batch_size=ROWS_PER_BLOCK):
        columns = {
            name: _arrow_texts(name, column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        done += batch.num_rows
        yield Rows(list(range(done - batch.num_rows + 1, done + 1)), columns, progress=done)


def _arrow_texts(name: str, column: Any) -> list[str | None]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_null(kind):
        return [None] * len(column)
    if (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        # Arrow prints the shortest digits that give the same binary number.
        return column.cast(pa.string()).to_pylist()
    if pa.types.is_timestamp(kind):
        return [None if text is None else json_string(text) for text in _timestamps(column)]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        column, kind = _binary_text(name, column), pa.string()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        values = column.to_pylist()
        texts = {value: json_string(value) if value else None for value in set(values)}
        return [texts[value] for value in values]
    if pa.types.is_nested(kind):
        return [None if value is None else _nested(name, value) for value in column.to_pylist()]
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return [None if text is None else json_string(text) for text in column.cast(pa.string()).to_pylist()]
    raise TallystickError(
        f"Column {name!r} has the type {kind}, which no JSON value stands for: write it as numbers or texts."
    )


def _binary_text(name: str, column: Any) -> Any:
    """Writers that do not say that their texts are texts are common."""
    try:
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowException:
        raise TallystickError(
            f"Column {name!r} holds bytes that are no UTF-8 text: write it as text, or leave it out of the file."
        ) from None


def _nested(name: str, value: Any) -> str:
    try:
        return json_text(value)
    except (TypeError, msgspec.EncodeError, UnicodeDecodeError):
        raise TallystickError(
            f"Column {name!r} holds values that no JSON value stands for: write them as numbers or texts."
        ) from None


def _timestamps(column: Any) -> list[str | None]:
    """RFC 3339; without an offset where the column has no zone."""
    zoned = column.type.tz is not None
    if zoned:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    # %S prints as many fractional digits as the unit has; the column's digits stay as they are.
    return _compute.strftime(
        column, format="%Y-%m-%dT%H:%M:%SZ" if zoned else "%Y-%m-%dT%H:%M:%S"
    ).to_pylist()
