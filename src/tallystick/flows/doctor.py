"""Does what is derived agree with the facts? What does not is named, and made anew from them.

Facts are the events, duplicates and conflicts in the store; derived are the readings and the identity index. Only derived
data can be mended here: a fact that is gone is gone, and is said to be.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tallystick.errors import Invalid, TimedOut
from tallystick.flows.actions import identities_from
from tallystick.flows.derive import usage_from_events
from tallystick.flows.journal import State
from tallystick.flows.rollup import RollupStatus
from tallystick.flows.sole import sole_recorder
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.identity.interface import U64, Identities, IdentityIndex, IndexDamagedError
from tallystick.metering.event import identity_of
from tallystick.metering.meter import Meter
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.metering.window import edges
from tallystick.store.interface import DerivedMissing, RollupView, Store

Part = Literal["facts", "log", "readings", "index"]
MENDABLE: tuple[Part, ...] = ("readings", "index")

SAMPLE_EVENTS = 50_000
"""Identities a check that is not full asks the index for, from the latest positions."""
SAMPLE_US = 3_600_000_000
"""Event time, up to the latest event, whose usage a check that is not full derives again."""
REBUILD_START_S_MAX = 30.0
_POLL_S = 0.05
_EARLIEST_US = -62_135_596_800_000_000  # year 1
_LATEST_US = 253_402_300_799_000_000  # year 9999


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be. `code` is stable; `detail` names figures."""

    part: Part
    code: str
    detail: str

    @property
    def mendable(self) -> bool:
        return self.part in MENDABLE


@dataclass(frozen=True, slots=True)
class Examination:
    """What was looked at, and what was found. `busy`: some readings were being built and could not be checked."""

    findings: tuple[Finding, ...]
    position: int
    events: int
    duplicates: int
    conflicts: int
    readings: int
    identities: int | None
    meters_checked: int
    full: bool
    busy: bool
    rollups: Mapping[RollupView, RollupStatus]


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a rebuild: how much is left to do. `rollups`, by view, where this process keeps them."""

    meters_left: int
    readings: int
    index_ready: bool
    rollups: Mapping[RollupView, RollupStatus]

    @property
    def done(self) -> bool:
        return self.meters_left == 0 and self.index_ready


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Everything that is cheap to count, between two batches."""

    state: State
    counts: dict[str, int]
    log_end: int
    trimmed_through: int
    identities: int | None
    index_covered: int


async def examine(system: System, *, full: bool = False) -> Examination:
    """Compare facts, readings, index and log. `full` derives all readings again and asks the index for every identity;
    otherwise samples. Changes nothing.

    Raises Unavailable when the store does not answer.
    """
    recorder = sole_recorder(system)
    log = recorder.log

    def count(state: State, index: IdentityIndex | None) -> _Snapshot:
        return _Snapshot(
            state=state,
            counts=system.store.counts(),
            log_end=log.end,
            trimmed_through=log.trimmed_through,
            identities=None if index is None else len(index),
            index_covered=0 if index is None else index.covered,
        )

    seen = await recorder.between_batches(count)
    findings = [*_check_facts(seen), *_check_log(seen)]
    if seen.identities is not None:
        findings += await _check_index(system, seen, full=full)
    meters = await in_questions(system, lambda: system.catalog.meters_by_id(list(seen.state.coverage)))
    built = [key for key, covered in seen.state.coverage.items() if covered.built]
    found = await in_questions(system, lambda: _check_reading_counts(system, seen, built, meters))
    checked = 0
    for key in built:
        if key in meters and seen.state.coverage[key].complete_as_of(seen.state.recorded_at_us):
            meter = meters[key]
            found += await in_questions(
                system, lambda meter=meter: _check_usage(system, seen, meter, full=full)
            )
            checked += 1
    # A rebuild that began meanwhile has taken readings away: what was found of them says nothing.
    undisturbed = recorder.generation == seen.state.generation
    if undisturbed:
        findings += found
    return Examination(
        findings=tuple(findings),
        position=seen.state.recorded,
        events=seen.state.events,
        duplicates=seen.state.duplicates,
        conflicts=seen.state.conflicts,
        readings=seen.counts.get("readings", 0),
        identities=seen.identities,
        meters_checked=checked if undisturbed else 0,
        full=full,
        busy=not undisturbed or len(built) < len(seen.state.coverage) or seen.identities is None,
        rollups=system.rollups.status,
    )


