"""Settings → parts, by URL scheme. The only module that names a backend."""

import asyncio
import contextlib
import importlib
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import structlog
import yaml

from tallystick.catalog.cached import CachedCatalog
from tallystick.catalog.coordination import Coordination
from tallystick.catalog.interface import DEFAULT_TENANT
from tallystick.catalog.journaled import JournaledLedger
from tallystick.catalog.leases import LeaseCheckpoint
from tallystick.catalog.move import copy_catalog
from tallystick.catalog.partitions import Partition
from tallystick.catalog.relational import RelationalCatalog
from tallystick.catalog.reservations import RelationalLedger, copy_ledger
from tallystick.clock import Clock, SystemClock
from tallystick.config import Settings
from tallystick.crm.hubspot import URL as HUBSPOT_URL
from tallystick.crm.hubspot import HubSpot
from tallystick.crm.interface import Crm
from tallystick.crm.salesforce import Salesforce
from tallystick.delivery.addresses import Guard
from tallystick.delivery.email import EmailSender, SmtpServer
from tallystick.delivery.http import Poster
from tallystick.delivery.sealed import Seal
from tallystick.delivery.slack import SlackSender
from tallystick.delivery.webhook import WebhookSender
from tallystick.errors import Conflict, Invalid
from tallystick.flows.alerts.keeper import AlertKeeper
from tallystick.flows.backup import LEDGER
from tallystick.flows.billing.keeper import BillingKeeper, needed_since
from tallystick.flows.billing.run import grace_us
from tallystick.flows.cluster import MOVED as MOVED_AWAY
from tallystick.flows.cluster import ClusterRecording
from tallystick.flows.crm import CrmKeeper
from tallystick.flows.deliver import Deliverer, Senders, retry_schedule
from tallystick.flows.derive import ReadingsBuilder
from tallystick.flows.erase import FactsEraser, TenantEraser, erased_by_recorders
from tallystick.flows.exports.keeper import ExportKeeper
from tallystick.flows.exports.lake import SCHEMES, Lake
from tallystick.flows.feed import EventFeed
from tallystick.flows.gate import MOVED, Gate
from tallystick.flows.journal import Journal
from tallystick.flows.lease import RENEW_S, Held, JobKeeper, PartitionKeeper, new_owner
from tallystick.flows.limits.board import Board
from tallystick.flows.limits.far import FarLog, FarQuestions, FarRecording
from tallystick.flows.limits.link import Link
from tallystick.flows.limits.owner import JOB, Limiting
from tallystick.flows.limits.process import NICE, GateProcess
from tallystick.flows.move_target import Elsewhere
from tallystick.flows.node import RecorderNode
from tallystick.flows.outbox import Outbox
from tallystick.flows.quarantine import QuarantineKeeper, Releasing
from tallystick.flows.record import Recorder
from tallystick.flows.recording import Recording
from tallystick.flows.reports.keeper import ReportKeeper
from tallystick.flows.restore import check_finished
from tallystick.flows.retention import NeededSince, RetentionKeeper, nothing_is_needed
from tallystick.flows.rollup import Rollups
from tallystick.flows.rollup_reader import RollupReader
from tallystick.flows.rollup_views import RollupViews
from tallystick.flows.shared_rollups import SharedRollups
from tallystick.flows.sources.allowed import path_of
from tallystick.flows.sources.keeper import SourceKeeper
from tallystick.flows.system import System
from tallystick.identity.runs import RunsIndex
from tallystick.lake.folder import Folder
from tallystick.lake.interface import Place
from tallystick.log.checkpoint import SqliteCheckpoint
from tallystick.log.interface import EventLog
from tallystick.log.partitioned import PartitionedLog, PlacedLog
from tallystick.log.sqlite import SqliteLog
from tallystick.metering.position import local_of
from tallystick.metrics import Metrics
from tallystick.payments.interface import InvoiceReceiver
from tallystick.payments.journal_file import JournalFile
from tallystick.sources.access_log import AccessLogRunner
from tallystick.sources.folder import FolderRunner
from tallystick.sources.interface import Factory, Feed, Runner, SourceFaultError
from tallystick.sources.source import Source
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.interface import Store
from tallystick.store.layout import Storage
from tallystick.taxes.http import HttpTaxes
from tallystick.taxes.interface import TaxService
from tallystick.telemetry.mapping import TelemetryMapping, read_mapping

