"""The store on ClickHouse: chDB in this process, or a server by URL; one dialect, one client library."""

# ruff: noqa: S608 (identifiers are this file's own, values are bound)

import re
import uuid
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from tallystick.errors import Invalid
from tallystick.metering.event import RECORDED_SCHEMA
from tallystick.metering.meter import Meter
from tallystick.metering.position import PARTITIONS_MAX
from tallystick.metering.query import UsageExtent, UsageQuery, UsageRow
from tallystick.metering.reading import READING_SCHEMA
from tallystick.store import build, question, recent
from tallystick.store.changes import changes, has_changes
from tallystick.store.connection import UNKNOWN_TABLE, Connection, StoreRefusal
from tallystick.store.engine import engine_of
from tallystick.store.facts import Facts
from tallystick.store.forget import Forgets
from tallystick.store.identities import IdentityCopies
from tallystick.store.interface import (
    CORRECTION_SCHEMA,
    FACTS,
    STAGED_BLOCK_ROWS,
    STAGED_SCHEMA,
    STORED_SCHEMA,
    VERSION_SCHEMA,
    ChangeOrder,
    Correction,
    Derived,
    DerivedMissing,
    EventPart,
    EventSearch,
    FactRange,
    Forgotten,
    KeptIdentities,
    PartSpan,
    Quarantined,
    Reached,
    Repeat,
    RollupChunk,
    RollupPlan,
    RollupView,
    StoredEvent,
    TouchedFacts,
    TouchedUsage,
    TypeTotals,
    Underived,
)
from tallystick.store.layout import Storage
from tallystick.store.placement import place
from tallystick.store.recent import recorded_behind
from tallystick.store.rollups import Rollups
from tallystick.store.statements import (
    create_readings,
    create_rollups,
    migrations,
    readings_layout,
    rollups_layout,
    statement,
)
from tallystick.store.versions import (
    Range,
    Scan,
    positions_of,
    ranges,
    retracted_among,
    retracted_originals,
    select,
    superseded_positions,
)
from tallystick.store.within import Within, Writer

_EVENT_COLUMNS = STORED_SCHEMA.names
_CONFLICT_COLUMNS = [*_EVENT_COLUMNS, "original"]
_DUPLICATE_COLUMNS = ["tenant", "source", "id", "received_at", "recorded_at", "position", "original"]

_IDENTITY_SCHEMA = pa.schema(
    [
        RECORDED_SCHEMA.field(name)
        for name in ("tenant", "source", "id", "type", "subject", "data", "position")
    ]
)
_CONTENT_SCHEMA = pa.schema(
    [RECORDED_SCHEMA.field(name) for name in ("position", "type", "subject", "data", "customer")]
)

_STORED_EVENT = (
    "tenant, source, id, type, subject, customer, toUnixTimestamp64Micro(time), time_given,"
    " toUnixTimestamp64Micro(received_at), toUnixTimestamp64Micro(recorded_at), position, data, attributes"
)
_LATER = {
    "events": ", backfill, NULL, toBool(0)",
    "conflicts": ", '', NULL, toBool(0)",
    "corrections": ", backfill, original, toBool(0)",
}
"""The rest of a StoredEvent."""
_STORED_EVENT_FORMATS = {"data": "bytes", "attributes": "bytes"}

