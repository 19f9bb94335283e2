"""Usage answers too large to hold, written while they come from the store.

An answer that ends early is cut off on the wire: a Parquet file then has no footer, an Arrow stream no end mark, and the
connection ends without the last chunk.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pyarrow as pa
from litestar.response import Stream

from tallystick.api.formats import (
    BATCH_ROWS,
    CSV,
    PARQUET,
    Drained,
    column_writer,
    columns_schema,
    csv_header,
    csv_lines,
    figure_type,
)
from tallystick.flows.position import token_of
from tallystick.flows.stream import UsageStream, usage_stream
from tallystick.flows.system import System
from tallystick.flows.usage import UsageRequest


async def streamed(system: System, question: UsageRequest, kind: str) -> Stream:
    """The answer in this media type. Raises as flows.stream.usage_stream does."""
    found = await usage_stream(system, question)
    media_type = f"{CSV}; charset=utf-8; header=present" if kind == CSV else kind
    headers = {"Tallystick-Position": token_of(found.head.position), "Vary": "Accept"}
    pieces = csv_pieces(found) if kind == CSV else column_pieces(found, kind)
    return Stream(
        in_threads(system, pieces, found.batches.close),
        media_type=media_type,
        headers=headers,
        status_code=200,
    )


def column_pieces(found: UsageStream, kind: str) -> Iterator[bytes]:
    """The answer as a Parquet file or an Arrow stream, in the columns of `formats.usage_columns`, a block at a time."""
    extent = found.extent
    schema = columns_schema(found.head, figure_type(extent.least, extent.greatest))
    sink = Drained()
    writer = column_writer(sink, schema, kind)
    # Closed only at the end: the footer of a file that was cut off would make it look whole.
    for block in found.batches:
        columns = [column.cast(field.type) for column, field in zip(block.columns, schema, strict=True)]
        rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        # An Arrow stream is read a batch at a time, a Parquet file is the better for large groups of rows.
        step = rows.num_rows if kind == PARQUET else BATCH_ROWS
        for first in range(0, rows.num_rows, step):
            writer.write_batch(rows.slice(first, step))
            yield sink.drain()
    writer.close()
    yield sink.drain()


def csv_pieces(found: UsageStream) -> Iterator[bytes]:
    """The answer as `formats.usage_csv` writes it, a block at a time."""
    yield csv_header(found.head).encode()
    for block in found.batches:
        for first in range(0, block.num_rows, BATCH_ROWS):
            yield csv_lines(block.slice(first, BATCH_ROWS))


async def in_threads(
    system: System, pieces: Iterator[bytes], close: Callable[[], None] | None = None
) -> AsyncIterator[bytes]:
    """The pieces, each made in a thread when the one before has been sent; then `close`, in a thread too, also when the
    client has gone."""
    loop = asyncio.get_running_loop()
    try:
        while (piece := await loop.run_in_executor(system.questions, next, pieces, None)) is not None:
            if piece:
                yield piece
    finally:
        if close is not None:
            await asyncio.shield(loop.run_in_executor(system.questions, close))