ROLES = frozenset({"api", "recorder", "worker"})
_QUESTION_THREADS = 8
_MAPPING_BYTES_MAX = 1024 * 1024
_NATS = ("nats://", "tls://")
_ROLLUPS = "job/rollups"
_FOR_GOOD_US = 1_000 * 365 * 86_400_000_000

_logger = structlog.get_logger("wiring")


@dataclass(slots=True)
class Running:
    """A system with its background work. `stop` ends both, in an order that loses nothing."""

    system: System
    retention: RetentionKeeper | None
    """Of the one recorder; None in a cluster, where each partition has its own."""
    eraser: TenantEraser | None
    first_admin_key: str | None
    """The admin key this start has made, to be printed once; None when there was one."""
    ending: Callable[[], Awaitable[None]]

    async def stop(self) -> None:
        """Clean shutdown: no more appends, the batch under way finished, everything closed."""
        await self.ending()
        await self.system.log.close()
        self.system.questions.shutdown(cancel_futures=True)
        self.system.store.close()
        self.system.catalog.close()


async def start(
    settings: Settings,
    *,
    clock: Clock | None = None,
    wrap_store: Callable[[Store], Store] = lambda store: store,
    on_step: Callable[[str], None] | None = None,
    lease_s: float = RENEW_S,
) -> Running:
    """Build all parts and begin recording. `wrap_store`, `on_step` and `lease_s` (how often leases are renewed) are for
    tests that break things.

    Does not wait for the store: when it is down, events are acknowledged and the recorder catches up later.
    """
    process = _gate_process(settings)
    try:
        return await _start(
            settings, clock or SystemClock(), wrap_store, on_step, lease_s=lease_s, process=process
        )
    except BaseException:
        if process is not None:
            process.kill()
        raise


async def _start(
    settings: Settings,
    clock: Clock,
    wrap_store: Callable[[Store], Store],
    on_step: Callable[[str], None] | None,
    *,
    lease_s: float,
    process: GateProcess | None,
) -> Running:
    grace_us(settings)  # a fault of it is told at once
    delivery_retries(settings)
    directory = Path(settings.data_dir)
    check_finished(directory)
    directory.mkdir(parents=True, exist_ok=True)
    catalog = _catalog(settings, directory)
    catalog.migrate()
    catalog.watch()
    first_admin_key = catalog.ensure_admin_key(settings.admin_key or None, now_us=clock.now_us())
    parts = _Parts(
        settings=settings,
        directory=directory,
        clock=clock,
        catalog=catalog,
        store=wrap_store(_store(settings, directory)),
        metrics=Metrics(),
        first_admin_key=first_admin_key,
        on_step=on_step or _kill_at_step(os.environ.get("TALLYSTICK_TEST_KILL_AT_STEP")),
    )
    if _is_of_many(settings):
        return await _start_of_many(parts, lease_s)
    return await _start_alone(parts, process)


def _is_of_many(settings: Settings) -> bool:
    return settings.partitions > 1 or settings.log_url.startswith(_NATS)


def _gate_process(settings: Settings) -> GateProcess | None:
    """Already begun: it loads what it needs while this process does."""
    if settings.gate_process != "on":
        return None
    if _is_of_many(settings):
        raise Invalid(
            "TALLYSTICK_GATE_PROCESS is for an installation of one process. In a cluster, let a process have the role api "
            "alone: the gate then has it to itself.",
            code="invalid_setting",
        )
    process = GateProcess()
    process.begin()
    with contextlib.suppress(OSError):
        os.nice(NICE)  # of this thread and those it makes from now on; the gate's process has begun before
    return process


