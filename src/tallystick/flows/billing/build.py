"""Invoices from subscriptions: what is due at a boundary, asked for, rated, and compared with what was billed before.

The same three steps make a preview, a closing, and the check of an old invoice: `Job`s are planned (pure), one `gather`
answers all their questions, `build` rates them (pure again).
"""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tallystick import __version__
from tallystick.billing.charge import Charge, Timing
from tallystick.billing.credit_note import creditable
from tallystick.billing.due import Item, PlanShare, Question, items_of, plan_shares
from tallystick.billing.invoice import (
    Line,
    add,
    billed_of,
    document_of,
    late_lines,
    lines_of,
    promises,
    sums_of,
)
from tallystick.billing.item import Item as SingleItem
from tallystick.billing.item import item_lines
from tallystick.billing.period import Period
from tallystick.billing.progressive import Part, deductions
from tallystick.billing.subscription import Subscription
from tallystick.billing.terms import NO_TERMS, Terms
from tallystick.billing.timeline import Plans, Turn, turn_at
from tallystick.catalog.billing import InvoiceKind
from tallystick.errors import Invalid
from tallystick.flows.billing.basis import basis_text
from tallystick.flows.billing.gather import Answers, Settled, Wanted
from tallystick.flows.billing.parts import plan_texts
from tallystick.money import ZERO, exactly
from tallystick.rating.model import Step, Usage


@dataclass(frozen=True, slots=True)
class Earlier:
    """A finalized invoice, as far as it can have changed since."""

    id: str
    title: str
    boundary_us: int
    document: str
    meters: Mapping[str, int]
    fingerprint: str
    late: Mapping[str, Decimal]
    """What was billed late for its lines, or (below zero) given back by notes."""
    notes: tuple[tuple[str, str], ...] = ()
    """Its credit notes that were not void, (id, document): only where what changes is given back by notes."""
    course: tuple[str, str, tuple[str, ...]] = ("", "", ())
    """Whom and what it was made for: the subscription's text, the zone, the customers."""
    position: str = ""
    """What had been recorded when it was made."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """What is due at a boundary: in arrears for the period that ends, in advance of the one that begins."""

    closing: Turn | None
    opening: Turn | None
    due: tuple[Item, ...]
    billed_before: tuple[Item, ...] = ()
    """In advance of the period that ends: they count towards its commitment."""
    held: tuple[PlanShare, ...] = ()
    """The plans of the period that ends, where one of them has a commitment or a minimum."""

    @property
    def period(self) -> Period | None:
        turn = self.closing or self.opening
        return None if turn is None else turn.part


@dataclass(slots=True)
class Known:
    """What is due at a boundary depends on the course of a subscription, and not on whose it is: most of those that are
    billed together have the same, which is worked out once."""

    by_course: dict[Hashable, tuple[Plans, Boundary]] = field(
        default_factory=dict[Hashable, tuple[Plans, Boundary]]
    )
    by_item: dict[tuple[int, int | None], tuple[Item, tuple[Question, ...]]] = field(
        default_factory=dict[tuple[int, int | None], tuple[Item, tuple[Question, ...]]]
    )

    def questions(self, item: Item, until_us: int | None) -> tuple[Question, ...]:
        place = (id(item), until_us)
        found = self.by_item.get(place)
        if found is None:
            found = self.by_item[place] = (item, item.questions(until_us))
        return found[1]

    def boundary(self, job: "Job", boundary_us: int) -> Boundary:
        one = job.subscription
        # Plans by which object they are (those of one run are shared); kept beside, so that none can take another's place.
        plans = tuple(sorted((place, id(plan)) for place, plan in job.plans.items()))
        course = (one.spans, one.anchor_us, one.trial_days, one.pauses, one.quantities, one.add_ons)
        place = (course, plans, job.timezone, boundary_us, job.kind == "threshold")
        found = self.by_course.get(place)
        if found is None:
            found = self.by_course[place] = (job.plans, _boundary_of(job, boundary_us))
        return found[1]


@dataclass(frozen=True, slots=True)
class Job:
    """One invoice to make: of a subscription, at a boundary (billing/timeline.py)."""

    subscription: Subscription
    plans: Plans
    timezone: str
    members: tuple[str, ...]
    boundary_us: int
    meters: Mapping[str, int]
    """The version of each meter."""
    terms: Terms = NO_TERMS
    earlier: tuple[Earlier, ...] = ()
    until_us: int | None = None
    """Usage counts before this moment only: a preview, or an invoice within a period."""
    kind: InvoiceKind = "period"
    items: tuple[SingleItem, ...] = ()
    parts: tuple[Part, ...] = ()
    """What was invoiced within the period already."""
    by_note: bool = False
    """What is due back for finalized lines is given back by credit notes, as far as they can."""
    known: Known = field(default_factory=Known, compare=False, repr=False)
    """Shared by the jobs that are planned together."""

    @property
    def currency(self) -> str:
        """Of all plans it ever had."""
        first = self.subscription.spans[0]
        return self.plans[first.plan, first.version].currency


def boundary_of(job: Job, boundary_us: int) -> Boundary:
    """See `Boundary`. At the start of a subscription nothing has ended yet."""
    return job.known.boundary(job, boundary_us)


def _boundary_of(job: Job, boundary_us: int) -> Boundary:
    one, plans, timezone = job.subscription, job.plans, job.timezone
    if job.kind == "threshold":
        return _within(job, boundary_us)
    closing = turn_at(one, plans, timezone, boundary_us - 1) if boundary_us > one.start_us else None
    opening = turn_at(one, plans, timezone, boundary_us)
    due: list[Item] = []
    before: tuple[Item, ...] = ()
    if closing is not None:
        due += items_of(one, plans, timezone, closing, Timing.ARREARS)
        before = items_of(one, plans, timezone, closing, Timing.ADVANCE)
    if opening is not None:
        due += items_of(one, plans, timezone, opening, Timing.ADVANCE)
    held = () if closing is None else plan_shares(one, plans, timezone, closing)
    promised = [plans[each.plan, each.version] for each in held]
    if all(plan.commitment is None and plan.minimum is None for plan in promised):
        held = ()
    return Boundary(closing, opening, tuple(due), before, held)


def _within(job: Job, boundary_us: int) -> Boundary:
    """Of an open period: usage alone. Fees and least amounts are due at its end."""
    turn = turn_at(job.subscription, job.plans, job.timezone, boundary_us - 1)
    assert turn is not None  # it is cut within a period
    items = items_of(job.subscription, job.plans, job.timezone, turn, Timing.ARREARS)
    usage = tuple(
        replace(item, charge=_without_minimum(item.charge))
        for item in items
        if item.charge.meter is not None and item.part.from_us < boundary_us
    )
    return Boundary(turn, None, usage)


def _without_minimum(charge: Charge) -> Charge:
    return replace(charge, adjustments=replace(charge.adjustments, minimum=None))


def want(job: Job, wanted: Wanted) -> None:
    """Note every question of a job."""
    _want(job, boundary_of(job, job.boundary_us), job.meters, job.until_us, wanted)
    want_earlier(job, wanted)


def want_earlier(job: Job, wanted: Wanted) -> None:
    """Note the questions of its earlier invoices."""
    for earlier in job.earlier:
        _want(job, boundary_of(job, earlier.boundary_us), {**job.meters, **earlier.meters}, None, wanted)


def _want(
    job: Job, boundary: Boundary, meters: Mapping[str, int], until_us: int | None, wanted: Wanted
) -> None:
    for item in (*boundary.due, *boundary.billed_before):
        for question in job.known.questions(item, until_us):
            wanted.add(question, meters[question.meter], job.members)


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What a credit note for an earlier invoice is to give back, before tax, and the changes that this settles."""

    earlier: Earlier
    lines: tuple[tuple[str, Decimal], ...]
    changes: tuple[tuple[str, Decimal], ...]