async def rebuild(system: System, parts: Sequence[Part]) -> None:
    """Throw derived data away and begin to make it anew from the facts; questions are answered from events meanwhile.

    Returns once it has begun; `progress` tells how far it is. Raises TimedOut when the recorder does not get to it.
    """
    recorder = system.recorder
    generation = recorder.generation
    if "index" in parts:
        recorder.want_index_rebuild()
    if "readings" in parts:
        recorder.want_rebuild()
        async with asyncio.timeout(REBUILD_START_S_MAX + 1):
            for _ in range(int(REBUILD_START_S_MAX / _POLL_S)):
                if recorder.generation != generation:
                    return
                await asyncio.sleep(_POLL_S)
        raise TimedOut(
            f"The rebuild has not begun within {REBUILD_START_S_MAX:.0f} s; it will as soon as the recorder gets on"
            + (f" ({recorder.fault})." if recorder.fault else "."),
            code="rebuild_not_begun",
            retry_after_s=5,
        )


def progress(system: System) -> Progress:
    """How far a rebuild is."""
    recorder = system.recorder
    return Progress(
        meters_left=len(recorder.unbuilt()),
        readings=recorder.readings_expected,
        index_ready=recorder.recovered,
        rollups=system.rollups.status,
    )


def _check_facts(seen: _Snapshot) -> list[Finding]:
    state, counts = seen.state, seen.counts
    if state.intent is not None:
        return []  # a batch is half in the store: the recorder repeats it, and only then do the figures mean something
    findings: list[Finding] = []
    for name, told in (
        ("events", state.events - state.forgotten),
        ("duplicates", state.duplicates - state.forgotten_duplicates),
        ("conflicts", state.conflicts - state.forgotten_conflicts),
    ):
        held = counts.get(name, 0)
        if held != told:
            difference = f"{told - held:,} are missing" if held < told else f"{held - told:,} are too many"
            findings.append(
                Finding(
                    "facts",
                    f"{name}_count",
                    f"There must be {told:,} {name}, the store holds {held:,}: {difference}. Facts cannot be "
                    "made again: restore the store from a copy.",
                )
            )
    accounted = state.events + state.duplicates + state.conflicts
    if accounted > state.recorded:
        findings.append(
            Finding(
                "facts",
                "positions",
                f"{accounted:,} events are recorded, though only {state.recorded:,} positions were given.",
            )
        )
    return findings


def _check_log(seen: _Snapshot) -> list[Finding]:
    findings: list[Finding] = []
    if seen.trimmed_through > seen.state.recorded:
        findings.append(
            Finding(
                "log",
                "trimmed_unrecorded",
                f"The log has forgotten events up to position {seen.trimmed_through:,}; recorded are only those up to "
                f"{seen.state.recorded:,}.",
            )
        )
    if seen.log_end < seen.state.recorded:
        findings.append(
            Finding(
                "log",
                "log_behind",
                f"The log ends at position {seen.log_end:,}, and {seen.state.recorded:,} is recorded: it is not the log of "
                "these facts.",
            )
        )
    return findings


