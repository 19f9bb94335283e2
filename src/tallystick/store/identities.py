"""The copy of the identity indexes: what a recorder that takes a partition over has its index from."""

# ruff: noqa: S608 (identifiers are this file's own, values are bound)

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from tallystick.store.connection import UNKNOWN_TABLE, Connection, StoreRefusal
from tallystick.store.interface import IDENTITY_SCHEMA, KeptIdentities
from tallystick.store.statements import statement
from tallystick.store.within import Writer

_COLUMNS = ", ".join(IDENTITY_SCHEMA.names)
_CHOSEN = "part = {part:UInt8} AND through > {after:UInt64} AND through <= {through:UInt64}"


class IdentityCopies:
    """The copy of one partition's index. Raises Unavailable as the store does; a missing table is an empty one."""

    def __init__(self, connection: Connection, writer: Writer, partition: int) -> None:
        self._connection = connection
        self._writer = writer
        self._partition = partition

    def insert(self, rows: pa.Table, *, through: int, token: str) -> None:
        count = rows.num_rows
        whole = (
            rows.select(IDENTITY_SCHEMA.names)
            .append_column("part", pa.repeat(pa.scalar(self._partition, pa.uint8()), count))
            .append_column("through", pa.repeat(pa.scalar(through, pa.uint64()), count))
        )
        try:
            self._writer.insert("identities", whole, token=token)
        except StoreRefusal as refusal:
            if refusal.engine_code != UNKNOWN_TABLE:
                raise
            # Derived tables may vanish at any time.
            self._connection.command(statement("identities_table"))
            self._writer.insert("identities", whole, token=token)

    def kept(self, *, after: int, through: int) -> KeptIdentities:
        bounds = self._bounds(after, through)
        sql = f"SELECT count(), min(position), max(position) FROM identities WHERE {_CHOSEN}"
        try:
            count, first, last = self._connection.rows(sql, bounds)[0]
        except StoreRefusal as refusal:
            if refusal.engine_code != UNKNOWN_TABLE:
                raise
            count = first = last = 0
        return KeptIdentities(int(count), int(first), int(last), partial(self._rows, bounds))

    def _rows(self, bounds: dict[str, int]) -> Iterator[pa.RecordBatch]:
        sql = f"SELECT {_COLUMNS} FROM identities WHERE {_CHOSEN} ORDER BY part, key"
        return self._connection.blocks(sql, bounds, IDENTITY_SCHEMA)

    def delete(self, *, after: int) -> None:
        bounds = self._bounds(after, 2**64 - 1)
        try:
            found = self._connection.rows(f"SELECT 1 FROM identities WHERE {_CHOSEN} LIMIT 1", bounds)
        except StoreRefusal as refusal:
            if refusal.engine_code != UNKNOWN_TABLE:
                raise
            return
        if found:
            self._connection.command(
                f"ALTER TABLE identities DELETE WHERE {self._writer.deletion(_CHOSEN)}", bounds
            )

    def _bounds(self, after: int, through: int) -> dict[str, int]:
        return {"part": self._partition, "after": after, "through": through}
