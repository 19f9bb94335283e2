"""Invoices within a period: made when what is used has crossed a threshold, for what was used so far.

They are final at once, and have no part in what comes late: the invoice at the period's end is computed from all of the
period's usage, and takes off what these have billed.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

from tallystick.billing.kept import subscription_of
from tallystick.billing.subscription import Subscription
from tallystick.billing.threshold import NO_THRESHOLDS, Thresholds
from tallystick.billing.timeline import Plans, turn_at
from tallystick.catalog.billing import KeptInvoice, KeptSubscription
from tallystick.catalog.interface import Actor
from tallystick.errors import Invalid
from tallystick.flows.billing.build import Built, build, want
from tallystick.flows.billing.closing import Failed, Report, closing_of, new_invoice_id
from tallystick.flows.billing.gather import Wanted, gather, settle
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.billing.prepare import jobs_of
from tallystick.flows.billing.taxing import taxed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import ZERO, exactly

BATCH = 1_000


async def cut(
    system: System,
    tenant: str | None,
    at_us: int,
    *,
    report: Report,
    actor: Actor,
    stopped: Callable[[], bool],
) -> None:
    """Make one for each subscription whose open period has crossed a threshold by a moment."""
    billing = billing_of(system)
    after = 0
    while not stopped():
        page = await in_questions(
            system,
            lambda after=after: billing.progressive_subscriptions(tenant, at_us, after=after, limit=BATCH),
        )
        if not page:
            return
        after = page[-1][0]
        by_tenant: dict[str, list[KeptSubscription]] = {}
        for _, kept in page:
            by_tenant.setdefault(kept.tenant, []).append(kept)
        for own, ones in by_tenant.items():
            await _cut(system, own, ones, at_us, report=report, actor=actor)


async def _cut(
    system: System,
    tenant: str,
    kept: Sequence[KeptSubscription],
    at_us: int,
    *,
    report: Report,
    actor: Actor,
) -> None:
    billing = billing_of(system)
    watched = await in_questions(system, lambda: _watched(system, tenant, kept, at_us))
    if not watched:
        return
    ones = [one for one, _ in watched]
    boundaries = {one.id: at_us for one in ones}
    settled = await settle(system)
    jobs = await in_questions(
        system, lambda: jobs_of(system, tenant, ones, boundaries, until_us=at_us, within=True)
    )
    wanted = Wanted()
    for job in jobs:
        want(job, wanted)
    answers = await gather(system, tenant, wanted, settled.as_of_us)
    now_us = system.clock.now_us()
    closings = []
    for (one, thresholds), job in zip(watched, jobs, strict=True):
        try:
            built = await in_questions(system, lambda job=job: build(job, answers, settled))
        except Invalid as error:
            report.failed.append(Failed(tenant, one.id, error.code, error.detail))
            continue
        if _is_crossed(built, thresholds):
            (answer,) = await in_questions(
                system, lambda built=built: taxed(system, tenant, [built], answers, settled)
            )
            if not isinstance(answer, Built):
                report.failed.append(Failed(tenant, one.id, answer.code, answer.detail))
                continue
            built = answer
            closings.append(
                closing_of(
                    system,
                    one,
                    built,
                    name=new_invoice_id(),
                    status="finalized",
                    grace_until_us=at_us,
                    now_us=now_us,
                )
            )
    if closings:
        made: tuple[KeptInvoice, ...] = await in_questions(
            system, lambda: billing.keep_invoices(closings, actor=actor, now_us=now_us)
        )
        report.closed += len(made)
        report.note(made)


def _watched(
    system: System, tenant: str, kept: Sequence[KeptSubscription], at_us: int
) -> list[tuple[KeptSubscription, Thresholds]]:
    """Those whose open period has thresholds, and was not cut at this moment or later."""
    billing = billing_of(system)
    subscriptions = {one.id: subscription_of(one.content) for one in kept}
    plans = plans_of(billing, tenant, subscriptions.values())
    parts = billing.parts_of(tenant, list(subscriptions))
    made: list[tuple[KeptSubscription, Thresholds]] = []
    for one in kept:
        own = subscriptions[one.id]
        turn = turn_at(own, plans, one.timezone, at_us)
        # Only where everything before the open period is invoiced: its end is what is due next.
        if turn is None or one.due_us != turn.part.to_us or at_us <= turn.part.from_us:
            continue
        thresholds = thresholds_at(own, plans, at_us)
        if thresholds and all(part.boundary_us < at_us for part in parts.get(one.id, ())):
            made.append((one, thresholds))
    return made


def thresholds_at(subscription: Subscription, plans: Plans, at_us: int) -> Thresholds:
    """The subscription's own; otherwise those of the plan in force."""
    if subscription.thresholds is not None:
        return subscription.thresholds
    span = subscription.span_at(at_us)
    return NO_THRESHOLDS if span is None else plans[span.plan, span.version].thresholds


@exactly
def _is_crossed(built: Built, thresholds: Thresholds) -> bool:
    billed: Decimal = sum((part.amount for part in built.job.parts), ZERO)
    used = billed + sum((line.rounded for line in built.lines), ZERO)
    return used > billed and thresholds.crossed(used) > thresholds.crossed(billed)
