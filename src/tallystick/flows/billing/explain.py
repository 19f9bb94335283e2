"""Why a line is what it is: price version, steps, usage, events. The sums agree exactly at every level."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.billing.due import Item, Question
from tallystick.billing.invoice import time_us
from tallystick.catalog.billing import KeptInvoice
from tallystick.errors import NotFound
from tallystick.flows.billing.build import Job, boundary_of, usage_of
from tallystick.flows.billing.gather import Wanted, contributions, gather, named
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.verify import job_again
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.reading import Reading
from tallystick.rating.model import Usage
from tallystick.store.interface import StoredEvent

EVENTS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Counted:
    """An event and what it contributes."""

    event: StoredEvent
    reading: Reading


@dataclass(frozen=True, slots=True)
class Asked:
    """One usage question of a line. `events` newest first; `complete`: they are all there is. `events_sum` is None where
    the meter's figure is not a sum of what events contribute, or not all are shown."""

    question: Question
    meter: Meter
    usage: tuple[Usage, ...]
    events: tuple[Counted, ...]
    complete: bool
    events_sum: Decimal | None


@dataclass(frozen=True, slots=True)
class Explained:
    """`item` is None for lines that no charge made: commitments, minimums, late changes."""

    invoice: KeptInvoice
    line: dict[str, Any]
    item: Item | None
    asked: tuple[Asked, ...]
    as_of_us: int
    lines: tuple[dict[str, Any], ...] = ()
    """Of a line that is made from others: those lines."""


async def explain_line(system: System, tenant: str, name: str, line_id: str) -> Explained:
    """Raises NotFound (invoice_not_found, line_not_found), Invalid (past_retention)."""
    invoice = await in_questions(system, lambda: billing_of(system).invoice(tenant, name))
    lines: list[dict[str, Any]] = json.loads(invoice.document)["lines"]
    line = next((one for one in lines if one["id"] == line_id), None)
    if line is None:
        raise NotFound(f"The invoice has no line {line_id[:80]!r}.", code="line_not_found")
    if invoice.kind in ("one_off", "top_up") or line["kind"] in ("item", "progressive"):
        # They follow from nothing but themselves, or from the invoice they take off.
        return Explained(invoice, line, None, (), time_us(json.loads(invoice.document)["as_of"]))
    job, settled = await in_questions(system, lambda: job_again(system, tenant, invoice))
    if "of" in line:
        # What changed is the line of the earlier invoice: that one is explained, as it is known now.
        earlier = await in_questions(
            system, lambda: billing_of(system).invoice(tenant, line["of"]["invoice"])
        )
        olds = json.loads(earlier.document)["lines"]
        own = [one for one in olds if one["id"] == line["of"]["line"]]
        item = _item(job, earlier.boundary_us, line["of"]["line"])
        asked = await _asked(
            system, tenant, job, item, _meters(job, earlier.id), as_of_us=settled.as_of_us, line=line
        )
        return Explained(invoice, line, item, asked, settled.as_of_us, tuple(own))
    item = _item(job, invoice.boundary_us, line_id)
    if item is None:
        same = [one for one in lines if one is not line and one["plan"] == line["plan"]]
        return Explained(invoice, line, None, (), settled.as_of_us, tuple(same))
    asked = await _asked(system, tenant, job, item, dict(job.meters), as_of_us=settled.as_of_us, line=line)
    return Explained(invoice, line, item, asked, settled.as_of_us)


def _meters(job: Job, earlier: str) -> dict[str, int]:
    own = next((one.meters for one in job.earlier if one.id == earlier), {})
    return {**job.meters, **own}


def _item(job: Job, boundary_us: int, line_id: str) -> Item | None:
    wanted = line_id.partition("-")[0]
    return next((one for one in boundary_of(job, boundary_us).due if one.id == wanted), None)


async def _asked(
    system: System,
    tenant: str,
    job: Job,
    item: Item | None,
    meters: dict[str, int],
    *,
    as_of_us: int,
    line: dict[str, Any],
) -> tuple[Asked, ...]:
    if item is None:
        return ()
    questions = item.questions(job.until_us)
    wanted = Wanted()
    for question in questions:
        wanted.add(question, meters[question.meter], job.members)
    answers = await gather(system, tenant, wanted, as_of_us)
    usage_of(job, item, meters, job.until_us, answers)  # raises what a question has no answer for
    group: dict[str, str | None] = line["group"]

    def belongs(part: Usage) -> bool:
        return all(part.dimension(name) == value for name, value in group.items())

    made: list[Asked] = []
    for question in questions:
        version = meters[question.meter]
        meter = await in_questions(
            system,
            lambda question=question, version=version: system.catalog.meter(tenant, question.meter, version),
        )
        answer = answers[question, version]
        assert not isinstance(answer, Exception)  # usage_of has raised it
        usage = tuple(part for member in job.members for part in answer.get(member, ()) if belongs(part))
        events, complete = await in_store(
            system,
            lambda question=question, meter=meter: _events(
                system, meter, question, job.members, group=group, as_of_us=as_of_us
            ),
        )
        summed: Decimal | None = None
        if complete and meter.of is None and meter.aggregation in (Aggregation.SUM, Aggregation.COUNT):
            summed = Usage.of_transactions(one.reading.value for one in events).quantity
        made.append(Asked(question, meter, usage, events, complete, summed))
    return tuple(made)


def _events(
    system: System,
    meter: Meter,
    question: Question,
    members: Sequence[str],
    *,
    group: dict[str, str | None],
    as_of_us: int,
) -> tuple[tuple[Counted, ...], bool]:
    def keep(event: StoredEvent, reading: Reading) -> bool:
        return all(named(meter, name, event, reading) == value for name, value in group.items())

    found: list[Counted] = []
    for event, reading in contributions(system, meter, question, members, as_of_us, keep=keep):
        if len(found) == EVENTS_MAX:
            return tuple(found), False
        found.append(Counted(event, reading))
    return tuple(found), True