async def start_gate(settings: Settings, link: Link, board: Board) -> tuple[System, FarRecording]:
    """The parts of the gate's own process (cli/gate_process.py). `system.limits` is still to be run; no store, no log and
    no recorder are in it but those across the link."""
    directory = Path(settings.data_dir)
    catalog = _catalog(settings, directory)
    recording = FarRecording(link, board)
    questions = FarQuestions(link)
    limits = Limiting(catalog, make_ledger=lambda held: _own_ledger(directory), questions=questions)
    absent: Any = None
    far: Any = recording
    system = System(
        settings=settings,
        clock=SystemClock(),
        log=FarLog(link, board),
        store=absent,
        catalog=catalog,
        recorder=far,
        rollups=absent,
        metrics=Metrics(),
        questions=ThreadPoolExecutor(_QUESTION_THREADS, thread_name_prefix="question"),
        billing=catalog if settings.billing == "on" else None,
        limits=limits,
    )
    limits.serve(system)
    return system, recording


@dataclass(frozen=True)
class _Parts:
    settings: Settings
    directory: Path
    clock: Clock
    catalog: CachedCatalog
    store: Store
    metrics: Metrics
    first_admin_key: str | None
    on_step: Callable[[str], None]

    def on_alert_step(self, step: str) -> None:
        self.on_step(f"alerts_{step}")

    def system(
        self,
        log: EventLog,
        recorder: Recording,
        rollups: Rollups,
        quarantine: Releasing | None = None,
        *,
        limits: Limiting,
    ) -> System:
        made = System(
            settings=self.settings,
            clock=self.clock,
            log=log,
            store=self.store,
            catalog=self.catalog,
            recorder=recorder,
            rollups=rollups,
            metrics=self.metrics,
            questions=ThreadPoolExecutor(_QUESTION_THREADS, thread_name_prefix="question"),
            quarantine=quarantine,
            streams=threading.BoundedSemaphore(max(self.settings.usage_streams_max, 1)),
            billing=self.catalog if self.settings.billing == "on" else None,
            taxes=_taxes(self.settings),
            outbox=self.outbox,
            gate=Gate(self.directory / MOVED),
            telemetry=_telemetry(self.settings),
            open_elsewhere=self.elsewhere,
            lake=self.lake,
            limits=limits,
        )
        limits.serve(made)
        return made

    @cached_property
    def outbox(self) -> Outbox:
        allow_private = self.settings.webhook_allow_private == "true"
        return Outbox(self.catalog, Seal(self.settings.secrets_key), Guard(allow_private=allow_private))

    @cached_property
    def lake(self) -> Lake:
        """Places of continuous exports, by URL."""
        allowed = tuple(one.strip() for one in self.settings.export_urls.split(",") if one.strip())
        unknown = [one for one in allowed if not one.startswith(SCHEMES)]
        if unknown:
            detail = f"export_urls: {unknown[0]} is neither s3://… nor file:///…."
            raise Invalid(detail, code="invalid_setting")
        return Lake(self.catalog, allowed, partial(place_of, endpoint=self.settings.export_s3_endpoint))

    def on_export_step(self, step: str) -> None:
        self.on_step(f"exports_{step}")

    def deliverer(self) -> Deliverer:
        """Sends what is enqueued, and is told by the catalog when something is."""
        settings, outbox = self.settings, self.outbox
        time_s_max = max(settings.delivery_time_s_max, 1)
        poster = Poster(outbox.guard, time_s_max=time_s_max)
        senders = Senders(
            webhook=WebhookSender(poster),
            email=EmailSender(_smtp_server(settings), time_s_max=time_s_max),
            slack=SlackSender(poster),
            time_s_max=time_s_max,
        )
        made = Deliverer(
            self.catalog,
            senders,
            outbox.seal,
            clock=self.clock,
            metrics=self.metrics,
            retry_s=delivery_retries(settings),
            keep_days=settings.deliveries_keep_days,
            file_of=self.catalog.report_file,
        )
        self.catalog.on_enqueued(made.wake)
        return made

    def sources(
        self, system: System, coordination: Coordination, owner: str, *, lease_s: float
    ) -> SourceKeeper:
        """Runs what brings events by itself."""
        return SourceKeeper(
            system,
            coordination.leases,
            source_factories(self.settings),
            owner=owner,
            environment=os.environ,
            renew_s=lease_s,
            on_step=self.on_step,
        )

    @property
    def needed_since(self) -> NeededSince:
        """Which facts retention must leave."""
        if self.settings.billing != "on":
            return nothing_is_needed
        return partial(needed_since, self.catalog, self.catalog)

    def elsewhere(self, *, log_url: str, store_url: str, catalog_url: str, partitions: int) -> Elsewhere:
        """A cluster to move to (flows/move.py)."""
        if not log_url.startswith(_NATS) or not catalog_url.startswith("postgres"):
            raise Invalid(
                "A cluster has its log on NATS (log_url nats://…) and its catalog on PostgreSQL (catalog_url "
                "postgresql://…).",
                code="invalid_setting",
            )
        if self.settings.log_url.startswith(_NATS):
            # Its streams are named by partition as these are, and would be taken for its own.
            from tallystick.log.nats_url import NatsUrl

            ours, theirs = NatsUrl.read(self.settings.log_url), NatsUrl.read(log_url)
            if ours.stream == theirs.stream and set(ours.servers) & set(theirs.servers):
                detail = (
                    "log_url: the streams there are those of this installation. Name others (option stream)."
                )
                raise Invalid(detail, code="invalid_setting")
        target = replace(
            self.settings,
            log_url=log_url,
            store_url=store_url,
            catalog_url=catalog_url,
            partitions=partitions,
        )
        store = _store(target, self.directory)
        coordination = Coordination(catalog_url)
        name = ", ".join(
            f"{part} {_without_secrets(url)}"
            for part, url in (("log", log_url), ("store", store_url), ("catalog", catalog_url))
        )

        def close() -> None:
            store.close()
            coordination.close()

        return Elsewhere(
            name=f"{partitions} partitions: {name}",
            store=store,
            coordination=coordination,
            partitions=partitions,
            migrate_catalog=lambda: _migrate(catalog_url),
            open_log=lambda row: _log_of(target, self.directory, Metrics(), row),
            copy_catalog=lambda: self._copy_catalog(catalog_url),
            close=close,
        )

    def _copy_catalog(self, target_url: str) -> dict[str, int]:
        rows = copy_catalog(_catalog_url(self.settings, self.directory), target_url)
        if (self.directory / LEDGER).exists():  # else it is in the catalog's database
            rows["reservations"] = copy_ledger(f"sqlite:///{self.directory / LEDGER}", target_url)
        return rows


