"""What changed between two moments, as SQL: versions of events that began to count, and versions that ceased to.

Both in an order that is the same however often it is asked, so that whoever writes files of it writes the same ones again.
"""

# ruff: noqa: S608 (identifiers are this file's own, values are bound)

from collections.abc import Iterator, Sequence

import pyarrow as pa

from tallystick.store.connection import Connection
from tallystick.store.interface import CHANGE_SCHEMA, STORED_SCHEMA, ChangeOrder
from tallystick.store.question import Bound
from tallystick.store.versions import RANGE_POSITIONS

_COLUMNS = ", ".join(STORED_SCHEMA.names)
_ENDED = ", ".join(
    "ended_at AS recorded_at" if name == "recorded_at" else name for name in STORED_SCHEMA.names
)
_SPILLING = "SETTINGS max_bytes_before_external_sort = 536870912"
"""The first export of an installation may be all there ever was: it is sorted on disk."""
_ORDERS: dict[ChangeOrder, str] = {
    "hour": "toStartOfHour(time), position",
    "date": "toStartOfDay(time), position",
    "none": "position",
}


def changes(
    connection: Connection,
    tenant: str,
    types: Sequence[str] | None,
    *,
    after_us: int,
    until_us: int,
    order: ChangeOrder,
) -> Iterator[pa.RecordBatch]:
    """See store.interface.Store."""
    bound = Bound()
    where = " AND ".join([*_of(bound, tenant, types), *_between(bound, after_us, until_us)])
    sql = f"""SELECT {_COLUMNS}, original, toInt8(1) AS sign FROM (
            SELECT {_COLUMNS}, position AS original FROM events WHERE {where}
            UNION ALL
            SELECT {_COLUMNS}, original FROM corrections WHERE {where} AND action = 'replace'
        ) ORDER BY {_ORDERS[order]} {_SPILLING}"""
    yield from connection.blocks(sql, bound.parameters, CHANGE_SCHEMA)
    # Range by range, so that no more corrections are held in memory than one range has.
    for start in _superseded_ranges(connection, tenant, after_us, until_us):
        bound = Bound()
        where = " AND ".join(_of(bound, tenant, types))
        moments = _between(bound, after_us, until_us)
        sql = _superseded(
            bound, where, " AND ".join([f"tenant = {bound.text(tenant)}", *moments]), order, start
        )
        yield from connection.blocks(sql, bound.parameters, CHANGE_SCHEMA)


def has_changes(
    connection: Connection, tenant: str, types: Sequence[str] | None, *, after_us: int, until_us: int
) -> bool:
    """See store.interface.Store."""
    for table, narrowed in (("events", types), ("corrections", None)):
        bound = Bound()
        where = " AND ".join([*_of(bound, tenant, narrowed), *_between(bound, after_us, until_us)])
        if connection.rows(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", bound.parameters):
            return True
    return False


def _superseded_ranges(connection: Connection, tenant: str, after_us: int, until_us: int) -> list[int]:
    bound = Bound()
    where = [f"tenant = {bound.text(tenant)}", "superseded > 0", *_between(bound, after_us, until_us)]
    rows = connection.rows(
        f"SELECT DISTINCT intDiv(superseded, {RANGE_POSITIONS:d}) FROM corrections WHERE {' AND '.join(where)}",
        bound.parameters,
    )
    return sorted(int(row[0]) * RANGE_POSITIONS for row in rows)


def _superseded(bound: Bound, versions: str, corrections: str, order: ChangeOrder, start: int) -> str:
    """The versions at the positions of a range that such corrections ended."""
    first, last = bound.value(start, "UInt64"), bound.value(start + RANGE_POSITIONS - 1, "UInt64")
    where = f"{versions} AND position >= {first} AND position <= {last}"
    ended = f"{corrections} AND superseded > 0 AND superseded >= {first} AND superseded <= {last}"
    return f"""SELECT {_ENDED}, original, toInt8(-1) AS sign FROM (
            SELECT {_COLUMNS}, position AS original FROM events WHERE {where}
            UNION ALL
            SELECT {_COLUMNS}, original FROM corrections WHERE {where} AND action = 'replace'
        ) AS versions
        INNER JOIN (
            SELECT superseded, recorded_at AS ended_at FROM corrections WHERE {ended}
        ) AS ended ON versions.position = ended.superseded
        ORDER BY {_ORDERS[order]} {_SPILLING}"""


def _of(bound: Bound, tenant: str, types: Sequence[str] | None) -> list[str]:
    found = [f"tenant = {bound.text(tenant)}"]
    if types is not None:
        found.append(f"type IN {bound.texts(types)}")
    return found


def _between(bound: Bound, after_us: int, until_us: int) -> list[str]:
    return [f"recorded_at > {bound.time(after_us)}", f"recorded_at <= {bound.time(until_us)}"]
