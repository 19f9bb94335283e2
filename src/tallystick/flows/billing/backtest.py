"""What if: past periods rated again under other prices, beside the prices there were, with the same engine.

For some hundred subscriptions at a time, every question about usage is asked once for all of them: one a charge and
period, which both the old and the new prices read. Nothing is stored.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tallystick.billing.kept import plan_of, subscription_of
from tallystick.billing.plan import Plan
from tallystick.billing.subscription import Subscription
from tallystick.billing.terms import NO_TERMS, Terms, parse_terms
from tallystick.billing.timeline import Plans, first_boundary, next_boundary
from tallystick.catalog.billing import KeptSubscription
from tallystick.errors import Fault, Invalid
from tallystick.flows.billing.build import Job, Known, total_of, want
from tallystick.flows.billing.gather import Answers, Wanted, gather, settle
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.billing.prepare import members_of, versions_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import ZERO, exactly

SUBSCRIPTIONS_AT_ONCE = 500
PERIODS_MAX = 100_000
"""Invoices of one backtest, on each side."""
PLANS_MAX = 50


@dataclass(frozen=True, slots=True)
class Backtest:
    """What to compare. Periods that end within (from_us, to_us] are rated; `customers` None: all that have one."""

    from_us: int
    to_us: int
    plans: Mapping[str, Plan]
    """The prices to try, each in place of every version of the plan with its key."""
    customers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """A customer's totals in one currency, tax included, over so many periods."""

    customer: str
    currency: str
    periods: int
    old: Decimal
    new: Decimal
    failed: str | None = None
    """Why there is no figure: usage that retention has deleted, a price that has no answer."""

    @property
    def difference(self) -> Decimal:
        return self.new - self.old


@dataclass(frozen=True, slots=True)
class Progress:
    """So many subscriptions of all of them are done."""

    done: int
    of: int


async def backtest(
    system: System, tenant: str, what: Backtest
) -> AsyncIterator[Progress | tuple[Compared, ...]]:
    """Progress after each part, then everything, the greatest gain for the customer first.

    Raises NotFound (plan_not_found), Invalid (period_differs, currency_mismatch, too_many_periods)."""
    kept = await in_questions(system, lambda: _subscriptions(system, tenant, what))
    settled = await settle(system)
    found: dict[tuple[str, str], Compared] = {}
    rated = 0
    yield Progress(0, len(kept))
    for place in range(0, len(kept), SUBSCRIPTIONS_AT_ONCE):
        part = kept[place : place + SUBSCRIPTIONS_AT_ONCE]
        jobs = await in_questions(system, lambda part=part: _jobs(system, tenant, part, what))
        rated += len(jobs)
        if rated > PERIODS_MAX:
            detail = f"More than {PERIODS_MAX} periods. Ask for a shorter range, or for fewer customers."
            raise Invalid(
                detail, code="too_many_periods", faults=[Fault("/from", "too_many_periods", detail)]
            )
        wanted = Wanted()
        for old, new in jobs:
            want(old, wanted)
            want(new, wanted)
        answers = await gather(system, tenant, wanted, settled.as_of_us)
        await in_questions(system, lambda jobs=jobs, answers=answers: _compare(jobs, answers, found))
        yield Progress(min(place + SUBSCRIPTIONS_AT_ONCE, len(kept)), len(kept))
    yield tuple(sorted(found.values(), key=lambda one: (one.difference, one.customer, one.currency)))


def _subscriptions(system: System, tenant: str, what: Backtest) -> list[KeptSubscription]:
    """Those that have, or had, a plan that is tried."""
    billing = billing_of(system)
    for key in what.plans:
        billing.plan_versions(tenant, key)
    made: list[KeptSubscription] = []
    cursor: str | None = None
    while True:
        page = billing.subscriptions(tenant, customers=what.customers, cursor=cursor, limit=1000)
        for one in page.items:
            spans = subscription_of(one.content).spans
            if any(span.plan in what.plans for span in spans):
                made.append(one)
        cursor = page.next_cursor
        if cursor is None:
            return made


def _jobs(
    system: System, tenant: str, kept: Sequence[KeptSubscription], what: Backtest
) -> list[tuple[Job, Job]]:
    """For each period, the job with the prices there were, and with those to try."""
    billing = billing_of(system)
    subscriptions = {one.id: subscription_of(one.content) for one in kept}
    every_plan = plans_of(billing, tenant, subscriptions.values())
    tried = {place: what.plans.get(place[0], plan) for place, plan in every_plan.items()}
    for place, plan in every_plan.items():
        _check_alike(plan, tried[place])
    terms = {
        customer: parse_terms(json.loads(text))
        for customer, text in billing.billing_terms(tenant, {one.customer for one in kept}).items()
    }
    meters = {**versions_of(system, tenant, every_plan), **versions_of(system, tenant, tried)}
    made: list[tuple[Job, Job]] = []
    known = Known()
    for one in kept:
        subscription = subscriptions[one.id]
        members = members_of(system, one)
        own = {(span.plan, span.version) for span in subscription.spans}
        plans: Plans = {place: every_plan[place] for place in own}
        for boundary_us in _boundaries(subscription, plans, one.timezone, what):
            old = Job(
                subscription=subscription,
                plans=plans,
                timezone=one.timezone,
                members=members,
                boundary_us=boundary_us,
                meters=meters,
                terms=_terms(terms, one.customer),
                known=known,
            )
            made.append((old, replace(old, plans={place: tried[place] for place in own})))
    return made


def _terms(terms: Mapping[str, Terms], customer: str) -> Terms:
    return terms.get(customer, NO_TERMS)


def _boundaries(subscription: Subscription, plans: Plans, timezone: str, what: Backtest) -> Iterable[int]:
    boundary_us = first_boundary(subscription, plans, timezone)
    for _ in range(PERIODS_MAX):
        if boundary_us is None or boundary_us > what.to_us:
            return
        if boundary_us > what.from_us:
            yield boundary_us
        boundary_us = next_boundary(subscription, plans, timezone, boundary_us)


def _check_alike(old: Plan, new: Plan) -> None:
    """Periods and money must be the same: otherwise there is nothing to compare one by one."""
    if old.billing_period != new.billing_period:
        detail = f"The plan {old.key!r} is billed by {old.billing_period.text()}; try prices for that period."
        raise Invalid(detail, code="period_differs", faults=[Fault("/plans", "period_differs", detail)])
    if old.currency != new.currency:
        detail = f"The plan {old.key!r} is in {old.currency}; try prices in that currency."
        raise Invalid(detail, code="currency_mismatch", faults=[Fault("/plans", "currency_mismatch", detail)])


@exactly
def _compare(
    jobs: Sequence[tuple[Job, Job]],
    answers: Answers,
    found: dict[tuple[str, str], Compared],
) -> None:
    for old, new in jobs:
        try:
            (currency, before), (_, after) = total_of(old, answers), total_of(new, answers)
        except Invalid as error:
            span = old.subscription.spans[0]
            place = (old.subscription.customer, old.plans[span.plan, span.version].currency)
            present = found.get(place) or Compared(*place, 0, ZERO, ZERO)
            found[place] = replace(present, failed=present.failed or error.detail)
            continue
        place = (old.subscription.customer, currency)
        present = found.get(place) or Compared(*place, 0, ZERO, ZERO)
        found[place] = replace(
            present,
            periods=present.periods + 1,
            old=present.old + before,
            new=present.new + after,
        )


def stored_plan(system: System, tenant: str, key: str, version: int | None) -> Plan:
    """A version that is kept, a draft too. Raises NotFound."""
    return plan_of(billing_of(system).plan(tenant, key, version).content)
