"""From waiting requests to one Arrow batch, and from a batch to the bytes that lie in the log, and back.

Owns: the block format. Format 1 is one encapsulated Arrow IPC record batch message of `EVENT_SCHEMA`, its buffers
compressed with lz4, **without** the schema message: the schema is a constant of the format, and repeating it would
cost a block of one event more than the event itself. Whoever changes `EVENT_SCHEMA` adds a format and keeps reading
the old one.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from tallystick.metering.event import EVENT_SCHEMA, TIMESTAMP, EventColumns

FORMAT = 1
"""The format `encode` writes."""

IDENTITY_BYTES = 16

_END_OF_STREAM_BYTES = 8
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_OFFSET_MAX = 2**31 - 1  # Arrow's string and binary arrays count their bytes in 32 bits
_EVENT_OVERHEAD_BYTES = 256  # generous for what is neither data nor attributes


def _schema_message_bytes() -> int:
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, EVENT_SCHEMA, options=_OPTIONS).close()
    return sink.getvalue().size - _END_OF_STREAM_BYTES


_SCHEMA_MESSAGE_BYTES = _schema_message_bytes()


def check_lengths(events: EventColumns) -> None:
    """Raise ValueError when the columns are not of one length: it would shift another request's rows."""
    count = len(events.id)
    if not (
        len(events.source)
        == len(events.type)
        == len(events.subject)
        == len(events.time_us)
        == len(events.time_given)
        == len(events.data)
        == len(events.attributes)
        == len(events.identity)
        == len(events.content)
        == count
    ):
        raise ValueError(f"The columns of {count} events are not of equal length.")


def bytes_of(events: EventColumns) -> int:
    """About how much memory the events take. Names are counted at a flat rate: the API bounds them."""
    return (
        sum(map(len, events.data)) + sum(map(len, events.attributes)) + _EVENT_OVERHEAD_BYTES * len(events.id)
    )


def batch_of(requests: Sequence[EventColumns]) -> pa.RecordBatch:
    """All events of the requests, in order, as one batch of `EVENT_SCHEMA`.

    Raises ValueError, TypeError, OverflowError or pa.ArrowException when a column holds what it must not (text that
    is not UTF-8, an identity that is not 16 bytes).
    """
    if len(requests) == 1:
        return _batch_of_one(requests[0])
    counts = [len(request) for request in requests]
    count = sum(counts)
    return _batch(
        count,
        tenant=_spread([request.tenant for request in requests], counts, count, pa.string()),
        source=list(chain.from_iterable([request.source for request in requests])),
        id=list(chain.from_iterable([request.id for request in requests])),
        type=list(chain.from_iterable([request.type for request in requests])),
        subject=list(chain.from_iterable([request.subject for request in requests])),
        time_us=np.concatenate([request.time_us for request in requests]),
        time_given=np.concatenate([request.time_given for request in requests]),
        received_at_us=np.repeat(
            np.array([request.received_at_us for request in requests], dtype=np.int64), counts
        ),
        data=list(chain.from_iterable([request.data for request in requests])),
        attributes=list(chain.from_iterable([request.attributes for request in requests])),
        identity=b"".join(chain.from_iterable([request.identity for request in requests])),
        content=np.concatenate([request.content for request in requests]),
        action=_spread([request.action for request in requests], counts, count, pa.string()),
        note=_spread([request.note for request in requests], counts, count, pa.binary()),
    )


def _batch_of_one(request: EventColumns) -> pa.RecordBatch:
    count = len(request)
    return _batch(
        count,
        tenant=_repeated(request.tenant.encode(), count, pa.string()),
        source=request.source,
        id=request.id,
        type=request.type,
        subject=request.subject,
        time_us=request.time_us,
        time_given=request.time_given,
        received_at_us=np.full(count, request.received_at_us, dtype=np.int64),
        data=request.data,
        attributes=request.attributes,
        identity=b"".join(request.identity),
        content=request.content,
        action=_repeated(request.action.encode(), count, pa.string()),
        note=_repeated(request.note, count, pa.binary()),
    )


def _spread(values: list[Any], counts: list[int], count: int, kind: pa.DataType) -> pa.Array:
    """One value a request → one value an event. Almost always all are the same, which needs no list."""
    if len(set(values)) == 1:
        value = values[0]
        return _repeated(value.encode() if isinstance(value, str) else value, count, kind)
    return pa.array(
        list(chain.from_iterable([[value] * n for value, n in zip(values, counts, strict=True)])), kind
    )


