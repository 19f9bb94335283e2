"""What a process with the role `recorder` does: it records the partitions it holds, each with a recorder, a builder of
readings, retention and an eraser of its own, from the moment its lease is got until it is to go."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from tallystick.catalog.coordination import Coordination
from tallystick.catalog.interface import Catalog
from tallystick.catalog.partitions import FencedCheckpoint
from tallystick.clock import Clock
from tallystick.errors import Unavailable
from tallystick.flows.cluster import ClusterRecording, Share
from tallystick.flows.derive import ReadingsBuilder
from tallystick.flows.erase import FactsEraser
from tallystick.flows.journal import Journal
from tallystick.flows.lease import Held
from tallystick.flows.quarantine import SETTLE_S_MAX, QuarantineKeeper
from tallystick.flows.record import Recorder
from tallystick.flows.recording import Totals
from tallystick.flows.retention import NeededSince, RetentionKeeper, nothing_is_needed
from tallystick.identity.interface import IdentityIndex
from tallystick.log.interface import Log
from tallystick.store.interface import Store

_MIGRATE_S_MAX = 600.0
_KNOWN_S = 2.0
"""Longer than any process takes to see that facts are about to go (flows/cluster.py)."""

_logger = structlog.get_logger("node")

OpenIndex = Callable[[Path], IdentityIndex]


class RecorderNode:
    """`record` is the work under one lease (flows/lease.PartitionKeeper)."""

    def __init__(
        self,
        *,
        view: ClusterRecording,
        coordination: Coordination,
        catalog: Catalog,
        store: Store,
        logs: Sequence[Log],
        clock: Clock,
        directory: Path,
        open_index: OpenIndex,
        discard_index: Callable[[Path], None],
        batch_events_max: int,
        unknown_subject: str,
        on_step: Callable[[str], None] = lambda step: None,
        on_batch: Callable[[Totals], None] = lambda totals: None,
        needed_since: NeededSince = nothing_is_needed,
    ) -> None:
        """`logs`: number i is the log of partition i, with positions that bear the partition."""
        self._view = view
        self._coordination = coordination
        self._catalog = catalog
        self._store = store
        self._logs = logs
        self._clock = clock
        self._directory = directory
        self._open_index = open_index
        self._discard_index = discard_index
        self._batch_events_max = batch_events_max
        self._unknown_subject = unknown_subject
        self._on_step = on_step
        self._on_batch = on_batch
        self._quarantines: dict[int, QuarantineKeeper] = {}
        self._needed_since = needed_since

    async def settle(self) -> None:
        """Release from quarantine in the partitions recorded here, and wait until it counts (`quarantine.Releasing`); in
        the others it is done within a second or two."""
        await asyncio.gather(*(keeper.settle() for keeper in tuple(self._quarantines.values())))
        await self._view.wait_for(self._view.position, SETTLE_S_MAX)

    async def record(self, held: Held[int]) -> None:
        """Record a partition until `held.leaving`. Raises LeaseLostError or FencedOff once another has it."""
        partition = held.key
        checkpoint = FencedCheckpoint(self._coordination.partitions, partition, held.epoch, check=held.check)
        journal = Journal(checkpoint)
        # First the fence: nothing of the one before may come in behind what is read now.
        if not await self._view.wait_until_migrated(_MIGRATE_S_MAX):
            raise Unavailable("The store takes too long to migrate.")
        store = await asyncio.to_thread(self._store.partition, partition, epoch=held.epoch)
        state = await asyncio.to_thread(lambda: journal.adopt(store, now_us=self._clock.now_us()))
        share = Share(
            self._view,
            self._coordination,
            partition=partition,
            epoch=held.epoch,
            publish=checkpoint.publish,
            whole_store=self._store,
            logs=self._logs,
        )
        index = self._directory / f"identity-{partition}"
        rows = await asyncio.to_thread(self._coordination.partitions.rows)
        recorder = Recorder(
            log=self._logs[partition],
            open_index=lambda: self._open_index(index),
            discard_index=lambda: self._discard_index(index),
            store=store,
            catalog=self._catalog,
            journal=journal,
            clock=self._clock,
            batch_events_max=self._batch_events_max,
            unknown_subject=self._unknown_subject,
            share=share,
            published_us=rows[partition].published_us,
            on_step=self._on_step,
            on_batch=self._on_batch,
        )
        _logger.info("recording", partition=partition, epoch=held.epoch, position=state.recorded)
        builder = ReadingsBuilder(store=store, catalog=self._catalog, recorder=recorder)
        retention = RetentionKeeper(
            store=store,
            catalog=self._catalog,
            recorder=recorder,
            clock=self._clock,
            needed_since=self._needed_since,
            known_s=_KNOWN_S,
        )
        # Releases go into this partition's own log, whatever their identity: they are about its events.
        quarantine = QuarantineKeeper(
            store=store,
            catalog=self._catalog,
            recorder=recorder,
            log=self._logs[partition],
            clock=self._clock,
        )
        eraser = FactsEraser(
            store=store,
            catalog=self._catalog,
            recorder=recorder,
            log=self._logs[partition],
            clock=self._clock,
        )
        keepers = (builder, retention, quarantine, eraser)
        beside = [asyncio.create_task(keeper.run()) for keeper in keepers]
        recording = asyncio.create_task(recorder.run())
        leaving = asyncio.create_task(held.leaving.wait())
        self._view.joined(partition, recorder, recorder.state)
        self._quarantines[partition] = quarantine
        try:
            await asyncio.wait((recording, leaving), return_when=asyncio.FIRST_COMPLETED)
            for keeper in keepers:
                await keeper.stop()
            recorder.stop()
            await asyncio.gather(*beside, return_exceptions=True)
            await recording
        finally:
            self._view.left(partition)
            self._quarantines.pop(partition, None)
            leaving.cancel()
            await asyncio.gather(leaving, *beside, return_exceptions=True)
            journal.close()
