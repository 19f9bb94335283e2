"""What an invoice is made from, read from the catalog: the way from kept subscriptions to jobs. Synchronous."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from tallystick.billing.invoice import time_text
from tallystick.billing.item import item_of
from tallystick.billing.kept import subscription_of, subscription_text
from tallystick.billing.progressive import Part
from tallystick.billing.subscription import Subscription
from tallystick.billing.terms import NO_TERMS, parse_terms
from tallystick.billing.timeline import Plans, turn_at
from tallystick.catalog.billing import KeptInvoice, KeptSubscription
from tallystick.catalog.charging import KeptNote
from tallystick.errors import NotFound
from tallystick.flows.billing.basis import basis_of, sums_by_line
from tallystick.flows.billing.build import Earlier, Job, Known
from tallystick.flows.billing.gather import Settled
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.system import System


def jobs_of(
    system: System,
    tenant: str,
    kept: Sequence[KeptSubscription],
    boundaries_us: Mapping[str, int],
    *,
    until_us: int | None = None,
    within: bool = False,
) -> list[Job]:
    """One job for each subscription, at its boundary: with the terms of its customer, what waits for its next invoice, and
    all it was billed before. `within`: its open period is cut there, at a threshold."""
    billing = billing_of(system)
    subscriptions = {one.id: subscription_of(one.content) for one in kept}
    every_plan = plans_of(billing, tenant, subscriptions.values())
    terms = {
        customer: parse_terms(json.loads(text))
        for customer, text in billing.billing_terms(tenant, {one.customer for one in kept}).items()
    }
    meters = versions_of(system, tenant, every_plan)
    finalized = {} if within else billing.finalized_invoices(tenant, list(subscriptions))
    late: dict[str, list[tuple[str, str, Decimal]]] = {}
    notes: Mapping[str, Sequence[KeptNote]] = {}
    if finalized:
        for one in billing.late_lines(tenant, list(subscriptions)):
            late.setdefault(one.subscription, []).append((one.of_invoice, one.of_line, Decimal(one.amount)))
        for name, *noted, amount in billing.late_noted(tenant, list(subscriptions)):
            late.setdefault(name, []).append((noted[0], noted[1], Decimal(amount)))
        notes = _notes(system, tenant, every_plan, finalized)
    watched = [one.id for one in kept if one.progressive]
    parts = billing.parts_of(tenant, watched) if watched else {}
    waiting = {} if within else dict(billing.waiting_items(tenant, {one.customer for one in kept}))
    made: list[Job] = []
    known = Known()
    for one in kept:
        subscription = subscriptions[one.id]
        own = {(span.plan, span.version) for span in subscription.spans}
        plans: Plans = {place: every_plan[place] for place in sorted(own)}
        billed = sums_by_line(late.get(one.id, []))
        first = subscription.spans[0]
        currency = plans[first.plan, first.version].currency
        # On one invoice of the customer only, of those that are made together.
        items = tuple(item for item in waiting.get(one.customer, ()) if item.currency == currency)
        waiting[one.customer] = tuple(
            item for item in waiting.get(one.customer, ()) if item.currency != currency
        )
        by_note = not within and gives_back_by_note(system, subscription, plans)
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
                    earlier_of(
                        invoice,
                        billed.get(invoice.id, {}),
                        notes.get(invoice.id, ()) if by_note else (),
                    )
                    for invoice in finalized.get(one.id, ())
                    if invoice.boundary_us < boundaries_us[one.id]
                ),
                until_us=until_us,
                known=known,
                kind="threshold" if within else "period",
                items=tuple(item_of(json.loads(item.content)) for item in items),
                parts=_parts(one, subscription, plans, boundaries_us[one.id], parts.get(one.id, ())),
                by_note=by_note,
            )
        )
    return made


def gives_back_by_note(system: System, subscription: Subscription, plans: Plans) -> bool:
    """Whether what is due back for finalized lines is given back by credit notes: as the newest plan says, or the
    setting."""
    last = subscription.spans[-1]
    return (plans[last.plan, last.version].late or system.settings.late_policy) == "credit_note"


def _notes(
    system: System, tenant: str, plans: Plans, finalized: Mapping[str, Sequence[KeptInvoice]]
) -> Mapping[str, Sequence[KeptNote]]:
    """Credit notes by invoice, where they can matter."""
    policies = {plan.late or system.settings.late_policy for plan in plans.values()}
    if "credit_note" not in policies:
        return {}
    return billing_of(system).credit_notes_of(
        tenant, [invoice.id for ones in finalized.values() for invoice in ones]
    )


def _parts(
    kept: KeptSubscription,
    subscription: Subscription,
    plans: Plans,
    boundary_us: int,
    invoices: Sequence[KeptInvoice],
) -> tuple[Part, ...]:
    """What was invoiced within the period that ends (or is cut) at a boundary."""
    if not invoices or boundary_us <= subscription.start_us:
        return ()
    turn = turn_at(subscription, plans, kept.timezone, boundary_us - 1)
    if turn is None:
        return ()
    return tuple(
        Part(one.id, title_of(one), Decimal(json.loads(one.document)["subtotal"]))
        for one in invoices
        if turn.part.from_us < one.boundary_us <= boundary_us
    )


def without_standing(jobs: Sequence[Job], settled: Settled) -> list[Job]:
    """The jobs without the earlier invoices that cannot have changed: nothing was recorded since, and the subscription is
    the one it was. Closing many periods at once would otherwise ask for each of them again at each that follows."""
    made: list[Job] = []
    for job in jobs:
        course = (subscription_text(job.subscription), job.timezone, job.members) if job.earlier else None
        changed = tuple(
            one for one in job.earlier if one.late or one.position != settled.position or one.course != course
        )
        made.append(replace(job, earlier=changed))
    return made


def earlier_of(invoice: KeptInvoice, late: Mapping[str, Decimal], notes: Sequence[KeptNote] = ()) -> Earlier:
    basis = basis_of(invoice.basis)
    return Earlier(
        invoice.id,
        title_of(invoice),
        invoice.boundary_us,
        invoice.document,
        basis.meters,
        basis.fingerprint,
        dict(late),
        tuple((note.id, note.document) for note in notes),
        (basis.subscription, basis.timezone, basis.members),
        json.loads(invoice.document)["position"],
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
