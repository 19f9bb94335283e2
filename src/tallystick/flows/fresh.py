"""What the recorder has just recorded, still in memory: whoever follows it from moment to moment needs no store for that.

Only plain events are kept, and only their sums of the meters that somebody follows. What is not here (corrections,
backfills, what other processes recorded, what is too long ago) the store knows: `flows/recent.recorded_between`.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tallystick.metering.meter import Meter
from tallystick.store.interface import TouchedUsage

TILES_MAX = 256
ROWS_MAX = 100_000
"""Groups in one answer; past them a follower asks usage itself."""

_WIDE = pa.decimal256(76, 18)
_SERIES = ["tenant", "meter", "customer"]
_COLUMNS = [*_SERIES, "earliest_us", "latest_us", "readings", "total"]
_compute: Any = pc  # its functions are made at import and unknown to type checkers

Name = tuple[str, str]
"""Tenant and key of a meter."""
Columns = tuple[str, ...]
"""Of readings: `subject`, `d0` …"""


class Part(NamedTuple):
    """What was recorded of a customer with these values in the columns."""

    customer: str
    values: tuple[str | None, ...]
    earliest_us: int
    latest_us: int
    total: Decimal
    greatest: Decimal


@dataclass(frozen=True, slots=True)
class News:
    """What was recorded in (after_us, until_us].

    `unsure` are meters (by id) of which there may be more than `usage` says, because their readings are being built or
    were lost, or because there is more than one answer holds: usage itself has their figures all the same."""

    after_us: int
    until_us: int
    usage: tuple[TouchedUsage, ...]
    unsure: frozenset[int]


@dataclass(frozen=True, slots=True)
class Followed:
    """Meters by id (these versions alone), and by name (whichever version is in force)."""

    ids: frozenset[int] = frozenset()
    names: frozenset[Name] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.ids or self.names)

    def __le__(self, other: "Followed") -> bool:
        return self.ids <= other.ids and self.names <= other.names

    def among(self, meters: Iterable[Meter]) -> frozenset[int]:
        return frozenset(
            meter.id for meter in meters if meter.id in self.ids or (meter.tenant, meter.key) in self.names
        )


@dataclass(frozen=True, slots=True)
class _Tile:
    """`derived`: ids of the meters in it, by name. `sums`: as `_summed` makes them."""

    after_us: int
    until_us: int
    followed: Followed
    derived: Mapping[Name, int]
    sums: pa.Table
    parts: Mapping[tuple[int, Columns], Sequence["Part"]]

    def of(self, followed: Followed) -> frozenset[int]:
        """Which of the meters in it are followed."""
        named = (self.derived[name] for name in followed.names if name in self.derived)
        return followed.ids.intersection(self.derived.values()).union(named)


class Fresh:
    """The recorder's thread puts, the event loop asks."""

    def __init__(self) -> None:
        self._followed: dict[str, Followed] = {}
        self._together = Followed()
        self._splits: frozenset[tuple[int, Columns]] = frozenset()
        self._tiles: deque[_Tile] = deque(maxlen=TILES_MAX)

    def follow(self, who: str, followed: Followed) -> None:
        """What somebody follows is summed up from the next batch on, instead of what he followed before."""
        if self._followed.get(who) == followed:
            return
        self._followed[who] = followed
        everybody = tuple(self._followed.values())
        self._together = Followed(
            frozenset[int]().union(*(one.ids for one in everybody)),
            frozenset[Name]().union(*(one.names for one in everybody)),
        )

    def split(self, splits: Collection[tuple[int, Columns]]) -> None:
        """These meters are summed up by columns, too, from the next batch on: for one follower."""
        self._splits = frozenset(splits)

    def put(self, after_us: int, until_us: int, meters: Collection[Meter], readings: pa.Table) -> None:
        """What plain events recorded in (after_us, until_us] contribute to the meters in force: before that moment is
        published. Putting a moment again replaces it: a batch may be repeated."""
        followed = self._together
        if not followed:
            if self._tiles:
                self._tiles.clear()
            return
        ids = followed.among(meters)
        derived = {(meter.tenant, meter.key): meter.id for meter in meters if meter.id in ids}
        sums = _summed(readings, ids)
        if self._tiles and self._tiles[-1].until_us >= until_us:
            self._tiles.pop()
        if sums.num_rows < ROWS_MAX:
            parts = _parts(readings, self._splits, frozenset(derived.values()))
            self._tiles.append(_Tile(after_us, until_us, followed, derived, sums, parts))

    def parts_between(
        self, after_us: int, until_us: int, splits: Collection[tuple[int, Columns]]
    ) -> dict[int, list[Part]]:
        """What these meters got in (after_us, until_us], by columns; whose is not known here is absent. A customer with the same
        values may come several times."""
        found: list[_Tile] = []
        reached_us = after_us
        for tile in tuple(self._tiles):
            if tile.after_us == reached_us and tile.until_us <= until_us:
                found.append(tile)
                reached_us = tile.until_us
        if reached_us != until_us:
            return {}
        return {
            split[0]: [part for tile in found for part in tile.parts[split]]
            for split in splits
            if all(split in tile.parts for tile in found)
        }

    def between(self, after_us: int, until_us: int, followed: Followed) -> News | None:
        """What these meters got in (after_us, until_us], two published moments; None: not known here. Meters by name are
        answered in the versions that were in force."""
        found: list[_Tile] = []
        reached_us = after_us
        for tile in tuple(self._tiles):
            if tile.after_us == reached_us and tile.until_us <= until_us and followed <= tile.followed:
                found.append(tile)
                reached_us = tile.until_us
        if reached_us != until_us or not found:
            return None
        wanted = [tile.of(followed) for tile in found]
        unsure = frozenset(meter for meter in followed.ids if any(meter not in ids for ids in wanted))
        parts = [
            tile.sums if len(ids) == len(tile.derived) else _of(tile.sums, ids)
            for tile, ids in zip(found, wanted, strict=True)
        ]
        sums = parts[0] if len(parts) == 1 else _together(pa.concat_tables(parts))
        return News(after_us, until_us, tuple(_rows(sums)), unsure)


