"""The facts as they stood at one instant, out of the store and into another: what a backup is made of.

A snapshot is a set of tables that share the parts of the real ones (hard links): it costs no room and no time, and
neither merges nor deletions touch it. Rows are read in numbered ranges of positions, whose digests tell whether a range
is the same as one that was read before.
"""

# ruff: noqa: S608 (identifiers are this file's own, values are bound)

import re
import uuid
from collections.abc import Collection, Iterator

import pyarrow as pa

from tallystick.store.connection import Connection
from tallystick.store.interface import FACTS, FactRange
from tallystick.store.within import Writer

_NAME = re.compile(r"snapshot_[0-9a-f]{32}")
_TABLE = re.compile(r"(snapshot_[0-9a-f]{32})_[a-z]+")


class Facts:
    """Snapshots of one connection's facts. Raises Unavailable as the store does."""

    def __init__(self, connection: Connection, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer
        self._in_use: set[str] = set()

    def snapshot(self) -> str:
        name = f"snapshot_{uuid.uuid4().hex}"
        self._in_use.add(name)  # before it exists: `drop_left_over` may run beside this
        try:
            for table in FACTS:
                self._connection.command(f"CREATE TABLE {name}_{table} AS {table}")
                self._connection.command(f"ALTER TABLE {name}_{table} ATTACH PARTITION ID 'all' FROM {table}")
        except BaseException:
            self.drop(name)
            raise
        return name

    def ranges(self, snapshot: str, table: str, *, recorded_by_us: int, span: int) -> list[FactRange]:
        rows = self._connection.rows(
            f"""SELECT intDiv(position - 1, {{span:UInt64}}) AS number, count(),
                    groupBitXor(sipHash64(position, recorded_at))
                FROM {_table(snapshot, table)} WHERE {_RECORDED} GROUP BY number ORDER BY number""",
            {"span": span, "by": recorded_by_us},
        )
        return [FactRange(int(row[0]), int(row[1]), f"{int(row[1])}:{int(row[2]):016x}") for row in rows]

    def rows(
        self, snapshot: str, table: str, number: int, *, recorded_by_us: int, span: int
    ) -> Iterator[pa.RecordBatch]:
        schema = FACTS[table]
        sql = (
            f"SELECT {', '.join(schema.names)} FROM {_table(snapshot, table)} WHERE {_RECORDED} "
            "AND position > {after:UInt64} AND position <= {through:UInt64} ORDER BY position"
        )
        parameters = {"by": recorded_by_us, "after": number * span, "through": (number + 1) * span}
        return self._connection.blocks(sql, parameters, schema)

    def drop(self, snapshot: str) -> None:
        for table in FACTS:
            self._connection.command(f"DROP TABLE IF EXISTS {_table(snapshot, table)} SYNC")
        self._in_use.discard(snapshot)

    def drop_left_over(self, tables: Collection[str]) -> None:
        """Drop what a process that ended in the middle has left."""
        for table in tables:
            match = _TABLE.fullmatch(table)
            if match is not None and match[1] not in self._in_use:
                self._connection.command(f"DROP TABLE IF EXISTS {table} SYNC")

    def insert(self, table: str, rows: pa.Table, *, token: str) -> None:
        self._writer.insert(_fact(table), rows.select(FACTS[table].names), token=token)


_RECORDED = "recorded_at <= fromUnixTimestamp64Micro({by:Int64}, 'UTC')"


def _fact(table: str) -> str:
    if table not in FACTS:
        raise ValueError(f"{table!r} is no table of facts.")
    return table


def _table(snapshot: str, table: str) -> str:
    if not _NAME.fullmatch(snapshot):
        raise ValueError(f"{snapshot!r} is no snapshot.")
    return f"{snapshot}_{_fact(table)}"
