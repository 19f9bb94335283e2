"""An installation moves to a cluster, while it runs: an embedded one, or a cluster to one of a multiple of its partitions.

Facts are copied in rounds, each of which brings what was recorded since the one before; ingest and questions go on. Then
the installation stops taking anything in (flows/gate.py), the last round brings the little that is left, the catalog
is copied, and each partition is told how far it has recorded. From then on the cluster may be started.

Readings, roll-ups and the identity index are derived again over there; questions are answered from the events meanwhile.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import structlog

from tallystick.catalog.interface import Catalog
from tallystick.errors import Conflict, Invalid, TallystickError, Unavailable
from tallystick.flows.derive import usage_from_events
from tallystick.flows.doctor import question_of_all
from tallystick.flows.journal import State
from tallystick.flows.move_rows import Copy, MoveProgress, load
from tallystick.flows.move_source import Source, source_of
from tallystick.flows.move_target import Elsewhere, check_counts, check_logs, check_target, hand_over
from tallystick.flows.system import System
from tallystick.log.checkpoint import SqliteCheckpoint
from tallystick.metering.meter import Meter
from tallystick.store.interface import Store

ROUNDS_MAX = 12
SMALL_ROWS = 20_000
"""A round that brought no more than this is the last one before the installation stops taking anything in."""
MEMORY = "move.sqlite"
_OUT_S_MAX = 30.0
_RECORDED_S_MAX = 60.0
_SOLE_S_MAX = 10.0
"""Leases of a process that was killed just now are over by then."""
_POLL_S = 0.02
T = TypeVar("T")

_logger = structlog.get_logger("move")


async def move(
    system: System, there: Elsewhere, progress: MoveProgress, *, stopping: threading.Event
) -> None:
    """Move. Until the catalog and the last facts are over there and counted, nothing is switched over, and whatever
    fails can be done again: it goes on where it was. After that this installation answers questions only, for good.

    Raises Conflict where the target is in use, or other processes of this installation record; Invalid where its
    partitions cannot become those of the target; Unavailable while a part does not answer, or events come in by another
    way; TallystickError (move_differs) where both sides are not the same."""
    source = await _sole_source(system, progress, stopping)
    if there.partitions % source.partitions:
        # Only then what is in one partition here is in partitions there that nothing else comes to.
        raise Invalid(
            f"This installation has {source.partitions} partitions: it can move to a multiple of that, and "
            f"{there.partitions} is none.",
            code="partitions_not_a_multiple",
        )
    if system.gate.reason is not None:
        raise Conflict(system.gate.reason, code="moved")
    directory = Path(system.settings.data_dir).absolute()
    memory_file = await asyncio.to_thread(SqliteCheckpoint, directory / MEMORY)
    try:
        memory = load(memory_file, there.name)
        begun = bool(memory.ranges or memory.pending)
        rows = await asyncio.to_thread(check_target, there, begun)
        if not await system.recorder.wait_until_migrated(system.settings.wait_s_max):
            raise Unavailable("The store does not answer.", retry_after_s=5)
        copy = Copy(
            store=system.store,
            target=there.store,
            partitions=there.partitions,
            partitions_here=source.partitions,
            checkpoint=memory_file,
            memory=memory,
            progress=progress,
            stopping=stopping,
        )

        async def round_(*, final: bool) -> tuple[Sequence[State], int]:
            states, snapshot = await source.at_rest(system.store.snapshot)
            # What each has recorded later the next round brings. In the end nobody records any more.
            through_us = (max if final else min)(state.recorded_at_us for state in states)
            try:
                brought = await _in_thread(lambda: copy.round(snapshot, through_us, final=final))
            finally:
                await asyncio.to_thread(system.store.drop_snapshot, snapshot)
            progress.rounds += 1
            return states, brought

        async def compare(as_of_us: int) -> None:
            progress.as_of_us = as_of_us
            progress.figures = await _in_thread(
                lambda: compare_figures(
                    system.store,
                    there.store,
                    system.catalog,
                    as_of_us,
                    rows_max=system.settings.usage_rows_max,
                    stopping=stopping,
                )
            )

        progress.step = "copying facts"
        states, brought = await round_(final=False)
        while brought > SMALL_ROWS and progress.rounds < ROUNDS_MAX:
            states, brought = await round_(final=False)
        progress.step = "comparing figures"
        await compare(min(state.recorded_at_us for state in states))
        await check_logs(there, rows, states)
        await round_(final=False)  # what came while figures were compared
        began = time.monotonic()
        progress.step = "read-only: the last events"
        if not await system.gate.close("This installation is moving.", wait_s_max=_OUT_S_MAX):
            raise Unavailable("Requests under way do not end; nothing was switched over.", retry_after_s=5)
        try:
            await _recorded(system)
            states, _ = await round_(final=True)
            progress.step = "read-only: the catalog and the hand-over"
            await asyncio.to_thread(check_counts, there, progress.facts)
            if system.limits is not None:
                await asyncio.to_thread(system.limits.flush_ledger)
            await asyncio.to_thread(there.copy_catalog)
            await _nothing_came(source, system, states)
            await asyncio.to_thread(hand_over, there, states)
            await asyncio.to_thread(system.gate.close_for_good, there.name)
        except BaseException:
            system.gate.open()
            raise
        progress.read_only_s = time.monotonic() - began
        position = [state.recorded for state in states]
        _logger.info("moved", to=there.name, position=position, read_only_s=progress.read_only_s)
        progress.step = "handed over; comparing figures as of the last moment"
        await compare(max(state.recorded_at_us for state in states))
        progress.step = "done"
    finally:
        memory_file.close()


async def _sole_source(system: System, progress: MoveProgress, stopping: threading.Event) -> Source:
    """Raises Conflict where other processes still record partitions after a while."""
    until, step = time.monotonic() + _SOLE_S_MAX, progress.step
    while True:
        try:
            source = source_of(system)
        except Conflict:
            if time.monotonic() > until or stopping.is_set():
                raise
            progress.step = "waiting until this process records everything"
        else:
            progress.step = step
            return source
        await asyncio.sleep(_POLL_S)


async def _recorded(system: System) -> None:
    """Wait until everything in the log is recorded. Nothing may be coming in."""
    until = time.monotonic() + _RECORDED_S_MAX
    while system.recorder.lag().events:
        if time.monotonic() > until:
            raise Unavailable("The recorder does not catch up; nothing was switched over.", retry_after_s=5)
        await asyncio.sleep(_POLL_S)


async def _nothing_came(source: Source, system: System, states: Sequence[State]) -> None:
    """Raises Unavailable where events were taken in although this process lets none in: they would stay behind."""
    now, _ = await source.at_rest(lambda: None)
    if system.recorder.lag().events or [one.recorded for one in now] != [one.recorded for one in states]:
        raise Unavailable(
            "Events still come in by another way: stop all other processes, and sources. Nothing was switched over.",
            retry_after_s=5,
        )


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def compare_figures(
    here: Store, there: Store, catalog: Catalog, as_of_us: int, *, rows_max: int, stopping: threading.Event
) -> int:
    """The usage of every meter and customer, of all time, as of a moment, from the events on both sides; how many
    figures. Raises TallystickError naming the first that differs."""
    compared = 0
    for meter in _meters(catalog):
        if stopping.is_set():
            raise Unavailable("The server is stopping.")
        question = question_of_all(here, meter, as_of_us)
        if question is None:
            continue
        try:
            before = {row.group: row.value for row in usage_from_events(here, question, rows_max=rows_max)}
        except Invalid:  # more customers than one answer may hold
            question = replace(question, group_by=())
            before = {row.group: row.value for row in usage_from_events(here, question, rows_max=rows_max)}
        after = {row.group: row.value for row in usage_from_events(there, question, rows_max=rows_max)}
        for group in sorted(before.keys() | after.keys(), key=repr):
            if before.get(group) != after.get(group):
                raise TallystickError(
                    f"The meter {meter.key!r} of tenant {meter.tenant!r} says {before.get(group)} for {group!r} here and "
                    f"{after.get(group)} there.",
                    code="move_differs",
                )
        compared += len(before)
    return compared


def _meters(catalog: Catalog) -> list[Meter]:
    found: list[Meter] = []
    cursor: str | None = None
    while True:
        tenants = catalog.tenants(cursor=cursor, limit=1000)
        for tenant in tenants.items:
            at: str | None = None
            while True:
                page = catalog.meters(tenant.key, cursor=at, limit=1000)
                found.extend(page.items)
                at = page.next_cursor
                if at is None:
                    break
        cursor = tenants.next_cursor
        if cursor is None:
            return found
