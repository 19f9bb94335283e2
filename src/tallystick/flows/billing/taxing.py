"""What invoices are taxed with, asked when they become final, where there is a tax service. Synchronous."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from tallystick.billing.terms import Tax, Terms
from tallystick.errors import TallystickError, Unavailable
from tallystick.flows.billing.build import Built, build
from tallystick.flows.billing.gather import Answers, Settled
from tallystick.flows.system import System
from tallystick.taxes.interface import TaxQuestion

AT_ONCE = 8


def taxed(
    system: System, tenant: str, built: Sequence[Built], answers: Answers, settled: Settled
) -> list[Built | TallystickError]:
    """The same invoices with the taxes that the service says; an error for each it says nothing of.

    After the first that it does not answer it is not asked again: a service that is down must not hold a run."""
    if system.taxes is None:
        return list(built)
    down: list[Unavailable] = []

    def one(each: Built) -> Built | TallystickError:
        if not each.lines:
            return each
        if down:
            return down[0]
        try:
            job = each.job
            taxes = asked_rates(system, tenant, job.subscription.customer, json.loads(each.document))
            return build(replace(job, terms=replace(job.terms, taxes=taxes)), answers, settled)
        except Unavailable as error:
            down.append(error)
            return error
        except TallystickError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="taxes") as threads:
        return list(threads.map(one, built))


def with_rates(
    system: System, tenant: str, customer: str, terms: Terms, document: Mapping[str, Any]
) -> Terms:
    """Terms with the taxes that the service says, where there is one. Raises what it does."""
    if system.taxes is None:
        return terms
    return replace(terms, taxes=asked_rates(system, tenant, customer, document))


def asked_rates(system: System, tenant: str, customer: str, document: Mapping[str, Any]) -> tuple[Tax, ...]:
    assert system.taxes is not None
    who = system.catalog.customer(tenant, customer)
    described = {
        "key": who.key,
        "name": who.name,
        "email": who.email,
        "traits": dict(who.traits),
        "external_ids": dict(who.external_ids),
    }
    return system.taxes.rates(TaxQuestion(described, document))
