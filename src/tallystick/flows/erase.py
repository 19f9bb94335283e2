"""What becomes of a deleted tenant: what it has sent is written out, and then erased.

The keys of a deleted tenant stop within a second, and its meters derive nothing more. A while later, when all it has sent is
recorded, its events go into a file (Parquet) and its configuration and audit beside it, in `exports/` of the data directory;
then its facts go the way that retention takes (flows/retention.py): events with all that hangs on them, in steps between two
batches. What stays of an event is its identity, a number that tells nothing: counts of what was recorded must go on to agree.
At last the catalog forgets its customers. Each step may be cut off and is done again.

In a cluster the recorder of each partition erases what lies there (`FactsEraser`), once the export is noted in the catalog;
one process (a job, flows/lease.JobKeeper) writes the export before, and lets the catalog forget when nothing is left.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from tallystick.catalog.interface import LIMIT_MAX, Catalog, DeletedTenant
from tallystick.clock import Clock
from tallystick.flows.lease import Held
from tallystick.flows.record import Recorder
from tallystick.flows.recording import Recording
from tallystick.flows.retention import STEP_EVENTS, forgotten_rows
from tallystick.log.interface import Log
from tallystick.metering.definition import definition_to_wire
from tallystick.metering.position import Vector
from tallystick.store.interface import VERSION_SCHEMA, Store

GRACE_US = 10_000_000
"""From the deletion on: requests that were under way have come to their end by then, and no key is kept any more."""
LOOK_S = 15.0
_WAIT_S = 30.0

_logger = structlog.get_logger("erase")

Forget = Callable[[str], Awaitable[bool]]
"""Erase a tenant's facts as far as it can be done now; whether they are all gone."""