def source_factories(settings: Settings) -> dict[str, Factory]:
    """What makes a source of each kind run. One whose library is not installed raises SourceFaultError."""

    def folder(source: Source, feed: Feed) -> Runner:
        return FolderRunner(source, feed, path_of(settings, feed.tenant, source.settings["dir"]))

    def access_log(source: Source, feed: Feed) -> Runner:
        return AccessLogRunner(source, feed, path_of(settings, feed.tenant, source.settings["path"]))

    def bucket(source: Source, feed: Feed) -> Runner:
        from tallystick.sources.bucket import BucketRunner  # its library takes a while to load

        return BucketRunner(source, feed, may_use_own=feed.tenant == DEFAULT_TENANT)

    return {"folder": folder, "access_log": access_log, "bucket": bucket, **_queue_factories()}


def _queue_factories() -> dict[str, Factory]:
    """Of queues and databases. Their libraries are large and may be absent, so each is loaded with the first source of it."""
    modules = {
        "kafka": "kafka",
        "nats": "nats",
        "amqp": "amqp",
        "postgres": "postgres_table",
        "postgres_changes": "postgres_changes",
    }
    return {kind: partial(_make_source, module) for kind, module in modules.items()}


def _make_source(module: str, source: Source, feed: Feed) -> Runner:
    try:
        make: Factory = importlib.import_module(f"tallystick.sources.{module}").make
    except ImportError as error:
        raise SourceFaultError(
            f"Sources of kind {source.kind} need a library that is not installed: pip install "
            "'tallystick[sources]'.",
            code="source_kind_missing",
        ) from error
    return make(source, feed)


