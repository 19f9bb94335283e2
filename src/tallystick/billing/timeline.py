"""A subscription's billing periods one after the other, and the moments at which invoices are made.

An invoice is made at the end of each billing period: for what was used and for fees in arrears, and for fees in advance of
the period that begins. What is due in advance for the very first period is billed at the start of the subscription. A
period ends early where the subscription ends, and where a plan with periods of another length takes over.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tallystick.billing.charge import Timing
from tallystick.billing.period import Period
from tallystick.billing.plan import Plan
from tallystick.billing.subscription import Subscription, cadence_of

Plans = Mapping[tuple[str, int], Plan]
"""Plan versions by key and version."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A billing period: `whole` as the plan counts it, `part` what of it the subscription has."""

    whole: Period
    part: Period


def turn_at(subscription: Subscription, plans: Plans, timezone: str, at_us: int) -> Turn | None:
    """The billing period that holds a moment; None before the start and after the end."""
    found = subscription.span_at(at_us)
    if found is None:
        return None
    length = plans[found.plan, found.version].billing_period
    begin_us, end_us = found.from_us, found.to_us
    index = subscription.spans.index(found)
    for span in reversed(subscription.spans[:index]):
        if plans[span.plan, span.version].billing_period != length:
            break
        begin_us = span.from_us
    for span in subscription.spans[index + 1 :]:
        if plans[span.plan, span.version].billing_period != length:
            break
        end_us = span.to_us
    whole = cadence_of(subscription, length, timezone).period_at(at_us)
    part = whole.cut(begin_us, end_us)
    assert part is not None  # it holds the moment
    return Turn(whole, part)


def bills_at_start(subscription: Subscription, plans: Plans) -> bool:
    """Whether something is due in advance when the subscription begins."""
    first = subscription.spans[0]
    plan = plans[first.plan, first.version]
    charges = [*plan.charges_in(0), *(charge for add_on in plan.add_ons for charge in add_on.charges)]
    return any(charge.timing is Timing.ADVANCE for charge in charges)


def first_boundary(subscription: Subscription, plans: Plans, timezone: str) -> int | None:
    """When the first invoice is due; None: never (it ended as it began)."""
    start_us = subscription.start_us
    if subscription.end_us is not None and subscription.end_us <= start_us:
        return None
    if bills_at_start(subscription, plans):
        return start_us
    turn = turn_at(subscription, plans, timezone, start_us)
    return None if turn is None else turn.part.to_us


def next_boundary(
    subscription: Subscription, plans: Plans, timezone: str, closed_us: int | None
) -> int | None:
    """When the next invoice is due, after those up to `closed_us`; None: no more."""
    if closed_us is None:
        return first_boundary(subscription, plans, timezone)
    turn = turn_at(subscription, plans, timezone, closed_us)
    return None if turn is None else turn.part.to_us


def meters_since(subscription: Subscription, plans: Plans, from_us: int) -> Mapping[str, int]:
    """Of each meter that the subscription is billed by from a moment on: since when its usage is needed."""
    made: dict[str, int] = {}
    for span in subscription.spans:
        if span.to_us is None or span.to_us > from_us:
            since_us = max(span.from_us, from_us)
            for meter in plans[span.plan, span.version].meters():
                made[meter] = min(made.get(meter, since_us), since_us)
    return made


CLOSING_LOOKS = 3
"""How often a subscription that has ended is looked at for money that came late, a billing period apart."""


def closing_look(subscription: Subscription, plans: Plans, timezone: str, after_us: int) -> int | None:
    """When one that has ended is to be looked at next, after a moment; None: no more, or it has no end."""
    end_us = subscription.end_us
    if end_us is None or end_us <= subscription.start_us:
        return None
    last = subscription.spans[-1]
    cadence = cadence_of(subscription, plans[last.plan, last.version].billing_period, timezone)
    at_us = end_us
    for _ in range(CLOSING_LOOKS):
        at_us = cadence.period_at(at_us).to_us
        if at_us > after_us:
            return at_us
    return None
