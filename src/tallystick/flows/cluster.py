"""Several partitions seen as one recording, from any process of a cluster.

Every partition publishes a moment: whatever it records from now on has a later one. Questions are asked as of the least of
these (the watermark), so that figures made of all partitions are of one moment. A recorder that has nothing to do publishes
the greatest moment it has seen, so that it holds nobody back; one whose clock is slow takes moments behind it.

A process learns of the others' progress from the shared database, and of its own recorders' at once. It asks as soon as
another process has told that there is something (catalog/news.py), and seldom without.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from msgspec.structs import replace

from tallystick.catalog.barriers import Barrier
from tallystick.catalog.coordination import Coordination
from tallystick.catalog.interface import Catalog, Retention
from tallystick.catalog.partitions import Partition
from tallystick.clock import Clock
from tallystick.errors import TallystickError
from tallystick.flows.attribute import QUARANTINED
from tallystick.flows.journal import Coverage, State
from tallystick.flows.moments import Moments
from tallystick.flows.recording import Lag, Outcome, Totals
from tallystick.identity.interface import IdentityIndex
from tallystick.log.interface import Log
from tallystick.metering.meter import Meter
from tallystick.metering.position import Positions, Vector, base_of, partition_of, vector_of
from tallystick.store.interface import Store

_POLL_S = 0.05
"""How often is asked where nothing can be told."""
_SLOW_POLL_S = 0.5
_APART_S = 0.02
"""Between two looks: what many recorders tell is learned together."""
_TELL_APART_S = 0.02
_WISHES_S = 0.4
_FRESH_S = 1.5
_STALE_S = 10.0
_REBUILD_ASKED_AGAIN_S = 10.0
_REBUILD = "ask/rebuild"
MOVED = "moved"
"""Held for good by where the installation has moved to."""

T = TypeVar("T")
_compute: Any = pc  # its functions are made at import and unknown to type checkers
_logger = structlog.get_logger("cluster")


class LocalRecorder(Protocol):
    """What the view asks of a recorder in its own process (flows/record.Recorder)."""

    @property
    def recovered(self) -> bool: ...

    @property
    def fault(self) -> str | None: ...

    @property
    def readings_expected(self) -> int: ...

    async def between_batches(self, work: Callable[[State, IdentityIndex | None], T]) -> T: ...

    def lag(self) -> Lag: ...

    def wake(self) -> None: ...

    def want_rebuild(self) -> None: ...

    def want_index_rebuild(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last that is known of a partition."""

    epoch: int = 0
    is_free: bool = True
    version: int = -1
    published_us: int = 0
    recorded: int = 0
    state: State = field(default_factory=State)


@dataclass(slots=True)
class _Waiter:
    position: Vector
    published_us: int | None  # the moment that must be seen, once everything is recorded
    future: asyncio.Future[None]


