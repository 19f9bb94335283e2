"""An old invoice made again from what it was made from, and compared byte for byte."""

import json
from dataclasses import dataclass
from typing import Any, cast

from tallystick.billing.kept import subscription_of
from tallystick.billing.terms import parse_terms
from tallystick.catalog.billing import KeptInvoice
from tallystick.flows.billing.basis import basis_of
from tallystick.flows.billing.build import Built, Job, build, want
from tallystick.flows.billing.gather import Settled, Wanted, gather
from tallystick.flows.billing.one_off import one_off_again
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.billing.prepare import earlier_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions


@dataclass(frozen=True, slots=True)
class Verified:
    """`differences`: members of the document that are not the same, as (place, kept, recomputed)."""

    invoice: KeptInvoice
    document: str
    same: bool
    differences: tuple[tuple[str, Any, Any], ...]


async def verify(system: System, tenant: str, name: str) -> Verified:
    """Raises NotFound (invoice_not_found), Invalid (past_retention: its facts are deleted)."""
    billing = billing_of(system)
    invoice = await in_questions(system, lambda: billing.invoice(tenant, name))
    if invoice.kind in ("one_off", "top_up"):
        document = one_off_again(invoice)
    else:
        document = (await again(system, tenant, invoice)).document
    same = document == invoice.document
    differences = () if same else _differences("", json.loads(invoice.document), json.loads(document))
    return Verified(invoice, document, same, tuple(differences))


async def again(system: System, tenant: str, invoice: KeptInvoice) -> Built:
    """The invoice as it is recomputed today, as of then."""
    job, settled = await in_questions(system, lambda: job_again(system, tenant, invoice))
    wanted = Wanted()
    want(job, wanted)
    answers = await gather(system, tenant, wanted, settled.as_of_us)
    program: str = json.loads(invoice.document)["program"]
    return await in_questions(system, lambda: build(job, answers, settled, program=program))


def job_again(system: System, tenant: str, invoice: KeptInvoice) -> tuple[Job, Settled]:
    """What an invoice was made from. Synchronous."""
    billing = billing_of(system)
    basis = basis_of(invoice.basis)
    subscription = subscription_of(basis.subscription)
    job = Job(
        subscription=subscription,
        plans=plans_of(billing, tenant, [subscription]),
        timezone=basis.timezone,
        members=basis.members,
        boundary_us=invoice.boundary_us,
        meters=basis.meters,
        terms=parse_terms(basis.terms),
        earlier=tuple(
            earlier_of(
                billing.invoice(tenant, one), late, [billing.credit_note(tenant, note) for note in notes]
            )
            for one, late, notes in basis.earlier
        ),
        kind=invoice.kind,
        until_us=invoice.boundary_us if invoice.kind == "threshold" else None,
        items=basis.items,
        parts=basis.parts,
        by_note=basis.by_note,
    )
    return job, Settled(basis.as_of_us, json.loads(invoice.document)["position"])


def _differences(place: str, kept: Any, made: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(kept, dict) and isinstance(made, dict):
        old, new = cast("dict[str, Any]", kept), cast("dict[str, Any]", made)
        names = sorted(old.keys() | new.keys())
        return [
            one for name in names for one in _differences(f"{place}/{name}", old.get(name), new.get(name))
        ]
    if isinstance(kept, list) and isinstance(made, list):
        olds, news = cast("list[Any]", kept), cast("list[Any]", made)
        found: list[tuple[str, Any, Any]] = []
        for index in range(max(len(olds), len(news))):
            old = olds[index] if index < len(olds) else None
            new = news[index] if index < len(news) else None
            found += _differences(f"{place}/{index}", old, new)
        return found
    return [] if kept == made else [(place, kept, made)]