def _parts(
    readings: pa.Table, splits: Collection[tuple[int, Columns]], derived: frozenset[int]
) -> dict[tuple[int, Columns], list[Part]]:
    made: dict[tuple[int, Columns], list[Part]] = {}
    if not splits:
        return made
    present = set(_compute.unique(readings["meter"]).to_pylist())
    rows = 0
    for meter, columns in splits:
        if meter not in derived:
            continue
        made[meter, columns] = []
        if meter not in present:
            continue
        names = ["customer", *columns]
        mine = _of(readings.select(["meter", "time", "value", *names]), frozenset((meter,)))
        plain = {name: mine[name].cast(pa.string()) for name in names}
        plain |= {"time": mine["time"].cast(pa.int64()), "value": mine["value"].cast(_WIDE)}
        grouped = (
            pa.table(plain)
            .group_by(names, use_threads=False)
            .aggregate([("time", "min"), ("time", "max"), ("value", "sum"), ("value", "max")])
        )
        rows += grouped.num_rows
        if rows > ROWS_MAX:
            return {}
        customers, *values = (grouped[name].to_pylist() for name in names)
        groups = zip(*values, strict=True) if values else [()] * len(customers)
        figures = (grouped[name].to_pylist() for name in ("time_min", "time_max", "value_sum", "value_max"))
        made[meter, columns] = list(map(Part, customers, groups, *figures))
    return made


def touched_by(readings: pa.Table, meters: frozenset[int]) -> list[TouchedUsage]:
    """New readings of these meters, by meter and customer."""
    return _rows(_summed(readings, meters))


def _of(table: pa.Table, meters: frozenset[int]) -> pa.Table:
    return table.filter(_compute.is_in(table["meter"], value_set=pa.array(sorted(meters), pa.uint32())))


def _summed(readings: pa.Table, meters: frozenset[int]) -> pa.Table:
    """By meter and customer. The columns are those of TouchedUsage."""
    wanted = readings.select(["tenant", "meter", "customer", "time", "value"])
    present = set(_compute.unique(wanted["meter"]).to_pylist())
    if not present <= meters:
        wanted = _of(wanted, meters)
    # As wide as the store adds them up: a sum of a batch may need more digits than a reading.
    wanted = wanted.set_column(4, "value", wanted["value"].cast(_WIDE))
    wanted = wanted.set_column(3, "time", wanted["time"].cast(pa.int64()))
    grouped = wanted.group_by(_SERIES, use_threads=False).aggregate(
        [("time", "min"), ("time", "max"), ("time", "count"), ("value", "sum")]
    )
    # Texts in full: each batch has a dictionary of its own, and such do not go together.
    texts = {name: grouped[name].cast(pa.string()) for name in ("tenant", "customer")}
    names = (*_SERIES, "time_min", "time_max", "time_count", "value_sum")
    return pa.table([texts.get(name, grouped[name]) for name in names], names=_COLUMNS)


def _together(sums: pa.Table) -> pa.Table:
    """Sums of several batches as one: as exact as those of one."""
    grouped = sums.group_by(_SERIES, use_threads=False).aggregate(
        [("earliest_us", "min"), ("latest_us", "max"), ("readings", "sum"), ("total", "sum")]
    )
    total = grouped["total_sum"]
    names = ("earliest_us_min", "latest_us_max", "readings_sum")
    return pa.table([*(grouped[name] for name in (*_SERIES, *names)), total], names=_COLUMNS)


def _rows(sums: pa.Table) -> list[TouchedUsage]:
    columns = [sums[name].to_pylist() for name in _COLUMNS]
    return list(map(TouchedUsage, *columns))
