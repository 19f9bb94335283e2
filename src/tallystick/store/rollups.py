"""Roll-ups: readings summed per hour, meter, customer and dimensions; how they are made and how complete they are.

Rows of one group are united by the engine in the background, so the number of rows says nothing. What is conserved is
the sum of `readings`: how many rows of readings went in.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.metering.meter import DIMENSIONS_MAX, Aggregation, Meter
from tallystick.store.connection import UNKNOWN_TABLE, Connection, StoreRefusal
from tallystick.store.interface import RollupChunk, RollupPlan, RollupView
from tallystick.store.question.rollups import HOUR_US, span_sql
from tallystick.store.statements import create_rollups, statement

CHUNK_READINGS = 2_000_000
"""Readings that are rolled up by one insert, about."""

_SLOT_HOURS = 730  # a twelfth of a year
_SUMMED = frozenset({Aggregation.SUM, Aggregation.AVERAGE})
_COMPARED = frozenset({Aggregation.MIN, Aggregation.MAX})
_ATTEMPTS = 10
Part = tuple[int, str, str]
"""Shard, name and hash of its files: names come back when the table is made again."""
Held = dict[int, tuple[int, int]]
"""By meter id: rows of readings, and how many of them have sign -1."""

_SLOTS = [f"ifNull(d{slot}, char(0))" for slot in range(DIMENSIONS_MAX)]
_TOKEN = re.compile(r"[0-9a-z:-]{1,200}")
# One insert is one block: a block is what the deduplication token is checked for. One thread: rolling up is never urgent.
_BUILD_SETTINGS: dict[str, Any] = {
    "min_insert_block_size_rows": 1_000_000_000,
    "min_insert_block_size_bytes": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_bytes_before_external_group_by": 512 * 1024**2,
}


class Rollups:
    """The table of roll-ups of one view. From any thread."""

    def __init__(self, connection: Connection, view: RollupView) -> None:
        self._connection = connection
        self._view = view
        self._lock = threading.Lock()
        self._held: dict[Part, Held] = {}

    def plan(self, meters: Sequence[Meter], *, after_us: int, through_us: int) -> RollupPlan:
        """See store.interface.Store."""
        sql = (
            statement("rollups_plan").replace("{slot_hours}", str(_SLOT_HOURS)).replace("{hour}", span_sql(1))
        )
        parameters = {
            "meters": [meter.id for meter in meters],
            "after_us": after_us,
            "through_us": through_us,
        }
        readings: defaultdict[int, int] = defaultdict(int)
        slots: defaultdict[int, int] = defaultdict(int)
        for meter, slot, rows in self._connection.rows(sql, parameters):
            readings[meter] += rows
            slots[slot] += rows
        chunks: list[RollupChunk] = []
        for slot, rows in sorted(slots.items()):
            first = slot * _SLOT_HOURS
            pieces = -(-rows // CHUNK_READINGS)
            if chunks and chunks[-1].readings + rows <= CHUNK_READINGS:
                last = chunks.pop()
                chunks.append(
                    RollupChunk(last.from_us, (first + _SLOT_HOURS) * HOUR_US, last.readings + rows)
                )
                continue
            width = -(-_SLOT_HOURS // pieces)
            for begin in range(first, first + _SLOT_HOURS, width):
                end = min(begin + width, first + _SLOT_HOURS)
                share = rows * (end - begin) // _SLOT_HOURS
                chunks.append(RollupChunk(begin * HOUR_US, end * HOUR_US, share))
        return RollupPlan(tuple(chunks), dict(readings))

    def build(
        self,
        meters: Sequence[Meter],
        *,
        after_us: int,
        through_us: int,
        chunk: RollupChunk,
        token: str,
        span_hours: int,
    ) -> None:
        """See store.interface.Store."""
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"{token!r} is no token.")
        dimensions = max((len(meter.dimensions) for meter in meters), default=0)
        slots = "".join(f", d{slot}" for slot in range(dimensions))
        by_customer = self._view is not RollupView.DIMENSIONS
        sql = self._statement("rollups_build")
        sql = sql.replace("{slots}", "" if self._view is RollupView.CUSTOMERS else slots)
        sql = sql.replace("{customer}", "customer" if by_customer else "''")
        sql = sql.replace("{by_customer}", ", customer" if by_customer else "")
        sql = sql.replace("{hour}", span_sql(span_hours))
        summed = [meter.id for meter in meters if meter.aggregation in _SUMMED]
        compared = [meter.id for meter in meters if meter.aggregation in _COMPARED]
        sql = sql.replace("{total}", "sum({value})" if summed else "0")
        sql = sql.replace(
            "{value}", _among(summed, meters, "summed", "CAST(value, 'Decimal(76, 18)') * sign")
        )
        value = _among(compared, meters, "compared", "value")
        sql = sql.replace("{minimum}", f"min({value})" if compared else "0")
        sql = sql.replace("{maximum}", f"max({value})" if compared else "0")
        parameters: dict[str, Any] = {
            "tenants": sorted({meter.tenant for meter in meters}),
            "meters": [meter.id for meter in meters],
            "summed": summed,
            "compared": compared,
            "from_us": chunk.from_us,
            "to_us": chunk.to_us,
            "after_us": after_us,
            "through_us": through_us,
        }
        settings = {**_BUILD_SETTINGS, "insert_deduplication_token": f"{self._view.value}:{token}"}
        try:
            self._connection.command(sql, parameters, settings=settings)
        except StoreRefusal as refusal:
            if refusal.engine_code != UNKNOWN_TABLE:
                raise
            self._connection.command(create_rollups(self._view.value))
            self._connection.command(sql, parameters, settings=settings)

    def rolled_up(self) -> dict[int, tuple[int, int]]:
        """See store.interface.Store. Parts never change, so that each is read once."""
        layout = self._connection.layout
        shard = "_shard_num" if layout.cluster else "0"
        listed = statement("rollups_parts").replace("{shard}", shard)
        listed = listed.replace("{parts}", layout.of_cluster("system.parts"))
        of_table = {"database": self._connection.database, "table": layout.local(self._view.value)}
        summed = self._statement("rolled_up").replace("{shard}", shard)
        for _ in range(_ATTEMPTS):
            parts: set[Part] = {(row[0], row[1], row[2]) for row in self._connection.rows(listed, of_table)}
            with self._lock:
                known = {part: held for part, held in self._held.items() if part in parts}
            unknown = parts - known.keys()
            if unknown:
                found: defaultdict[tuple[int, str], Held] = defaultdict(dict)
                names = sorted({part[1] for part in unknown})
                try:
                    rows = self._connection.rows(summed, {"parts": names})
                except StoreRefusal as refusal:
                    if refusal.engine_code == UNKNOWN_TABLE:
                        continue
                    raise
                for at, name, meter, readings, taken_back in rows:
                    found[at, name][meter] = (readings, taken_back)
                if not found.keys() >= {part[:2] for part in unknown}:  # merged meanwhile, or another replica
                    continue
                known |= {part: found[part[:2]] for part in unknown}
            with self._lock:
                self._held = known
            total: Held = {}
            for held in known.values():
                for meter, (readings, taken_back) in held.items():
                    before = total.get(meter, (0, 0))
                    total[meter] = (before[0] + readings, before[1] + taken_back)
            return total
        raise StoreRefusal("The roll-ups are being changed too fast to be counted.", engine_code=None)

    def rows(self, meters: Sequence[int]) -> Mapping[int, int]:
        """See store.interface.Store."""
        return {
            row[0]: row[1]
            for row in self._connection.rows(self._statement("rollups_rows"), {"meters": list(meters)})
        }

    def groups(self, meters: Sequence[int]) -> Mapping[int, int]:
        """See store.interface.Store."""
        sql = self._statement("rollups_groups").replace("{slots}", ", ".join(_SLOTS))
        return {row[0]: row[1] for row in self._connection.rows(sql, {"meters": list(meters)})}

    def delete(self, meters: Sequence[int] | None) -> None:
        """See store.interface.Store."""
        run = self._connection.command
        if meters is None:
            run(f"TRUNCATE TABLE IF EXISTS {self._view.value} SYNC")
            return
        if not meters or self._view.value not in {
            row[0] for row in self._connection.rows(statement("tables"))
        }:
            return
        deletion = f"ALTER TABLE {self._view.value} DELETE WHERE meter IN {{meters:Array(UInt32)}}"
        run(deletion, {"meters": list(meters)})

    def _statement(self, name: str) -> str:
        return statement(name).replace("{table}", self._view.value)


def _among(ids: Sequence[int], meters: Sequence[Meter], name: str, value: str) -> str:
    """A value that only readings of some of the meters have to show."""
    if len(ids) == len(meters):
        return value
    return f"if(meter IN {{{name}:Array(UInt32)}}, {value}, 0)"
