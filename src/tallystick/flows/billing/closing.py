"""From an invoice that is built to what the catalog keeps of it, and what a run reports."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from tallystick.billing.kept import subscription_of
from tallystick.billing.timeline import closing_look, next_boundary
from tallystick.catalog.billing import Closing, KeptInvoice, KeptSubscription, LateLine
from tallystick.flows.billing.build import Built, Job
from tallystick.flows.billing.notes import late_notes
from tallystick.flows.billing.paying import payables_of
from tallystick.flows.system import System
from tallystick.money import money_text

FAILED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Failed:
    """An invoice that could not be made, and why. It is tried again with the next run."""

    tenant: str
    subscription: str
    code: str
    detail: str


@dataclass(slots=True)
class Report:
    """What a run did."""

    at_us: int
    closed: int = 0
    finalized: int = 0
    invoices: list[str] = field(default_factory=list[str])
    """Ids of those that were made or finalized, at most FAILED_MAX of them."""
    failed: list[Failed] = field(default_factory=list[Failed])

    def note(self, kept: Sequence[KeptInvoice]) -> None:
        for one in kept:
            self.finalized += one.status == "finalized"
            if len(self.invoices) < FAILED_MAX and one.id not in self.invoices:
                self.invoices.append(one.id)


def is_after_end(job: Job) -> bool:
    """There is nothing to bill but what has changed of earlier invoices."""
    end_us = job.subscription.end_us
    return end_us is not None and job.boundary_us > end_us


def new_invoice_id() -> str:
    return "inv_" + secrets.token_hex(12)


def closing_of(
    system: System,
    kept: KeptSubscription,
    built: Built,
    *,
    name: str,
    status: str,
    grace_until_us: int,
    now_us: int,
) -> Closing:
    """What the catalog is to keep: the invoice, and all that goes with it where it is finalized."""
    job = built.job
    finalized = status == "finalized"
    subscription = subscription_of(kept.content)
    invoice = KeptInvoice(
        tenant=kept.tenant,
        id=name,
        customer=kept.customer,
        subscription=kept.id,
        boundary_us=job.boundary_us,
        from_us=built.period.from_us,
        to_us=built.period.to_us,
        status="finalized" if finalized else "grace",
        grace_until_us=grace_until_us,
        document=built.document,
        basis=built.basis,
        created_at_us=now_us,
        finalized_at_us=now_us if finalized else None,
        kind="closing" if is_after_end(job) else job.kind,
    )
    late = tuple(
        LateLine(kept.tenant, kept.id, name, line.id, line.of[0], line.of[1], money_text(line.rounded))
        for line in built.late
        if line.of is not None
    )
    following = next_boundary(subscription, job.plans, job.timezone, job.boundary_us)
    if following is None:
        following = closing_look(subscription, job.plans, job.timezone, job.boundary_us)
    return Closing(
        invoice,
        kept.content,
        None if job.kind == "threshold" else job.boundary_us,
        following,
        late if finalized else (),
        items=tuple(item.id for item in job.items) if finalized else (),
        parts=tuple(part.invoice for part in job.parts),
        notes=late_notes(kept.id, built, now_us=now_us) if finalized else (),
        payables=lambda: payables_of(job.plans, json.loads(built.document)),
        collect=bool(system.settings.payments),
    )
