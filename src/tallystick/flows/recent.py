"""What was recorded between two published moments: how limits and alerts follow the recorder.

    moment_us = system.recorder.recorded_at_us
    while (later_us := await system.recorder.wait_for_moment(moment_us, 60)) is not None:
        news = await recorded_between(system, moment_us, later_us)
        …
        moment_us = later_us

Moments tile time: whoever asks (a, b] and then (b, c] has seen every reading once, whatever was recorded late, corrected
or backfilled, and in whichever partition. Works in any process of a cluster.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tallystick.flows.fresh import ROWS_MAX, News
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store, store_ready
from tallystick.metering.meter import Meter
from tallystick.store.interface import DerivedMissing, TouchedFacts, TouchedUsage


@dataclass(frozen=True, slots=True)
class Unread:
    """New events in (after_us, until_us]. `unmetered`: of types that no meter in service reads, `unknown`: whose subject
    belongs to nobody. `by_type` are all of them, these two included. `cut`: there were more groups than are listed."""

    after_us: int
    until_us: int
    by_type: tuple[TouchedFacts, ...]
    unmetered: tuple[TouchedFacts, ...]
    unknown: tuple[TouchedFacts, ...]
    cut: bool


async def recorded_between(
    system: System,
    after_us: int,
    until_us: int,
    *,
    meters: Collection[Meter] | None = None,
    rows_max: int = ROWS_MAX,
) -> News:
    """What these meters (None: all in service) got between two published moments. Raises Unavailable."""
    recorder = system.recorder
    await store_ready(system)
    generation, expected = recorder.generation, recorder.readings_expected

    def ask() -> tuple[Sequence[Meter], list[TouchedUsage] | None]:
        asked = system.catalog.active_meters() if meters is None else tuple(meters)
        ids = None if meters is None else [meter.id for meter in asked]
        try:
            rows = system.store.recorded_between(after_us, until_us, meters=ids, limit=rows_max)
            whole = len(rows) < rows_max and system.store.count_readings() >= expected
        except DerivedMissing:
            return asked, None
        return asked, rows if whole else None

    asked, rows = await in_questions(system, ask)
    if rows is None or recorder.generation != generation:
        return News(after_us, until_us, (), frozenset(meter.id for meter in asked))
    return News(after_us, until_us, tuple(rows), unsure_between(system, after_us, until_us, asked))


def unsure_between(system: System, after_us: int, until_us: int, meters: Iterable[Meter]) -> frozenset[int]:
    """Of which of these meters there may be more than what was recorded in between, because its readings are built."""
    coverage = system.recorder.coverage()
    unsure: set[int] = set()
    for meter in meters:
        covered = coverage.get(meter.id)
        if (
            covered is None
            or not (covered.built or covered.from_us <= after_us)
            or (covered.until_us is not None and covered.until_us < until_us)
        ):
            unsure.add(meter.id)
    return frozenset(unsure)


async def unread_between(system: System, after_us: int, until_us: int, *, rows_max: int = ROWS_MAX) -> Unread:
    """New events between two published moments, and which of them count for no meter, or for nobody. Raises Unavailable."""

    def ask() -> tuple[frozenset[tuple[str, str]], list[TouchedFacts]]:
        metered = frozenset((meter.tenant, meter.event_type) for meter in system.catalog.active_meters())
        return metered, system.store.facts_between(after_us, until_us, limit=rows_max)

    metered, rows = await in_store(system, ask)
    return Unread(
        after_us,
        until_us,
        tuple(rows),
        unmetered=tuple(row for row in rows if (row.tenant, row.type) not in metered),
        unknown=tuple(row for row in rows if row.subject_of_nobody is not None),
        cut=len(rows) >= rows_max,
    )