class ClusterRecording:
    """The view of all partitions (`Recording`). `run` is its life."""

    def __init__(
        self,
        *,
        coordination: Coordination,
        catalog: Catalog,
        store: Store,
        clock: Clock,
        logs: Sequence[Log],
        may_quarantine: bool = False,
    ) -> None:
        self.on_moved: Callable[[str], None] = lambda where: None
        """Told where this installation has moved to, by whatever process (flows/move.py)."""
        self._may_quarantine = may_quarantine
        self._coordination = coordination
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._logs = tuple(logs)
        self._seen = [_Seen(recorded=base_of(partition)) for partition in range(len(logs))]
        self._local: dict[int, LocalRecorder] = {}
        self._barrier: Barrier | None = None
        self._told: tuple[int, Barrier | None] = (0, None)
        self._forgotten_before: dict[tuple[str, str], int] = {}
        self._waiting: list[_Waiter] = []
        self._moments = Moments(lambda: self.recorded_at_us)
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        """Set when the recorders of this process have something to tell the others."""
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._looked_s = 0.0
        self._wishes_s = 0.0
        self._rebuilds: int | None = None
        self._asked_generation = -1
        self._asked_s = 0.0
        self._migrated = False
        self._migrating = asyncio.Lock()
        self._fault: str | None = None
        # Of its own: what is known must not queue behind questions.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cluster")

    # -- its life -------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Follow the other processes until `stop`."""
        self._coordination.news.start(self._heard)
        telling = asyncio.create_task(self._tell_others(), name="news")
        while not self._stopping:
            began_s = self._loop.time()
            try:
                await self.look()
                self._fault = None
            except Exception as error:
                if self._fault is None:
                    _logger.warning("cluster_not_seen", error=repr(error))
                self._fault = "The shared database does not answer."
            is_told = len(self._local) == len(self._logs) or self._coordination.news.is_listening
            try:
                await asyncio.wait_for(self._changed.wait(), _SLOW_POLL_S if is_told else _POLL_S)
            except TimeoutError:
                continue
            if not self._stopping:
                await asyncio.sleep(began_s + _APART_S - self._loop.time())
        self._news.set()
        await telling
        for waiter in self._waiting:
            waiter.future.cancel()
        self._moments.close()
        self._thread.shutdown()

    def stop(self) -> None:
        self._stopping = True
        self._changed.set()

    def _heard(self) -> None:
        """Another process has told something. Called from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended without a stop
            self._loop.call_soon_threadsafe(self._changed.set)

    async def _tell_others(self) -> None:
        while self._coordination.news.is_possible:
            await self._news.wait()
            if self._stopping:
                return
            self._news.clear()
            with contextlib.suppress(TallystickError):  # they ask as well
                await self._loop.run_in_executor(self._thread, self._coordination.news.tell)
            await asyncio.sleep(_TELL_APART_S)

    async def look(self) -> None:
        """Learn what the shared database knows now. Raises Unavailable."""
        self._changed.clear()
        run = self._loop.run_in_executor
        rows, barrier = await run(self._thread, self._read)
        newer = [
            row.partition
            for row in rows
            if row.version != self._seen[row.partition].version and row.partition not in self._local
        ]
        states = await run(self._thread, self._coordination.partitions.states, newer) if newer else {}
        for row in rows:
            self._take(row, states.get(row.partition))
        self._barrier = barrier
        self._looked_s = time.monotonic()
        if self._looked_s - self._wishes_s > _WISHES_S:
            retentions, rebuilds, moved = await run(self._thread, self._read_wishes)
            if moved is not None:
                self.on_moved(moved)
            self._forgotten_before = {
                (one.tenant, one.type): one.forgotten_before_us
                for one in retentions
                if one.forgotten_before_us is not None
            }
            if self._rebuilds not in (None, rebuilds):
                self._rebuild_here()
            self._rebuilds = rebuilds
            self._wishes_s = self._looked_s
        self._tell()

    def _read_wishes(self) -> tuple[Sequence[Retention], int, str | None]:
        holders = self._coordination.leases.holders()
        asked, moved = holders.get(_REBUILD), holders.get(MOVED)
        return (
            self._catalog.retentions(),
            0 if asked is None else asked.epoch,
            None if moved is None or moved.is_free else moved.owner,
        )

    def _read(self) -> tuple[list[Partition], Barrier | None]:
        waiting = self._coordination.barriers.waiting()
        return self._coordination.partitions.rows(), waiting[0] if waiting else None

    def _take(self, row: Partition, found: tuple[int, bytes] | None) -> None:
        seen = self._seen[row.partition]
        if row.partition in self._local:
            self._seen[row.partition] = changed(seen, epoch=row.epoch, is_free=row.is_free)
            return
        version, state = seen.version, seen.state
        if found is not None:
            version, state = found[0], msgspec.json.decode(found[1], type=State)
        self._seen[row.partition] = _Seen(
            epoch=row.epoch,
            is_free=row.is_free,
            version=version,
            published_us=max(row.published_us, seen.published_us),
            recorded=max(row.recorded, seen.recorded),
            state=state,
        )

    def _tell(self) -> None:
        """Wake those who wait for what is now known, and the recorders that may hold others back."""
        known = (self.greatest_us, self._barrier)
        if known != self._told:
            self._told = known
            for recorder in self._local.values():
                recorder.wake()
        self._moments.tell()
        watermark_us = self.recorded_at_us
        left: list[_Waiter] = []
        for waiter in self._waiting:
            if waiter.published_us is None and self._has_recorded(waiter.position):
                waiter.published_us = max(
                    (self._seen[partition_of(position)].published_us for position in waiter.position),
                    default=0,
                )
            if waiter.future.done():
                continue
            if waiter.published_us is None or waiter.published_us > watermark_us:
                left.append(waiter)
            else:
                waiter.future.set_result(None)
        self._waiting = left

    def _has_recorded(self, position: Vector) -> bool:
        return all(
            partition_of(each) < len(self._seen) and each <= self._seen[partition_of(each)].recorded
            for each in position
        )

    # -- what recorders of this process say, and ask ----------------------------------------------------------------
    def joined(self, partition: int, recorder: LocalRecorder, state: State) -> None:
        """This process records the partition now. Called in the event loop."""
        self._local[partition] = recorder
        self._news.set()
        self._saw(partition, state)

    def left(self, partition: int) -> None:
        self._local.pop(partition, None)
        self._seen[partition] = changed(self._seen[partition], version=-1)
        self._changed.set()
        self._news.set()

    def saw(self, partition: int, state: State) -> None:
        """A recorder of this process has saved, or published. Called from any thread."""
        self._loop.call_soon_threadsafe(self._saw, partition, state)

    def _saw(self, partition: int, state: State) -> None:
        seen = self._seen[partition]
        self._seen[partition] = changed(
            seen,
            published_us=max(seen.published_us, state.recorded_at_us),
            recorded=max(seen.recorded, state.recorded),
            state=state,
        )
        now = self._seen[partition]
        if (now.recorded, now.published_us) != (seen.recorded, seen.published_us):
            self._news.set()
        self._tell()

    @property
    def is_fresh(self) -> bool:
        """Whether the shared database has answered lately: better not to ask it for what can be done without otherwise."""
        return time.monotonic() - self._looked_s < _FRESH_S

    @property
    def greatest_us(self) -> int:
        """The latest moment that any partition has published."""
        return max(seen.published_us for seen in self._seen)

    @property
    def barrier(self) -> Barrier | None:
        """The first barrier that is open, as of the last look."""
        return self._barrier

    def barrier_changed(self) -> None:
        """Look again at once, and let the others look. Called from any thread."""
        self._loop.call_soon_threadsafe(self._changed.set)
        self._loop.call_soon_threadsafe(self._news.set)

    @property
    def recorders(self) -> list[LocalRecorder] | None:
        """By partition; None while another process records any of them."""
        here = [self._local.get(partition) for partition in range(len(self._logs))]
        found = [recorder for recorder in here if recorder is not None]
        return found if len(found) == len(here) else None

    # -- Recording ------------------------------------------------------------------------------------------------
    @property
    def position(self) -> Vector:
        return tuple(
            seen.recorded for partition, seen in enumerate(self._seen) if seen.recorded > base_of(partition)
        )

    @property
    def recorded_at_us(self) -> int:
        return min(seen.published_us for seen in self._seen)

    @property
    def published(self) -> tuple[int, Vector | None]:
        return self.recorded_at_us, None

    @property
    def fresh(self) -> None:
        return None

    @property
    def totals(self) -> Totals:
        states = [seen.state for seen in self._seen]
        return Totals(
            sum(state.events for state in states),
            sum(state.duplicates for state in states),
            sum(state.conflicts for state in states),
        )

    @property
    def generation(self) -> int:
        return sum(seen.state.generation for seen in self._seen)

    @property
    def readings_expected(self) -> int:
        return sum(
            self._local[partition].readings_expected if partition in self._local else seen.state.readings
            for partition, seen in enumerate(self._seen)
        )

    @property
    def recovered(self) -> bool:
        return all(
            self._local[partition].recovered if partition in self._local else not seen.is_free
            for partition, seen in enumerate(self._seen)
        )

    @property
    def fault(self) -> str | None:
        faults = [recorder.fault for recorder in self._local.values() if recorder.fault is not None]
        if self._looked_s and time.monotonic() - self._looked_s > _STALE_S:
            faults.append(self._fault or "The other recorders have not been heard of.")
        unowned = [
            str(partition)
            for partition, seen in enumerate(self._seen)
            if seen.is_free and partition not in self._local and self._looked_s
        ]
        if unowned:
            faults.append(f"Nobody records the partitions {', '.join(unowned)}.")
        return faults[0] if faults else None

    def coverage(self) -> dict[int, Coverage]:
        """What holds in all partitions. A meter that one of them does not know yet is not there."""
        found: dict[int, Coverage] = dict(self._seen[0].state.coverage)
        for seen in self._seen[1:]:
            both = found.keys() & seen.state.coverage.keys()
            found = {key: _both(found[key], seen.state.coverage[key]) for key in both}
        return found

    def unbuilt(self) -> dict[int, Coverage]:
        known: dict[int, Coverage] = {}
        for seen in self._seen:
            known |= {key: covered for key, covered in seen.state.coverage.items() if not covered.built}
        return known

    def readings_complete(self, meter: Meter, as_of_us: int) -> bool:
        for seen in self._seen:
            covered = seen.state.coverage.get(meter.id)
            if covered is None or not covered.complete_as_of(as_of_us):
                return False
        return True

    def forgotten_before(self, tenant: str, event_type: str) -> int | None:
        return self._forgotten_before.get((tenant, event_type))

    def lag(self) -> Lag:
        events, seconds = 0, 0.0
        for partition, (log, seen) in enumerate(zip(self._logs, self._seen, strict=True)):
            if (local := self._local.get(partition)) is not None:
                lag = local.lag()
                events, seconds = events + lag.events, max(seconds, lag.seconds)
            elif behind := log.behind(seen.recorded):
                events += behind
                if seen.published_us:
                    seconds = max(seconds, (self._clock.now_us() - seen.published_us) / 1e6)
        return Lag(events, seconds)

    async def wait_for(self, position: Vector, timeout_s: float) -> bool:
        waiter = _Waiter(position, None, self._loop.create_future())
        self._waiting.append(waiter)
        self._tell()
        if waiter.future.done():
            return True
        try:
            await asyncio.wait_for(waiter.future, timeout_s)
        except TimeoutError:
            self._waiting = [other for other in self._waiting if other is not waiter]
            return False
        return True

    async def wait_for_moment(self, after_us: int, timeout_s: float) -> int | None:
        return await self._moments.later_than(after_us, timeout_s)

    async def wait_until_migrated(self, timeout_s: float) -> bool:
        """Migrates, once in this process. Raises Unavailable when the store does not answer."""
        try:
            async with asyncio.timeout(timeout_s), self._migrating:
                if not self._migrated:
                    await asyncio.to_thread(self._store.migrate)
                self._migrated = True
        except TimeoutError:
            return False
        return True

    async def outcome(self, positions: Positions, timeout_s: float) -> Outcome | None:
        if not await self.wait_for(vector_of(positions), timeout_s):
            return None
        found = await asyncio.to_thread(self._kinds_at, positions.tolist())
        # As whole numbers of 64 bits: beside a list of Python's, NumPy would compare floats.
        rows = (np.isin(positions, np.array(kind, np.uint64)) for kind in found)
        return Outcome(*(np.flatnonzero(chosen).tolist() for chosen in rows))

    def _kinds_at(self, positions: list[int]) -> tuple[list[int], list[int], list[int]]:
        """Those that are duplicates, conflicts, in quarantine."""
        duplicates, conflicts = self._store.repeats_at(positions)
        quarantined: list[int] = []
        if self._may_quarantine:
            events = self._store.events_at(positions)
            mask = _compute.equal(events["customer"].cast(pa.string()), QUARANTINED)
            quarantined = events["position"].filter(mask).to_pylist()
        return duplicates, conflicts, quarantined

    async def statuses(self, positions: Positions, timeout_s: float) -> list[str] | None:
        if not await self.wait_for(vector_of(positions), timeout_s):
            return None
        found = await asyncio.to_thread(self._coordination.outcomes.find, positions.tolist())
        return [found[at] for at in positions.tolist() if at in found]

    def want_rebuild(self) -> None:
        generation, now_s = self.generation, time.monotonic()
        if generation == self._asked_generation and now_s - self._asked_s < _REBUILD_ASKED_AGAIN_S:
            return
        self._asked_generation, self._asked_s = generation, now_s
        self._rebuild_here()
        if len(self._local) < len(self._logs):
            self._thread.submit(self._ask_for_rebuild)

    def _rebuild_here(self) -> None:
        for recorder in self._local.values():
            recorder.want_rebuild()

    def _ask_for_rebuild(self) -> None:
        """Each time this lease is taken its epoch grows, which the other processes see."""
        try:
            self._coordination.leases.acquire(_REBUILD, "", ttl_us=0)
        except Exception as error:
            _logger.warning("rebuild_not_asked_for", error=repr(error))

    def want_index_rebuild(self) -> None:
        for recorder in self._local.values():
            recorder.want_index_rebuild()


def _both(one: Coverage, other: Coverage) -> Coverage:
    ends = [each.until_us for each in (one, other) if each.until_us is not None]
    return replace(
        one,
        from_us=max(one.from_us, other.from_us),
        built=one.built and other.built,
        rows=one.rows + other.rows,
        until_us=min(ends, default=None),
    )


class Share:
    """One partition in the hands of a recorder of this process, under the epoch of its lease. All but `ends` may be called
    from the recorder's thread."""

    def __init__(
        self,
        view: ClusterRecording,
        coordination: Coordination,
        *,
        partition: int,
        epoch: int,
        publish: Callable[[int], None],
        whole_store: Store,
        logs: Sequence[Log],
    ) -> None:
        self.partition = partition
        self.whole_store = whole_store
        self._view = view
        self._barriers = coordination.barriers
        self._outcomes = coordination.outcomes
        self._epoch = epoch
        self._publish = publish
        self._logs = logs

    @property
    def floor_us(self) -> int:
        """The latest moment that any partition is known to have published."""
        return self._view.greatest_us

    def publish(self, moment_us: int) -> None:
        """A heartbeat. Raises LeaseLostError, Unavailable."""
        self._publish(moment_us)

    def saw(self, state: State) -> None:
        self._view.saw(self.partition, state)

    def keep_statuses(self, positions: Positions, statuses: Sequence[str], *, now_us: int) -> None:
        """For whoever asked, on whatever node."""
        self._outcomes.put(dict(zip(positions.tolist(), statuses, strict=True)), now_us=now_us)

    # -- barriers ---------------------------------------------------------------------------------------------------
    def waiting(self) -> Barrier | None:
        """The barrier that this partition has to take part in now, as far as is known."""
        barrier = self._view.barrier
        return None if barrier is None or self.partition in barrier.finished else barrier

    def ends(self) -> list[int]:
        return [log.end for log in self._logs]

    def find(self, name: str) -> Barrier | None:
        return self._barriers.find(name)

    def open(self, name: str, ends: Sequence[int], plan: bytes) -> Barrier:
        barrier = self._barriers.open(name, ends, plan, epoch=self._epoch)
        self._view.barrier_changed()
        return barrier

    def arrive(self, barrier: Barrier, floor_us: int) -> Barrier:
        found = self._barriers.arrive(barrier, self.partition, epoch=self._epoch, floor_us=floor_us)
        if found.moment_us is not None:
            self._view.barrier_changed()
        return found

    def finish(self, barrier: Barrier, counts: Mapping[str, int]) -> None:
        outcome = msgspec.json.encode(counts)
        self._barriers.finish(barrier, self.partition, epoch=self._epoch, outcome=outcome)
        self._view.barrier_changed()

    def gathered(self, barrier: Barrier) -> dict[str, int]:
        """The counts of all partitions together."""
        total: dict[str, int] = {}
        for outcome in self._barriers.outcomes(barrier).values():
            for name, count in msgspec.json.decode(outcome, type=dict[str, int]).items():
                total[name] = total.get(name, 0) + count
        return total

    def close(self, barrier: Barrier) -> None:
        self._barriers.close(barrier, epoch=self._epoch)
        self._barriers.forget()
        self._view.barrier_changed()
