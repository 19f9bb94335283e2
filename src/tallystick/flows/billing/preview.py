"""The invoice of a period that is still open: what it would be if the period ended with the usage up to a moment."""

from dataclasses import dataclass

from tallystick.billing.kept import subscription_of
from tallystick.billing.timeline import turn_at
from tallystick.catalog.billing import KeptSubscription
from tallystick.errors import NotFound
from tallystick.flows.billing.build import Built, Job, build, want
from tallystick.flows.billing.gather import Settled, Wanted, gather
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.billing.prepare import jobs_of, without_standing
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

SUBSCRIPTIONS_MAX = 100
"""Of one customer that one preview shows."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One for each subscription of the customer, the oldest first."""

    invoices: tuple[Built, ...]


async def preview(
    system: System,
    tenant: str,
    customer: str,
    *,
    subscription: str | None = None,
    at_us: int | None = None,
    as_of_us: int | None = None,
) -> Preview:
    """Usage before `at_us` (now) counts; fees stand as they will at the period's end.

    At the very end of a period it is that period's invoice. Raises NotFound (customer_not_found, no_subscription)."""
    at_us = system.clock.now_us() if at_us is None else at_us

    jobs = await in_questions(
        system, lambda: open_jobs(system, tenant, customer, subscription, at_us=at_us, until_us=at_us)
    )
    settled = Settled(
        system.recorder.recorded_at_us if as_of_us is None else as_of_us, token_of(system.recorder.position)
    )
    if as_of_us is None:
        jobs = without_standing(jobs, settled)
    wanted = Wanted()
    for job in jobs:
        want(job, wanted)
    answers = await gather(system, tenant, wanted, as_of_us)
    return Preview(await in_questions(system, lambda: tuple(build(job, answers, settled) for job in jobs)))


def open_jobs(
    system: System,
    tenant: str,
    customer: str,
    subscription: str | None,
    *,
    at_us: int,
    until_us: int | None,
) -> list[Job]:
    """The periods of a customer's subscriptions that are open just before a moment; usage counts before `until_us`.

    Raises NotFound (customer_not_found, no_subscription)."""
    system.catalog.customer(tenant, customer)
    page = billing_of(system).subscriptions(tenant, customers=(customer,), limit=1000)
    kept = [one for one in page.items if subscription in (None, one.id, one.key)]
    boundaries = {one.id: boundary_us for one in kept if (boundary_us := _boundary(system, one, at_us))}
    chosen = [one for one in kept if one.id in boundaries][:SUBSCRIPTIONS_MAX]
    if not chosen:
        raise NotFound(
            f"The customer {customer!r} has no subscription at that moment.", code="no_subscription"
        )
    return jobs_of(system, tenant, chosen, boundaries, until_us=until_us)


def _boundary(system: System, kept: KeptSubscription, at_us: int) -> int | None:
    """The end of the period that is open just before a moment."""
    one = subscription_of(kept.content)
    plans = plans_of(billing_of(system), kept.tenant, [one])
    turn = turn_at(one, plans, kept.timezone, max(at_us - 1, one.start_us))
    return None if turn is None else turn.part.to_us
