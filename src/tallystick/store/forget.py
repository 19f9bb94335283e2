"""Deleting facts of a type that are older than its limit, all that hangs on them, and what is kept of them.

Everything is found by the positions in `forgotten`, so that deleting the same range again deletes the same rows: a step
that a crash has cut is finished by doing it again.
"""

# ruff: noqa: S608 (identifiers are this file's own, values are bound)

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tallystick.metering.event import RECORDED_SCHEMA
from tallystick.store.connection import Connection
from tallystick.store.interface import FORGOTTEN_SCHEMA, Forgotten
from tallystick.store.statements import statement
from tallystick.store.within import Within, Writer

_EXPIRED_SCHEMA = pa.schema(
    [
        RECORDED_SCHEMA.field(name)
        for name in ("tenant", "source", "id", "type", "subject", "data", "position", "recorded_at")
    ]
)
_RANGE = "position >= {first:UInt64} AND position <= {last:UInt64}"
_GONE = f"(SELECT position FROM forgotten WHERE {_RANGE})"
_OF_GONE = f"original IN {_GONE}"
_READINGS = f"position IN {_GONE} OR position IN (SELECT position FROM corrections WHERE {_OF_GONE})"
_DELETED = (
    ("readings", _READINGS),
    ("duplicates", _OF_GONE),
    ("conflicts", _OF_GONE),
    ("events", f"position IN {_GONE}"),
    ("corrections", _OF_GONE),  # last: the readings of their versions are found by them
)


class Forgets:
    """What retention does to the facts of one connection. Raises Unavailable as the store does."""

    def __init__(self, connection: Connection, writer: Writer, within: Within | None) -> None:
        self._connection = connection
        self._writer = writer
        self._within = within

    def _of(self, table: str) -> str:
        return "1" if self._within is None else self._within.of(table)

    def expired(
        self, tenant: str, event_type: str | None, *, before_us: int, after: int, limit: int
    ) -> Iterator[pa.RecordBatch]:
        if event_type is None:
            sql = f"""SELECT {", ".join(_EXPIRED_SCHEMA.names)} FROM events
                WHERE tenant = {{tenant:String}} AND position > {{after:UInt64}} AND {self._of("events")}
                ORDER BY position LIMIT {{limit:UInt64}}"""
            whole = {"tenant": tenant, "after": after, "limit": limit}
            return self._connection.blocks(sql, whole, _EXPIRED_SCHEMA)
        sql = f"""SELECT {", ".join(_EXPIRED_SCHEMA.names)} FROM events
            WHERE tenant = {{tenant:String}} AND type = {{type:String}} AND position > {{after:UInt64}} AND {self._of("events")}
                AND time < {_BEFORE} AND position NOT IN (
                    SELECT original FROM corrections
                    WHERE tenant = {{tenant:String}} AND action = 'replace' AND (type != {{type:String}} OR time >= {_BEFORE}))
            ORDER BY position LIMIT {{limit:UInt64}}"""
        parameters = {
            "tenant": tenant,
            "type": event_type,
            "before": before_us,
            "after": after,
            "limit": limit,
        }
        return self._connection.blocks(sql, parameters, _EXPIRED_SCHEMA)

    def counted(self, first: int, last: int) -> Forgotten:
        of_range = {"first": first, "last": last}
        rows = self._connection.rows

        def count(table: str, condition: str) -> int:
            return int(rows(f"SELECT count() FROM {table} WHERE {condition}", of_range)[0][0])

        readings: dict[int, int] = {
            int(row[0]): int(row[1])
            for row in rows(f"SELECT meter, count() FROM readings WHERE {_READINGS} GROUP BY meter", of_range)
        }
        return Forgotten(
            events=count("events", f"position IN {_GONE}"),
            duplicates=count("duplicates", _OF_GONE),
            conflicts=count("conflicts", _OF_GONE),
            readings=readings,
        )

    def delete(self, first: int, last: int) -> None:
        of_range: dict[str, Any] = {"first": first, "last": last}
        there = {row[0] for row in self._connection.rows(statement("tables"))}
        for table, condition in _DELETED:
            if table not in there:  # a derived table may be gone
                continue
            # A mutation rewrites every part it looks at; one that would delete nothing is left out.
            found = self._connection.rows(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1", of_range)
            if found:
                self._connection.command(
                    f"ALTER TABLE {table} DELETE WHERE {self._writer.deletion(condition)}", of_range
                )

    def undo(self, first: int, last: int) -> None:
        condition = f"{_RANGE} AND position IN (SELECT position FROM events WHERE {_RANGE})"
        self._connection.command(
            f"ALTER TABLE forgotten DELETE WHERE {self._writer.deletion(condition)}",
            {"first": first, "last": last},
        )

    def identities(self, *, after: int, through: int) -> Iterator[pa.RecordBatch]:
        sql = f"""SELECT {", ".join(FORGOTTEN_SCHEMA.names)} FROM forgotten
            WHERE position > {{after:UInt64}} AND position <= {{through:UInt64}} AND {self._of("forgotten")}"""
        return self._connection.blocks(sql, {"after": after, "through": through}, FORGOTTEN_SCHEMA)


_BEFORE = "fromUnixTimestamp64Micro({before:Int64}, 'UTC')"
