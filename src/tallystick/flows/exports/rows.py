"""The rows of an export for one range of moments, in an order that is always the same."""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.catalog.exporting import ExportCatalog, InvoiceChange, InvoicePlace
from tallystick.flows.billing.prepare import number_of
from tallystick.flows.export import EVENT_COLUMNS
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.instant import instant_us
from tallystick.metering.meter import Meter
from tallystick.metering.reading import DECIMAL, derive
from tallystick.store.interface import ChangeOrder, Store

_compute: Any = pc  # its functions are made at import and unknown to type checkers

SIGN = pa.field("sign", pa.int8(), nullable=False)
EVENTS = EVENT_COLUMNS.append(SIGN)
"""A version of an event that began to count (sign 1), or ceased to (-1)."""
USAGE = pa.schema(
    [
        pa.field("meter", pa.string(), nullable=False),
        pa.field("version", pa.uint32(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("time", TIMESTAMP, nullable=False),
        pa.field("value", DECIMAL, nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("dimensions", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("recorded_at", TIMESTAMP, nullable=False),
        SIGN,
    ]
)
"""A reading (sign 1), or one taken back (-1): the sum of value × sign is the usage of a meter that sums or counts."""
_LINE = pa.struct(
    [
        pa.field("id", pa.string()),
        pa.field("charge", pa.string()),
        pa.field("name", pa.string()),
        pa.field("quantity", DECIMAL),
        pa.field("amount", pa.string()),  # full precision, up to 36 digits
        pa.field("rounded", DECIMAL),
    ]
)
_MONEY = ("subtotal", "discount", "tax", "total")
INVOICES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("number", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),
        pa.field("subscription", pa.string()),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("period_from", TIMESTAMP),
        pa.field("period_to", TIMESTAMP),
        *(pa.field(name, DECIMAL) for name in _MONEY),
        pa.field("lines", pa.list_(_LINE)),
        pa.field("document", pa.string(), nullable=False),
        pa.field("finalized_at", TIMESTAMP, nullable=False),
        pa.field("at", TIMESTAMP, nullable=False),
        SIGN,
    ]
)
"""An invoice that became final (sign 1), or void after that (-1); `at` is when."""
_INVOICES_AT_ONCE = 500


def event_rows(
    store: Store, tenant: str, order: ChangeOrder, *, after_us: int, until_us: int
) -> Iterator[pa.Table]:
    """EVENTS."""
    for batch in store.changes(tenant, None, after_us=after_us, until_us=until_us, order=order):
        table = pa.Table.from_batches([batch])
        columns = [
            _text_or_null(table["data" if field.name == "data" else "attributes"])
            if field.name in ("data", "extensions")
            else table[field.name].cast(field.type)
            for field in EVENTS
        ]
        yield pa.Table.from_arrays(columns, schema=EVENTS)


def _text_or_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = column.cast(pa.string())
    return _compute.if_else(_compute.equal(text, ""), pa.scalar(None, pa.string()), text)


def usage_rows(
    store: Store,
    tenant: str,
    order: ChangeOrder,
    meters: Sequence[tuple[Meter, int]],
    *,
    until_us: int,
) -> Iterator[pa.Table]:
    """USAGE: of each meter what came behind its moment."""
    by_moment: dict[int, list[Meter]] = {}
    for meter, after_us in meters:
        by_moment.setdefault(after_us, []).append(meter)
    for after_us, ones in sorted(by_moment.items()):
        types = sorted({meter.event_type for meter in ones})
        for batch in store.changes(tenant, types, after_us=after_us, until_us=until_us, order=order):
            for some in _apart(batch, order):
                yield from _readings(ones, some)


def _apart(batch: pa.RecordBatch, order: ChangeOrder) -> Iterator[pa.RecordBatch]:
    """By part of time and sign, because readings come by meter."""
    signs = np.asarray(batch["sign"])
    parts = parts_of(np.asarray(batch["time"].cast(pa.int64())), order)
    ends = np.flatnonzero((np.diff(parts) != 0) | (np.diff(signs) != 0)) + 1
    start = 0
    for end in [*ends.tolist(), batch.num_rows]:
        if end > start:
            yield batch.slice(start, end - start)
        start = end


_PART_US: Mapping[ChangeOrder, int] = {"hour": 3_600_000_000, "date": 86_400_000_000}


def parts_of(times_us: np.ndarray[Any, np.dtype[np.int64]], order: ChangeOrder) -> Any:
    """The number of the hour or day (UTC) of each time."""
    return np.zeros_like(times_us) if order == "none" else times_us // _PART_US[order]


def _readings(meters: Sequence[Meter], batch: pa.RecordBatch) -> Iterator[pa.Table]:
    sign = batch["sign"][0].as_py()
    derived = derive(meters, pa.Table.from_batches([batch]).drop_columns(["sign", "original"]))
    numbers = np.asarray(derived["meter"].combine_chunks() if derived.num_rows else [], dtype=np.uint32)
    for meter in meters:
        own = derived.filter(pa.array(numbers == meter.id)) if derived.num_rows else derived
        rows = own.num_rows
        if not rows:
            continue
        given: dict[str, Any] = {
            "meter": pa.array([meter.key] * rows, pa.string()),
            "version": pa.array(np.full(rows, meter.version, np.uint32)),
            "dimensions": _dimensions(meter, own),
            "sign": pa.array(np.full(rows, sign, np.int8)),
        }
        columns = [
            given[field.name] if field.name in given else own[field.name].cast(field.type) for field in USAGE
        ]
        yield pa.Table.from_arrays(columns, schema=USAGE)


def _dimensions(meter: Meter, rows: pa.Table) -> pa.Array:
    names = [dimension.name for dimension in meter.dimensions]
    count = rows.num_rows
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * len(names))
    keys = pa.array(names * count, pa.string())
    values = [rows[f"d{slot}"].cast(pa.string()).to_pylist() for slot in range(len(names))]
    items = pa.array([value for row in zip(*values, strict=True) for value in row], pa.string())
    return pa.MapArray.from_arrays(offsets, keys, items)


def invoice_rows(
    catalog: ExportCatalog, tenant: str, place: InvoicePlace, until: InvoicePlace
) -> Iterator[pa.Table]:
    """INVOICES, by number; then the void ones in their order."""
    while place != until:
        found, place = catalog.invoice_changes(tenant, place, until, limit=_INVOICES_AT_ONCE)
        if found:
            yield pa.Table.from_pylist([_invoice(one) for one in found], schema=INVOICES)


def _invoice(change: InvoiceChange) -> dict[str, Any]:
    invoice = change.invoice
    document = json.loads(invoice.document)
    period = document.get("period") or {}
    return {
        "id": invoice.id,
        "number": number_of(invoice),
        "kind": invoice.kind,
        "customer": invoice.customer,
        "subscription": document.get("subscription"),
        "currency": document["currency"],
        "period_from": _time(period.get("from")),
        "period_to": _time(period.get("to")),
        **{name: _decimal(document.get(name)) for name in _MONEY},
        "lines": [
            {
                "id": line["id"],
                "charge": line.get("charge"),
                "name": line.get("name"),
                "quantity": _decimal(line.get("quantity")),
                "amount": line.get("amount"),
                "rounded": _decimal(line.get("rounded")),
            }
            for line in document["lines"]
        ],
        "document": invoice.document,
        "finalized_at": invoice.finalized_at_us,
        "at": change.at_us,
        "sign": change.sign,
    }


_PLACES = Decimal(1).scaleb(-18)
_EXACT = Context(prec=60)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text).quantize(_PLACES, context=_EXACT)


def _time(text: str | None) -> int | None:
    return None if text is None else instant_us(text)
