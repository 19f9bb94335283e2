"""The report of late money: what finalized invoices billed, what they would bill now, and what is not settled yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tallystick.billing.invoice import add
from tallystick.catalog.billing import InvoiceSearch, KeptInvoice
from tallystick.flows.billing.build import Job, late_of, want_earlier
from tallystick.flows.billing.gather import Wanted, gather
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.prepare import jobs_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions


@dataclass(frozen=True, slots=True)
class LateMoney:
    """Of one finalized invoice, before discount and tax: its lines as they were billed; what was billed (or given back)
    for them later; what they would be now. `difference`: what a coming invoice or note is to settle."""

    invoice: KeptInvoice
    currency: str
    billed: Decimal
    settled: Decimal
    now: Decimal
    difference: Decimal


@dataclass(frozen=True, slots=True)
class LatePage:
    items: tuple[LateMoney, ...]
    next_cursor: str | None


async def late_money(
    system: System,
    tenant: str,
    *,
    customers: tuple[str, ...] | None = None,
    subscription: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> LatePage:
    """Newest invoices first. One whose facts are deleted stands as it was billed."""
    billing = billing_of(system)
    search = InvoiceSearch(customers, subscription, "finalized", "period")
    page = await in_questions(system, lambda: billing.invoices(tenant, search, cursor=cursor, limit=limit))
    jobs = await in_questions(system, lambda: _jobs(system, tenant, page.items))
    wanted = Wanted()
    for job in jobs.values():
        want_earlier(job, wanted)
    answers = await gather(system, tenant, wanted, None)

    def compare() -> list[LateMoney]:
        made: list[LateMoney] = []
        for invoice in page.items:
            job = jobs[invoice.subscription]
            earlier = next(one for one in job.earlier if one.id == invoice.id)
            billed, settled, difference = late_of(job, earlier, answers)
            now = add(add(billed, settled), difference)
            made.append(LateMoney(invoice, job.currency, billed, settled, now, difference))
        return made

    return LatePage(tuple(await in_questions(system, compare)), page.next_cursor)


def _jobs(system: System, tenant: str, invoices: Sequence[KeptInvoice]) -> dict[str, Job]:
    """One for each subscription, after all of these."""
    billing = billing_of(system)
    names = sorted({one.subscription for one in invoices})
    kept = [billing.subscription(tenant, name) for name in names]
    after = {name: 1 + max(one.boundary_us for one in invoices if one.subscription == name) for name in names}
    shown = {one.id for one in invoices}
    return {
        job.subscription.id: replace(job, earlier=tuple(one for one in job.earlier if one.id in shown))
        for job in jobs_of(system, tenant, kept, after)
    }
