"""Retention: facts of a type go once they are older than its limit, in event time. Off for every type until it is set.

The limit is the beginning of a day (UTC). It is written down first, and questions about what lies before it are refused
from then on (flows/usage.py): a figure without the deleted events would be too small. Then the events go in steps, each in
the recorder's thread between two batches, so that the numbers of readings it keeps stay right: events with all their
corrections, duplicates, conflicts and readings. What stays of an event is its identity (table `forgotten`): a retry of it
is a duplicate for ever.

Kept whatever their age:
- events with a version of another type, or of a time behind the limit;
- types of which a meter in service carries something over from the past (a level, a running session, a counter);
- what `needed_since` says, for periods that are open or whose invoices must stay explicable.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import structlog

from tallystick.catalog.interface import Catalog, Retention
from tallystick.clock import Clock
from tallystick.flows.derive import CARRIED
from tallystick.flows.record import Recorder
from tallystick.metering.event import content_of, identity_of
from tallystick.store.interface import FORGOTTEN_SCHEMA, Store

STEP_EVENTS = 1_000_000
"""Events that go at a time: recording waits meanwhile, and every step rewrites the parts they lie in."""
DAY_US = 86_400_000_000
KEEP_DAYS_MAX = 36_500
_SWEEP_S = 60.0
_RETRY_S = 5.0
_LOW_32 = np.uint64(0xFFFF_FFFF)

_logger = structlog.get_logger("retention")

NeededSince = Callable[[str, str], int | None]
"""(tenant, type) → facts from this moment on are needed, whatever the limit; None: nothing is. Asked before every sweep."""


def nothing_is_needed(_tenant: str, _type: str) -> int | None:
    """Where nothing is billed."""
    return None


@dataclass(frozen=True, slots=True)
class Held:
    """How far a type's facts can go now: before `limit_us`; None: not at all, and why."""

    limit_us: int | None
    because: str | None = None


class RetentionKeeper:
    """Deletes what is past its limit. `run` is its life."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        recorder: Recorder,
        clock: Clock,
        needed_since: NeededSince = nothing_is_needed,
        step_events: int = STEP_EVENTS,
        sweep_s: float = _SWEEP_S,
        known_s: float = 0.0,
    ) -> None:
        """`known_s`: how long it takes until every process knows that facts are about to go."""
        self._store = store
        self._catalog = catalog
        self._recorder = recorder
        self._clock = clock
        self._needed_since = needed_since
        self._step_events = step_events
        self._sweep_s = sweep_s
        self._known_s = known_s
        self._stopping = asyncio.Event()
        self._swept: dict[tuple[str, str], int] = {}
        """How far each type was swept by this process."""

    async def run(self) -> None:
        """Sweep until `stop`. Whatever fails is tried again."""
        while not self._stopping.is_set():
            wait_s = self._sweep_s
            try:
                if self._recorder.recovered:
                    await self.sweep()
                else:
                    wait_s = min(wait_s, _RETRY_S)
            except Exception as error:
                _logger.warning("retention_failed", error=repr(error))
                wait_s = min(wait_s, _RETRY_S)
            try:
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        self._stopping.set()

    async def sweep(self) -> int:
        """Delete everything that is past its limit, as far as it can be done now; how many events. A type is looked at
        once a day, when its limit moves: late events from before it go with the next one."""
        gone = 0
        for one in await asyncio.to_thread(self._catalog.retentions):
            held = await asyncio.to_thread(self.held, one)
            scope = (one.tenant, one.type)
            if held.limit_us is None or held.limit_us <= self._swept.get(scope, held.limit_us - 1):
                continue
            done, events = await self._sweep(one, held.limit_us)
            gone += events
            if done:
                self._swept[scope] = held.limit_us
            if events:
                _logger.info("facts_deleted", tenant=one.tenant, type=one.type, events=events)
        return gone

    def held(self, one: Retention) -> Held:
        """How far the facts of a type can go now. Calls the catalog."""
        if one.keep_days is None:
            return Held(None)
        carried = [
            meter.key
            for meter in self._catalog.active_meters()
            if (meter.tenant, meter.event_type) == (one.tenant, one.type) and meter.aggregation in CARRIED
        ]
        if carried:
            return Held(None, f"The meter {carried[0]!r} carries figures over from the past.")
        limit_us = self._clock.now_us() - one.keep_days * DAY_US
        needed_us = self._needed_since(one.tenant, one.type)
        because = None
        if needed_us is not None and needed_us < limit_us:
            limit_us, because = needed_us, "Earlier facts are needed for billing."
        return Held(limit_us // DAY_US * DAY_US, because)

    async def _sweep(self, one: Retention, limit_us: int) -> tuple[bool, int]:
        """Whether everything is gone, and how many events went."""
        # Nobody may be told a figure that lacks what is about to go, not even after a crash.
        await asyncio.to_thread(
            self._catalog.advance_forgotten, one.tenant, one.type, limit_us, now_us=self._clock.now_us()
        )
        self._recorder.forget_before(one.tenant, one.type, limit_us)
        await asyncio.sleep(self._known_s)
        gone = after = 0

        def next_step() -> pa.Table:
            nonlocal after
            rows = self._expired(one, limit_us, after)
            if rows.num_rows:
                after = int(rows["position"][-1].as_py())
            return rows

        while not self._stopping.is_set():
            events = await self._recorder.forget(next_step)
            if events is None:
                return False, gone
            if events == 0:
                return True, gone
            gone += events
        return False, gone

    def _expired(self, one: Retention, limit_us: int, after: int) -> pa.Table:
        return forgotten_rows(
            self._store.expired(
                one.tenant, one.type, before_us=limit_us, after=after, limit=self._step_events
            )
        )


def forgotten_rows(blocks: Iterable[pa.RecordBatch]) -> pa.Table:
    """FORGOTTEN_SCHEMA of the events to go (Store.expired). Their contents are read a block at a time."""
    tables: list[pa.Table] = []
    for block in blocks:
        if block.num_rows == 0:
            continue
        columns: list[list[Any]] = [block[name].to_pylist() for name in ("tenant", "source", "id")]
        content = content_of(
            block["type"].to_pylist(), block["subject"].to_pylist(), block["data"].to_pylist()
        )
        digests = [identity_of(*names) for names in zip(*columns, strict=True)]
        tables.append(
            pa.table(
                {
                    "tenant": block["tenant"],
                    "type": block["type"],
                    "identity": pa.array(digests, pa.binary(16)),
                    "content": pa.array((content & _LOW_32).astype(np.uint32)),
                    "position": block["position"],
                    "recorded_at": block["recorded_at"],
                }
            ).cast(FORGOTTEN_SCHEMA)
        )
    return pa.concat_tables(tables) if tables else FORGOTTEN_SCHEMA.empty_table()
