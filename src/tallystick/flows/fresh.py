"""What the recorder has just recorded, still in memory: whoever follows it from moment to moment needs no store for that.

Only plain events are kept, and only their sums of the meters that somebody follows. What is not here (corrections,
backfills, what other processes recorded, what is too long ago) the store knows: `flows/recent.recorded_between`.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tallystick.metering.meter import Meter
from tallystick.money import exactly
from tallystick.store.interface import TouchedUsage

TILES_MAX = 256
ROWS_MAX = 100_000
"""Groups in one answer; past them a follower asks usage itself."""

_WIDE = pa.decimal256(76, 18)
_compute: Any = pc  # its functions are made at import and unknown to type checkers

Name = tuple[str, str]
"""Tenant and key of a meter."""


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
    after_us: int
    until_us: int
    followed: Followed
    derived: frozenset[int]
    usage: Sequence[TouchedUsage]


class Fresh:
    """The recorder's thread puts, the event loop asks."""

    def __init__(self) -> None:
        self.followed = Followed()
        """What is summed up from the next batch on; set by who follows."""
        self._tiles: deque[_Tile] = deque(maxlen=TILES_MAX)

    def put(self, after_us: int, until_us: int, meters: Collection[Meter], readings: pa.Table) -> None:
        """What plain events recorded in (after_us, until_us] contribute to the meters in force: before that moment is
        published. Putting a moment again replaces it: a batch may be repeated."""
        followed = self.followed
        if not followed:
            if self._tiles:
                self._tiles.clear()
            return
        derived = followed.among(meters)
        usage = touched_by(readings, derived)
        if self._tiles and self._tiles[-1].until_us >= until_us:
            self._tiles.pop()
        if len(usage) < ROWS_MAX:
            self._tiles.append(_Tile(after_us, until_us, followed, derived, usage))

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
        unsure = frozenset(meter for meter in followed.ids if any(meter not in one.derived for one in found))
        usage = found[0].usage if len(found) == 1 else _together(one for tile in found for one in tile.usage)
        return News(after_us, until_us, tuple(usage), unsure)


def touched_by(readings: pa.Table, meters: frozenset[int]) -> list[TouchedUsage]:
    """New readings of these meters, by meter and customer."""
    if readings.num_rows == 0 or not meters:
        return []
    wanted = readings.select(["tenant", "meter", "customer", "time", "value"])
    present = set(_compute.unique(wanted["meter"]).to_pylist())
    if not present <= meters:
        wanted = wanted.filter(
            _compute.is_in(wanted["meter"], value_set=pa.array(sorted(meters), pa.uint32()))
        )
    if wanted.num_rows == 0:
        return []
    # As wide as the store adds them up: a sum of a batch may need more digits than a reading.
    wanted = wanted.set_column(4, "value", wanted["value"].cast(_WIDE))
    wanted = wanted.set_column(3, "time", wanted["time"].cast(pa.int64()))
    grouped = wanted.group_by(["tenant", "meter", "customer"], use_threads=False).aggregate(
        [("time", "min"), ("time", "max"), ("time", "count"), ("value", "sum")]
    )
    columns = [
        grouped[name].to_pylist()
        for name in ("tenant", "meter", "customer", "time_min", "time_max", "time_count", "value_sum")
    ]
    return [TouchedUsage(*row) for row in zip(*columns, strict=True)]


@exactly
def _together(usage: Iterable[TouchedUsage]) -> list[TouchedUsage]:
    made: dict[tuple[str, int, str], TouchedUsage] = {}
    for one in usage:
        series = (one.tenant, one.meter, one.customer)
        before = made.get(series)
        if before is not None:
            made[series] = replace(
                one,
                earliest_us=min(before.earliest_us, one.earliest_us),
                latest_us=max(before.latest_us, one.latest_us),
                readings=before.readings + one.readings,
                total=before.total + one.total,
            )
        else:
            made[series] = one
    return list(made.values())
