"""Exports continuously: what is due, one after the other, while this process has the job.

Each manifest: the plan is written down (1), then its files are put (2), then the manifest is created, which nobody can do twice (3),
then the catalog is told (4). Killed anywhere, the plan is carried out again: files of the same rows have the same names, and a
manifest that is there already is taken as it is. What was recorded is in the files of exactly one manifest.
"""

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import pyarrow as pa
import structlog

from tallystick.catalog.exporting import ExportPlan, ExportState, InvoicePlace, KeptExport
from tallystick.catalog.leases import LeaseLostError
from tallystick.errors import Invalid, NotFound, TallystickError
from tallystick.flows.exports.lake import Lake, root_of
from tallystick.flows.exports.rows import EVENTS, INVOICES, USAGE, event_rows, invoice_rows, usage_rows
from tallystick.flows.exports.write import Writing, manifest_of, write_files
from tallystick.flows.lease import Held
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.lake.manifest import Manifest, decoded, digest_of, encoded, name_of
from tallystick.metering.instant import instant_us
from tallystick.metering.meter import Meter

LOOK_S = 1.0
AT_ONCE = 20
RETRY_S_MAX = 300

_logger = structlog.get_logger("exports")


class ExportKeeper:
    """`run` is its life; `look` is one round of it. `on_step` is for tests that kill."""

    def __init__(
        self, system: System, lake: Lake, *, on_step: Callable[[str], None] = lambda step: None
    ) -> None:
        self._system = system
        self._lake = lake
        self._on_step = on_step
        self._held_check: Callable[[], None] = lambda: None
        self._stopping = asyncio.Event()
        self._watched = False

    async def run(self) -> None:
        """Look until `stop`."""
        while not self._stopping.is_set():
            try:
                await self.look()
            except LeaseLostError:
                return
            except Exception as error:
                _logger.warning("exports_failed", error=repr(error))
            try:
                await asyncio.wait_for(self._stopping.wait(), LOOK_S)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        self._stopping.set()

    async def work(self, held: Held[str]) -> None:
        """In a cluster: while this process has the job."""
        self._stopping, self._held_check = asyncio.Event(), held.check
        running = asyncio.create_task(self.run())
        try:
            await held.leaving.wait()
        finally:
            await self.stop()
            await running

    async def look(self) -> None:
        """Do what is due; one that fails is tried again later, and keeps no other."""
        catalog, system = self._lake.catalog, self._system
        now_us = system.clock.now_us()
        due = await in_questions(system, lambda: catalog.due_exports(now_us, limit=AT_ONCE))
        if due and not await system.recorder.wait_until_migrated(system.settings.wait_s_max):
            return
        for kept in due:
            if self._stopping.is_set():
                return
            await self._advance(kept)
        if due or not self._watched:
            await self._show()

    async def _show(self) -> None:
        catalog = self._lake.catalog
        every = await in_questions(self._system, lambda: catalog.exports(None, limit=1000).items)
        active = [one for one in every if not one.setup.paused]
        oldest_us = min((one.state.looked_us or one.created_at_us for one in active), default=None)
        failing = sum(one.state.error is not None for one in active)
        self._system.metrics.show_exports(
            failing, lag=lambda: 0 if oldest_us is None else (self._system.clock.now_us() - oldest_us) / 1e6
        )
        self._watched = True

    async def _advance(self, kept: KeptExport) -> None:
        try:
            await self._export(kept)
        except (LeaseLostError, _MovedOnError):
            return  # the next look is of how it is then
        except TallystickError as error:
            await self._failed(kept, error.detail, error.code)
        except Exception as error:
            _logger.warning("export_failed", tenant=kept.tenant, export=kept.key, error=repr(error))
            await self._failed(kept, "The export failed; the server's log says why.", "internal")

    async def _failed(self, kept: KeptExport, detail: str, code: str) -> None:
        system, catalog = self._system, self._lake.catalog
        try:
            present = await in_questions(system, lambda: catalog.export(kept.tenant, kept.key))
        except NotFound:
            return
        failures = present.state.failures + 1
        wait_s = min(2 ** min(failures, 20), RETRY_S_MAX)
        state = msgspec.structs.replace(present.state, failures=failures, error=detail, error_code=code)
        due_us = system.clock.now_us() + wait_s * 1_000_000
        await in_questions(system, lambda: catalog.advance_export(present, state, due_at_us=due_us))

    async def _export(self, kept: KeptExport) -> None:
        """One manifest, if there is anything for it."""
        system = self._system
        published_us = system.recorder.recorded_at_us
        now_us = system.clock.now_us()
        next_us = now_us + kept.setup.every_s * 1_000_000
        self._check()

        def work() -> Manifest | None:
            meters = self._meters(kept)
            planned = kept
            if kept.state.plan is None:
                plan = self._planned(kept, published_us, meters)
                if plan is None:
                    self._tell(kept, _seen(kept.state, meters, published_us, now_us), next_us)
                    return None
                planned = self._tell(kept, msgspec.structs.replace(kept.state, plan=plan), kept.due_at_us)
                self._on_step("planned")
            return self._carry_out(planned, meters, next_us)

        # In a thread of its own: it may take long, and questions have only so many.
        made = await asyncio.to_thread(work)
        if made is not None:
            system.metrics.observe_export(kept.setup.what, made.rows)
            _logger.info(
                "exported", tenant=kept.tenant, export=kept.key, manifest=made.number, rows=made.rows
            )

    def _check(self) -> None:
        """Before each file: whoever is to stop, or has lost the job, leaves the rest to who repeats the plan."""
        if self._stopping.is_set():
            raise _MovedOnError("The process is to stop.")
        self._held_check()

    def _tell(self, kept: KeptExport, state: ExportState, due_at_us: int) -> KeptExport:
        made = self._lake.catalog.advance_export(kept, state, due_at_us=due_at_us)
        if made is None:
            raise _MovedOnError("The export was changed meanwhile.")
        return made

    def _meters(self, kept: KeptExport) -> dict[str, Meter]:
        """By id. Of usage: in service and wanted, and what a plan names."""
        if kept.setup.what != "usage":
            return {}
        wanted = kept.setup.meters
        plan = kept.state.plan
        named = set(plan.meters) if plan is not None else set[str]()
        found = {
            str(meter.id): meter
            for meter in self._system.catalog.active_meters()
            if meter.tenant == kept.tenant and (wanted is None or meter.key in wanted)
        }
        gone = [int(name) for name in named - found.keys()]  # archived, or changed, since it was planned
        kept_by_id = self._system.catalog.meters_by_id(gone) if gone else {}
        return found | {str(name): meter for name, meter in kept_by_id.items()}

    def _planned(self, kept: KeptExport, published_us: int, meters: dict[str, Meter]) -> ExportPlan | None:
        """What the next manifest holds; None where nothing was recorded since the last."""
        state = kept.state
        now_us = self._system.clock.now_us()
        plan = ExportPlan(
            number=state.number + 1, after_us=state.to_us, until_us=published_us, made_us=now_us
        )
        if kept.setup.what == "invoices":
            end = self._lake.catalog.invoice_end(kept.tenant)
            if end == state.invoices:
                return None
            until_us = max(now_us, state.to_us + 1)
            return msgspec.structs.replace(plan, until_us=until_us, invoices=(state.invoices, end))
        if published_us <= state.to_us:
            return None
        begin_us = max(state.to_us, state.seen_us)
        if kept.setup.what == "usage":
            plan = msgspec.structs.replace(plan, meters={name: state.meters.get(name, 0) for name in meters})
            begin_us = min(plan.meters.values(), default=published_us)
        return plan if self._anything(kept, meters, begin_us, published_us) else None

    def _anything(self, kept: KeptExport, meters: dict[str, Meter], after_us: int, until_us: int) -> bool:
        """Whether there is any row, without reading all of them."""
        if after_us >= until_us:
            return False
        types = None if kept.setup.what == "events" else sorted({one.event_type for one in meters.values()})
        if types is not None and not types:
            return False
        return self._system.store.has_changes(kept.tenant, types, after_us=after_us, until_us=until_us)

    def _carry_out(self, kept: KeptExport, meters: dict[str, Meter], next_us: int) -> Manifest:
        plan = kept.state.plan
        assert plan is not None
        root = root_of(kept)
        self._lake.check(root)
        place = self._lake.open(root)
        name = name_of(plan.number)
        content = place.read(name)
        if content is None:
            schema, blocks, time = self._rows(kept, plan, meters)
            writing = Writing(
                place, plan.number, kept.setup.partitioning, time, check=self._check, on_step=self._on_step
            )
            files = write_files(writing, schema, blocks)
            self._on_step("files")
            content = encoded(manifest_of(kept, plan, files, meters))
            self._check()
            if not place.create(name, content):
                content = place.read(name) or b""
            self._on_step("manifest")
        made = _ours(kept, plan, content)
        self._tell(kept, _after(kept.state, plan, made, content, meters), next_us)
        self._on_step("advanced")
        return made

    def _rows(
        self, kept: KeptExport, plan: ExportPlan, meters: dict[str, Meter]
    ) -> tuple[pa.Schema, Iterator[pa.Table], str]:
        store, order = self._system.store, kept.setup.partitioning
        if kept.setup.what == "invoices":
            assert plan.invoices is not None
            rows = invoice_rows(self._lake.catalog, kept.tenant, *plan.invoices)
            return INVOICES, rows, "finalized_at"
        if kept.setup.what == "usage":
            pairs = [(meters[name], after_us) for name, after_us in plan.meters.items() if name in meters]
            rows = usage_rows(store, kept.tenant, order, pairs, until_us=plan.until_us)
            return USAGE, rows, "time"
        rows = event_rows(store, kept.tenant, order, after_us=plan.after_us, until_us=plan.until_us)
        return EVENTS, rows, "time"