class FactsEraser:
    """Erases the facts of deleted tenants that one recorder has recorded. `run` is its life in a cluster; a recorder that is
    alone is told by `forget`."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        recorder: Recorder,
        log: Log,
        clock: Clock,
        step_events: int = STEP_EVENTS,
    ) -> None:
        """`store`, `log`: of the recorder's partition."""
        self._store = store
        self._catalog = catalog
        self._recorder = recorder
        self._log = log
        self._clock = clock
        self._step_events = step_events
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Erase what has been exported until `stop`. Whatever fails is tried again."""
        while not self._stopping.is_set():
            try:
                if self._recorder.recovered:
                    await self.sweep()
            except Exception as error:
                _logger.warning("erasing_failed", error=repr(error))
            await _pause(self._stopping)

    async def stop(self) -> None:
        self._stopping.set()

    async def sweep(self) -> None:
        """Erase what can be erased now."""
        for one in await asyncio.to_thread(self._catalog.tenants_to_erase):
            if one.export is None or self._clock.now_us() < one.deleted_at_us + GRACE_US:
                continue
            if not await self._recorder.wait_for((self._log.end,), _WAIT_S):
                return
            await self.forget(one.key)

    async def forget(self, tenant: str) -> bool:
        """Whether all facts are gone."""
        after = gone = 0

        def next_step() -> pa.Table:
            nonlocal after
            rows = forgotten_rows(
                self._store.expired(tenant, None, before_us=0, after=after, limit=self._step_events)
            )
            if rows.num_rows:
                after = int(rows["position"][-1].as_py())
            return rows

        while not self._stopping.is_set():
            events = await self._recorder.forget(next_step)
            if not events:
                if gone:
                    _logger.info("facts_erased", tenant=tenant, events=gone)
                return events == 0
            gone += events
        return False


class TenantEraser:
    """Sees the erasure of deleted tenants through. `run` is its life, in a cluster `work`."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        recorder: Recording,
        end: Callable[[], Vector],
        forget: Forget,
        clock: Clock,
        directory: Path,
    ) -> None:
        """`end`: of the whole log."""
        self._store = store
        self._catalog = catalog
        self._recorder = recorder
        self._end = end
        self._forget = forget
        self._clock = clock
        self._directory = directory
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Look for deleted tenants until `stop`. Whatever fails is tried again."""
        while not self._stopping.is_set():
            try:
                if self._recorder.recovered:
                    await self.sweep()
            except Exception as error:
                _logger.warning("erasing_failed", error=repr(error))
            await _pause(self._stopping)

    async def stop(self) -> None:
        self._stopping.set()

    async def work(self, held: Held[str]) -> None:
        """In a cluster: while this process has the job."""
        self._stopping = asyncio.Event()
        running = asyncio.create_task(self.run())
        try:
            await held.leaving.wait()
        finally:
            await self.stop()
            await running

    async def sweep(self) -> int:
        """Erase what can be erased now; how many tenants are done."""
        done = 0
        for one in await asyncio.to_thread(self._catalog.tenants_to_erase):
            if self._clock.now_us() < one.deleted_at_us + GRACE_US:
                continue
            if not await self._recorder.wait_for(self._end(), _WAIT_S):
                break
            if one.export is None:
                place = await asyncio.to_thread(self._write, one)
                now_us = self._clock.now_us()
                await asyncio.to_thread(self._catalog.note_export, one.key, str(place), now_us=now_us)
            if await self._forget(one.key):
                await asyncio.to_thread(self._finish, one.key)
                done += 1
        return done

    def _finish(self, tenant: str) -> None:
        cursor: str | None = None
        while True:
            page = self._catalog.backfills(tenant, cursor=cursor, limit=LIMIT_MAX)
            for backfill in page.items:
                self._store.delete_staged(tenant, backfill.key)
            cursor = page.next_cursor
            if cursor is None:
                break
        versions = [
            version.id
            for meter in self._meters(tenant)
            for version in self._catalog.meter_versions(tenant, meter["key"])
        ]
        if versions:
            self._store.delete_rollups(versions)
        self._catalog.erase_tenant(tenant, now_us=self._clock.now_us())
        _logger.info("tenant_erased", tenant=tenant)

    # -- the export -----------------------------------------------------------------------------------------------
    def _write(self, one: DeletedTenant) -> Path:
        """Whole or not at all: under another name until it is."""
        place = self._directory / f"{one.key}-{one.deleted_at_us}"
        if place.exists():
            return place
        unfinished = place.with_name(f".{place.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        self._write_events(one.key, unfinished / "events.parquet")
        with (unfinished / "configuration.json").open("w", encoding="utf-8") as file:
            json.dump(self._configuration(one.key), file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(place)
        return place

    def _write_events(self, tenant: str, path: Path) -> None:
        """All versions there ever were: what counted when can be told from it."""
        with path.open("wb") as file:
            writer: Any = pq.ParquetWriter(file, VERSION_SCHEMA, compression="zstd")
            for block in self._store.events_of(tenant, None):
                writer.write_table(pa.Table.from_batches([block]).cast(VERSION_SCHEMA))
            writer.close()
            file.flush()
            os.fsync(file.fileno())

    def _configuration(self, tenant: str) -> dict[str, Any]:
        catalog = self._catalog
        customers: list[dict[str, Any]] = []
        audit: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = catalog.customers(tenant, archived=True, cursor=cursor, limit=LIMIT_MAX)
            customers += [asdict(one) for one in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        while True:
            rows = catalog.audit(tenant, cursor=cursor, limit=LIMIT_MAX)
            audit += [asdict(row) for row in rows.items]
            cursor = rows.next_cursor
            if cursor is None:
                break
        return {
            "tenant": tenant,
            "meters": self._meters(tenant),
            "customers": customers,
            "audit": audit,
        }

    def _meters(self, tenant: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self._catalog.meters(tenant, archived=True, cursor=cursor, limit=LIMIT_MAX)
            found += [dict(definition_to_wire(meter)) for meter in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return found


def erased_by_recorders(store: Store) -> Forget:
    """Where the recorders of all partitions erase (FactsEraser): whether they have."""

    def is_gone(tenant: str) -> bool:
        left = store.expired(tenant, None, before_us=0, after=0, limit=1)
        return not any(block.num_rows for block in left)

    return lambda tenant: asyncio.to_thread(is_gone, tenant)


async def _pause(stopping: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), LOOK_S)
    except TimeoutError:
        return