def place_of(url: str, *, endpoint: str = "") -> Place:
    """Where a continuous export writes. Raises Invalid for a URL that is of no place."""
    scheme, _, rest = url.partition("://")
    if scheme == "file" and rest.startswith("/"):
        return Folder(Path(rest))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise Invalid(f"{url!r} is neither s3://bucket/… nor file:///….", code="export_url_not_allowed")
    from tallystick.lake.bucket import Bucket  # its library takes a while to load

    return Bucket(bucket, prefix, endpoint=endpoint)


def _crm(settings: Settings) -> Crm | None:
    """Who is told of customers; None: nobody."""
    if settings.crm == "hubspot" and settings.crm_token:
        return HubSpot(settings.crm_token, url=settings.crm_url or HUBSPOT_URL)
    needed = (settings.crm_url, settings.crm_client_id, settings.crm_client_secret)
    if settings.crm == "salesforce" and all(needed):
        return Salesforce(*needed)
    if settings.crm:
        needs = "crm_token" if settings.crm == "hubspot" else "crm_url, crm_client_id and crm_client_secret"
        raise Invalid(f"crm: {settings.crm} needs {needs}.", code="invalid_setting")
    return None


def _smtp_server(settings: Settings) -> SmtpServer | None:
    if not settings.smtp_host:
        return None
    return SmtpServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_tls,
        settings.smtp_user,
        settings.smtp_password,
        settings.smtp_from or f"tallystick@{settings.smtp_host}",
    )


def delivery_retries(settings: Settings) -> tuple[int, ...]:
    """The schedule of retries. Raises Invalid (invalid_setting)."""
    try:
        return retry_schedule(settings.delivery_retry_s)
    except ValueError as error:
        raise Invalid(f"delivery_retry_s: {error}.", code="invalid_setting") from error


def _migrate(catalog_url: str) -> None:
    catalog = RelationalCatalog(catalog_url)
    try:
        catalog.migrate()
    finally:
        catalog.close()


