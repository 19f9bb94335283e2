"""Events to put into a log, and what must come out of it again."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from tallystick.log.interface import Block
from tallystick.metering.event import EVENT_SCHEMA, EventColumns

Row = tuple[Any, ...]


def events_of(ids: Sequence[str], *, tenant: str = "default", **changed: Any) -> EventColumns:
    """Events that differ in every column by their id, so that a row in the wrong place shows."""
    columns: dict[str, Any] = {
        "tenant": tenant,
        "received_at_us": 1_790_000_000_000_000 + len(ids),
        "source": [f"source-{each}" for each in ids],
        "id": list(ids),
        "type": [f"type-{each}" for each in ids],
        "subject": [f"subject-{each}" for each in ids],
        "time_us": np.array([xxhash.xxh3_64_intdigest(each.encode()) >> 14 for each in ids], np.int64),
        "time_given": np.array([xxhash.xxh3_64_intdigest(each.encode()) % 2 == 1 for each in ids], np.bool_),
        "data": [b'{"value":"%s"}' % each.encode() for each in ids],
        "attributes": [b'{"dataschema":"%s"}' % each.encode() for each in ids],
        "identity": [xxhash.xxh3_128_digest(each.encode()) for each in ids],
        "content": np.array(
            [xxhash.xxh3_64_intdigest(b"content" + each.encode()) for each in ids], np.uint64
        ),
    }
    return EventColumns(**(columns | changed))


def numbered(first: int, count: int = 1) -> EventColumns:
    """`count` events whose ids are the numbers from `first`."""
    return events_of([str(number) for number in range(first, first + count)])


def rows_put_in(events: EventColumns) -> list[Row]:
    """One tuple an event, columns in the order of EVENT_SCHEMA, made without Arrow."""
    return [
        (
            events.tenant,
            events.source[row],
            events.id[row],
            events.type[row],
            events.subject[row],
            int(events.time_us[row]),
            bool(events.time_given[row]),
            events.received_at_us,
            events.data[row],
            events.attributes[row],
            events.identity[row],
            int(events.content[row]),
            events.action,
            events.note,
        )
        for row in range(len(events))
    ]


def rows_read(blocks: Iterable[Block]) -> list[Row]:
    """The same of what was read; times as microseconds."""
    rows: list[Row] = []
    for block in blocks:
        assert block.events.schema.equals(EVENT_SCHEMA)
        block.events.validate(full=True)
        columns = [
            column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            for column in block.events.columns
        ]
        rows.extend(zip(*(column.to_pylist() for column in columns), strict=True))
    return rows


def ids_read(blocks: Iterable[Block]) -> list[str]:
    return [each for block in blocks for each in block.events.column("id").to_pylist()]