@dataclass(slots=True)
class Built:
    """An invoice before it has a number. `late`: its lines for what has changed of earlier ones."""

    job: Job
    period: Period
    lines: tuple[Line, ...]
    document: str
    basis: str
    currency: str
    late: list[Line] = field(default_factory=list[Line])
    given_back: list[GivenBack] = field(default_factory=list[GivenBack])


def build(job: Job, answers: Answers, settled: Settled, *, program: str = __version__) -> Built:
    """Rate what was gathered. Raises Invalid where a price has no answer, or facts that are needed are deleted."""
    rated = _rated(job, answers)
    document = document_of(
        customer=job.subscription.customer,
        subscription=job.subscription.id,
        period=rated.period,
        currency=rated.currency,
        lines=rated.lines,
        terms=job.terms,
        plans=plan_texts(job.plans),
        position=settled.position,
        as_of_us=settled.as_of_us,
        program=program,
    )
    basis = basis_text(job, settled, rated.used.fingerprint)
    return Built(
        job, rated.period, rated.lines, document, basis, rated.currency, rated.late, rated.given_back
    )


def total_of(job: Job, answers: Answers) -> tuple[str, Decimal]:
    """Currency and total of the invoice, without its document: what a comparison needs of it. Raises as `build`."""
    rated = _rated(job, answers)
    return rated.currency, sums_of(rated.lines, job.terms, rated.currency).total


