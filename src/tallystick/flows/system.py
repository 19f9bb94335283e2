"""The parts of one running Tallystick, as the outside (api, cli) sees them. Built by wiring.py."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallystick.catalog.billing import BillingCatalog
from tallystick.catalog.interface import Catalog
from tallystick.clock import Clock
from tallystick.config import Settings
from tallystick.flows.alerts.status import AlertStatus
from tallystick.flows.exports.lake import Lake
from tallystick.flows.gate import Gate
from tallystick.flows.move_target import OpenElsewhere
from tallystick.flows.outbox import Outbox
from tallystick.flows.quarantine import Releasing
from tallystick.flows.recording import Recording
from tallystick.flows.rollup import Rollups
from tallystick.flows.sources.state import SourceFigures
from tallystick.flows.tails import Tails
from tallystick.log.interface import EventLog
from tallystick.metering.position import Vector
from tallystick.metrics import Metrics
from tallystick.store.interface import Store
from tallystick.taxes.interface import TaxService
from tallystick.telemetry.mapping import TelemetryMapping

if TYPE_CHECKING:
    from tallystick.flows.limits.owner import Limiting


@dataclass(frozen=True, slots=True)
class System:
    """Everything a request may need. `questions` are the threads that wait for the store and the catalog."""

    settings: Settings
    clock: Clock
    log: EventLog
    store: Store
    catalog: Catalog
    recorder: Recording
    rollups: Rollups
    metrics: Metrics
    questions: ThreadPoolExecutor
    quarantine: Releasing | None = None
    streams: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(4))
    """Places of answers that are being streamed (setting usage_streams_max)."""
    billing: BillingCatalog | None = None
    """None: billing is switched off."""
    taxes: TaxService | None = None
    """Asked for the taxes of invoices; None: the customers' terms say."""
    tails: Tails = field(default_factory=Tails)
    outbox: Outbox | None = None
    """Channels and deliveries (flows/outbox.outbox_of)."""
    lake: Lake | None = None
    """Continuous exports (flows/exports/lake.lake_of)."""
    limits: "Limiting | None" = None
    """Who may still use how much (flows/limits)."""
    gate: Gate = field(default_factory=Gate)
    sources: SourceFigures = field(default_factory=SourceFigures)
    """How the sources stand that this process runs."""
    alerts: AlertStatus = field(default_factory=AlertStatus)
    telemetry: TelemetryMapping = field(default_factory=TelemetryMapping)
    """Whose usage a metric is (setting telemetry_mapping)."""
    open_elsewhere: OpenElsewhere | None = None
    """A cluster to move to, by its URLs; None: this process has nothing that could move."""

    @property
    def acknowledged(self) -> Vector:
        """Everything acknowledged up to now lies at or before it."""
        end = self.log.end
        return (end,) if isinstance(end, int) else end
