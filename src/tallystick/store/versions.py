"""Versions of events as SQL: which content of an event counts, and when.

A version lies in `events` (as the event was recorded) or in `corrections` (what a `replace` put in its place), and bears
the position it came under. It is superseded by at most one correction, found by `corrections.superseded`. So a scan of
versions is a left join of both tables with the corrections; it goes by ranges of positions, each with a bounded number
of corrections to hold in memory, and leaves the join out where a range has none.
"""

# ruff: noqa: S608 (identifiers are this file's own, values are bound)

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tallystick.store.connection import Connection
from tallystick.store.interface import STORED_SCHEMA
from tallystick.store.question import Bound
from tallystick.store.within import Within

RANGE_POSITIONS = 4_000_000
"""Positions that are scanned at once where there are corrections."""

_COLUMNS = ", ".join(STORED_SCHEMA.names)
_NEVER = "CAST(NULL, 'Nullable(DateTime64(6, \\'UTC\\'))')"
_RETRACTED = "countIf(action = 'replace') + 1 = countIf(superseded > 0)"
"""Of all corrections of an event: whether none of its versions is left."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Which versions. None: any. `after` and `through` bound the position; what came behind `through`, or was recorded
    after `recorded_by_us`, is as if it had not happened. `current`: only versions that nothing supersedes."""

    tenant: str | None = None
    types: Sequence[str] | None = None
    from_us: int | None = None
    to_us: int | None = None
    customers: Sequence[str] | None = None
    after: int = 0
    through: int | None = None
    recorded_by_us: int | None = None
    backfill: str | None = None
    originals: Sequence[int] | None = None
    current: bool = False
    within: Within | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Positions after < p <= through (None: all behind), and whether anything in them is corrected."""

    after: int
    through: int | None
    corrected: bool


def ranges(connection: Connection, scan: Scan) -> Iterator[Range]:
    """The positions of a scan in pieces, ascending."""
    bound = Bound()
    rows = connection.rows(
        f"""SELECT DISTINCT arrayJoin([intDiv(superseded, {RANGE_POSITIONS:d}), intDiv(position, {RANGE_POSITIONS:d})])
            FROM corrections WHERE {_and([*_tenant(bound, scan.tenant), *_within(scan, "corrections")])}""",
        bound.parameters,
    )
    after = scan.after
    for start in sorted(int(row[0]) * RANGE_POSITIONS for row in rows):
        through = start + RANGE_POSITIONS - 1
        if through <= after:
            continue
        if scan.through is not None and start > scan.through:
            break
        if start - 1 > after:
            yield Range(after, start - 1, corrected=False)
            after = start - 1
        end = through if scan.through is None else min(through, scan.through)
        yield Range(after, end, corrected=True)
        after = end
    if scan.through is None or after < scan.through:
        yield Range(after, scan.through, corrected=False)


def select(scan: Scan, within: Range, bound: Bound, *, more: str = "") -> str:
    """Versions of one range: the columns of STORED_SCHEMA and `superseded_at` (and `original`)."""
    narrowed = replace(scan, after=within.after, through=within.through)
    where = _and(
        [
            *_within(scan, "events"),
            *_conditions(narrowed, bound, recorded_by_us=scan.recorded_by_us, original="position"),
        ]
    )
    if not within.corrected:
        return f"SELECT {_COLUMNS}, position AS original, {_NEVER} AS superseded_at FROM events WHERE {where}{more}"
    replaced = _and(
        [
            "action = 'replace'",
            *_within(scan, "corrections"),
            *_conditions(narrowed, bound, recorded_by_us=scan.recorded_by_us, original="original"),
        ]
    )
    ended = [
        *_tenant(bound, scan.tenant),
        *_within(scan, "corrections"),
        f"superseded > {bound.value(within.after, 'UInt64')}",
        *_happened(bound, scan.through, scan.recorded_by_us),
    ]
    if within.through is not None:
        ended.append(f"superseded <= {bound.value(within.through, 'UInt64')}")
    if scan.originals is not None:
        ended.append(f"original IN {bound.value(list(scan.originals), 'Array(UInt64)')}")
    return f"""SELECT {_COLUMNS}, original, superseded_at FROM (
            SELECT {_COLUMNS}, position AS original FROM events WHERE {where}
            UNION ALL
            SELECT {_COLUMNS}, original FROM corrections WHERE {replaced}
        ) AS versions
        LEFT ANY JOIN (
            SELECT superseded, toNullable(recorded_at) AS superseded_at FROM corrections WHERE {_and(ended)}
        ) AS ended ON versions.position = ended.superseded
        {"WHERE superseded_at IS NULL" if scan.current else ""}{more}"""


def positions_of(within: Range, bound: Bound, column: str = "position") -> list[str]:
    """That a column lies in a range, as conditions."""
    found = [f"{column} > {bound.value(within.after, 'UInt64')}"]
    if within.through is not None:
        found.append(f"{column} <= {bound.value(within.through, 'UInt64')}")
    return found


def superseded_positions(bound: Bound, tenant: str, within: Range, as_of_us: int | None) -> str:
    """Positions of a range whose versions no longer count, as a subquery."""
    where = [*_tenant(bound, tenant), *positions_of(within, bound, "superseded")]
    where += _happened(bound, None, as_of_us)
    return f"SELECT superseded FROM corrections WHERE {_and(where)}"


def retracted_originals(bound: Bound, tenant: str, within: Range, as_of_us: int | None) -> str:
    """Positions of the events of a range that no version is left of, as a subquery."""
    where = [*_tenant(bound, tenant), *positions_of(within, bound, "original")]
    where += _happened(bound, None, as_of_us)
    return f"SELECT original FROM corrections WHERE {_and(where)} GROUP BY original HAVING {_RETRACTED}"


def retracted_among(
    connection: Connection, tenant: str, originals: Iterable[int], as_of_us: int | None
) -> set[int]:
    """Which of these events have no version left."""
    bound = Bound()
    where = [
        *_tenant(bound, tenant),
        f"original IN {bound.value(list(originals), 'Array(UInt64)')}",
        *_happened(bound, None, as_of_us),
    ]
    sql = f"SELECT original FROM corrections WHERE {_and(where)} GROUP BY original HAVING {_RETRACTED}"
    return {row[0] for row in connection.rows(sql, bound.parameters)}


def _conditions(scan: Scan, bound: Bound, *, recorded_by_us: int | None, original: str) -> list[str]:
    found = [*_tenant(bound, scan.tenant), f"position > {bound.value(scan.after, 'UInt64')}"]
    if scan.types is not None:
        found.append(f"type IN {bound.texts(scan.types)}")
    if scan.customers is not None:
        found.append(f"customer IN {bound.texts(scan.customers)}")
    if scan.backfill is not None:
        found.append(f"backfill = {bound.text(scan.backfill)}")
    if scan.originals is not None:
        found.append(f"{original} IN {bound.value(list(scan.originals), 'Array(UInt64)')}")
    if scan.from_us is not None:
        found.append(f"time >= {bound.time(scan.from_us)}")
    if scan.to_us is not None:
        found.append(f"time < {bound.time(scan.to_us)}")
    return found + _happened(bound, scan.through, recorded_by_us)


def _happened(bound: Bound, through: int | None, recorded_by_us: int | None) -> list[str]:
    found: list[str] = []
    if through is not None:
        found.append(f"position <= {bound.value(through, 'UInt64')}")
    if recorded_by_us is not None:
        found.append(f"recorded_at <= {bound.time(recorded_by_us)}")
    return found


def _tenant(bound: Bound, tenant: str | None) -> list[str]:
    return [] if tenant is None else [f"tenant = {bound.text(tenant)}"]


def _within(scan: Scan, table: str) -> list[str]:
    """A correction has the partition of the event it cites."""
    return [] if scan.within is None else [scan.within.of(table)]


def _and(conditions: Iterable[str]) -> str:
    return " AND ".join(conditions) or "1"