def _repeated(value: bytes, count: int, kind: pa.DataType) -> pa.Array:
    # pa.repeat does the same, but its first call starts Arrow's compute engine: a quarter of a second.
    offsets = np.arange(count + 1, dtype=np.int64) * len(value)
    if offsets[-1] > _OFFSET_MAX:
        raise OverflowError(f"{count} times {len(value)} bytes are too much for one column of a block.")
    return pa.Array.from_buffers(
        kind, count, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(value * count)]
    )


def _batch(
    count: int,
    *,
    tenant: pa.Array,
    source: list[str],
    id: list[str],  # noqa: A002
    type: list[str],  # noqa: A002
    subject: list[str],
    time_us: np.ndarray[Any, np.dtype[np.int64]],
    time_given: np.ndarray[Any, np.dtype[np.bool_]],
    received_at_us: np.ndarray[Any, np.dtype[np.int64]],
    data: list[bytes],
    attributes: list[bytes],
    identity: bytes,
    content: np.ndarray[Any, np.dtype[np.uint64]],
    action: pa.Array,
    note: pa.Array,
) -> pa.RecordBatch:
    if len(identity) != IDENTITY_BYTES * count:
        raise ValueError(f"An identity is not {IDENTITY_BYTES} bytes long.")
    text, binary = pa.string(), pa.binary()
    batch = pa.RecordBatch.from_arrays(
        [
            tenant,
            pa.array(source, text),
            pa.array(id, text),
            pa.array(type, text),
            pa.array(subject, text),
            _numbers(time_us, np.int64, TIMESTAMP),
            pa.array(time_given, pa.bool_()),
            _numbers(received_at_us, np.int64, TIMESTAMP),
            pa.array(data, binary),
            pa.array(attributes, binary),
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(IDENTITY_BYTES), count, [None, pa.py_buffer(identity)]
            ),
            _numbers(content, np.uint64, pa.uint64()),
            action,
            note,
        ],
        schema=EVENT_SCHEMA,
    )
    for column in batch.columns:
        if column.null_count:
            raise ValueError("A column of the events holds None.")
    return batch


def _numbers(values: np.ndarray[Any, Any], kind: Any, arrow_kind: pa.DataType) -> pa.Array:
    array = np.ascontiguousarray(values)
    if array.dtype != kind:
        raise TypeError(f"A column of numbers is {array.dtype}, not {np.dtype(kind)}.")
    return pa.Array.from_buffers(arrow_kind, len(array), [None, pa.py_buffer(array)])


def encode(batch: pa.RecordBatch) -> pa.Buffer:
    """The batch in format `FORMAT`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA, options=_OPTIONS) as stream:
        stream.write_batch(batch)
    whole = sink.getvalue()
    return whole.slice(_SCHEMA_MESSAGE_BYTES, whole.size - _SCHEMA_MESSAGE_BYTES - _END_OF_STREAM_BYTES)


def decode(body: bytes, *, block_format: int) -> pa.RecordBatch:
    """The batch that `encode` was given.

    Raises ValueError for a format this version does not know, pa.ArrowException or OSError for bytes that are no
    batch.
    """
    if block_format != FORMAT:
        raise ValueError(f"Block format {block_format} is not known to this version, which reads {FORMAT}.")
    return pa.ipc.read_record_batch(pa.py_buffer(body), EVENT_SCHEMA)


def checksum(body: bytes | pa.Buffer, *, first: int) -> bytes:
    """xxh3-64 of the body, seeded with its first position, so that a block in the wrong place is noticed too."""
    return xxhash.xxh3_64_digest(body, seed=first)


def warm_up() -> None:
    """Build and encode one event. Arrow looks for optional libraries on first use, which takes up to half a second."""
    encode(
        batch_of(
            [
                EventColumns(
                    tenant="",
                    received_at_us=0,
                    source=[""],
                    id=[""],
                    type=[""],
                    subject=[""],
                    time_us=np.zeros(1, np.int64),
                    time_given=np.zeros(1, np.bool_),
                    data=[b""],
                    attributes=[b""],
                    identity=[bytes(IDENTITY_BYTES)],
                    content=np.zeros(1, np.uint64),
                )
            ]
        )
    )
