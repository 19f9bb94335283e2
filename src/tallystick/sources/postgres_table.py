"""A table of PostgreSQL as a source: rows in the order of a column that grows.

Rows become visible when their transaction commits, which is not the order in which the column grew: one with a smaller
value may come after one with a greater. So two marks are kept. Up to `high` rows have been read. Up to `low` nothing can
come any more, because every transaction that was open when `high` was reached has ended since. Between the two each look
reads the rows again whose transaction was not over at the last look (`xmin` at or behind the horizon of its snapshot).

Rows that are read twice are one event by their identity. Changes of rows are not seen: postgres_changes.py does.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from xxhash import xxh3_64_intdigest

from tallystick.sources.interface import Feed, Record, SourceFaultError
from tallystick.sources.source import Source

CONNECT_S = 15
SEEN_MAX = 200_000
_EPOCH = 2**32
_PROGRESS = "cursor"
_TYPES = frozenset(
    {
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "date",
        "timestamp without time zone",
        "timestamp with time zone",
        "uuid",
    }
)
_WITH_XMIN = "rpm"
_PARTS = frozenset(
    {
        "host",
        "hostaddr",
        "port",
        "user",
        "password",
        "dbname",
        "sslmode",
        "channel_binding",
        "target_session_attrs",
    }
)
"""What a URL may say."""
Row = tuple[str, str, list[str | None]]  # the cursor's value, the row as JSON, the key's values


@dataclass(frozen=True, slots=True)
class TableSettings:
    """`settle_s`: for how long values may come late that were given out before their transaction began to write."""

    url: str = field(repr=False)
    table: str
    cursor_column: str
    key_columns: tuple[str, ...] = ()
    every_s: float = 5
    settle_s: float = 5
    batch_events_max: int = 2000


def settings_of(source: Source) -> TableSettings:
    """What a source of this kind sets."""
    given = source.settings
    return TableSettings(
        given["url"],
        given["table"],
        given["cursor_column"],
        tuple(given.get("key_columns") or ()),
        given["every_seconds"],
        given["settle_seconds"],
        given["batch_events_max"],
    )


@dataclass(frozen=True, slots=True)
class Marks:
    """How far it is read. Values as text. `horizon`: transactions below it were over at the last look."""

    low: str | None = None
    high: str | None = None
    horizon: int | None = None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A `high` that becomes `low` once all are gone that might still bring something below it."""

    high: str
    next_transaction: int
    open_transactions: frozenset[str]
    at: float


@dataclass(frozen=True, slots=True)
class _Table:
    name: sql.Identifier
    cursor: sql.Identifier
    cursor_type: sql.SQL
    keys: tuple[str, ...]
    has_xmin: bool
    shown: str


