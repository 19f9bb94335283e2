"""The recorder: reads the log in order, decides, writes facts and readings, and says how far it got.

One batch goes through these steps, named so that a test can stop the process at each:

    intent      what is about to be done is written down: positions (after, through], the moment, the meters in force
    customers   unknown subjects have their customers
    events      new events are in the store, synced
    duplicates  repeats with the same content are in the store
    conflicts   repeats with another content are in the store
    readings    what the new events contribute to the meters in force is in the store
    action      (instead of the last four) a correction, or a step of a backfill, is in the store; see flows/actions.py
    committed   the batch is written down as done; questions see it from here on
    indexed     the identity index holds the new identities
    trimmed     the log may forget the batch

A crash at any of them repeats the batch as written down: the same rows under the same tokens, which the store drops
where it has them already; then the rows are counted, and recorded anew where any is missing. Decisions are the same because the index is refilled only through the last batch done.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from msgspec.structs import replace
from numpy.typing import NDArray

from tallystick.catalog.barriers import Barrier
from tallystick.catalog.interface import Catalog
from tallystick.catalog.leases import LeaseLostError
from tallystick.clock import Clock
from tallystick.errors import Conflict, NotFound, TallystickError
from tallystick.flows.actions import (
    AFTERWARDS,
    CLOSE,
    OVER_ALL,
    REPLACE,
    RETRACT,
    Effects,
    Parts,
    backfill_of,
    carry_out,
    carry_out_share,
    counts_of,
    identities_of_batch,
    is_carried_out,
)
from tallystick.flows.attribute import QUARANTINED, Attribution
from tallystick.flows.cluster import Share
from tallystick.flows.fresh import Fresh
from tallystick.flows.index_copy import IndexCopy
from tallystick.flows.journal import Coverage, Done, Forgetting, Intent, Journal, State
from tallystick.flows.kept_index import KeptIndex
from tallystick.flows.moments import Moments
from tallystick.flows.outcomes import Outcomes, Recorded, no_positions
from tallystick.flows.recording import Lag, Outcome, Totals
from tallystick.identity.decide import decide
from tallystick.identity.interface import Identities, IdentityIndex, IndexDamagedError
from tallystick.log.interface import Block, Log
from tallystick.metering.content import same_content
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import Meter
from tallystick.metering.position import Positions, Vector, base_of, vector_of
from tallystick.metering.reading import derive
from tallystick.store.interface import FencedOff, Store

STEPS = (
    "intent",
    "customers",
    "events",
    "duplicates",
    "conflicts",
    "readings",
    "action",
    "committed",
    "indexed",
    "trimmed",
)

_LOW_32 = np.uint64(0xFFFF_FFFF)
_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_IDLE_S = 0.2
_SHARED_IDLE_S = 0.5
"""In a cluster, where each look asks the shared database for the meters, and whatever else changes wakes the recorder."""
_TOGETHER_S = 0.02

_compute: Any = pc  # its functions are made at import and unknown to type checkers
_logger = structlog.get_logger("recorder")
T = TypeVar("T")


class _Plan(msgspec.Struct, frozen=True):
    """An action of all partitions, for their recorders."""

    action: str
    tenant: str
    note: bytes


class Recorder:
    """One recorder a log. `run` is its life; everything else may be called from the event loop at any time."""

    def __init__(
        self,
        *,
        log: Log,
        open_index: Callable[[], IdentityIndex],
        discard_index: Callable[[], None],
        store: Store,
        catalog: Catalog,
        journal: Journal,
        clock: Clock,
        batch_events_max: int,
        interval_s: float = 0.05,
        unknown_subject: str = "create",
        share: Share | None = None,
        published_us: int = 0,
        on_step: Callable[[str], None] = lambda step: None,
        on_batch: Callable[[Totals], None] = lambda totals: None,
    ) -> None:
        self._log = log
        self._store = store
        self._catalog = catalog
        self._journal = journal
        self._clock = clock
        self._batch_events_max = batch_events_max
        self._interval_s = interval_s
        self._on_step = on_step
        self._on_batch = on_batch
        self._attribution = Attribution(catalog, unknown_subject=unknown_subject)
        self._share = share
        self._base = 0 if share is None else base_of(share.partition)
        self._kept = KeptIndex(
            open_index=open_index,
            discard_index=discard_index,
            store=store,
            copy=None if share is None else IndexCopy(store, base=self._base),
        )
        self._state = journal.load()
        if share is not None:
            self._state = replace(
                self._state,
                recorded=max(self._state.recorded, self._base),
                recorded_at_us=max(self._state.recorded_at_us, published_us),  # heartbeats are not in it
            )
        self._forgotten_before = {
            (one.tenant, one.type): one.forgotten_before_us
            for one in catalog.retentions()
            if one.forgotten_before_us is not None
        }
        self._meters: dict[int, Meter] = {}
        self._meters_revision = -1
        self._building_rows = 0
        self._readings_change = threading.Lock()
        """Held while builds put readings in, and while readings are taken out of service: never both at once."""
        self._rebuild_wanted = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._fresh = Fresh() if share is None else None
        self.before_publishing: Callable[[int, Vector], None] = lambda moment_us, exact: None
        """Called in the recorder's thread with a moment that nobody knows of yet, and what is recorded by it."""
        self._moments = Moments(lambda: self.recorded_at_us)
        self._outcomes = Outcomes(lambda: self._state.recorded)
        self._oldest_unrecorded_us: int | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._inserts = ThreadPoolExecutor(1, thread_name_prefix="recorder-insert")
        self._migrated = asyncio.Event()
        self.left_out = 0
        """Grows with every batch done that had subjects of nobody (flows/quarantine.py)."""
        self.recovered = False
        """Whether the index is as the facts are, so that events can be decided."""
        self.fault: str | None = None
        """Why the recorder does not get on at the moment, in words for /health/ready; None while it does."""

    # -- what others ask ----------------------------------------------------------------------------------------
    @property
    def position(self) -> Vector:
        """Every event up to here is recorded and countable."""
        return (self._state.recorded,) if self._state.recorded > self._base else ()

    @property
    def log(self) -> Log:
        """What it records."""
        return self._log

    @property
    def state(self) -> State:
        """What the recorder remembers."""
        return self._state

    @property
    def recorded_at_us(self) -> int:
        """The last published moment: what a question is asked as of, by default."""
        return self._state.recorded_at_us

    @property
    def published(self) -> tuple[int, Vector | None]:
        """See flows/recording.Recording."""
        state = self._state  # replaced as a whole by the recorder's thread
        return state.recorded_at_us, (state.recorded,)

    @property
    def fresh(self) -> Fresh | None:
        """See flows/recording.Recording."""
        return self._fresh

    @property
    def totals(self) -> Totals:
        return Totals(self._state.events, self._state.duplicates, self._state.conflicts)

    @property
    def generation(self) -> int:
        """Changes whenever readings are taken out of service."""
        return self._state.generation

    @property
    def readings_expected(self) -> int:
        """Rows that are certainly in `readings` now, if nobody took any away."""
        return self._state.readings + self._building_rows

    def coverage(self) -> dict[int, Coverage]:
        """By meter id: which readings are in the store, and how many rows there must be."""
        return dict(self._state.coverage)

    def readings_complete(self, meter: Meter, as_of_us: int) -> bool:
        """Whether readings of this meter answer a question asked as of this moment."""
        covered = self._state.coverage.get(meter.id)
        return covered is not None and covered.complete_as_of(as_of_us)

    def forgotten_before(self, tenant: str, event_type: str) -> int | None:
        """Facts of this type from before this moment may be deleted; None: none are."""
        return self._forgotten_before.get((tenant, event_type))

    def lag(self) -> Lag:
        behind = self._log.behind(self._state.recorded)
        since = self._oldest_unrecorded_us
        seconds = 0.0 if behind == 0 or since is None else max(0.0, (self._clock.now_us() - since) / 1e6)
        return Lag(behind, seconds)

    async def wait_for(self, position: Vector, timeout_s: float) -> bool:
        """Wait until everything up to `position` is recorded. False when the time ran out first."""
        return await self._outcomes.reached(max(position, default=0), timeout_s)

    async def wait_for_moment(self, after_us: int, timeout_s: float) -> int | None:
        """See flows/recording.Recording."""
        return await self._moments.later_than(after_us, timeout_s)

    async def wait_until_migrated(self, timeout_s: float) -> bool:
        """Wait until the store's tables are as this program wants them. False when the time ran out first."""
        if self._migrated.is_set():
            return True
        try:
            await asyncio.wait_for(self._migrated.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def outcome(self, positions: Positions, timeout_s: float) -> Outcome | None:
        """What became of the events at these positions; None when they are not recorded in time."""
        if not await self.wait_for(vector_of(positions), timeout_s):
            return None
        return self._outcomes.outcome(positions)

    async def statuses(self, positions: Positions, timeout_s: float) -> list[str] | None:
        """What became of the rows of an action at these positions (flows/actions.py); None when it is not carried out
        in time."""
        if not await self.wait_for(vector_of(positions), timeout_s):
            return None
        return self._outcomes.statuses(positions)

    def want_rebuild(self) -> None:
        """Readings are missing or wrong: take them out of service and build them again. Questions are answered from
        events meanwhile."""
        self._rebuild_wanted = True
        self._wake.set()

    def wake(self) -> None:
        """Something has changed elsewhere that may concern this recorder. Called in the event loop."""
        self._wake.set()

    def want_index_rebuild(self) -> None:
        """Throw the identity index away and fill a new one from the facts, before anything more is decided."""
        self._kept.doubt()
        self.recovered = False
        self._wake.set()

    async def between_batches(self, work: Callable[[State, IdentityIndex | None], T]) -> T:
        """`work` with the state and the index (None: not open yet), while no batch is being recorded: what it sees of
        store, index and state belongs together. Recording waits for it, so it must be short."""
        return await self._in_thread(lambda: work(self._state, self._kept.index))

    # -- what the builder of readings asks (flows/derive.py) ------------------------------------------------------
    def unbuilt(self) -> dict[int, Coverage]:
        """Meters whose past has no readings yet."""
        return {key: covered for key, covered in self._state.coverage.items() if not covered.built}

    def insert_built(self, insert: Callable[[], None], rows: int, *, generation: int) -> bool:
        """Insert so many readings of a build. False, and nothing done, when readings were taken out of service since it
        began.

        Asked and done in one: rows of a given-up build that came in after the table was emptied would count beside
        those of the next."""
        with self._readings_change:
            if generation != self._state.generation:
                return False
            insert()
            self._building_rows += rows
            return True

    async def finish_build(self, rows: dict[int, int], *, generation: int) -> bool:
        """The past of these meters is built, with so many rows each. False when readings were taken out of service
        since the build began: then it counts for nothing."""

        def finish() -> bool:
            with self._readings_change:
                if generation != self._state.generation:
                    return False
                coverage = dict(self._state.coverage)
                for meter_id, built in rows.items():
                    covered = coverage[meter_id]
                    coverage[meter_id] = replace(covered, built=True, rows=covered.rows + built)
                self._save(replace(self._state, coverage=coverage))
                self._building_rows = 0
                return True

        return await self._in_thread(finish)

    async def restart_builds(self) -> None:
        """Take away what builds under way have put in, and let them begin anew."""
        await self._in_thread(self._restart_builds)

    # -- its life -------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Record until `stop`. Whatever fails is tried again, for as long as it takes: nothing is given up.

        Raises LeaseLostError or FencedOff, when another process records this partition now."""
        try:
            await self._run()
        finally:
            await self._in_thread(self._kept.close)
            self._outcomes.close()
            self._moments.close()
            self._thread.shutdown()
            self._inserts.shutdown()

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                if not self.recovered:
                    await self._recover()
                worked = await self._cycle()
                failures, self.fault = 0, None
            except (LeaseLostError, FencedOff):
                raise
            except Exception as error:
                if isinstance(error, IndexDamagedError):
                    self._kept.suspect()
                    self.recovered = False
                self.fault = error.detail if isinstance(error, TallystickError) else type(error).__name__
                delay_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
                _logger.warning(
                    "recording_failed", error=repr(error), retry_in_s=delay_s, exc_info=failures == 0
                )
                failures += 1
                await self._pause(delay_s)
                continue
            if worked:
                await self._pause(self._interval_s)
            elif not self._rebuild_wanted:
                await self._idle()
        await self._in_thread(self._finish_copy)

    def stop(self) -> None:
        """Let `run` end after the batch under way. What is acknowledged and not yet recorded stays in the log."""
        self._stopping = True
        self._wake.set()

    async def _idle(self) -> None:
        """Until there is something to record or, in a cluster, something has changed elsewhere."""
        if self._share is None:
            await self._log.wait_for(self._state.recorded, timeout_s=_IDLE_S)
            return
        if self._wake.is_set():
            return
        idle_s = _IDLE_S if self._kept.is_copy_due else _SHARED_IDLE_S
        waiting = asyncio.ensure_future(self._log.wait_for(self._state.recorded, timeout_s=idle_s))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((waiting, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            woken.cancel()

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _save(self, state: State, outcome: Recorded | None = None) -> None:
        self._journal.save(state)
        if outcome is not None:
            self._outcomes.add(outcome)
        self.before_publishing(state.recorded_at_us, (state.recorded,))
        self._state = state
        if self._share is not None:
            self._share.saw(state)

    def _wake_who_waits(self) -> None:
        self._moments.tell()
        self._outcomes.tell()

    async def _recover(self) -> None:
        """Bring the index up to the last batch done, repeat the batch that was under way, begin builds anew that were
        cut short."""
        if self._share is None:  # otherwise done before, once for all partitions
            await self._in_thread(self._store.migrate)
        self._migrated.set()
        await self._in_thread(self._finish_forgetting)
        await self._undo_action()
        await self._in_thread(lambda: self._kept.refill(self._state))
        while self._state.intent is not None:
            if not await self._cycle():
                raise TallystickError(
                    "The log has lost the batch that was being recorded.", code="log_lost_events"
                )
        await self._in_thread(self._restart_builds)
        self._wake_who_waits()
        await self._log.trim(self._state.recorded)
        self.recovered = True
        _logger.info("recovered", position=self._state.recorded, events=self._state.events)

    async def _undo_action(self) -> None:
        """Delete what an action that is to be repeated has left in the store: events of a backfill lie under positions
        that were recorded long ago, and the index would be filled with what does not count yet."""
        intent = self._state.intent
        if intent is None:
            return
        blocks = () if intent.barrier else await self._next_blocks()
        if intent.barrier or (blocks and _action_of(blocks)):
            await self._in_thread(lambda: self._store.delete_moment(intent.recorded_at_us))

    def _copy_index(self) -> None:
        """Let the index's copy follow it, a step at a time."""
        state = self._kept.copy_some(self._state)
        if state != self._state:
            self._save(state)

    def _finish_copy(self) -> None:
        if not self.recovered:
            return
        try:
            state = self._kept.finish_copy(self._state)
            if state != self._state:
                self._save(state)
        except Exception as error:
            _logger.warning("index_not_copied", error=repr(error))

    # -- retention (flows/retention.py) ---------------------------------------------------------------------------
    def forget_before(self, tenant: str, event_type: str, moment_us: int) -> None:
        """From now on no question is answered about this type from before this moment."""
        known = self._forgotten_before.get((tenant, event_type), moment_us)
        self._forgotten_before[tenant, event_type] = max(known, moment_us)

    async def forget(self, forgotten: Callable[[], pa.Table]) -> int | None:
        """One step of retention: `forgotten` answers the events to delete (FORGOTTEN_SCHEMA, by position). How many they
        were; None when it cannot be done now, because readings are being built or a batch waits to be repeated."""
        return await self._in_thread(lambda: self._forget(forgotten))

    def _forget(self, forgotten: Callable[[], pa.Table]) -> int | None:
        state = self._state
        if not self.recovered or state.intent is not None or state.forgetting is not None or self.unbuilt():
            return None
        rows = forgotten()
        if rows.num_rows == 0:
            return 0
        first, last = (int(rows["position"][at].as_py()) for at in (0, rows.num_rows - 1))
        self._save(replace(state, forgetting=Forgetting(first, last)))
        self._store.insert_facts("forgotten", rows, token=f"forget:{first}-{last}:{self._clock.now_us()}")
        self._on_step("forgotten")
        found = self._store.count_forgotten(first, last)
        coverage = dict(state.coverage)
        for meter_id, readings in found.readings.items():
            if meter_id in coverage:  # readings of a meter no longer in service are counted by nobody
                coverage[meter_id] = replace(
                    coverage[meter_id], rows=max(0, coverage[meter_id].rows - readings)
                )
        # Before they are deleted: a question that counts the readings must never find fewer than there must be.
        self._save(
            replace(
                state,
                forgetting=Forgetting(first, last, counted=True),
                forgotten=state.forgotten + found.events,
                forgotten_duplicates=state.forgotten_duplicates + found.duplicates,
                forgotten_conflicts=state.forgotten_conflicts + found.conflicts,
                coverage=coverage,
            )
        )
        self._on_step("forgetting")
        self._finish_forgetting()
        return rows.num_rows

    def _finish_forgetting(self) -> None:
        """End a step of retention that is under way, one way or the other."""
        under_way = self._state.forgetting
        if under_way is None:
            return
        if under_way.counted:
            self._store.delete_forgotten(under_way.first, under_way.last)
        else:
            self._store.undo_forgotten(under_way.first, under_way.last)
        self._save(replace(self._state, forgetting=None))

    def _restart_builds(self) -> None:
        coverage = dict(self._state.coverage)
        unbuilt = [key for key, covered in coverage.items() if not covered.built]
        if not unbuilt:
            return
        for key in unbuilt:
            coverage[key] = self._from_here()
        with self._readings_change:
            self._save(replace(self._state, coverage=coverage, generation=self._state.generation + 1))
            self._building_rows = 0
            # Emptied as a whole where that is the same: it also takes along rows of meters no longer in service, which
            # would hide a later loss from the count.
            self._store.delete_readings(None if len(unbuilt) == len(coverage) else unbuilt)

    # -- definitions ----------------------------------------------------------------------------------------------
    def _from_here(self) -> Coverage:
        return Coverage(from_us=self._state.recorded_at_us, built=self._state.recorded == self._base)

    def _refresh_meters(self) -> None:
        """Take meters into service and out of it, between batches. New ones count from here on as they are recorded;
        their past is built in the background."""
        revision = self._catalog.revision("meters")
        if revision == self._meters_revision:
            return
        active = {meter.id: meter for meter in self._catalog.active_meters()}
        coverage = dict(self._state.coverage)
        for meter_id in active.keys() - coverage.keys():
            coverage[meter_id] = self._from_here()
        for meter_id, covered in coverage.items():
            if meter_id not in active and covered.until_us is None:
                coverage[meter_id] = replace(covered, until_us=self._state.recorded_at_us)
        if coverage != self._state.coverage:
            self._save(replace(self._state, coverage=coverage))
        self._meters = active
        self._meters_revision = revision

    def _take_readings_out_of_service(self) -> None:
        coverage = {
            key: self._from_here()
            for key, covered in self._state.coverage.items()
            if covered.until_us is None
        }
        with self._readings_change:
            self._save(replace(self._state, coverage=coverage, generation=self._state.generation + 1))
            self._building_rows = 0
            self._store.migrate()
            self._store.delete_readings(None)

    # -- one batch ------------------------------------------------------------------------------------------------
    async def _cycle(self) -> bool:
        """Record what is there, one batch at most. False when there was nothing."""
        if self._state.forgetting is not None:  # the store failed in the middle of it
            await self._in_thread(self._finish_forgetting)
        if self._rebuild_wanted and self._state.intent is None:
            await self._in_thread(self._take_readings_out_of_service)
            self._rebuild_wanted = False
        if self._share is not None:
            if self._kept.is_copy_due:
                await self._in_thread(self._copy_index)
            self._wake.clear()
            if await self._take_part(self._share):
                return True
        blocks = await self._next_blocks()
        if not blocks:
            self._oldest_unrecorded_us = None
            if self._state.intent is None:
                await self._in_thread(self._refresh_meters)
                if self._share is not None:
                    await self._in_thread(self._keep_up)
            return False
        if self._share is not None and _action_of(blocks) in OVER_ALL:
            await self._lead(self._share, blocks)
            return True
        self._oldest_unrecorded_us = _first_receipt_us(blocks[0])
        try:
            await self._in_thread(lambda: self._record(blocks))
        finally:
            self._wake_who_waits()  # a failure behind the commit does not undo it
        self._on_batch(self.totals)
        await self._log.trim(self._state.recorded)
        self._on_step("trimmed")
        return True

    # -- with the recorders of other partitions (flows/cluster.py) -------------------------------------------------
    def _keep_up(self) -> None:
        """A heartbeat: with nothing to record, the moment that others have reached is published here too."""
        share = self._share
        assert share is not None
        moment_us = share.floor_us
        if self._state.intent is None and moment_us > self._state.recorded_at_us:
            share.publish(moment_us)
            self._state = replace(self._state, recorded_at_us=moment_us)
            share.saw(self._state)

    async def _take_part(self, share: Share) -> bool:
        """Do this partition's share in an action of all, if there is one and its time has come. While the others have
        not arrived, nothing is recorded, and nothing published. False: there is nothing to take part in now."""
        intent = self._state.intent
        if intent is not None and not intent.barrier:
            return False
        name = "" if intent is None else intent.barrier
        barrier = await self._in_thread(lambda: share.find(name)) if name else share.waiting()
        if barrier is None or self._state.recorded < barrier.ends[share.partition]:
            return False
        done = self._state.done
        if done is None or done.barrier != barrier.name:
            floor_us = max(self._clock.now_us(), self._state.recorded_at_us + 1, share.floor_us)
            arrived = await self._in_thread(lambda: share.arrive(barrier, floor_us))
            if arrived.moment_us is None:
                await self._pause(_TOGETHER_S)
                return True
            await self._in_thread(lambda: self._carry_out_share(arrived))
            done = self._state.done
        assert done is not None
        await self._in_thread(lambda: share.finish(barrier, done.counts))
        self._on_step("finished")
        return True

    def _carry_out_share(self, barrier: Barrier) -> None:
        index, moment_us = self._kept.index, barrier.moment_us
        assert index is not None
        assert moment_us is not None
        plan = msgspec.json.decode(barrier.plan, type=_Plan)
        intent = self._state.intent
        if intent is not None:
            self._store.delete_moment(moment_us)
        else:
            self._refresh_meters()
            here = self._state.recorded
            intent = Intent(here, here, moment_us, tuple(self._meters), barrier.name)
            self._save(replace(self._state, intent=intent))
            self._on_step("intent")
        self._attribution.refresh()
        parts = self._parts(intent, index, plan.tenant)
        effects = carry_out_share(plan.action, plan.note, intent.after, parts)
        self._on_step("action")
        done = Done(barrier.name, counts_of(effects))
        self._finish(intent, effects, None, done=done)
        if effects.events:
            self._kept.flush()  # as for an action of one partition

    async def _lead(self, share: Share, blocks: Sequence[Block]) -> None:
        """See an action of all partitions through, a step at each call: it is in the log of the first one, whose recorder
        goes on once all have done their shares."""
        block, row = blocks[0], 0
        action, tenant, note = (block.events[name][row].as_py() for name in ("action", "tenant", "note"))
        name = f"{action}-{block.first}"
        barrier = await self._in_thread(lambda: share.find(name))
        if barrier is None:
            carried_out = action == CLOSE and await self._in_thread(
                lambda: is_carried_out(note, tenant, share.whole_store)
            )
            if not carried_out:
                plan = msgspec.json.encode(_Plan(action, tenant, note))
                ends = share.ends()
                ends[share.partition] = self._state.recorded
                await self._in_thread(lambda: share.open(name, ends, plan))
                self._on_step("opened")
                return
        elif not barrier.is_done:
            await self._pause(_TOGETHER_S)
            return
        await self._in_thread(lambda: self._conclude(share, barrier, blocks))
        self._wake_who_waits()
        await self._log.trim(self._state.recorded)

    def _conclude(self, share: Share, barrier: Barrier | None, blocks: Sequence[Block]) -> None:
        if barrier is not None:
            plan = msgspec.json.decode(barrier.plan, type=_Plan)
            if plan.action in AFTERWARDS:
                assert barrier.moment_us is not None
                with contextlib.suppress(
                    Conflict, NotFound
                ):  # it has gone on since: this is repeated after a crash
                    self._catalog.advance_backfill(
                        plan.tenant,
                        backfill_of(plan.note),
                        to_state=AFTERWARDS[plan.action],
                        counts=share.gathered(barrier),
                        now_us=barrier.moment_us,
                    )
            share.close(barrier)
        index = self._kept.index
        assert index is not None
        intent = self._state.intent or self._write_intent(blocks)
        batch, positions = _rows_through(blocks, intent.through)
        statuses = tuple(batch["action"].to_pylist())
        self._finish(intent, Effects(), Recorded(positions, statuses=statuses))

    async def _next_blocks(self) -> Sequence[Block]:
        intent = self._state.intent
        if intent is None:
            return await self._log.read(self._state.recorded, events_max=self._batch_events_max)
        blocks: list[Block] = []
        reached = intent.after
        while reached < intent.through:
            more = await self._log.read(reached, events_max=self._batch_events_max)
            if not more:
                return []
            blocks += more
            reached = more[-1].last
        return blocks

    def _record(self, blocks: Sequence[Block]) -> None:
        index = self._kept.index
        assert index is not None
        repeated = self._state.intent is not None
        intent = self._state.intent or self._write_intent(blocks)
        batch, positions = _rows_through(blocks, intent.through)
        if action := batch["action"][0].as_py():
            self._carry_out(action, batch, positions, intent, index, repeated=repeated)
            return
        identities = identities_of_batch(batch)
        content = np.asarray(batch["content"].combine_chunks(), dtype=np.uint64)
        decision = decide(identities, content, positions, index.find(identities))

        self._attribution.refresh()
        left_out = self._attribution.left_out
        customer = self._attribution.customers(
            batch["tenant"], batch["subject"], now_us=intent.recorded_at_us
        )
        self._on_step("customers")

        moment = pa.array(np.full(len(positions), intent.recorded_at_us)).cast(TIMESTAMP)
        batch = (
            batch.append_column("customer", customer)
            .append_column("position", pa.array(positions))
            .append_column("recorded_at", moment)
        )
        if decision.new.all():
            new = batch
            duplicate = conflict = np.zeros(0, dtype=np.intp)
        else:
            new = batch.filter(pa.array(decision.new))
            duplicate, conflict = self._tell_apart(batch, decision.original, ~decision.new, decision.alike)
        repeats = {
            kind: batch.take(pa.array(rows)).append_column("original", pa.array(decision.original[rows]))
            for kind, rows in (("duplicates", duplicate), ("conflicts", conflict))
            if len(rows)
        }
        readings = self._insert(intent, new, repeats, repeated=repeated)
        if repeated and not self._is_whole(intent, new, repeats, readings):
            # Nobody has seen this moment yet.
            _logger.warning("batch_recorded_anew", after=intent.after, through=intent.through)
            self._store.delete_moment(intent.recorded_at_us)
            readings = self._insert(intent, new, repeats, repeated=False)

        added = (
            Identities(identities.high[decision.new], identities.low[decision.new]),
            (content[decision.new] & _LOW_32).astype(np.uint32),
            positions[decision.new],
        )
        if self._fresh is not None:
            self._fresh.put(
                self._state.recorded_at_us, intent.recorded_at_us, self._meters_of(intent), readings
            )
        effects = Effects(
            events=new.num_rows,
            duplicates=len(duplicate),
            conflicts=len(conflict),
            readings=count_by_meter(readings),
            added=[added],
        )
        self._finish(
            intent,
            effects,
            Recorded(
                positions,
                positions[duplicate],
                positions[conflict],
                quarantined=_quarantined(new) if self._attribution.left_out > left_out else no_positions(),
            ),
        )

    def _carry_out(
        self,
        action: str,
        batch: pa.Table,
        positions: Positions,
        intent: Intent,
        index: IdentityIndex,
        *,
        repeated: bool,
    ) -> None:
        """An action instead of plain events: a correction, or a step of a backfill (flows/actions.py)."""
        if repeated:
            # It may be too large to be repeated row by row under remembered tokens. Nobody has seen this moment yet.
            self._store.delete_moment(intent.recorded_at_us)
        self._attribution.refresh()
        parts = self._parts(intent, index, batch["tenant"][0].as_py())
        effects = carry_out(action, batch["note"][0].as_py(), batch, positions, parts)
        if self._share is not None and action in (RETRACT, REPLACE):
            self._share.keep_statuses(positions, effects.statuses, now_us=self._clock.now_us())
        self._on_step("action")
        self._finish(
            intent,
            effects,
            Recorded(positions, statuses=tuple(effects.statuses)),
        )
        if effects.events:
            self._kept.flush()  # they have positions from when they were laid aside

    def _parts(self, intent: Intent, index: IdentityIndex, tenant: str) -> Parts:
        return Parts(
            store=self._store,
            index=index,
            attribution=self._attribution,
            catalog=self._catalog,
            meters=self._meters_of(intent),
            tenant=tenant,
            moment_us=intent.recorded_at_us,
            after=intent.after,
            token=f"{self._state.generation}:{intent.token}:{self._clock.now_us()}",
        )

    def _finish(
        self,
        intent: Intent,
        effects: Effects,
        outcome: Recorded | None,
        *,
        done: Done | None = None,
    ) -> None:
        """Write down that the batch is done, then let the index know its new identities."""
        coverage = dict(self._state.coverage)
        for meter_id, rows in effects.readings.items():
            coverage[meter_id] = replace(coverage[meter_id], rows=coverage[meter_id].rows + rows)
        self._save(
            replace(
                self._state,
                recorded=intent.through,
                recorded_at_us=intent.recorded_at_us,
                intent=None,
                events=self._state.events + effects.events,
                duplicates=self._state.duplicates + effects.duplicates,
                conflicts=self._state.conflicts + effects.conflicts,
                coverage=coverage,
                done=done or self._state.done,
            ),
            outcome,
        )
        self.left_out = self._attribution.left_out
        try:
            self._on_step("committed")
            self._kept.learn(effects.added, after=intent.after, through=intent.through)
        except Exception:
            # The batch is done and the index lacks it: nothing may be decided before it is filled from the store.
            self.recovered = False
            raise
        self._on_step("indexed")

    def _write_intent(self, blocks: Sequence[Block]) -> Intent:
        self._refresh_meters()
        intent = Intent(
            after=self._state.recorded,
            through=_end_of_one_kind(blocks),
            # Strictly later than the moment before, whatever the machine's clock does.
            # In a cluster not before what others have published, or a slow clock would hold them back.
            recorded_at_us=max(
                self._clock.now_us(),
                self._state.recorded_at_us + 1,
                0 if self._share is None else self._share.floor_us,
            ),
            meters=tuple(self._meters),
        )
        self._save(replace(self._state, intent=intent))
        self._on_step("intent")
        return intent

    def _insert(
        self, intent: Intent, new: pa.Table, repeats: Mapping[str, pa.Table], *, repeated: bool
    ) -> pa.Table:
        """The batch into the store, in this order; answers its readings."""
        readings = self._insert_events_and_derive(intent, new, repeated=repeated)
        self._on_step("events")
        for kind, insert in (
            ("duplicates", self._store.insert_duplicates),
            ("conflicts", self._store.insert_conflicts),
        ):
            if kind in repeats:
                insert(repeats[kind], token=intent.token)
            self._on_step(kind)
        if readings.num_rows:
            self._store.insert_readings(readings, token=f"{self._state.generation}:{intent.token}")
        self._on_step("readings")
        return readings

    def _is_whole(
        self, intent: Intent, new: pa.Table, repeats: Mapping[str, pa.Table], readings: pa.Table
    ) -> bool:
        """Whether a batch that was repeated is in the store, all of it and once. A killed engine can remember the token of
        rows it never got to keep, and drops them when they come again (decision 0049)."""
        wanted = {"events": new.num_rows, "readings": readings.num_rows}
        wanted |= {kind: rows.num_rows for kind, rows in repeats.items()}
        there = self._store.rows_at_moment(intent.recorded_at_us)
        return all(there.get(table, 0) == wanted.get(table, 0) for table in there.keys() | wanted.keys())

    def _insert_events_and_derive(self, intent: Intent, new: pa.Table, *, repeated: bool) -> pa.Table:
        """Insert the new events, and answer their readings, derived while the engine writes: it leaves the interpreter
        alone meanwhile. The readings themselves go in only once the events are there."""
        meters = self._meters_of(intent)
        if new.num_rows == 0:
            return derive(meters, new)
        inserting = self._inserts.submit(self._store.insert_events, new, token=intent.token)
        try:
            readings = None if repeated else derive(meters, new)
        finally:
            inserting.result()
        return derive(meters, self._with_customers_as_stored(new)) if readings is None else readings

    def _meters_of(self, intent: Intent) -> list[Meter]:
        missing = [key for key in intent.meters if key not in self._meters]
        known = self._catalog.meters_by_id(missing) if missing else {}
        return [self._meters.get(key) or known[key] for key in intent.meters]

    def _with_customers_as_stored(self, new: pa.Table) -> pa.Table:
        """A batch that is repeated may find its events in the store already, and its subjects with other customers than
        the first time. What is stored counts: readings must belong to whom their events belong to."""
        stored = self._store.events_at(new["position"].to_pylist())
        if stored.num_rows != new.num_rows:
            return new  # the batch is not whole, and will be recorded anew
        stored = stored.sort_by("position")
        at = new.schema.get_field_index("customer")
        return new.set_column(at, "customer", stored["customer"])

    def _tell_apart(
        self,
        batch: pa.Table,
        original: NDArray[np.uint64],
        repeat: NDArray[np.bool_],
        alike: NDArray[np.bool_],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows that are duplicates, rows that are conflicts. Equal fingerprints are equal contents; unequal ones may
        be the same JSON written in another way, so the contents themselves are compared."""
        conflict = repeat & ~alike
        doubtful = np.flatnonzero(conflict)
        if len(doubtful):
            positions = np.asarray(batch["position"].combine_chunks(), dtype=np.uint64)
            first = int(positions[0])
            stored = self._contents_at({int(at) for at in original[doubtful] if at < first})
            columns = [batch[name] for name in ("type", "subject", "data")]

            def content_in_batch(row: int) -> tuple[str, str, bytes]:
                return tuple(column[row].as_py() for column in columns)  # pyright: ignore[reportReturnType]

            for row in doubtful.tolist():
                at = int(original[row])
                if at < first and at not in stored:
                    continue  # retention has deleted what it was; all that is known is that this looks different
                before = stored.get(at) or content_in_batch(int(np.searchsorted(positions, original[row])))
                if same_content(*before, *content_in_batch(row)):
                    conflict[row] = False
        return np.flatnonzero(repeat & ~conflict), np.flatnonzero(conflict)

    def _contents_at(self, positions: set[int]) -> dict[int, tuple[str, str, bytes]]:
        if not positions:
            return {}
        table = self._store.events_at(sorted(positions))
        columns: list[list[Any]] = [
            table[name].to_pylist() for name in ("position", "type", "subject", "data")
        ]
        return {at: (kind, subject, data) for at, kind, subject, data in zip(*columns, strict=True)}


def _action_of(blocks: Sequence[Block]) -> str:
    return blocks[0].events["action"][0].as_py()


def _end_of_one_kind(blocks: Sequence[Block]) -> int:
    """Position of the last row up to which a batch may go: plain events together, and each action alone.

    The rows of one action come from one request: they are neighbours with the same action and note."""
    plain = ("", "", b"")
    kind: tuple[str, str, bytes] | None = None
    reached = 0
    for block in blocks:
        events = block.events
        if kind in (None, plain) and _compute.sum(_compute.binary_length(events["action"])).as_py() == 0:
            kind = plain
            reached = block.last
            continue
        columns = [events[name].to_pylist() for name in ("action", "tenant", "note")]
        for row, found in enumerate(zip(*columns, strict=True)):
            of_row = found if found[0] else plain
            if kind is None:
                kind = of_row
            elif of_row != kind:
                return reached
            reached = block.first + row
    return reached


def count_by_meter(readings: pa.Table) -> Counter[int]:
    """Rows of readings by meter id."""
    if readings.num_rows == 0:
        return Counter()
    counted = _compute.value_counts(readings["meter"])
    return Counter(
        dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    )


def _quarantined(new: pa.Table) -> Positions:
    mask = _compute.equal(new["customer"].cast(pa.string()), QUARANTINED)
    return np.asarray(new["position"].filter(mask).combine_chunks(), dtype=np.uint64)


def _first_receipt_us(block: Block) -> int:
    return int(block.events["received_at"].cast(pa.int64())[0].as_py())


def _rows_through(blocks: Sequence[Block], through: int) -> tuple[pa.Table, Positions]:
    """The events of the blocks up to a position, and the position of each."""
    table = pa.Table.from_batches([block.events for block in blocks])
    positions = np.concatenate([np.arange(block.first, block.last + 1, dtype=np.uint64) for block in blocks])
    rows = int(np.searchsorted(positions, np.uint64(through), side="right"))
    return table.slice(0, rows), positions[:rows]
