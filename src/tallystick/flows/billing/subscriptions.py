"""Subscriptions: begun, changed, paused, cancelled. Every change keeps what held before it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tallystick.billing.kept import plan_of, subscription_of, subscription_text
from tallystick.billing.plan import Plan
from tallystick.billing.subscription import (
    Quantity,
    Span,
    State,
    Subscription,
    cadence_of,
    parse_subscription,
    read_effective_us,
)
from tallystick.billing.timeline import Plans, Turn, first_boundary, next_boundary, turn_at
from tallystick.catalog.billing import KeptPlan, KeptSubscription
from tallystick.catalog.interface import Actor
from tallystick.document import Document
from tallystick.errors import Conflict, Fault, Invalid
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.system import System
from tallystick.metering.window import zone_of


@dataclass(frozen=True, slots=True)
class Shown:
    """A subscription and what is true of it at a moment."""

    kept: KeptSubscription
    subscription: Subscription
    plans: Plans
    state: State
    trial_end_us: int | None
    turn: Turn | None


def shown(system: System, kept: KeptSubscription, at_us: int, plans: Plans | None = None) -> Shown:
    one = subscription_of(kept.content)
    if plans is None:
        plans = plans_of(billing_of(system), kept.tenant, [one])
    first = one.spans[0]
    trial_end_us = one.trial_end(plans[first.plan, first.version], kept.timezone)
    return Shown(
        kept,
        one,
        plans,
        one.state_at(at_us, trial_end_us=trial_end_us),
        trial_end_us if trial_end_us > one.start_us else None,
        turn_at(one, plans, kept.timezone, at_us),
    )


def create_subscription(
    system: System, tenant: str, raw: dict[str, Any], *, actor: Actor, now_us: int
) -> KeptSubscription:
    """Raises Invalid with every fault, NotFound (customer_not_found, plan_not_found, plan_version_not_found), Conflict
    (plan_not_published, subscription_exists)."""
    members = dict(raw)
    include_children = members.pop("include_children", None)
    if not isinstance(include_children, bool | None):
        raise _invalid("/include_children", "invalid_value", "include_children must be true or false.")
    request = parse_subscription(members)
    billing = billing_of(system)
    customer = system.catalog.customer(tenant, request.customer)
    kept_plan = subscribable(system, tenant, request.plan, request.version)
    plan = plan_of(kept_plan.content)
    _check_quantities(plan, request.quantities)
    start_us = now_us if request.start_us is None else request.start_us
    if request.end_us is not None and request.end_us <= start_us:
        raise _invalid("/end", "empty_range", "end must lie after start.")
    one = Subscription(
        id="sub_" + secrets.token_hex(12),
        customer=request.customer,
        spans=(Span(kept_plan.key, kept_plan.version, start_us, request.end_us),),
        anchor_us=request.anchor_us,
        trial_days=request.trial_days,
        quantities=tuple(Quantity(key, start_us, quantity) for key, quantity in request.quantities),
        thresholds=request.thresholds,
        metadata=request.metadata,
    )
    zone_of(customer.timezone)
    due_us = first_boundary(one, {(kept_plan.key, kept_plan.version): plan}, customer.timezone)
    return billing.create_subscription(
        KeptSubscription(
            tenant=tenant,
            id=one.id,
            key=request.key,
            customer=one.customer,
            plan=kept_plan.key,
            timezone=customer.timezone,
            content=subscription_text(one),
            include_children=bool(include_children),
            created_at_us=now_us,
            closed_us=None,
            due_us=due_us,
            progressive=_has_thresholds(one, {(kept_plan.key, kept_plan.version): plan}),
        ),
        actor=actor,
        now_us=now_us,
    )


def subscribable(system: System, tenant: str, key: str, version: int | None) -> KeptPlan:
    """The newest published version of a plan, or the one asked for, which must be published."""
    billing = billing_of(system)
    if version is None:
        published = [one for one in billing.plan_versions(tenant, key) if one.state == "published"]
        if published:
            return published[-1]
        raise Conflict(f"No version of the plan {key!r} is published.", code="plan_not_published")
    found = billing.plan(tenant, key, version)
    if found.state != "published":
        raise Conflict(
            f"Version {version} of the plan {key!r} is {found.state}, not published.",
            code="plan_not_published",
        )
    return found


def _check_quantities(plan: Plan, quantities: tuple[tuple[str, Decimal], ...]) -> None:
    known = {charge.key for charge in plan.every_charge() if charge.meter is None}
    faults = [
        Fault(f"/quantities/{key}", "unknown_charge", f"The plan has no charge {key!r} with a quantity.")
        for key, _ in quantities
        if key not in known
    ]
    if faults:
        raise Invalid(faults[0].detail, code="unknown_charge", faults=faults)


Change = Callable[[Subscription, Plans, int], Subscription]
"""(present, its plans, the moment it is to hold from) → changed."""


def change_subscription(
    system: System,
    tenant: str,
    name: str,
    document: Document,
    change: Change,
    *,
    action: str,
    target: KeptPlan | None = None,
    otherwise: str = "now",
    actor: Actor,
    now_us: int,
) -> KeptSubscription:
    """Change one from the moment that the member `effective` of the document says.

    Raises Invalid, Conflict (period_closed: it is invoiced beyond that moment already, and others of billing's)."""
    billing = billing_of(system)

    def make(kept: KeptSubscription) -> KeptSubscription:
        present = subscription_of(kept.content)
        plans = dict(plans_of(billing, tenant, [present]))
        if target is not None:
            plans[target.key, target.version] = plan_of(target.content)
        at_us = _effective_us(document, kept, present, plans, now_us=now_us, otherwise=otherwise)
        document.finish()
        made = change(present, plans, at_us)
        closed_us = kept.closed_us
        if closed_us is not None and closed_us > made.start_us:
            last = turn_at(made, plans, kept.timezone, closed_us - 1)
            if last is None or last.part.to_us != closed_us:
                raise Conflict(
                    "The period is invoiced already: its end cannot be moved any more. Choose a moment after it, and give"
                    " back by a credit note what was billed too much.",
                    code="period_closed",
                )
        if kept.closed_us is None:
            due_us = first_boundary(made, plans, kept.timezone)
        else:
            due_us = next_boundary(made, plans, kept.timezone, kept.closed_us)
        return replace(
            kept,
            content=subscription_text(made),
            plan=made.spans[-1].plan,
            due_us=due_us,
            progressive=_has_thresholds(made, plans),
        )

    return billing.change_subscription(tenant, name, make, action=action, actor=actor, now_us=now_us)


def _has_thresholds(one: Subscription, plans: Plans) -> bool:
    if one.thresholds is not None:
        return bool(one.thresholds)
    return any(plans[span.plan, span.version].thresholds for span in one.spans)


def _effective_us(
    document: Document,
    kept: KeptSubscription,
    present: Subscription,
    plans: Plans,
    *,
    now_us: int,
    otherwise: str,
) -> int:
    if (document.take("effective") or otherwise) == "period_end":
        turn = turn_at(present, plans, kept.timezone, max(now_us, present.start_us))
        if turn is None:
            raise Conflict("The subscription has ended.", code="subscription_ended")
        return turn.part.to_us
    span = present.spans[-1]
    cadence = cadence_of(present, plans[span.plan, span.version].billing_period, kept.timezone)
    return read_effective_us(document, now_us=now_us, cadence=cadence, otherwise=otherwise)


def changed_plan(target: KeptPlan) -> Change:
    """Another plan (or version) in the same currency."""

    def change(present: Subscription, plans: Plans, at_us: int) -> Subscription:
        first = present.spans[0]
        wanted = plans[target.key, target.version].currency
        if plans[first.plan, first.version].currency != wanted:
            raise _invalid(
                "/plan",
                "currency_differs",
                f"The plan is in {wanted}, the subscription is not: end it and begin another.",
            )
        return present.changed(target.key, target.version, at_us)

    return change


def cancelled(present: Subscription, _plans: Plans, at_us: int) -> Subscription:
    return present.cancelled(at_us)


def resumed(present: Subscription, _plans: Plans, at_us: int) -> Subscription:
    return present.resumed(at_us)


def paused(until_us: int | None) -> Change:
    return lambda present, _plans, at_us: present.paused(at_us, until_us)


def with_quantity(key: str, quantity: Decimal) -> Change:
    """Another number of seats."""

    def change(present: Subscription, plans: Plans, at_us: int) -> Subscription:
        span = present.span_at(at_us) or present.spans[-1]
        _check_quantities(plans[span.plan, span.version], ((key, quantity),))
        return present.with_quantity(key, quantity, at_us)

    return change


def with_add_on(key: str, instances: int) -> Change:
    """So many of an add-on of the plan in force."""

    def change(present: Subscription, plans: Plans, at_us: int) -> Subscription:
        span = present.span_at(at_us) or present.spans[-1]
        found = [one for one in plans[span.plan, span.version].add_ons if one.key == key]
        if not found:
            raise _invalid("/add_on", "unknown_add_on", f"The plan has no add-on {key!r}.")
        if instances > found[0].instances_max:
            raise _invalid(
                "/instances", "too_many", f"The add-on may be taken {found[0].instances_max} times."
            )
        return present.with_add_on(key, Decimal(instances), at_us)

    return change


def uncancelled(now_us: int) -> Change:
    """Takes back a cancellation that lies ahead."""

    def change(present: Subscription, _plans: Plans, _at_us: int) -> Subscription:
        if present.end_us is None or present.end_us <= now_us:
            raise Conflict("No cancellation lies ahead.", code="subscription_not_cancelled")
        return present.resumed_end()

    return change


def _invalid(pointer: str, code: str, detail: str) -> Invalid:
    return Invalid(detail, code=code, faults=[Fault(pointer, code, detail)])