class PostgresTable:
    """Who looks at the table. `run` once."""

    def __init__(self, settings: TableSettings, feed: Feed) -> None:
        self._settings, self._feed = settings, feed
        self._stopping = asyncio.Event()
        self._pending: _Pending | None = None
        self._seen: set[int] = set()

    def stop(self) -> None:
        """`run` ends soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Raises SourceFaultError, and what the feed raises."""
        saved = (await self._feed.progress()).get(_PROGRESS)
        marks = Marks(**json.loads(saved)) if saved else Marks()
        connection = await connected(self._settings.url)
        try:
            table = await self._described(connection)
            is_full = False
            while not self._stopping.is_set():
                before = marks
                marks, is_full = await self._look(connection, table, marks, fresh_alone=is_full)
                if marks != before:
                    await self._feed.save({_PROGRESS: json.dumps(_document(marks)).encode()})
                self._feed.observe(lag=None if is_full else 0)
                if not is_full:
                    await self._feed.sleep(self._settings.every_s)
        except psycopg.Error as error:
            raise fault(error) from error
        finally:
            await connection.close()

    async def _described(self, connection: psycopg.AsyncConnection[Any]) -> _Table:
        names = self._settings.table.split(".")
        found = await connection.execute(
            """SELECT c.oid, c.relkind::text, n.nspname, c.relname,
                      ARRAY(SELECT a.attname::text FROM pg_index i, unnest(i.indkey) k JOIN pg_attribute a
                            ON a.attrelid = c.oid AND a.attnum = k WHERE i.indrelid = c.oid AND i.indisprimary)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)""",
            [".".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)],
        )
        row = await found.fetchone()
        if row is None:
            raise SourceFaultError(f"PostgreSQL: there is no table {self._settings.table!r}.")
        oid, kind, schema, name, primary = row
        found = await connection.execute(
            """SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
               WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped""",
            [oid],
        )
        columns: dict[str, str] = dict(await found.fetchall())
        cursor = self._settings.cursor_column
        keys = self._settings.key_columns or tuple(primary) or (cursor,)
        for column in (cursor, *keys):
            if column not in columns:
                raise SourceFaultError(f"PostgreSQL: {self._settings.table} has no column {column!r}.")
        if columns[cursor] not in _TYPES:
            raise SourceFaultError(
                f"PostgreSQL: {cursor} is {columns[cursor]}; a cursor is one of {', '.join(sorted(_TYPES))}."
            )
        return _Table(
            sql.Identifier(schema, name),
            sql.Identifier("t", cursor),
            sql.SQL(cast("LiteralString", columns[cursor])),
            keys,
            kind in _WITH_XMIN,
            f"{schema}.{name}",
        )

    async def _look(
        self, connection: psycopg.AsyncConnection[Any], table: _Table, marks: Marks, *, fresh_alone: bool
    ) -> tuple[Marks, bool]:
        """One look: where it stands after it, and whether there is more at once."""
        pending = self._pending
        # Asked before the snapshot: who is gone now has either failed or is visible in it.
        open_now = await _open_transactions(connection)
        seen = len(self._seen)
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            least, following = await _snapshot(connection)
            if not fresh_alone and marks.high is not None:
                await self._take_late(connection, table, marks, following)
            fresh = await self._fresh(connection, table, marks)
        await self._take(table, fresh)
        is_full = len(fresh) >= self._settings.batch_events_max
        high = fresh[-1][0] if fresh else marks.high
        marks = replace(marks, high=high)
        if not fresh_alone or marks.horizon is None:
            marks = replace(marks, horizon=least)
        if pending is not None and not fresh_alone:
            is_settled = (
                least >= pending.next_transaction
                and not (pending.open_transactions & open_now)
                and time.monotonic() - pending.at >= self._settings.settle_s
            )
            if is_settled:
                marks = replace(marks, low=pending.high)
                self._pending = None
        if self._pending is None and high is not None and high != marks.low:
            # Asked after the snapshot: whoever might still bring something below `high` began before its row was seen.
            still_open = await _open_transactions(connection)
            self._pending = _Pending(high, following, still_open, time.monotonic())
        if seen > SEEN_MAX or (marks.low == marks.high and not is_full):
            self._seen.clear()
        return marks, is_full

    async def _fresh(
        self, connection: psycopg.AsyncConnection[Any], table: _Table, marks: Marks
    ) -> list[Row]:
        where, values = sql.SQL("{} IS NOT NULL").format(table.cursor), list[str]()
        if marks.high is not None:
            where = sql.SQL("{} > %s::{}").format(table.cursor, table.cursor_type)
            values.append(marks.high)
        # With ties: of equal values all are read, so that none is left behind the mark.
        query = _selecting(table, where) + sql.SQL(" FETCH FIRST {} ROWS WITH TIES").format(
            self._settings.batch_events_max
        )
        found = await connection.execute(query, values)
        return cast("list[Row]", await found.fetchall())

    async def _take_late(
        self, connection: psycopg.AsyncConnection[Any], table: _Table, marks: Marks, following: int
    ) -> None:
        """What has become visible below `high` since the last look."""
        where = sql.SQL("{} <= %s::{}").format(table.cursor, table.cursor_type)
        values: list[str | int | None] = [marks.high]
        if marks.low is not None:
            where += sql.SQL(" AND {} > %s::{}").format(table.cursor, table.cursor_type)
            values.append(marks.low)
        if table.has_xmin and marks.horizon is not None:
            # xmin has the lower half of the number alone: the upper one is that of the next, or the one before it.
            where += sql.SQL(
                " AND t.xmin::text::bigint + %s - CASE WHEN t.xmin::text::bigint > %s THEN 4294967296 ELSE 0 END >= %s"
            )
            values += [following // _EPOCH * _EPOCH, following % _EPOCH, marks.horizon]
        async with connection.cursor(name="late") as cursor:
            await cursor.execute(_selecting(table, where), values)
            while rows := cast("list[Row]", await cursor.fetchmany(self._settings.batch_events_max)):
                await self._take(table, rows)

    async def _take(self, table: _Table, rows: Sequence[Row]) -> None:
        records: list[Record] = []
        for _, row, keys in rows:
            where = f"{table.shown}/{keys[0] if len(keys) == 1 else json.dumps(keys, ensure_ascii=False)}"
            raw = row.encode()
            digest = xxh3_64_intdigest(where.encode() + b"\0" + raw)
            if digest not in self._seen:
                self._seen.add(digest)
                records.append(Record(raw, where))
        if records:
            await self._feed.take(records)


def _selecting(table: _Table, where: sql.Composable) -> sql.Composed:
    keys = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier("t", name)) for name in table.keys)
    return sql.SQL(
        "SELECT {cursor}::text, to_json(t)::text, ARRAY[{keys}] FROM {table} AS t WHERE {where} ORDER BY {cursor}"
    ).format(cursor=table.cursor, keys=keys, table=table.name, where=where)


