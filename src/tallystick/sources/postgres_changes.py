"""Tables of PostgreSQL as a source, by logical replication: what is inserted, and, where asked, updated and deleted.

A slot keeps for us what was committed. Changes are looked at without taking them off, go into the log, and only then is
the slot advanced: what was not accepted is there again. Whole transactions come in the order of their commits, so nothing
has to be waited for; a row that comes again is the same event.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from psycopg import sql
from xxhash import xxh3_64_hexdigest

from tallystick.sources.interface import Feed, Record, Reject, SourceFaultError
from tallystick.sources.mapping import EventMaker
from tallystick.sources.message import record_of
from tallystick.sources.pgoutput import (
    Begin,
    Change,
    Column,
    Commit,
    Relation,
    Truncate,
    Values,
    read,
    row_json,
)
from tallystick.sources.postgres_table import connected, fault
from tallystick.sources.records import events_of_records
from tallystick.sources.source import Source

IDLE_ADVANCE_LOOKS = 30
"""Looks without a change after which the slot lets go of what other tables have written."""
_EXISTING = "existing"
_REASON = "the row was changed"


@dataclass(frozen=True, slots=True)
class ChangesSettings:
    """`takes_existing`: rows that were there before the slot was made, too. `corrects`: an update replaces the event of its
    row. `retracts`: a delete retracts it."""

    url: str = field(repr=False)
    publication: str
    slot: str
    takes_existing: bool = False
    corrects: bool = False
    retracts: bool = False
    every_s: float = 1
    batch_events_max: int = 2000


def settings_of(source: Source, tenant: str) -> ChangesSettings:
    """What a source of this kind sets."""
    given = source.settings
    return ChangesSettings(
        given["url"],
        given["publication"],
        given.get("slot") or slot_of(f"tallystick_{tenant}_{source.key}"),
        given["existing"] == "take",
        given["updates"] == "correct",
        given["deletes"] == "retract",
        given["every_seconds"],
        given["batch_events_max"],
    )


def slot_of(name: str) -> str:
    """A name as PostgreSQL allows it for a slot: small letters, digits and underscores, 63 at most."""
    plain = re.sub(r"[^a-z0-9_]", "_", name)[:46]
    return plain if plain == name else f"{plain}_{xxh3_64_hexdigest(name.encode())}"


class PostgresChanges:
    """Who follows the slot. `run` once."""

    def __init__(self, settings: ChangesSettings, feed: Feed) -> None:
        self._settings, self._feed = settings, feed
        self._stopping = asyncio.Event()
        self._maker = EventMaker(feed.source.mapping)
        self._inserts: list[Record] = []
        self._idle_looks = 0
        self._keys: dict[int, tuple[str, ...]] = {}

    def stop(self) -> None:
        """`run` ends soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Raises SourceFaultError, and what the feed raises."""
        connection = await connected(self._settings.url, read_only=False)
        try:
            await self._prepare(connection)
            while not self._stopping.is_set():
                if not await self._look(connection):
                    await self._feed.sleep(self._settings.every_s)
        except psycopg.Error as error:
            raise fault(error) from error
        except ValueError as error:
            raise SourceFaultError(f"PostgreSQL: {error}") from error
        finally:
            await connection.close()

    # -- before ---------------------------------------------------------------------------------------------------
    async def _prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        settings = self._settings
        found = await connection.execute("SELECT current_setting('wal_level')")
        if (await found.fetchone() or ("",))[0] != "logical":
            raise SourceFaultError("PostgreSQL: it needs `wal_level = logical` in postgresql.conf.")
        found = await connection.execute(
            "SELECT 1 FROM pg_publication WHERE pubname = %s", [settings.publication]
        )
        if await found.fetchone() is None:
            raise SourceFaultError(
                f"PostgreSQL: there is no publication {settings.publication!r}: CREATE PUBLICATION … FOR TABLE …."
            )
        found = await connection.execute(
            "SELECT plugin FROM pg_replication_slots WHERE slot_name = %s", [settings.slot]
        )
        slot = await found.fetchone()
        if slot is None:
            if _EXISTING in await self._feed.progress():
                # Whatever was committed since the slot went is not known: never passed over in silence.
                raise SourceFaultError(
                    f"PostgreSQL: the slot {settings.slot} is gone, and changes with it. Take the rows again with another "
                    f"source of `existing: take`, or of kind `postgres`: events that are there already are known."
                )
            await connection.execute(
                "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [settings.slot]
            )
        elif slot[0] != "pgoutput":
            raise SourceFaultError(f"PostgreSQL: the slot {settings.slot} is one of {slot[0]}.")
        if _EXISTING not in await self._feed.progress():
            if settings.takes_existing:
                await self._take_existing(connection)
            await self._feed.save({_EXISTING: b'"taken"' if settings.takes_existing else b'"left"'})

    async def _take_existing(self, connection: psycopg.AsyncConnection[Any]) -> None:
        found = await connection.execute(
            """SELECT c.oid, n.nspname, c.relname FROM pg_publication_tables p
               JOIN pg_namespace n ON n.nspname = p.schemaname
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = %s
               ORDER BY 2, 3""",
            [self._settings.publication],
        )
        for oid, schema, name in await found.fetchall():
            listed = await connection.execute(
                """SELECT attname::text, atttypid::bigint, false FROM pg_attribute
                   WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum""",
                [oid],
            )
            columns = tuple(Column(*row) for row in await listed.fetchall())
            relation = Relation(oid, schema, name, columns)
            await self._find_keys(connection, oid)
            if not self._keys[oid] and self._feed.source.mapping.id is None:
                raise SourceFaultError(
                    f"PostgreSQL: {relation.shown} has no primary key. Say in the mapping which column is the id."
                )
            texts = sql.SQL(", ").join(
                sql.SQL("{}::text").format(sql.Identifier(one.name)) for one in columns
            )
            query = sql.SQL("SELECT {} FROM {}").format(texts, sql.Identifier(schema, name))
            async with connection.transaction(), connection.cursor(name="existing") as cursor:
                await cursor.execute(query)
                while rows := await cursor.fetchmany(self._settings.batch_events_max):
                    for row in rows:
                        values: Values = dict(zip((one.name for one in columns), row, strict=True))
                        self._inserts.append(self._record(relation, values, None, ""))
                    await self._flush()

    async def _find_keys(self, connection: psycopg.AsyncConnection[Any], oid: int) -> None:
        found = await connection.execute(
            """SELECT a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(number, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
               WHERE i.indrelid = %s AND i.indisprimary ORDER BY k.place""",
            [oid],
        )
        self._keys[oid] = tuple(row[0] for row in await found.fetchall())

    # -- changes --------------------------------------------------------------------------------------------------
    async def _look(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Whether there was anything."""
        settings = self._settings
        found = await connection.execute("SELECT pg_current_wal_lsn()::text, pg_current_wal_lsn() - '0/0'")
        now = cast("tuple[str, Any]", await found.fetchone())
        relations: dict[int, Relation] = {}
        begun = Begin(0, 0)
        end = 0
        number = 0
        async with connection.transaction(), connection.cursor(name="changes", binary=True) as cursor:
            await cursor.execute(
                """SELECT data FROM pg_logical_slot_peek_binary_changes(
                       %s, NULL, %s, 'proto_version', '1', 'publication_names', %s)""",
                [
                    settings.slot,
                    settings.batch_events_max,
                    f'"{settings.publication.replace(chr(34), chr(34) * 2)}"',
                ],
            )
            while rows := await cursor.fetchmany(settings.batch_events_max):
                for (data,) in rows:
                    said = read(bytes(data), relations)
                    if isinstance(said, Relation):
                        relations[said.oid] = said
                        await self._find_keys(connection, said.oid)
                    elif isinstance(said, Begin):
                        begun, number = said, 0
                    elif isinstance(said, Commit):
                        end = said.end
                    elif isinstance(said, Change):
                        number += 1
                        await self._change(relations[said.relation], said, begun, number)
                    elif isinstance(said, Truncate) and settings.retracts:
                        await self._refuse_truncate(said, relations, begun)
                await self._flush()
        if not end:
            self._feed.observe(lag=0)
            self._idle_looks += 1
            if self._idle_looks % IDLE_ADVANCE_LOOKS == 1:
                # Nothing up to the position asked for beforehand is ours.
                await connection.execute(
                    "SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [settings.slot, now[0]]
                )
            return False
        self._idle_looks = 0
        position = f"{end >> 32:X}/{end & 0xFFFFFFFF:X}"
        await connection.execute(
            "SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [settings.slot, position]
        )
        return True

    async def _change(self, relation: Relation, change: Change, begun: Begin, number: int) -> None:
        settings = self._settings
        place = f"{begun.position:X}/{number}"
        if change.kind == "insert":
            assert change.new is not None
            self._inserts.append(self._record(relation, change.new, begun.committed_at_us, place))
            return
        wanted = settings.corrects if change.kind == "update" else settings.retracts
        if not wanted:
            return
        await self._flush()
        old = None if change.old is None else self._record(relation, change.old, begun.committed_at_us, place)
        if change.new is None:
            await self._retract(old)
            return
        new = self._record(relation, _filled(change), begun.committed_at_us, place)
        if any(not isinstance(value, str | None) for value in _filled(change).values()):
            detail = "A large value was not changed, and is not sent: ALTER TABLE … REPLICA IDENTITY FULL."
            await self._feed.reject([Reject(new.raw, new.where, "invalid_row", detail)])
            return
        await self._replace(old, new)

    async def _replace(self, old: Record | None, new: Record) -> None:
        line, identity = await self._made(new)
        if old is not None:
            _, before = await self._made(old, quiet=True)
            if before is not None and before != identity:
                await self._feed.correct(reason=_REASON, retract=[before], replace=[])
        if line is None:
            return
        _, statuses = await self._feed.correct(reason=_REASON, retract=[], replace=[line])
        if statuses[0] in ("not_found", "rejected"):
            # Its row was there before us, or its key is another one now; or it is said why among the dead letters.
            await self._feed.take([new])

    async def _retract(self, old: Record | None) -> None:
        _, identity = (None, None) if old is None else await self._made(old)
        if identity is not None:
            await self._feed.correct(reason="the row was deleted", retract=[identity], replace=[])

    async def _made(
        self, record: Record, *, quiet: bool = False
    ) -> tuple[str | None, tuple[str, str] | None]:
        """The event of a row, and its identity; a dead letter where there is none."""
        source = self._feed.source
        made, _ = events_of_records(self._maker, [record], source.format, key=source.key)
        if made.refused and not quiet:
            one = made.refused[0]
            await self._feed.reject([Reject(record.raw, record.where, one.code, one.detail)])
        if not made.lines:
            return None, None
        event = json.loads(made.lines[0])
        return made.lines[0], (event.get("source") or "/", str(event.get("id")))

    async def _refuse_truncate(self, said: Truncate, relations: dict[int, Relation], begun: Begin) -> None:
        await self._flush()
        for oid in said.relations:
            name = relations[oid].shown if oid in relations else str(oid)
            detail = f"{name} was truncated: which rows it had is not told. Retract their events yourself."
            where = f"{name}/{begun.position:X}/truncate"
            await self._feed.reject([Reject(b"TRUNCATE " + name.encode(), where, "invalid_row", detail)])

    def _record(self, relation: Relation, values: Values, time_us: int | None, place: str) -> Record:
        keys: Sequence[Any] = [values.get(name) for name in self._keys[relation.oid]]
        # A row without a key has nothing but its place among the changes.
        shown = (keys[0] if len(keys) == 1 else json.dumps(keys, ensure_ascii=False)) if keys else place
        raw = row_json(relation, values).encode()
        return Record(record_of(raw, {}, time_us or None), f"{relation.shown}/{shown}")

    async def _flush(self) -> None:
        records, self._inserts = self._inserts, []
        if records:
            await self._feed.take(records)


def _filled(change: Change) -> Values:
    """The new row; what was not sent is as before, where that is known."""
    assert change.new is not None
    old = change.old if change.old is not None and change.old_is_whole else {}
    return {
        name: old.get(name, value) if not isinstance(value, str | None) else value
        for name, value in change.new.items()
    }


def make(source: Source, feed: Feed) -> PostgresChanges:
    """A factory (interface.py)."""
    return PostgresChanges(settings_of(source, feed.tenant), feed)
