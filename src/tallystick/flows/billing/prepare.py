"""What an invoice is made from, read from the catalog: the way from kept subscriptions to jobs. Synchronous."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal

from tallystick.billing.invoice import time_text
from tallystick.billing.kept import subscription_of
from tallystick.billing.terms import NO_TERMS, parse_terms
from tallystick.billing.timeline import Plans
from tallystick.catalog.billing import KeptInvoice, KeptSubscription
from tallystick.errors import NotFound
from tallystick.flows.billing.build import Earlier, Job, Known, basis_of, sums_by_line
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.system import System


def jobs_of(
    system: System,
    tenant: str,
    kept: Sequence[KeptSubscription],
    boundaries_us: Mapping[str, int],
    *,
    until_us: int | None = None,
) -> list[Job]:
    """One job for each subscription, at its boundary: with the terms of its customer and all it was billed before."""
    billing = billing_of(system)
    subscriptions = {one.id: subscription_of(one.content) for one in kept}
    every_plan = plans_of(billing, tenant, subscriptions.values())
    terms = {
        customer: parse_terms(json.loads(text))
        for customer, text in billing.billing_terms(tenant, {one.customer for one in kept}).items()
    }
    meters = versions_of(system, tenant, every_plan)
    finalized = billing.finalized_invoices(tenant, list(subscriptions))
    late: dict[str, list[tuple[str, str, Decimal]]] = {}
    if finalized:
        for one in billing.late_lines(tenant, list(subscriptions)):
            late.setdefault(one.subscription, []).append((one.of_invoice, one.of_line, Decimal(one.amount)))
    made: list[Job] = []
    known = Known()
    for one in kept:
        subscription = subscriptions[one.id]
        own = {(span.plan, span.version) for span in subscription.spans}
        plans: Plans = {place: every_plan[place] for place in sorted(own)}
        billed = sums_by_line(late.get(one.id, []))
        made.append(
            Job(
                subscription=subscription,
                plans=plans,
                timezone=one.timezone,
                members=members_of(system, one),
                boundary_us=boundaries_us[one.id],
                meters={key: meters[key] for plan in plans.values() for key in sorted(plan.meters())},
                terms=terms.get(one.customer, NO_TERMS),
                earlier=tuple(
                    earlier_of(invoice, billed.get(invoice.id, {}))
                    for invoice in finalized.get(one.id, ())
                    if invoice.boundary_us < boundaries_us[one.id]
                ),
                until_us=until_us,
                known=known,
            )
        )
    return made


def earlier_of(invoice: KeptInvoice, late: Mapping[str, Decimal]) -> Earlier:
    basis = basis_of(invoice.basis)
    return Earlier(
        invoice.id,
        title_of(invoice),
        invoice.boundary_us,
        invoice.document,
        basis.meters,
        basis.fingerprint,
        dict(late),
    )


def title_of(invoice: KeptInvoice) -> str:
    """What a line on a later invoice calls it."""
    return number_of(invoice) or time_text(invoice.from_us)[:10]


def number_of(invoice: KeptInvoice) -> str | None:
    """`INV-000001`: what a person reads; None before it is finalized."""
    return None if invoice.sequence is None else f"INV-{invoice.sequence:06d}"


def members_of(system: System, one: KeptSubscription) -> tuple[str, ...]:
    """Whose usage the subscription pays for."""
    if not one.include_children:
        return (one.customer,)
    return tuple(sorted({one.customer, *system.catalog.children(one.tenant, (one.customer,))}))


def versions_of(system: System, tenant: str, plans: Plans) -> dict[str, int]:
    """The present version of every meter that these plans read. An unknown one is left to be refused when it is asked."""
    made: dict[str, int] = {}
    for key in sorted({meter for plan in plans.values() for meter in plan.meters()}):
        try:
            made[key] = system.catalog.meter(tenant, key).version
        except NotFound:
            made[key] = 1
    return made