def _without_secrets(url: str) -> str:
    """A URL without the name and the password in it, and without its options."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


async def _start_alone(parts: _Parts, process: GateProcess | None) -> Running:
    """One recorder in this process, which needs nobody's leave."""
    settings, directory, store, clock = parts.settings, parts.directory, parts.store, parts.clock
    journal = Journal(SqliteCheckpoint(directory / "recorder.sqlite"))
    recorded = journal.adopt(store, now_us=clock.now_us()).recorded
    log = _log(settings, directory, parts.metrics, positions_after=recorded)
    if journal.give_up_lost_batch(store, log_end=log.end):
        await log.close()
        log = _log(settings, directory, parts.metrics, positions_after=journal.load().recorded)
    recorder = Recorder(
        log=log,
        open_index=lambda: RunsIndex(directory / "identity"),
        discard_index=lambda: RunsIndex.discard(directory / "identity"),
        store=store,
        catalog=parts.catalog,
        journal=journal,
        clock=clock,
        batch_events_max=settings.record_batch_events_max,
        unknown_subject=settings.unknown_subject,
        on_step=parts.on_step,
    )
    builder = ReadingsBuilder(store=store, catalog=parts.catalog, recorder=recorder)
    rollups = RollupViews(
        store=store,
        catalog=parts.catalog,
        recorder=recorder,
        checkpoint=SqliteCheckpoint(directory / "rollups.sqlite"),
    )
    quarantine = QuarantineKeeper(store=store, catalog=parts.catalog, recorder=recorder, log=log, clock=clock)
    facts_eraser = FactsEraser(store=store, catalog=parts.catalog, recorder=recorder, log=log, clock=clock)
    eraser = TenantEraser(
        store=store,
        catalog=parts.catalog,
        recorder=recorder,
        end=lambda: (log.end,),
        forget=facts_eraser.forget,
        clock=clock,
        directory=directory / "exports",
    )
    retention = RetentionKeeper(
        store=store,
        catalog=parts.catalog,
        recorder=recorder,
        clock=clock,
        needed_since=parts.needed_since,
    )
    limits = Limiting(parts.catalog, make_ledger=lambda held: _own_ledger(directory), process=process)
    system = parts.system(log, recorder, rollups, quarantine, limits=limits)
    billing = BillingKeeper(
        system, sweep_s=settings.billing_sweep_s, receiver=_receiver(settings, parts.directory)
    )
    deliverer = parts.deliverer()
    alerts = AlertKeeper(system, status=system.alerts, on_step=parts.on_alert_step)
    system.alerts.working = True
    feed = EventFeed(system)
    coordination = Coordination(_catalog_url(settings, directory))
    sources = parts.sources(system, coordination, new_owner(), lease_s=RENEW_S)
    reports = ReportKeeper(system)
    exports = ExportKeeper(system, parts.lake, on_step=parts.on_export_step)
    crm = CrmKeeper(system, _crm(settings))
    tasks = [
        asyncio.create_task(recorder.run(), name="recorder"),
        asyncio.create_task(builder.run(), name="builder"),
        asyncio.create_task(rollups.run(), name="rollups"),
        asyncio.create_task(retention.run(), name="retention"),
        asyncio.create_task(eraser.run(), name="eraser"),
        asyncio.create_task(quarantine.run(), name="quarantine"),
        asyncio.create_task(billing.run(), name="billing"),
        asyncio.create_task(limits.run(), name="limits"),
        asyncio.create_task(deliverer.run(), name="deliveries"),
        asyncio.create_task(alerts.run(), name="alerts"),
        asyncio.create_task(feed.run(), name="feed"),
        asyncio.create_task(reports.run(), name="reports"),
        asyncio.create_task(exports.run(), name="exports"),
        asyncio.create_task(crm.run(), name="crm"),
    ]
    feeding = asyncio.create_task(sources.run(), name="sources")

    async def end() -> None:
        sources.stop()
        await asyncio.gather(feeding, return_exceptions=True)
        coordination.close()
        await exports.stop()
        await crm.stop()
        await alerts.stop()
        await feed.stop()
        await reports.stop()
        limits.stop()
        await deliverer.stop()
        await billing.stop()
        await builder.stop()
        await retention.stop()
        await facts_eraser.stop()
        await eraser.stop()
        await quarantine.stop()
        await rollups.stop()
        recorder.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        journal.close()
        rollups.close()

    return Running(system, retention, eraser, parts.first_admin_key, end)