@dataclass(frozen=True, slots=True)
class Used:
    """What is to be rated at a boundary, each item with its usage. `before`: see `Boundary.billed_before`."""

    due: tuple[tuple[Item, tuple[Usage, ...]], ...]
    before: tuple[tuple[Item, tuple[Usage, ...]], ...]

    @property
    def fingerprint(self) -> str:
        """Of everything the lines follow from, beside the plans: equal ones have equal lines."""
        digest = hashlib.sha256()
        for item, usage in (*self.due, *self.before):
            digest.update(repr((item.id, item.part, item.share, item.levels, usage)).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Rated:
    """All lines, those of them that are late, what is given back beside them, and what they were rated from."""

    period: Period
    currency: str
    lines: tuple[Line, ...]
    late: list[Line]
    given_back: list[GivenBack]
    used: Used


def _rated(job: Job, answers: Answers) -> _Rated:
    boundary = boundary_of(job, job.boundary_us)
    period = _period(job, boundary)
    currency = job.currency
    used = _used(job, boundary, job.meters, answers, job.until_us)
    lines = _lines(job, boundary, used, currency)
    late: list[Line] = []
    given_back: list[GivenBack] = []
    for earlier in job.earlier:
        changed = _late(job, earlier, answers, currency)
        if job.by_note:
            changed, given = _by_note(earlier, changed)
            given_back += given
        late += changed
    every = (*lines, *item_lines(job.items, currency, period), *deductions(job.parts, period), *late)
    return _Rated(period, currency, every, late, given_back, used)


def _period(job: Job, boundary: Boundary) -> Period:
    period = boundary.period
    if period is None:
        # After the last period: there is nothing but what has changed of earlier ones.
        end_us = job.subscription.end_us
        assert end_us is not None
        return Period(end_us, job.boundary_us)
    return Period(period.from_us, job.boundary_us) if job.kind == "threshold" else period


def _by_note(earlier: Earlier, changed: Sequence[Line]) -> tuple[tuple[Line, ...], list[GivenBack]]:
    """Late lines without what a credit note can give back instead, and that note."""
    changes = {line.of[1]: line.rounded for line in changed if line.of is not None and line.rounded < 0}
    notes = [json.loads(document) for _, document in earlier.notes]
    found = creditable(json.loads(earlier.document), notes, changes)
    if not found:
        return tuple(changed), []
    kept: list[Line] = []
    for line in changed:
        assert line.of is not None
        gross, _ = found.get(line.of[1], (ZERO, ZERO))
        rest = add(line.rounded, gross)
        if not gross:
            kept.append(line)
        elif rest:
            kept.append(
                replace(line, amount=rest, rounded=rest, steps=(*line.steps, Step("credited", gross)))
            )
    lines = tuple((name, net) for name, (_, net) in found.items())
    return tuple(kept), [
        GivenBack(earlier, lines, tuple((name, -gross) for name, (gross, _) in found.items()))
    ]


def _used(
    job: Job, boundary: Boundary, meters: Mapping[str, int], answers: Answers, until_us: int | None
) -> Used:
    def with_usage(items: Sequence[Item]) -> tuple[tuple[Item, tuple[Usage, ...]], ...]:
        return tuple((item, usage_of(job, item, meters, until_us, answers)) for item in items)

    return Used(with_usage(boundary.due), with_usage(boundary.billed_before) if boundary.held else ())


def _lines(job: Job, boundary: Boundary, used: Used, currency: str) -> tuple[Line, ...]:
    lines = [line for item, usage in used.due for line in lines_of(item, usage, currency)]
    held = boundary.held
    if held and boundary.closing is not None:
        opening = {item.id for item in boundary.due if item.charge.timing is Timing.ADVANCE}
        charged = [line for line in lines if line.id.partition("-")[0] not in opening]
        charged += [line for item, usage in used.before for line in lines_of(item, usage, currency)]
        lines += promises(charged, held, job.plans, boundary.closing.part, currency)
    return tuple(lines)


def usage_of(
    job: Job, item: Item, meters: Mapping[str, int], until_us: int | None, answers: Answers
) -> tuple[Usage, ...]:
    """All members' usage for one item. Raises Invalid where it cannot be known any more."""
    made: list[Usage] = []
    for question in job.known.questions(item, until_us):
        answer = answers[question, meters[question.meter]]
        if isinstance(answer, Invalid):
            raise answer
        for member in job.members:
            made += answer.get(member, ())
    return tuple(made)


@exactly
def late_of(job: Job, earlier: Earlier, answers: Answers) -> tuple[Decimal, Decimal, Decimal]:
    """Of an earlier invoice, before discount and tax: what it billed, what was billed for it later, and what has changed
    beyond that."""
    billed = sum((one.rounded for one in billed_of(earlier.document, {}).values()), ZERO)
    settled = sum(earlier.late.values(), ZERO)
    changed = sum((line.rounded for line in _late(job, earlier, answers, job.currency)), ZERO)
    return billed, settled, changed


def _late(job: Job, earlier: Earlier, answers: Answers, currency: str) -> tuple[Line, ...]:
    """What has changed of an earlier invoice since. One whose facts are deleted by now stands as it is."""
    boundary = boundary_of(job, earlier.boundary_us)
    meters = {**job.meters, **earlier.meters}
    try:
        used = _used(job, boundary, meters, answers, None)
        if used.fingerprint == earlier.fingerprint and not earlier.late:
            return ()
        lines = _lines(job, boundary, used, currency)
    except Invalid as error:
        if error.code == "past_retention":
            return ()
        raise
    return late_lines(earlier.id, billed_of(earlier.document, earlier.late), lines, earlier.title)
