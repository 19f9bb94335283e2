"""From counters that are read again and again to what came in between, through restarts.

A series with a known start counts from 0 at its start (OpenTelemetry, metrics data model, "Resets and gaps"): its first
reading counts in full. One whose start is its first reading, or is not known, begins with a baseline that counts nothing;
but a series that appears at a target that was being watched before began there, and counts in full. A value below the last
one is a reset, and counts in full. A reading no later than the last one is a repetition, or late: a later one has it already.

Where several replicas read the same counters, their clocks differ, and readings of both between each other would look like
resets. So one replica is heard for each target, and another takes its place when nothing was heard of it for
`REPLICA_SILENT_NS` of the readings' own time; what it reads then has all that was counted in between.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tallystick.telemetry.point import Kind, Point, digest_of

REPLICA_SILENT_NS = 30_000_000_000
"""As long as Mimir and Cortex wait before another replica is heard."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a series is: the last reading. Of a target: the first time it was seen, without values. Of the replicas of a
    target: the last reading of the one that is heard, and its name as a number."""

    time_ns: int
    values: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """What a point adds (or, of a gauge, says)."""

    point: Point
    values: tuple[Decimal, ...]


def keys_of(points: Iterable[Point]) -> frozenset[str]:
    """The series and targets whose standing `count` needs."""
    keys = {point.series for point in points if point.kind is Kind.CUMULATIVE}
    keys |= {_target_key(point) for point in points if point.kind is Kind.CUMULATIVE and point.target}
    keys |= {_replica_key(point) for point in points if point.replica}
    return frozenset(keys)


def count(
    points: Iterable[Point], reached: Mapping[str, Reached]
) -> tuple[list[Counted], dict[str, Reached]]:
    """What the points add, and where their series are then (those that moved). Nothing is added twice, whatever is
    repeated, as long as what is returned is kept together with what it was made from."""
    now = dict(reached)
    moved: dict[str, Reached] = {}
    found: list[Counted] = []
    for point in sorted(points, key=lambda one: one.time_ns):
        if point.replica and not _heard(point, now, moved):
            continue
        if point.kind is not Kind.CUMULATIVE:
            if point.kind is Kind.GAUGE or any(point.values):
                found.append(Counted(point, point.values))
            continue
        watched = _watched(point, now, moved)
        key = point.series
        last = now.get(key)
        if last is not None and point.time_ns <= last.time_ns:
            continue
        now[key] = moved[key] = Reached(point.time_ns, point.values)
        added = _added(point, last, watched=watched)
        if any(added):
            found.append(Counted(point, added))
    return found, moved


def _added(point: Point, last: Reached | None, *, watched: bool) -> tuple[Decimal, ...]:
    if last is None:
        began = 0 < point.start_ns < point.time_ns
        return point.values if began or watched else ()
    if len(last.values) != len(point.values) or point.values[-1] < last.values[-1]:
        return point.values  # of a histogram the count decides: its sum may fall
    if len(point.values) == 1:
        return (point.values[0] - last.values[0],)
    return tuple(new - old for new, old in zip(point.values, last.values, strict=True))


def _watched(point: Point, now: dict[str, Reached], moved: dict[str, Reached]) -> bool:
    """Whether its target was seen before this reading."""
    if not point.target:
        return False
    key = _target_key(point)
    first = now.get(key)
    if first is None:
        now[key] = moved[key] = Reached(point.time_ns)
        return False
    return first.time_ns < point.time_ns


def _heard(point: Point, now: dict[str, Reached], moved: dict[str, Reached]) -> bool:
    """Whether it comes from the replica that is heard for its target; the first one is."""
    key = _replica_key(point)
    name = Decimal(int(digest_of(point.replica), 16))
    last = now.get(key)
    if last is not None and last.values != (name,) and point.time_ns - last.time_ns <= REPLICA_SILENT_NS:
        return False
    if last is None or point.time_ns > last.time_ns:
        now[key] = moved[key] = Reached(point.time_ns, (name,))
    return True


def _replica_key(point: Point) -> str:
    return digest_of("replica", point.source, point.target)


def _target_key(point: Point) -> str:
    return digest_of("target", point.source, point.target)