_COUNTED = ("events", "duplicates", "conflicts", "corrections", "staged", "forgotten", "readings", "rollups")
_AT_MOMENT = ("readings", "events", "duplicates", "conflicts", "corrections", "staged")
_READINGS_NAME = re.compile(r"readings|scratch_[0-9a-f]{32}")
_POSITIONS_AT_ONCE = 20_000
_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ClickHouseStore:
    """See store.interface.Store. `url` is chdb:///path or http(s)://user:password@host:port/database."""

    def __init__(
        self,
        url: str,
        *,
        query_time_s_max: int = 60,
        query_memory_bytes_max: int = 8 * 1024**3,
        usage_values_max: int = question.VALUES_MAX,
        storage: Storage | None = None,
        left_over_after_s: int | None = None,
    ) -> None:
        """`left_over_after_s`: how old a scratch or snapshot of another process must be for `migrate` to drop it. By
        default any age on the embedded engine, which no other process shares, and a day on servers."""
        engine = engine_of(url)
        if engine.embedded and storage is not None and storage != Storage():
            raise Invalid(
                "store_storage_policy and store_cold_volume need a ClickHouse server (store_url).",
                code="invalid_setting",
            )
        self._connection = Connection(
            engine,
            query_time_s_max=query_time_s_max,
            query_memory_bytes_max=query_memory_bytes_max,
            storage=storage,
        )
        self._usage_values_max = usage_values_max
        self._query_memory_bytes_max = query_memory_bytes_max
        if left_over_after_s is None:
            left_over_after_s = 0 if self._connection.embedded else 86_400
        self._left_over_after_s = left_over_after_s
        self._rollups = {view: Rollups(self._connection, view) for view in RollupView}
        self._scratches: set[str] = set()
        """Those in use in this process."""
        self._bind(None, 0)

    def _bind(self, within: Within | None, epoch: int) -> None:
        self._within = within
        self._writer = Writer(self._connection, within, epoch)
        self._facts = Facts(self._connection, self._writer)
        self._forgets = Forgets(self._connection, self._writer, within)
        self._copies = IdentityCopies(
            self._connection, self._writer, 0 if within is None else within.partition
        )

    # -- keeping house ------------------------------------------------------------------------------------------
    def migrate(self) -> None:
        run = self._connection.command
        for name in ("schema_versions_table", "fences_table", "token_salts_table"):
            run(statement(name))
        done = {row[0] for row in self._connection.rows("SELECT version FROM schema_versions")}
        for version, name, statements in migrations():
            if version in done:
                continue
            for text in statements:
                run(text)
            rows = pa.table({"version": pa.array([version], pa.uint32()), "name": [name]})
            self._connection.insert("schema_versions", rows, token=f"migration-{version}")
        tables = self._tables()
        old = [
            row[0]
            for row in self._connection.rows(statement("tables_old"), {"age_s": self._left_over_after_s})
            if self._connection.layout.is_known(row[0])
        ]
        self._facts.drop_left_over(old)
        for table in old:
            if re.fullmatch(r"scratch_[0-9a-f]{32}", table) and table not in self._scratches:
                run(f"DROP TABLE IF EXISTS `{table}` SYNC")
        if tables.get("readings", readings_layout()) != readings_layout():
            run("DROP TABLE IF EXISTS readings SYNC")
        run(create_readings("readings"))
        for view in RollupView:
            if tables.get(view.value, rollups_layout()) != rollups_layout():
                run(f"DROP TABLE IF EXISTS {view.value} SYNC")
            run(create_rollups(view.value))
        run(statement("identities_table"))
        place(self._connection)

    def _tables(self) -> dict[str, str]:
        """The tables there are, with their comments."""
        rows = self._connection.rows(statement("tables"))
        return {row[0]: row[1] for row in rows if self._connection.layout.is_known(row[0])}

    def ping(self) -> None:
        self._connection.rows("SELECT 1")

    def close(self) -> None:
        if self._within is None:
            self._connection.close()

    def partition(self, number: int, *, epoch: int) -> "ClickHouseStore":
        if not 0 <= number < PARTITIONS_MAX or epoch < 0:
            raise ValueError(f"Partition {number} with epoch {epoch} cannot be.")
        bound = copy(self)
        bound._bind(Within(number), epoch)
        bound._writer.take_over()
        return bound

    # -- facts in -----------------------------------------------------------------------------------------------
    def insert_events(self, events: pa.Table, *, token: str) -> None:
        columns = [*_EVENT_COLUMNS, *(["backfill"] if "backfill" in events.column_names else [])]
        self._writer.insert("events", events.select(columns), token=token)

    def insert_duplicates(self, duplicates: pa.Table, *, token: str) -> None:
        self._writer.insert("duplicates", duplicates.select(_DUPLICATE_COLUMNS), token=token)

    def insert_conflicts(self, conflicts: pa.Table, *, token: str) -> None:
        self._writer.insert("conflicts", conflicts.select(_CONFLICT_COLUMNS), token=token)

    def insert_corrections(self, corrections: pa.Table, *, token: str) -> None:
        self._writer.insert("corrections", corrections.select(CORRECTION_SCHEMA.names), token=token)

    def insert_staged(self, staged: pa.Table, *, token: str) -> None:
        self._writer.insert("staged", staged.select(STAGED_SCHEMA.names), token=token)

    def staged(self, tenant: str, backfill: str, *, after: int = 0) -> Iterator[pa.RecordBatch]:
        columns = ", ".join(STAGED_SCHEMA.names)
        sql = statement("staged").replace("{columns}", columns).replace("{within}", self._of("staged"))
        while True:
            parameters = {"tenant": tenant, "backfill": backfill, "after": after, "limit": STAGED_BLOCK_ROWS}
            batches = list(self._connection.blocks(sql, parameters, STAGED_SCHEMA))
            block = pa.Table.from_batches(batches, schema=STAGED_SCHEMA).combine_chunks()
            if block.num_rows:
                yield block.to_batches()[0]
                after = int(block["position"][-1].as_py())
            if block.num_rows < STAGED_BLOCK_ROWS:
                return

    def staged_count(self, tenant: str, backfill: str) -> int:
        sql = statement("staged_count").replace("{within}", self._of("staged"))
        rows = self._connection.rows(sql, {"tenant": tenant, "backfill": backfill})
        return int(rows[0][0])

    def delete_staged(self, tenant: str, backfill: str) -> None:
        condition = f"tenant = {{tenant:String}} AND backfill = {{backfill:String}} AND {self._of('staged')}"
        self._connection.command(
            f"ALTER TABLE staged DELETE WHERE {self._writer.deletion(condition)}",
            {"tenant": tenant, "backfill": backfill},
        )

    def delete_moment(self, recorded_at_us: int) -> None:
        for table, rows in self.rows_at_moment(recorded_at_us).items():
            if rows:
                bound = question.Bound()
                at_moment = self._at_moment(table, recorded_at_us, bound)
                self._connection.command(
                    f"ALTER TABLE {table} DELETE WHERE {self._writer.deletion(at_moment)}", bound.parameters
                )
            self._writer.forget_tokens(table)

    def rows_at_moment(self, recorded_at_us: int) -> dict[str, int]:
        there, found = self._tables(), dict[str, int]()
        for table in _AT_MOMENT:
            if table in there:
                bound = question.Bound()
                at_moment = self._at_moment(table, recorded_at_us, bound)
                rows = self._connection.rows(
                    f"SELECT count() FROM {table} WHERE {at_moment}", bound.parameters
                )
                found[table] = rows[0][0]
        return found

    def _at_moment(self, table: str, recorded_at_us: int, bound: question.Bound) -> str:
        return f"recorded_at = {bound.time(recorded_at_us)} AND {self._of(table)}"

    def reached(self) -> Reached:
        sql = statement("reached")
        for table in FACTS:
            sql = sql.replace(f"{{{table}}}", self._of(table))
        return Reached(*self._connection.rows(sql)[0])

    def _of(self, table: str) -> str:
        """Which rows of a table this store is about."""
        return "1" if self._within is None else self._within.of(table)

    # -- facts out ----------------------------------------------------------------------------------------------
    def identities(self, *, after: int, through: int) -> Iterator[pa.RecordBatch]:
        parameters = {"after": after, "through": through}
        sql = statement("identities").replace("{within}", self._of("events"))
        return self._connection.blocks(sql, parameters, _IDENTITY_SCHEMA)

    def events_at(self, positions: Sequence[int]) -> pa.Table:
        batches: list[pa.RecordBatch] = []
        wanted = sorted({int(position) for position in positions})
        for start in range(0, len(wanted), _POSITIONS_AT_ONCE):
            some = wanted[start : start + _POSITIONS_AT_ONCE]
            batches += self._connection.blocks(statement("events_at"), {"positions": some}, _CONTENT_SCHEMA)
        return pa.Table.from_batches(batches, schema=_CONTENT_SCHEMA)

    def repeats_at(self, positions: Sequence[int]) -> tuple[list[int], list[int]]:
        found: tuple[list[int], list[int]] = ([], [])
        wanted = sorted({int(position) for position in positions})
        for start in range(0, len(wanted), _POSITIONS_AT_ONCE):
            some = {"positions": wanted[start : start + _POSITIONS_AT_ONCE]}
            for is_conflict, position in self._connection.rows(statement("repeats_at"), some):
                found[is_conflict].append(position)
        return found

    def moments_of(self, positions: Sequence[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        wanted = sorted({int(position) for position in positions})
        for start in range(0, len(wanted), _POSITIONS_AT_ONCE):
            some = {"positions": wanted[start : start + _POSITIONS_AT_ONCE]}
            found.update((row[0], row[1]) for row in self._connection.rows(statement("moments_of"), some))
        return found

    def events_of(
        self,
        tenant: str,
        types: Sequence[str] | None,
        *,
        from_us: int | None = None,
        to_us: int | None = None,
        customers: Sequence[str] | None = None,
        after: int = 0,
        through: int | None = None,
        as_of_us: int | None = None,
        recorded_by_us: int | None = None,
        backfill: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        moments = [moment for moment in (as_of_us, recorded_by_us) if moment is not None]
        scan = Scan(
            tenant=tenant,
            types=types,
            from_us=from_us,
            to_us=to_us,
            customers=customers,
            after=after,
            through=through,
            recorded_by_us=min(moments) if moments else None,
            backfill=backfill,
            current=as_of_us is not None,
            within=self._within,
        )
        for within in ranges(self._connection, scan):
            bound = question.Bound()
            yield from self._connection.blocks(select(scan, within, bound), bound.parameters, VERSION_SCHEMA)

    def changes(
        self,
        tenant: str,
        types: Sequence[str] | None,
        *,
        after_us: int,
        until_us: int,
        order: ChangeOrder,
    ) -> Iterator[pa.RecordBatch]:
        return changes(self._connection, tenant, types, after_us=after_us, until_us=until_us, order=order)

    def has_changes(self, tenant: str, types: Sequence[str] | None, *, after_us: int, until_us: int) -> bool:
        return has_changes(self._connection, tenant, types, after_us=after_us, until_us=until_us)

    def versions_of(
        self, originals: Sequence[int], *, through: int | None = None, recorded_by_us: int | None = None
    ) -> pa.Table:
        batches: list[pa.RecordBatch] = []
        wanted = sorted({int(original) for original in originals})
        for start in range(0, len(wanted), _POSITIONS_AT_ONCE):
            some = wanted[start : start + _POSITIONS_AT_ONCE]
            scan = Scan(through=through, recorded_by_us=recorded_by_us, originals=some)
            bound = question.Bound()
            sql = select(
                scan,
                Range(0, through, corrected=True),
                bound,
                more=" ORDER BY original, recorded_at, position",
            )
            batches += self._connection.blocks(sql, bound.parameters, VERSION_SCHEMA)
        return pa.Table.from_batches(batches, schema=VERSION_SCHEMA)

    def corrections_made(
        self, tenant: str, backfill: str, *, recorded_by_us: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        bound = question.Bound()
        where = [
            f"tenant = {bound.text(tenant)}",
            f"backfill = {bound.text(backfill)}",
            self._of("corrections"),
        ]
        where += _time_conditions(bound, None, None, recorded_by_us)
        sql = f"SELECT {', '.join(CORRECTION_SCHEMA.names)} FROM corrections WHERE {' AND '.join(where)}"
        return self._connection.blocks(sql, bound.parameters, CORRECTION_SCHEMA)

    def search(self, search: EventSearch) -> list[StoredEvent]:
        if search.status == "conflict":
            where, bound = self._searched(search, "conflicts")
            return self._stored_events("conflicts", where, bound, search.limit)
        if search.status == "recorded":
            where, bound = self._searched(search, "events")
            found = self._stored_events("events", where, bound, search.limit)
            gone = self._retracted(search.tenant, [event.position for event in found], search.as_of_us)
            return [replace(event, retracted=event.position in gone) for event in found]
        if search.status == "current":
            return self._current(search)
        found = []
        before = None if search.before_position is None else search.before_position - 1
        for within in reversed(list(ranges(self._connection, Scan(tenant=search.tenant, through=before)))):
            if not within.corrected:
                continue
            where, bound = self._searched(search, "events")
            where.append(
                f"position IN ({retracted_originals(bound, search.tenant, within, search.as_of_us)})"
            )
            found += self._stored_events("events", where, bound, search.limit - len(found))
            if len(found) >= search.limit:
                break
        return [replace(event, retracted=True) for event in found]

    def events_recorded(
        self,
        tenant: str,
        *,
        after: tuple[int, int],
        until_us: int,
        types: Sequence[str] | None,
        customers: Sequence[str] | None,
        limit: int,
    ) -> list[StoredEvent]:
        where, bound = recorded_behind(tenant, after, until_us, types=types, customers=customers)
        return self._stored_events("events", where, bound, limit, order="recorded_at, position")

    def _current(self, search: EventSearch) -> list[StoredEvent]:
        """Range by range from the newest, so that no more superseded positions are held than one range has."""
        found: list[StoredEvent] = []
        before = None if search.before_position is None else search.before_position - 1
        for within in reversed(list(ranges(self._connection, Scan(tenant=search.tenant, through=before)))):
            wanted = search.limit - len(found)
            some: list[StoredEvent] = []
            for table in ("events", "corrections") if within.corrected else ("events",):
                where, bound = self._searched(search, table)
                where += positions_of(within, bound)
                if within.corrected:
                    where.append(
                        f"position NOT IN ({superseded_positions(bound, search.tenant, within, search.as_of_us)})"
                    )
                if table == "corrections":
                    where.append("action = 'replace'")
                some += self._stored_events(table, where, bound, wanted)
            found += sorted(some, key=lambda event: -event.position)[:wanted]
            if len(found) >= search.limit:
                break
        return found

    def quarantined(self, *, as_of_us: int, limit: int) -> list[Quarantined]:
        counts: Counter[tuple[str, str]] = Counter()
        scan = Scan(customers=[""], recorded_by_us=as_of_us, current=True)
        for within in ranges(self._connection, scan):
            bound = question.Bound()
            sql = (
                f"SELECT tenant, subject, count() AS events FROM ({select(scan, within, bound)}) "
                f"GROUP BY tenant, subject ORDER BY events DESC LIMIT {bound.value(limit, 'UInt64')}"
            )
            for tenant, subject, events in self._connection.rows(sql, bound.parameters):
                counts[tenant, subject] += events
        return [Quarantined(*key, events) for key, events in counts.most_common(limit)]

    def _searched(self, search: EventSearch, table: str) -> tuple[list[str], question.Bound]:
        bound = question.Bound()
        where = [f"tenant = {bound.text(search.tenant)}"]
        if search.partition is not None:
            where.append(Within(search.partition).of(table))
        if search.before_position is not None:
            where.append(f"position < {bound.value(search.before_position, 'UInt64')}")
        for column, wanted in (("source", search.source), ("id", search.id)):
            if wanted is not None:
                where.append(f"{column} = {bound.text(wanted)}")
        if search.types is not None:
            where.append(f"type IN {bound.texts(search.types)}")
        if search.subjects is not None:
            where.append(f"subject IN {bound.texts(search.subjects)}")
        if search.belonging is not None:
            customers, subjects = search.belonging
            where.append(f"(customer IN {bound.texts(customers)} OR subject IN {bound.texts(subjects)})")
        if search.types_excluded:
            where.append(f"type NOT IN {bound.texts(search.types_excluded)}")
        if search.customers is not None:
            where.append(f"customer IN {bound.texts(search.customers)}")
        where += _time_conditions(bound, search.from_us, search.to_us, search.as_of_us)
        return where, bound

    def _retracted(self, tenant: str, positions: Sequence[int], as_of_us: int | None) -> set[int]:
        return retracted_among(self._connection, tenant, positions, as_of_us) if positions else set()

    def lookup(
        self, tenant: str, source: str, event_id: str, *, as_of_us: int | None = None, as_sent: bool = False
    ) -> StoredEvent | None:
        found = self._of_identity("events", tenant, source, event_id, limit=1, as_of_us=as_of_us)
        if not found:
            return None
        event = found[0]
        versions = self.versions_of([event.position], recorded_by_us=as_of_us)
        names = versions["position"].to_pylist()
        ends = versions["superseded_at"].to_pylist()
        current = [name for name, end in zip(names, ends, strict=True) if end is None]
        if not as_sent:
            last = current[0] if current else max(zip(ends, names, strict=True))[1]
            event = self._version(event, last)
        return replace(event, retracted=not current)

    def _version(self, event: StoredEvent, position: int) -> StoredEvent:
        if position == event.position:
            return event
        bound = question.Bound()
        where = [
            f"original = {bound.value(event.position, 'UInt64')}",
            f"position = {bound.value(position, 'UInt64')}",
            "action = 'replace'",
        ]
        return self._stored_events("corrections", where, bound, 1)[0]

    def corrections_of(
        self, tenant: str, source: str, event_id: str, *, limit: int, as_of_us: int | None = None
    ) -> tuple[int, list[Correction]]:
        found = self._of_identity("events", tenant, source, event_id, limit=1, as_of_us=as_of_us)
        if not found:
            return 0, []
        bound = question.Bound()
        where = [f"original = {bound.value(found[0].position, 'UInt64')}"]
        where += _time_conditions(bound, None, None, as_of_us)
        sql = (
            f"SELECT count() OVER (), superseded, action, reason, author, {_STORED_EVENT}, backfill, original, toBool(0) "
            f"FROM corrections WHERE {' AND '.join(where)} ORDER BY recorded_at DESC, position DESC "
            f"LIMIT {bound.value(max(limit, 1), 'UInt64')}"
        )
        rows = self._connection.rows(sql, bound.parameters, column_formats=_STORED_EVENT_FORMATS)
        return (rows[0][0] if rows else 0), [_correction(row) for row in rows[:limit]]

    def duplicates_of(
        self, tenant: str, source: str, event_id: str, *, limit: int
    ) -> tuple[int, list[Repeat]]:
        parameters = {"tenant": tenant, "source": source, "id": event_id, "limit": max(limit, 1)}
        rows = self._connection.rows(statement("repeats"), parameters)
        return (rows[0][3] if rows else 0), [Repeat(row[0], row[1], row[2]) for row in rows[:limit]]

    def conflicts_of(
        self, tenant: str, source: str, event_id: str, *, limit: int
    ) -> tuple[int, list[StoredEvent]]:
        parameters = {"tenant": tenant, "source": source, "id": event_id}
        total = self._connection.rows(statement("conflicts_count"), parameters)[0][0]
        if total == 0:
            return 0, []
        return total, self._of_identity("conflicts", tenant, source, event_id, limit=limit)

    def type_totals(
        self,
        tenant: str,
        event_type: str,
        *,
        customers: Sequence[str] | None,
        from_us: int,
        to_us: int,
        as_of_us: int | None,
    ) -> TypeTotals:
        scan = Scan(
            tenant=tenant,
            types=[event_type],
            from_us=from_us,
            to_us=to_us,
            customers=customers,
            recorded_by_us=as_of_us,
            current=True,
        )
        found: list[tuple[int, int, int]] = []
        for within in ranges(self._connection, scan):
            bound = question.Bound()
            sql = (
                "SELECT count(), toUnixTimestamp64Micro(min(time)), toUnixTimestamp64Micro(max(time)) "
                f"FROM ({select(scan, within, bound)})"
            )
            events, first_us, last_us = self._connection.rows(sql, bound.parameters)[0]
            if events:
                found.append((events, first_us, last_us))
        if not found:
            return TypeTotals(0, None, None)
        counts, firsts, lasts = zip(*found, strict=True)
        return TypeTotals(sum(counts), min(firsts), max(lasts))

    def event_parts(
        self,
        tenant: str,
        types: Sequence[str] | None,
        *,
        span: PartSpan,
        customers: Sequence[str] | None,
        from_us: int | None,
        to_us: int | None,
        recorded_by_us: int,
    ) -> list[EventPart]:
        scan = Scan(
            tenant=tenant,
            types=types,
            from_us=from_us,
            to_us=to_us,
            customers=customers,
            recorded_by_us=recorded_by_us,
        )
        found: dict[int, tuple[int, int]] = {}
        for within in ranges(self._connection, scan):
            bound = question.Bound()
            sql = f"""SELECT toUnixTimestamp64Micro(time) - positiveModulo(toUnixTimestamp64Micro(time), {_DAY_US:d})
                    AS day, countIf(superseded_at IS NULL),
                    max(ifNull(toUnixTimestamp64Micro(superseded_at), toUnixTimestamp64Micro(recorded_at)))
                FROM ({select(scan, within, bound)}) GROUP BY day"""
            for day_us, events, changed_at_us in self._connection.rows(sql, bound.parameters):
                from_part_us = day_us if span == "day" else _month_us(day_us, 0)
                before = found.get(from_part_us, (0, 0))
                found[from_part_us] = (before[0] + events, max(before[1], changed_at_us))
        return [
            EventPart(start, start + _DAY_US if span == "day" else _month_us(start, 1), *figures)
            for start, figures in sorted(found.items())
        ]

    def count_readings(self) -> int:
        try:
            return self._connection.rows(f"SELECT count() FROM readings WHERE {self._of('readings')}")[0][0]
        except StoreRefusal as refusal:
            if refusal.engine_code != UNKNOWN_TABLE:
                raise
            return 0

    def counts(self) -> dict[str, int]:
        none: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        if self._within is None and not self._connection.layout.cluster:
            return none | {row[0]: row[1] for row in self._connection.rows(statement("counts"))}
        # Of a cluster, asked as questions are: metadata may be that of a replica which lags behind.
        there = [table for table in _COUNTED if table in self._tables()]
        counted = [
            f"SELECT '{table}' AS name, count() FROM {table} WHERE {self._of(table)}"
            for table in there
            if table != "rollups" or self._within is None
        ]
        if not counted:
            return none
        return none | {row[0]: row[1] for row in self._connection.rows(" UNION ALL ".join(counted))}

    # -- facts as a whole ---------------------------------------------------------------------------------------
    def snapshot(self) -> str:
        return self._facts.snapshot()

    def snapshot_ranges(
        self, snapshot: str, table: str, *, recorded_by_us: int, span: int
    ) -> list[FactRange]:
        return self._facts.ranges(snapshot, table, recorded_by_us=recorded_by_us, span=span)

    def snapshot_rows(
        self, snapshot: str, table: str, number: int, *, recorded_by_us: int, span: int
    ) -> Iterator[pa.RecordBatch]:
        return self._facts.rows(snapshot, table, number, recorded_by_us=recorded_by_us, span=span)

    def drop_snapshot(self, snapshot: str) -> None:
        self._facts.drop(snapshot)

    def insert_facts(self, table: str, rows: pa.Table, *, token: str) -> None:
        self._facts.insert(table, rows, token=token)

    # -- retention ----------------------------------------------------------------------------------------------
    def expired(
        self, tenant: str, event_type: str | None, *, before_us: int, after: int, limit: int
    ) -> Iterator[pa.RecordBatch]:
        return self._forgets.expired(tenant, event_type, before_us=before_us, after=after, limit=limit)

    def count_forgotten(self, first: int, last: int) -> Forgotten:
        return self._forgets.counted(first, last)

    def delete_forgotten(self, first: int, last: int) -> None:
        self._forgets.delete(first, last)

    def undo_forgotten(self, first: int, last: int) -> None:
        self._forgets.undo(first, last)

    def forgotten(self, *, after: int, through: int) -> Iterator[pa.RecordBatch]:
        return self._forgets.identities(after=after, through=through)

    # -- derived data -------------------------------------------------------------------------------------------
    def insert_identities(self, rows: pa.Table, *, through: int, token: str) -> None:
        self._copies.insert(rows, through=through, token=token)

    def kept_identities(self, *, after: int, through: int) -> KeptIdentities:
        return self._copies.kept(after=after, through=through)

    def delete_identities(self, *, after: int) -> None:
        self._copies.delete(after=after)

    def insert_readings(self, readings: pa.Table, *, token: str, into: str = "readings") -> None:
        table = _readings_table(into)
        rows = readings.select(READING_SCHEMA.names)
        try:
            self._writer.insert(table, rows, token=token)
        except StoreRefusal as refusal:
            if refusal.engine_code != UNKNOWN_TABLE or table != "readings":
                raise
            # Derived tables may vanish at any time.
            self._connection.command(create_readings("readings"))
            self._writer.insert(table, rows, token=token)

    def derivations(self, meters: Sequence[Meter], *, recorded_by_us: int) -> Iterator[Derived | Underived]:
        return build.steps(self._connection, meters, recorded_by_us=recorded_by_us, partition=self._within)

    def reading_counts(self, *, through: int) -> dict[int, int]:
        sql = statement("reading_counts").replace("{within}", self._of("readings"))
        try:
            rows = self._derived_rows(sql, {"through": through})
        except DerivedMissing:
            return {}
        return {row[0]: row[1] for row in rows}

    def delete_readings(self, meters: Sequence[int] | None) -> None:
        run = self._connection.command
        if meters is None and self._within is None:
            run("TRUNCATE TABLE IF EXISTS readings SYNC")
            return
        if (meters is not None and not meters) or "readings" not in self._tables():
            return
        condition = self._of("readings")
        parameters: dict[str, Any] = {}
        if meters is not None:
            condition += " AND meter IN {meters:Array(UInt32)}"
            parameters["meters"] = list(meters)
        run(f"ALTER TABLE readings DELETE WHERE {self._writer.deletion(condition)}", parameters)
        self._writer.forget_tokens("readings")

    def scratch(self) -> str:
        name = f"scratch_{uuid.uuid4().hex}"
        self._scratches.add(name)  # before it exists: `migrate` may run beside this
        self._connection.command(create_readings(name))
        return name

    def drop_scratch(self, name: str) -> None:
        table = _readings_table(name)
        if table == "readings":
            raise ValueError("readings is no scratch.")
        self._connection.command(f"DROP TABLE IF EXISTS `{table}` SYNC")
        self._scratches.discard(table)

    # -- roll-ups -----------------------------------------------------------------------------------------------
    def rollup_plan(self, meters: Sequence[Meter], *, after_us: int, through_us: int) -> RollupPlan:
        return self._rollups[RollupView.WHOLE].plan(meters, after_us=after_us, through_us=through_us)

    def build_rollups(
        self,
        meters: Sequence[Meter],
        *,
        after_us: int,
        through_us: int,
        chunk: RollupChunk,
        token: str,
        span_hours: int = 1,
        view: RollupView = RollupView.WHOLE,
    ) -> None:
        self._rollups[view].build(
            meters, after_us=after_us, through_us=through_us, chunk=chunk, token=token, span_hours=span_hours
        )

    def rolled_up(self, view: RollupView = RollupView.WHOLE) -> dict[int, tuple[int, int]]:
        return self._rollups[view].rolled_up()

    def rollup_rows(self, meters: Sequence[int], view: RollupView = RollupView.WHOLE) -> Mapping[int, int]:
        return self._rollups[view].rows(meters)

    def rollup_groups(self, meters: Sequence[int], view: RollupView = RollupView.WHOLE) -> Mapping[int, int]:
        return self._rollups[view].groups(meters)

    def delete_rollups(self, meters: Sequence[int] | None, view: RollupView | None = None) -> None:
        for one in RollupView if view is None else [view]:
            self._rollups[one].delete(meters)

    def usage_from_rollups(
        self,
        query: UsageQuery,
        *,
        rolled_up_to_us: int,
        rows_max: int,
        span_hours: int = 1,
        view: RollupView = RollupView.WHOLE,
    ) -> list[UsageRow] | None:
        if query.as_of_us is not None and query.as_of_us < rolled_up_to_us:
            return None
        return question.answer_from_rollups(
            self._derived_rows,
            query,
            rolled_up_to_us=rolled_up_to_us,
            span_hours=span_hours,
            view=view,
            rows_max=rows_max,
        )

    # -- what is new --------------------------------------------------------------------------------------------
    def recorded_between(
        self, after_us: int, until_us: int, *, meters: Sequence[int] | None = None, limit: int
    ) -> list[TouchedUsage]:
        return recent.recorded_between(self._derived_rows, after_us, until_us, meters=meters, limit=limit)

    def facts_between(self, after_us: int, until_us: int, *, limit: int) -> list[TouchedFacts]:
        return recent.facts_between(self._connection, after_us, until_us, limit=limit)

    # -- questions ----------------------------------------------------------------------------------------------
    def usage(self, query: UsageQuery, *, rows_max: int, readings: str = "readings") -> list[UsageRow]:
        return question.answer(
            self._derived_rows,
            query,
            readings=_readings_table(readings),
            rows_max=rows_max,
            values_max=self._usage_values_max,
        )

    def usage_extent(
        self, query: UsageQuery, *, rows_max: int, time_s_max: int, readings: str = "readings"
    ) -> UsageExtent:
        return question.extent(
            self._derived_rows,
            query,
            readings=_readings_table(readings),
            bounds=question.Bounds(rows_max, self._query_memory_bytes_max, time_s_max),
            values_max=self._usage_values_max,
        )

    def usage_batches(
        self, query: UsageQuery, *, rows_max: int, time_s_max: int, readings: str = "readings"
    ) -> Generator[pa.RecordBatch]:
        return question.batches(
            self._derived_rows,
            self._connection.blocks,
            query,
            readings=_readings_table(readings),
            bounds=question.Bounds(rows_max, self._query_memory_bytes_max, time_s_max),
            values_max=self._usage_values_max,
        )

    def dimension_values(
        self,
        meter: Meter,
        slot: int,
        *,
        customers: Sequence[str] | None,
        from_us: int,
        to_us: int,
        as_of_us: int | None,
        prefix: str,
        limit: int,
        readings: str = "readings",
    ) -> list[tuple[str | None, int]]:
        table = _readings_table(readings)
        bound = question.Bound()
        column, _ = question.column_of(meter, meter.dimensions[slot].name)
        where = question.conditions(
            meter,
            bound,
            customers=None if customers is None else tuple(customers),
            from_us=from_us,
            to_us=to_us,
            as_of_us=as_of_us,
        )
        if prefix:
            where.append(f"startsWith({column}, {bound.text(prefix)})")
        sql = (
            f"SELECT {column} AS found, sum(sign) AS times FROM {table} WHERE {' AND '.join(where)} "
            f"GROUP BY found HAVING times > 0 ORDER BY times DESC, found ASC NULLS FIRST LIMIT {bound.value(limit, 'UInt64')}"
        )
        return [(row[0], row[1]) for row in self._derived_rows(sql, bound.parameters)]

    # -- shared -------------------------------------------------------------------------------------------------
    def _derived_rows(self, sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.rows(sql, parameters)
        except StoreRefusal as refusal:
            if refusal.engine_code == UNKNOWN_TABLE:
                raise DerivedMissing("The table of readings is not there.") from refusal
            raise

    def _of_identity(
        self, table: str, tenant: str, source: str, event_id: str, *, limit: int, as_of_us: int | None = None
    ) -> list[StoredEvent]:
        bound = question.Bound()
        where = [
            f"tenant = {bound.text(tenant)}",
            f"source = {bound.text(source)}",
            f"id = {bound.text(event_id)}",
            *_time_conditions(bound, None, None, as_of_us),
        ]
        return self._stored_events(table, where, bound, limit)

    def _stored_events(
        self,
        table: str,
        where: list[str],
        bound: question.Bound,
        limit: int,
        *,
        order: str = "position DESC",
    ) -> list[StoredEvent]:
        sql = (
            f"SELECT {_STORED_EVENT}{_LATER[table]} FROM {table} WHERE {' AND '.join(where)} "
            f"ORDER BY {order} LIMIT {bound.value(limit, 'UInt64')}"
        )
        rows = self._connection.rows(sql, bound.parameters, column_formats=_STORED_EVENT_FORMATS)
        return [StoredEvent(*row) for row in rows]


def _month_us(time_us: int, later: int) -> int:
    """The beginning of the month (UTC) a time lies in, or of a later one."""
    day = _EPOCH + timedelta(microseconds=time_us)
    months = day.year * 12 + day.month - 1 + later
    return (date(months // 12, months % 12 + 1, 1) - _EPOCH.date()).days * _DAY_US


def _correction(row: tuple[Any, ...]) -> Correction:
    _, superseded, action, reason, author, *columns = row
    made = StoredEvent(*columns)
    assert made.original is not None
    return Correction(
        position=made.position,
        original=made.original,
        superseded=superseded,
        action=action,
        reason=reason,
        author=author,
        backfill=made.backfill,
        recorded_at_us=made.recorded_at_us,
        made=made if action == "replace" else None,
    )


def _time_conditions(
    bound: question.Bound, from_us: int | None, to_us: int | None, as_of_us: int | None
) -> list[str]:
    found: list[str] = []
    if from_us is not None:
        found.append(f"time >= {bound.time(from_us)}")
    if to_us is not None:
        found.append(f"time < {bound.time(to_us)}")
    if as_of_us is not None:
        found.append(f"recorded_at <= {bound.time(as_of_us)}")
    return found


def _readings_table(name: str) -> str:
    if not _READINGS_NAME.fullmatch(name):
        raise ValueError(f"{name!r} names no readings.")
    return name