async def _check_index(system: System, seen: _Snapshot, *, full: bool) -> list[Finding]:
    if seen.identities != seen.state.events:
        return [
            Finding(
                "index",
                "identities",
                f"The identity index holds {seen.identities:,} identities; {seen.state.events:,} events are recorded.",
            )
        ]
    through = seen.state.recorded
    after = 0 if full else max(0, through - SAMPLE_EVENTS)
    blocks = iter(system.store.identities(after=after, through=through))

    def next_block() -> tuple[Identities, U64] | None:
        block = next(blocks, None)
        if block is None:
            return None
        names = zip(*(block[name].to_pylist() for name in ("tenant", "source", "id")), strict=True)
        identities = identities_from(b"".join([identity_of(*one) for one in names]))
        return identities, np.asarray(block["position"], dtype=np.uint64)

    wrong = 0
    while (asked := await in_questions(system, next_block)) is not None:
        identities, positions = asked

        def differing(
            state: State,
            index: IdentityIndex | None,
            identities: Identities = identities,
            positions: U64 = positions,
        ) -> int:
            return 0 if index is None else int((index.find(identities).position != positions).sum())

        try:
            wrong += await sole_recorder(system).between_batches(differing)
        except IndexDamagedError as error:
            return [Finding("index", "damaged", f"The identity index cannot be read: {error}.")]
    if wrong:
        return [
            Finding(
                "index", "positions", f"The identity index knows {wrong:,} events not, or at other positions."
            )
        ]
    return []


def _check_reading_counts(
    system: System, seen: _Snapshot, built: Sequence[int], meters: dict[int, Meter]
) -> list[Finding]:
    held = system.store.reading_counts(through=seen.state.recorded)
    findings: list[Finding] = []
    for key in built:
        told = seen.state.coverage[key].rows
        if held.get(key, 0) != told:
            findings.append(
                Finding(
                    "readings",
                    "readings_count",
                    f"{_name(meters.get(key), key)}: {told:,} readings were derived, {held.get(key, 0):,} are there.",
                )
            )
    return findings


def _check_usage(system: System, seen: _Snapshot, meter: Meter, *, full: bool) -> list[Finding]:
    as_of_us = seen.state.recorded_at_us
    store = system.store
    query = question_of_all(store, meter, as_of_us, latest_us=None if full else SAMPLE_US)
    if query is None:
        return []
    rows_max = system.settings.usage_rows_max
    try:
        expected = _comparable(usage_from_events(store, query, rows_max=rows_max))
    except Invalid:
        return []  # more customers than one answer may hold
    try:
        answered = _comparable(store.usage(query, rows_max=rows_max))
    except (DerivedMissing, Invalid):
        answered = {}
    differing = [key for key in expected.keys() | answered.keys() if expected.get(key) != answered.get(key)]
    if not differing:
        return []
    customer = sorted(differing, key=repr)[0]
    return [
        Finding(
            "readings",
            "usage",
            f"{_name(meter, meter.id)}: usage of {len(differing):,} customers differs between readings and events, such as "
            f"{customer[0]!r}: {answered.get(customer)} instead of {expected.get(customer)}.",
        )
    ]


def question_of_all(
    store: Store, meter: Meter, as_of_us: int, *, latest_us: int | None = None
) -> UsageQuery | None:
    """What every customer used of a meter, over all the time there are events of (or the last so much of it); None:
    there are none."""
    totals = store.type_totals(
        meter.tenant,
        meter.event_type,
        customers=None,
        from_us=_EARLIEST_US,
        to_us=_LATEST_US,
        as_of_us=as_of_us,
    )
    if totals.first_us is None or totals.last_us is None:
        return None
    from_us = totals.first_us if latest_us is None else max(totals.first_us, totals.last_us - latest_us)
    return _question(meter, from_us, totals.last_us + 1, as_of_us)


def _question(meter: Meter, from_us: int, to_us: int, as_of_us: int) -> UsageQuery:
    inner = None
    if meter.of is not None:
        inner = edges(from_us, to_us, meter.of.window, "UTC", windows_max=1_000_000)
    return UsageQuery(
        meter=meter,
        from_us=from_us,
        to_us=to_us,
        edges_us=(from_us, to_us),
        group_by=("customer",),
        as_of_us=as_of_us,
        now_us=as_of_us,
        inner_edges_us=inner,
    )


def _comparable(rows: Sequence[UsageRow]) -> dict[tuple[str | None, ...], object]:
    return {row.group: row.value for row in rows}


def _name(meter: Meter | None, key: int) -> str:
    return (
        f"Meter number {key}"
        if meter is None
        else f"Meter {meter.key!r} of tenant {meter.tenant!r} (version {meter.version})"
    )