class _MovedOnError(TallystickError):
    """Somebody has changed the export, or got further with it."""


def _seen(state: ExportState, meters: dict[str, Meter], published_us: int, now_us: int) -> ExportState:
    """There was nothing more until then."""
    places = state.meters | dict.fromkeys(meters, published_us)
    return msgspec.structs.replace(
        state, seen_us=published_us, looked_us=now_us, meters=places, failures=0, error=None, error_code=None
    )


def _ours(kept: KeptExport, plan: ExportPlan, content: bytes) -> Manifest:
    """The manifest that is there. Nearly always what was planned; after a catalog was brought back from a backup, one of this
    export's that the catalog does not know any more. Raises Invalid (export_place_taken)."""
    found = decoded(content)
    wanted = (kept.id, plan.number, kept.state.digest)
    if found is None or (found.export_id, found.number, found.previous) != wanted:
        raise Invalid(
            f"At {root_of(kept)}/{name_of(plan.number)} there is something that this export has not written. Give it "
            "another prefix or another key.",
            code="export_place_taken",
        )
    return found


def _after(
    state: ExportState, plan: ExportPlan, made: Manifest, content: bytes, meters: dict[str, Meter]
) -> ExportState:
    """What is known once a manifest is there: by the manifest, because that is what counts."""
    to_us = instant_us(made.to)
    by_version = {(meter.key, meter.version): name for name, meter in meters.items()}
    ids = [by_version.get((part.meter, part.version)) for part in made.meters]
    places = state.meters | {name: to_us for name in ids if name is not None}
    return msgspec.structs.replace(
        state,
        number=made.number,
        to_us=to_us,
        seen_us=to_us,
        looked_us=plan.made_us,
        digest=digest_of(content),
        meters=places,
        invoices=state.invoices if made.invoices is None else InvoicePlace(*made.invoices),
        rows=state.rows + made.rows,
        files=state.files + len(made.files),
        bytes=state.bytes + sum(file.bytes for file in made.files),
        plan=None,
        failures=0,
        error=None,
        error_code=None,
    )