async def _start_of_many(parts: _Parts, lease_s: float) -> Running:
    """This process is one of several, or could be: who records what is agreed upon through the catalog's database."""
    settings, directory, store, clock = parts.settings, parts.directory, parts.store, parts.clock
    coordination = Coordination(_catalog_url(settings, directory))
    coordination.partitions.prepare(settings.partitions)
    rows = coordination.partitions.rows()
    logs = [await _log_of(settings, directory, parts.metrics, row) for row in rows]
    view = ClusterRecording(
        coordination=coordination,
        catalog=parts.catalog,
        store=store,
        clock=clock,
        logs=logs,
        may_quarantine=settings.unknown_subject == "quarantine",
    )
    node = RecorderNode(
        view=view,
        coordination=coordination,
        catalog=parts.catalog,
        store=store,
        logs=logs,
        clock=clock,
        directory=directory,
        open_index=RunsIndex,
        discard_index=RunsIndex.discard,
        batch_events_max=settings.record_batch_events_max,
        unknown_subject=settings.unknown_subject,
        on_step=parts.on_step,
        needed_since=parts.needed_since,
    )

    def keeper_of(held: Held[str]) -> RollupViews:
        checkpoint = LeaseCheckpoint(coordination.leases, held.key, held.epoch, check=held.check)
        return RollupViews(store=store, catalog=parts.catalog, recorder=view, checkpoint=checkpoint)

    # Of its own: questions must not keep a lease from being renewed.
    reading = Coordination(_catalog_url(settings, directory))
    reader = RollupReader(
        store=store, recorder=view, read=lambda: reading.leases.peek(_ROLLUPS), may_ask=lambda: view.is_fresh
    )
    rollups = SharedRollups(keeper_of, reader)
    log = PartitionedLog(logs)
    limits = Limiting(
        parts.catalog,
        make_ledger=lambda held: _shared_ledger(_catalog_url(settings, directory), held),
        leases=coordination.leases,
        address=settings.advertise_url or f"http://{settings.listen}",
    )
    system = parts.system(log, view, rollups, node, limits=limits)
    system.gate.tell = lambda where: _mark_moved(coordination, where)
    view.on_moved = system.gate.has_moved
    eraser = TenantEraser(
        store=store,
        catalog=parts.catalog,
        recorder=view,
        end=lambda: log.end,
        forget=erased_by_recorders(store),
        clock=clock,
        directory=directory / "exports",
    )
    owner = new_owner()
    roles = roles_of(settings)
    keepers: list[PartitionKeeper | JobKeeper | SourceKeeper] = []
    if "recorder" in roles:
        keepers.append(
            PartitionKeeper(
                coordination.partitions,
                coordination.leases,
                owner=owner,
                work=node.record,
                renew_s=lease_s,
            )
        )
    if "worker" in roles:
        billing = BillingKeeper(
            system, sweep_s=settings.billing_sweep_s, receiver=_receiver(settings, parts.directory)
        )
        deliverer = parts.deliverer()
        jobs = {
            _ROLLUPS: rollups.work,
            "job/billing": billing.work,
            "job/deliveries": deliverer.work,
            "job/feed": EventFeed(system).work,
            "job/alerts": AlertKeeper(system, status=system.alerts, on_step=parts.on_alert_step).work,
            "job/erase": eraser.work,
            "job/reports": ReportKeeper(system).work,
            "job/crm": CrmKeeper(system, _crm(settings)).work,
            "job/exports": ExportKeeper(system, parts.lake, on_step=parts.on_export_step).work,
        }
        keepers.append(JobKeeper(coordination.leases, jobs, owner=owner, renew_s=lease_s))
        keepers.append(parts.sources(system, coordination, owner, lease_s=lease_s))
    if "api" in roles:
        gate_jobs = {JOB: limits.work}
        keepers.append(JobKeeper(coordination.leases, gate_jobs, owner=f"{owner}/gate", renew_s=lease_s))
    await view.look()
    viewing = asyncio.create_task(view.run(), name="cluster")
    tasks = [asyncio.create_task(keeper.run(), name="leases") for keeper in keepers]

    async def end() -> None:
        for keeper in keepers:
            keeper.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        view.stop()
        await asyncio.gather(viewing, return_exceptions=True)
        coordination.close()
        reading.close()

    return Running(system, None, eraser, parts.first_admin_key, end)


def _mark_moved(coordination: Coordination, where: str) -> None:
    """For every process of this installation, and for good."""
    if coordination.leases.acquire(MOVED_AWAY, where, ttl_us=_FOR_GOOD_US) is None:
        raise Conflict("This installation has moved already.", code="moved")


def _own_ledger(directory: Path) -> JournaledLedger:
    table = RelationalLedger(f"sqlite:///{directory / LEDGER}")
    table.prepare()
    return JournaledLedger(table, directory)


def _shared_ledger(catalog_url: str, held: Held[str] | None) -> RelationalLedger:
    assert held is not None
    return RelationalLedger(catalog_url, lease=(held.key, held.epoch), check=held.check)


def roles_of(settings: Settings) -> frozenset[str]:
    """What this process does. Raises Invalid for a role there is not."""
    roles = frozenset(role.strip() for role in settings.role.split(",") if role.strip())
    unknown = sorted(roles - ROLES)
    if unknown or not roles:
        raise Invalid(
            f"role: {', '.join(unknown) or 'none'} is not a role; there are {', '.join(sorted(ROLES))}.",
            code="invalid_setting",
        )
    return roles


