"""Settings → parts, by URL scheme. The only module that names a backend."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

from tallystick.catalog.cached import CachedCatalog
from tallystick.clock import Clock, SystemClock
from tallystick.config import Settings
from tallystick.errors import Invalid
from tallystick.flows.derive import ReadingsBuilder
from tallystick.flows.journal import Journal
from tallystick.flows.quarantine import QuarantineKeeper
from tallystick.flows.record import Recorder
from tallystick.flows.restore import check_finished
from tallystick.flows.retention import RetentionKeeper
from tallystick.flows.rollup import RollupKeeper
from tallystick.flows.system import System
from tallystick.identity.runs import RunsIndex
from tallystick.log.checkpoint import SqliteCheckpoint
from tallystick.log.sqlite import SqliteLog
from tallystick.metrics import Metrics
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.interface import Store
from tallystick.store.layout import Storage

_QUESTION_THREADS = 8

_logger = structlog.get_logger("wiring")


@dataclass(slots=True)
class Running:
    """A system with its background work. `stop` ends both, in an order that loses nothing."""

    system: System
    builder: ReadingsBuilder
    retention: RetentionKeeper
    journal: Journal
    tasks: list[asyncio.Task[None]]
    first_admin_key: str | None
    """The admin key this start has made, to be printed once; None when there was one."""

    async def stop(self) -> None:
        """Clean shutdown: no more appends, the batch under way finished, everything closed."""
        await self.builder.stop()
        await self.retention.stop()
        if self.system.quarantine is not None:
            await self.system.quarantine.stop()
        await self.system.rollups.stop()
        self.system.recorder.stop()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.system.log.close()
        self.system.questions.shutdown(cancel_futures=True)
        self.journal.close()
        self.system.rollups.close()
        self.system.store.close()
        self.system.catalog.close()


async def start(
    settings: Settings,
    *,
    clock: Clock | None = None,
    wrap_store: Callable[[Store], Store] = lambda store: store,
    on_step: Callable[[str], None] | None = None,
) -> Running:
    """Build all parts and begin recording. `wrap_store` and `on_step` are for tests that break things.

    Does not wait for the store: when it is down, events are acknowledged and the recorder catches up later.
    """
    clock = clock or SystemClock()
    directory = Path(settings.data_dir)
    check_finished(directory)
    directory.mkdir(parents=True, exist_ok=True)
    catalog = _catalog(settings, directory)
    catalog.migrate()
    catalog.watch()
    first_admin_key = catalog.ensure_admin_key(settings.admin_key or None, now_us=clock.now_us())
    store = wrap_store(_store(settings, directory))
    journal = Journal(SqliteCheckpoint(directory / "recorder.sqlite"))
    recorded = journal.adopt(store, now_us=clock.now_us()).recorded
    metrics = Metrics()
    log = _log(settings, directory, metrics, positions_after=recorded)
    if journal.give_up_lost_batch(store, log_end=log.end):
        await log.close()
        log = _log(settings, directory, metrics, positions_after=journal.load().recorded)
    recorder = Recorder(
        log=log,
        open_index=lambda: RunsIndex(directory / "identity"),
        discard_index=lambda: RunsIndex.discard(directory / "identity"),
        store=store,
        catalog=catalog,
        journal=journal,
        clock=clock,
        batch_events_max=settings.record_batch_events_max,
        unknown_subject=settings.unknown_subject,
        on_step=on_step or _kill_at_step(os.environ.get("TALLYSTICK_TEST_KILL_AT_STEP")),
    )
    builder = ReadingsBuilder(store=store, catalog=catalog, recorder=recorder)
    rollups = RollupKeeper(
        store=store,
        catalog=catalog,
        recorder=recorder,
        checkpoint=SqliteCheckpoint(directory / "rollups.sqlite"),
    )
    quarantine = QuarantineKeeper(store=store, catalog=catalog, recorder=recorder, log=log, clock=clock)
    system = System(
        settings=settings,
        clock=clock,
        log=log,
        store=store,
        catalog=catalog,
        recorder=recorder,
        rollups=rollups,
        metrics=metrics,
        questions=ThreadPoolExecutor(_QUESTION_THREADS, thread_name_prefix="question"),
        quarantine=quarantine,
        billing=catalog if settings.billing == "on" else None,
    )
    retention = RetentionKeeper(store=store, catalog=catalog, recorder=recorder, clock=clock)
    tasks = [
        asyncio.create_task(recorder.run(), name="recorder"),
        asyncio.create_task(builder.run(), name="builder"),
        asyncio.create_task(rollups.run(), name="rollups"),
        asyncio.create_task(retention.run(), name="retention"),
        asyncio.create_task(quarantine.run(), name="quarantine"),
    ]
    return Running(system, builder, retention, journal, tasks, first_admin_key)


def _log(settings: Settings, directory: Path, metrics: Metrics, *, positions_after: int) -> SqliteLog:
    return SqliteLog.open(
        _path(settings.log_url or f"sqlite:///{directory / 'log.sqlite'}", "sqlite", "log_url"),
        waiting_events_max=settings.log_waiting_events_max,
        unrecorded_events_max=settings.log_unrecorded_events_max,
        positions_after=positions_after,
        observe_commit=metrics.observe_commit,
    )


def _store(settings: Settings, directory: Path) -> Store:
    return ClickHouseStore(
        settings.store_url or f"chdb:///{(directory / 'store').absolute()}",
        query_time_s_max=settings.query_time_s_max,
        query_memory_bytes_max=settings.store_memory_bytes_max,
        storage=Storage.of(
            settings.store_storage_policy, settings.store_cold_volume, settings.store_cold_after_days
        ),
    )


def open_store(settings: Settings) -> Store:
    """The store alone: for a restore into an installation that does not run."""
    return _store(settings, Path(settings.data_dir))


def _catalog(settings: Settings, directory: Path) -> CachedCatalog:
    return CachedCatalog(settings.catalog_url or f"sqlite:///{directory / 'catalog.sqlite'}")


def _path(url: str, scheme: str, setting: str) -> Path:
    prefix = f"{scheme}:///"
    if not url.startswith(prefix):
        raise Invalid(f"{setting}: {url!r} is not supported; use {prefix}path.", code="invalid_setting")
    return Path(url.removeprefix(prefix))


def _kill_at_step(wanted: str | None) -> Callable[[str], None]:
    """`step:n` in the environment kills the process, without any clean-up, the n-th time the recorder reaches that
    step: how the fault tests stop a real server at a chosen instruction. Without it: nothing."""
    if not wanted:
        return lambda step: None
    step_wanted, _, times = wanted.partition(":")
    left = int(times or 1)

    def on_step(step: str) -> None:
        nonlocal left
        if step == step_wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)

    return on_step
