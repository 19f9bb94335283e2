"""Answers too large to hold: how large one is, and its rows in blocks, in the order of `answer`.

The engine groups and sorts on disk where memory does not suffice, and hands over a block when it is asked for one. What is
held here is that block.
"""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.errors import Invalid
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import ZEROES
from tallystick.metering.number import FRACTION_DIGITS
from tallystick.metering.query import UsageExtent, UsageQuery
from tallystick.store.question.answer import Rows, asked_of
from tallystick.store.question.ask import group_keys, ranking, same_group, window_figures, window_indexes
from tallystick.store.question.bound import Bound
from tallystick.store.question.figure import scaled
from tallystick.store.question.source import Asked

Blocks = Callable[[str, dict[str, Any], pa.Schema], Generator[pa.RecordBatch]]
VALUE = pa.decimal256(76, FRACTION_DIGITS)
"""Every figure there can be fits."""

_compute: Any = pc  # its functions are made at import and unknown to type checkers


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one answer may take: rows; memory in the engine, of which a quarter each for groups and for order before
    they go to its disk; time until the last block is fetched."""

    rows_max: int
    memory_bytes_max: int
    time_s_max: int

    def settings(self) -> str:
        on_disk_bytes = max(self.memory_bytes_max // 4, 1)
        return (
            f" SETTINGS max_memory_usage = {self.memory_bytes_max:d}, max_execution_time = {self.time_s_max:d},"
            f" max_bytes_before_external_group_by = {on_disk_bytes:d},"
            f" max_bytes_before_external_sort = {on_disk_bytes:d}"
        )


def stream_schema(query: UsageQuery) -> pa.Schema:
    """`window_start`, `window_end`, `g0` … as the question's group_by, `value`."""
    return pa.schema(
        [
            pa.field("window_start", TIMESTAMP, nullable=False),
            pa.field("window_end", TIMESTAMP, nullable=False),
            *(pa.field(name, pa.string()) for name in group_keys(query)),
            pa.field("value", VALUE),
        ]
    )


def extent(rows: Rows, query: UsageQuery, *, readings: str, bounds: Bounds, values_max: int) -> UsageExtent:
    """See store.interface.Store.usage_extent."""
    if query.limit == 0:
        return UsageExtent(0, Decimal(0), Decimal(0))
    asked = asked_of(rows, query, readings, values_max=values_max)
    bound = Bound()
    found = f"SELECT figure FROM ({_rows(asked, bound, bounds)}) LIMIT {bounds.rows_max + 1:d}"
    sql = f"SELECT count(), min(figure), max(figure), count(figure) FROM ({found}){bounds.settings()}"
    number, least, greatest, figures = rows(sql, bound.parameters)[0]
    if number > bounds.rows_max:
        raise Invalid(
            f"The answer would have more than {bounds.rows_max:,} rows (setting usage_stream_rows_max). "
            "Ask for a shorter range, larger windows, fewer groups, or the top groups with order_by and limit.",
            code="too_many_rows",
        )
    known = [0] if figures < number else []  # what fills a window
    known += [int(least), int(greatest)] if figures else []
    return UsageExtent(number, _decimal(min(known, default=0)), _decimal(max(known, default=0)))


def batches(
    rows: Rows, blocks: Blocks, query: UsageQuery, *, readings: str, bounds: Bounds, values_max: int
) -> Generator[pa.RecordBatch]:
    """See store.interface.Store.usage_batches."""
    if query.limit == 0:
        return
    asked = asked_of(rows, query, readings, values_max=values_max)
    bound = Bound()
    keys = group_keys(query)
    order = ["w", *(f"{key} ASC NULLS FIRST" for key in keys)]
    if _ranked(query):
        order.insert(1, f"total {'DESC' if query.descending else 'ASC'}")
    # As a decimal of the same digits; the engine does not reinterpret what may be missing.
    value = (
        f"if(isNull(figure), NULL, reinterpret(assumeNotNull(figure), 'Decimal(76, {FRACTION_DIGITS:d})'))"
    )
    sql = (
        f"SELECT {value} AS value, w{''.join(f', {key}' for key in keys)} FROM ({_rows(asked, bound, bounds)})"
        f" ORDER BY {', '.join(order)} LIMIT {bounds.rows_max + 1:d}{bounds.settings()}"
    )
    raw = pa.schema([("w", pa.int64()), *((key, pa.string()) for key in keys), ("value", VALUE)])
    schema = stream_schema(query)
    edges_us = np.array(query.edges_us, np.int64)
    starts = window_indexes(query) is not None
    with closing(blocks(sql, bound.parameters, raw)) as found:
        for block in found:
            at = np.asarray(block.column("w"))
            index = np.searchsorted(edges_us, at) if starts else at
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(edges_us[index]).cast(TIMESTAMP),
                    pa.array(edges_us[index + 1]).cast(TIMESTAMP),
                    *(block.column(key) for key in keys),
                    _filled(block.column("value"), query),
                ],
                schema=schema,
            )


def _rows(asked: Asked, bound: Bound, bounds: Bounds) -> str:
    """(figure, w, g0, …, total): the rows of the answer in no order. figure: a scaled whole number, missing in a filled
    window; total: what the groups are ordered by, if they are."""
    query = asked.query
    keys = group_keys(query)
    names = "".join(f", {key}" for key in keys)
    found = (
        f"SELECT toNullable({scaled(query.meter, 'figure')}) AS figure, toInt64(w) AS w{names}"
        f" FROM ({window_figures(asked, bound, bounds.rows_max)})"
    )
    if query.fill_zero:
        groups = f"({ranking(asked, bound, bounds.rows_max)})" if keys else "(SELECT 1)"
        indexes = window_indexes(query)
        windows = range(len(query.edges_us) - 1) if indexes is None else indexes
        empty = (
            f"SELECT CAST(NULL, 'Nullable(Int256)') AS figure, w{names} FROM {groups}"
            f" ARRAY JOIN {bound.value(list(windows), 'Array(Int64)')} AS w"
        )
        both = f"SELECT * FROM ({found}) UNION ALL SELECT * FROM ({empty})"
        found = f"SELECT max(b.figure) AS figure, w{names} FROM ({both}) AS b GROUP BY w{names}"
    if not _ranked(query):
        return found
    totals = f"SELECT figure AS total, {same_group(query)} AS whose FROM ({ranking(asked, bound, bounds.rows_max)})"
    return (
        f"SELECT f.figure AS figure, w{names}, total FROM (SELECT *, {same_group(query)} AS whose FROM ({found})) AS f"
        f" INNER JOIN ({totals}) AS t ON f.whose = t.whose"
    )


def _ranked(query: UsageQuery) -> bool:
    return bool(query.group_by) and query.descending is not None


def _filled(values: pa.Array, query: UsageQuery) -> pa.Array:
    if not values.null_count or query.meter.aggregation not in ZEROES:
        return values
    return _compute.fill_null(values, pa.scalar(Decimal(0), pa.decimal128(1, 0)).cast(VALUE))


def _decimal(whole: int) -> Decimal:
    sign, digits, _ = Decimal(whole).as_tuple()
    return Decimal((sign, digits, -FRACTION_DIGITS))