async def _log_of(settings: Settings, directory: Path, metrics: Metrics, row: Partition) -> PlacedLog:
    """The log of one partition: a stream of its own, or a file (of one process)."""
    after = local_of(row.recorded)
    if settings.log_url.startswith(_NATS):
        # Imported here: the embedded default does without.
        from tallystick.log.jetstream import JetStreamLog

        stream = await JetStreamLog.open(
            settings.log_url,
            partition=row.partition,
            waiting_events_max=settings.log_waiting_events_max,
            unrecorded_events_max=settings.log_unrecorded_events_max,
            positions_after=after,
            observe_commit=metrics.observe_commit,
        )
        return PlacedLog(stream, row.partition)
    path = _path(settings.log_url or f"sqlite:///{directory / 'log.sqlite'}", "sqlite", "log_url")
    file = _log_at(
        path.with_name(f"{path.stem}-{row.partition}{path.suffix}"), settings, metrics, positions_after=after
    )
    return PlacedLog(file, row.partition)


def _log(settings: Settings, directory: Path, metrics: Metrics, *, positions_after: int) -> SqliteLog:
    path = _path(settings.log_url or f"sqlite:///{directory / 'log.sqlite'}", "sqlite", "log_url")
    return _log_at(path, settings, metrics, positions_after=positions_after)


def _log_at(path: Path, settings: Settings, metrics: Metrics, *, positions_after: int) -> SqliteLog:
    return SqliteLog.open(
        path,
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


def _taxes(settings: Settings) -> TaxService | None:
    """Who says what invoices are taxed with; None: the customers' terms."""
    if not settings.tax_url:
        return None
    if not settings.tax_url.startswith(("http://", "https://")):
        raise Invalid("TALLYSTICK_TAX_URL is no http(s) address.", code="invalid_setting")
    return HttpTaxes(settings.tax_url, secret=settings.tax_secret, time_s_max=settings.tax_time_s_max or 10)


def _receiver(settings: Settings, directory: Path) -> InvoiceReceiver | None:
    """Where finalized invoices are sent; None: nowhere."""
    if settings.billing != "on" or not settings.payments:
        return None
    if settings.payments == "journal":
        return JournalFile(directory / "journal.csv")
    if not settings.stripe_api_key:
        raise Invalid("TALLYSTICK_PAYMENTS stripe needs TALLYSTICK_STRIPE_API_KEY.", code="invalid_setting")
    try:
        from tallystick.payments.stripe_invoices import StripeInvoices  # its library is optional
    except ImportError as error:
        detail = "TALLYSTICK_PAYMENTS stripe needs its library: pip install stripe."
        raise Invalid(detail, code="invalid_setting") from error
    return StripeInvoices(settings.stripe_api_key, base_url=settings.stripe_url or None)


def _telemetry(settings: Settings) -> TelemetryMapping:
    if not settings.telemetry_mapping:
        return TelemetryMapping()
    try:
        document = yaml.safe_load(Path(settings.telemetry_mapping).read_bytes()[:_MAPPING_BYTES_MAX])
    except (OSError, yaml.YAMLError) as error:
        detail = f"telemetry_mapping: {settings.telemetry_mapping} cannot be read: {error}."
        raise Invalid(detail, code="invalid_setting") from error
    return read_mapping(document)


def _catalog(settings: Settings, directory: Path) -> CachedCatalog:
    return CachedCatalog(_catalog_url(settings, directory))


def _catalog_url(settings: Settings, directory: Path) -> str:
    return settings.catalog_url or f"sqlite:///{directory / 'catalog.sqlite'}"


def _path(url: str, scheme: str, setting: str) -> Path:
    prefix = f"{scheme}:///"
    if not url.startswith(prefix):
        raise Invalid(f"{setting}: {url!r} is not supported; use {prefix}path.", code="invalid_setting")
    return Path(url.removeprefix(prefix))


def _kill_at_step(wanted: str | None) -> Callable[[str], None]:
    """`step:n` in the environment kills the process, without any clean-up, the n-th time the recorder (or, with
    `alerts_` or `exports_` before it, the keeper of those) reaches that step: how the fault tests stop a real server at a chosen instruction. Without it: nothing."""
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