async def _snapshot(connection: psycopg.AsyncConnection[Any]) -> tuple[int, int]:
    """Of the transaction: below the first number all are over; the second one is the next to be given out."""
    found = await connection.execute(
        "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint FROM pg_current_snapshot() s"
    )
    row = await found.fetchone()
    assert row is not None
    return row[0], row[1]


async def _open_transactions(connection: psycopg.AsyncConnection[Any]) -> frozenset[str]:
    """Every transaction of this database that is open, those included that have written nothing yet."""
    found = await connection.execute(
        """SELECT l.virtualxid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
           WHERE l.locktype = 'virtualxid' AND l.granted AND a.datname = current_database() AND l.pid <> pg_backend_pid()"""
    )
    return frozenset(str(row[0]) for row in await found.fetchall())


def _document(marks: Marks) -> dict[str, Any]:
    return {"low": marks.low, "high": marks.high, "horizon": marks.horizon}


async def connected(url: str, *, read_only: bool = True) -> psycopg.AsyncConnection[Any]:
    """A connection whose every statement stands for itself. Raises SourceFaultError."""
    try:
        parts = conninfo_to_dict(url)
        host = str(parts.get("host") or "")
        strange = sorted(parts.keys() - _PARTS)
        if strange or not host or any(one.strip().startswith(("/", "@")) for one in host.split(",")):
            # Files and sockets of the server's machine are not a source's affair.
            said = f"it may not say {', '.join(strange)}" if strange else "it must name a host"
            raise SourceFaultError(f"PostgreSQL: the URL cannot be used: {said}.")
        connection = await psycopg.AsyncConnection.connect(
            url,
            passfile=os.devnull,
            autocommit=True,
            connect_timeout=CONNECT_S,
            application_name="tallystick",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
        for statement in ("SET TimeZone = 'UTC'", "SET DateStyle = 'ISO'"):
            await connection.execute(cast("LiteralString", statement))
        if read_only:
            await connection.execute("SET default_transaction_read_only = on")
    except psycopg.Error as error:
        raise fault(error) from error
    return connection


def fault(error: psycopg.Error) -> SourceFaultError:
    """In the server's words, which never have the URL in them."""
    said = error.diag.message_primary or str(error).strip().partition("\n")[0] or type(error).__name__
    return SourceFaultError(f"PostgreSQL: {said.rstrip('.')}.")


def make(source: Source, feed: Feed) -> PostgresTable:
    """A factory (interface.py)."""
    return PostgresTable(settings_of(source), feed)
