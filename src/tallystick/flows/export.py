"""Everything there is of one kind, out: events as they count, or the readings a meter makes of them.

An export is as of a moment, like every question, so that its parts belong together whenever they are fetched. Readings
are derived from the events on the way, by the definition the recorder uses: whether stored readings are complete does
not matter here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.flows.customers import narrowed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, moment, store_ready
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import Meter
from tallystick.metering.position import LOCAL_BITS, PARTITIONS_MAX, Vector, partition_of
from tallystick.metering.reading import DECIMAL, derive
from tallystick.store.interface import EventPart, PartSpan

EVENT_COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),
        pa.field("time", TIMESTAMP, nullable=False),
        pa.field("data", pa.string()),  # JSON as it was sent
        pa.field("extensions", pa.string()),  # JSON
        pa.field("received_at", TIMESTAMP, nullable=False),
        pa.field("recorded_at", TIMESTAMP, nullable=False),
        pa.field("position", pa.uint64(), nullable=False),
        pa.field(
            "original", pa.uint64(), nullable=False
        ),  # position of the event a correction gave this content
    ]
)
_READING_COLUMNS = [
    pa.field("meter", pa.string(), nullable=False),
    pa.field("version", pa.uint32(), nullable=False),
    pa.field("customer", pa.string(), nullable=False),
    pa.field("subject", pa.string(), nullable=False),
    pa.field("time", TIMESTAMP, nullable=False),
    pa.field("value", DECIMAL, nullable=False),
    pa.field("text", pa.string(), nullable=False),  # distinct value or pair, where the aggregation has one
]
_READING_END = [
    pa.field("position", pa.uint64(), nullable=False),
    pa.field("recorded_at", TIMESTAMP, nullable=False),
]
_compute: Any = pc  # its functions are made at import and unknown to type checkers


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export. None: any. Times are half-open, in event time; `after`: only what came behind it."""

    tenant: str
    types: tuple[str, ...] | None = None
    meter: str | None = None  # its readings, instead of events
    version: int | None = None
    customers: tuple[str, ...] | None = None
    from_us: int | None = None
    to_us: int | None = None
    after: Vector = ()
    as_of_us: int | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """Blocks of rows with this schema, in bounded memory, in no stated order; as of this moment."""

    schema: pa.Schema
    blocks: Iterator[pa.Table]
    as_of_us: int
    position: Vector


async def export(system: System, request: ExportRequest, *, bound: str | None) -> Export:
    """Begin an export; the blocks are read in a thread. `bound`: the customer the caller is bound to.

    Raises NotFound for an unknown meter, Forbidden for another's customer."""
    meter, request, as_of_us = await _resolved(system, request, bound)
    position = system.recorder.position
    batches = system.store.events_of(
        request.tenant,
        request.types,
        from_us=request.from_us,
        to_us=request.to_us,
        customers=request.customers,
        after=request.after[0] if request.after and partition_of(request.after[0]) == 0 else 0,
        as_of_us=as_of_us,
    )
    if request.after and partition_of(request.after[-1]) > 0:
        batches = (_behind(batch, request.after) for batch in batches)
    if meter is None:
        return Export(EVENT_COLUMNS, (_events(batch) for batch in batches), as_of_us, position)
    schema = _reading_schema(meter)
    return Export(schema, (_readings(meter, schema, batch) for batch in batches), as_of_us, position)


def _behind(batch: pa.RecordBatch, after: Vector) -> pa.RecordBatch:
    """The rows behind a vector: a partition that it does not name is there in full."""
    positions = np.asarray(batch["position"], dtype=np.uint64)
    limits = np.zeros(PARTITIONS_MAX, np.uint64)
    for position in after:
        limits[partition_of(position)] = position
    partitions = (positions >> np.uint64(LOCAL_BITS)) % np.uint64(PARTITIONS_MAX)
    return batch.filter(pa.array(positions > limits[partitions.astype(np.intp)]))


async def parts(
    system: System, request: ExportRequest, span: PartSpan, *, bound: str | None
) -> tuple[list[EventPart], int]:
    """The days or months (UTC) there are events in, and the moment that is of."""
    _, request, as_of_us = await _resolved(system, request, bound)
    found = await in_questions(
        system,
        lambda: system.store.event_parts(
            request.tenant,
            request.types,
            span=span,
            customers=request.customers,
            from_us=request.from_us,
            to_us=request.to_us,
            recorded_by_us=as_of_us,
        ),
    )
    return found, as_of_us


async def _resolved(
    system: System, request: ExportRequest, bound: str | None
) -> tuple[Meter | None, ExportRequest, int]:
    key, asked = request.meter, request.customers
    await store_ready(system)
    if bound is not None:
        seen = await in_questions(system, lambda: narrowed(system.catalog, request.tenant, bound, asked))
        request = replace(request, customers=seen)
    published_us = system.recorder.recorded_at_us
    if key is None:
        as_of_us = published_us if request.as_of_us is None else min(request.as_of_us, published_us)
        return None, request, as_of_us
    meter = await in_questions(system, lambda: system.catalog.meter(request.tenant, key, request.version))
    request = replace(request, types=(meter.event_type,))
    return meter, request, moment(system, meter, request.as_of_us)


def _events(batch: pa.RecordBatch) -> pa.Table:
    table = pa.Table.from_batches([batch])
    columns = [
        _json(table["data"] if name == "data" else table["attributes"])
        if name in ("data", "extensions")
        else table[name].cast(EVENT_COLUMNS.field(name).type)
        for name in EVENT_COLUMNS.names
    ]
    return pa.Table.from_arrays(columns, schema=EVENT_COLUMNS)


def _json(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = column.cast(pa.string())
    return _compute.if_else(_compute.equal(text, ""), pa.scalar(None, pa.string()), text)


def _reading_schema(meter: Meter) -> pa.Schema:
    taken = {field.name for field in (*_READING_COLUMNS, *_READING_END)}
    names: Sequence[str] = [
        f"dimension.{dimension.name}" if dimension.name in taken else dimension.name
        for dimension in meter.dimensions
    ]
    return pa.schema([*_READING_COLUMNS, *(pa.field(name, pa.string()) for name in names), *_READING_END])


def _readings(meter: Meter, schema: pa.Schema, batch: pa.RecordBatch) -> pa.Table:
    derived = derive([meter], pa.Table.from_batches([batch]))
    rows = derived.num_rows
    own: dict[str, Any] = {
        "meter": pa.array([meter.key] * rows, pa.string()),
        "version": pa.array(np.full(rows, meter.version, np.uint32)),
    }
    first = len(_READING_COLUMNS)
    own |= {
        schema.names[first + slot]: derived[f"d{slot}"].cast(pa.string())
        for slot in range(len(meter.dimensions))
    }
    columns = [
        own[field.name] if field.name in own else derived[field.name].cast(field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
