"""Closes periods by itself. Whatever fails here is logged and tried again; nobody else notices."""

import asyncio

import structlog

from tallystick.billing.kept import subscription_of
from tallystick.billing.timeline import meters_since
from tallystick.catalog.billing import BillingCatalog
from tallystick.catalog.interface import Catalog
from tallystick.flows.billing.collect import collect
from tallystick.flows.billing.parts import plans_of
from tallystick.flows.billing.run import run
from tallystick.flows.lease import Held
from tallystick.flows.system import System
from tallystick.payments.interface import InvoiceReceiver

_logger = structlog.get_logger("billing")
NEVER_S = 3600.0


class BillingKeeper:
    """`run` is its life."""

    def __init__(self, system: System, *, sweep_s: float, receiver: InvoiceReceiver | None = None) -> None:
        self._system = system
        self._receiver = receiver
        self._sweep_s = sweep_s if system.billing is not None else 0
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Sweep until `stop`."""
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), self._sweep_s or NEVER_S)
            except TimeoutError:
                if self._sweep_s:
                    await self._sweep()

    async def _sweep(self) -> None:
        try:
            report = await run(self._system, None, self._system.clock.now_us(), stopped=self._stopping.is_set)
        except Exception as error:
            _logger.warning("billing_failed", error=repr(error))
            return
        finally:
            await self._collect()
        if report.closed or report.finalized:
            _logger.info("billed", closed=report.closed, finalized=report.finalized)
        for failed in report.failed[:10]:
            _logger.warning(
                "invoice_failed", tenant=failed.tenant, subscription=failed.subscription, code=failed.code
            )

    async def _collect(self) -> None:
        if self._receiver is None:
            return
        try:
            await collect(self._system, self._receiver, stopped=self._stopping.is_set)
        except Exception as error:
            _logger.warning("payments_failed", error=repr(error))

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


def needed_since(billing: BillingCatalog, catalog: Catalog, tenant: str, event_type: str) -> int | None:
    """Facts of a type from this moment on are not invoiced yet, or may still change before they are finalized: since the
    beginning of the first period that is open or in grace. Synchronous."""
    earliest: int | None = None
    kept = billing.open_subscriptions(tenant)
    grace = {one.subscription: one.from_us for one in billing.invoices_in_grace(tenant, 2**62, limit=100_000)}
    subscriptions = {one.id: subscription_of(one.content) for one in kept}
    for name in grace.keys() - subscriptions.keys():
        subscriptions[name] = subscription_of(billing.subscription(tenant, name).content)
    closed = {one.id: one.closed_us for one in kept}
    every_plan = plans_of(billing, tenant, subscriptions.values())
    types: dict[str, str] = {}
    for name, one in subscriptions.items():
        from_us = closed.get(name) or one.start_us
        from_us = min(from_us, grace.get(name, from_us))
        for meter, since_us in meters_since(one, every_plan, from_us).items():
            if meter not in types:
                types[meter] = catalog.meter(tenant, meter).event_type
            if types[meter] == event_type and (earliest is None or since_us < earliest):
                earliest = since_us
    return earliest
