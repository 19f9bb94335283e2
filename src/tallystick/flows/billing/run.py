"""Closing periods: an invoice for each that has ended, in grace at first, finalized when its grace is over.

What the keeper does at every sweep, `POST /v1/billing/run` does for any moment. Everything is safe to repeat: an invoice
is named by its subscription and boundary, and one that is finalized never changes.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tallystick.billing.period import parse_duration_us
from tallystick.billing.timeline import closing_look
from tallystick.catalog.billing import Closing, KeptInvoice, KeptSubscription
from tallystick.catalog.interface import SYSTEM, Actor
from tallystick.config import Settings
from tallystick.errors import Conflict, Invalid, TallystickError, TimedOut, Unavailable
from tallystick.flows.billing.build import Built, Job, build, want
from tallystick.flows.billing.closing import (
    FAILED_MAX,
    Failed,
    Report,
    closing_of,
    is_after_end,
    new_invoice_id,
)
from tallystick.flows.billing.gather import Answers, Settled, Wanted, gather, settle
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.prepare import jobs_of, without_standing
from tallystick.flows.billing.taxing import taxed
from tallystick.flows.billing.thresholds import cut
from tallystick.flows.billing.top_ups import bill_top_ups
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

T = TypeVar("T")

BATCH = 2_000
"""Subscriptions that are closed together: they share their questions."""
KEPT_AT_ONCE = 200
"""Invoices that are written in one transaction: others wait for it."""
ROUNDS_MAX = 100_000


async def run(
    system: System,
    tenant: str | None,
    at_us: int,
    *,
    actor: Actor = SYSTEM,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Do what is due at a moment: first finalize what is past its grace, then close periods, oldest first.

    `tenant` None: all of them. Raises TimedOut or Unavailable when the recorder or the store is not there; whatever was
    done until then is kept."""
    billing = billing_of(system)
    report = Report(at_us)
    failed: set[str] = set()
    for _ in range(ROUNDS_MAX):
        if stopped() or len(failed) >= FAILED_MAX:
            break
        waiting = await in_questions(
            system, lambda: billing.invoices_in_grace(tenant, at_us, excluded=failed, limit=BATCH)
        )
        if not waiting:
            break
        for own, ones in _by(waiting, lambda one: one.tenant):
            kept = await _subscriptions_of(system, own, ones)
            # Of one subscription the earlier first: the later one bills what has changed of it.
            first = _first_of_each(ones)
            await _close(
                system,
                own,
                [kept[one.subscription] for one in first],
                {one.subscription: one.boundary_us for one in first},
                report=report,
                failed=failed,
                at_us=at_us,
                actor=actor,
                names={one.subscription: one.id for one in first},
            )
    for _ in range(ROUNDS_MAX):
        if stopped() or len(failed) >= FAILED_MAX:
            break
        due = await in_questions(
            system, lambda: billing.due_subscriptions(tenant, at_us, excluded=failed, limit=BATCH)
        )
        if not due:
            break
        for own, ones in _by(due, lambda one: one.tenant):
            boundaries = {one.id: one.due_us for one in ones if one.due_us is not None}
            report.closed += await _close(
                system,
                own,
                ones,
                boundaries,
                report=report,
                failed=failed,
                at_us=at_us,
                actor=actor,
                names={},
            )
    await cut(system, tenant, at_us, report=report, actor=actor, stopped=stopped)
    await bill_top_ups(system, tenant, report=report, actor=actor)
    return report


async def finalize(system: System, tenant: str, name: str, *, actor: Actor) -> KeptInvoice:
    """Finalize one before its grace is over. Idempotent. Raises Conflict (invoice_void), what prices and usage raise."""
    billing = billing_of(system)
    invoice = await in_questions(system, lambda: billing.invoice(tenant, name))
    if invoice.status == "void":
        raise Conflict("The invoice is void; nothing can be done with it.", code="invoice_void")
    if invoice.status == "finalized":
        return invoice
    kept = await in_questions(system, lambda: billing.subscription(tenant, invoice.subscription))
    boundaries = {kept.id: invoice.boundary_us}
    jobs = await in_questions(system, lambda: jobs_of(system, tenant, [kept], boundaries))
    settled = await settle(system)
    jobs = without_standing(jobs, settled)
    answers = await _answers(system, tenant, jobs, settled)
    now_us = system.clock.now_us()
    built = await in_questions(system, lambda: build(jobs[0], answers, settled))
    (answer,) = await in_questions(system, lambda: taxed(system, tenant, [built], answers, settled))
    if not isinstance(answer, Built):
        raise answer
    built = answer
    closing = closing_of(
        system, kept, built, name=invoice.id, status="finalized", grace_until_us=0, now_us=now_us
    )
    closing = replace(closing, invoice=replace(closing.invoice, grace_until_us=invoice.grace_until_us))
    made = await in_questions(system, lambda: billing.keep_invoices([closing], actor=actor, now_us=now_us))
    if not made:
        raise Unavailable("The subscription was changed at this moment. Try again.", retry_after_s=1)
    return made[0]


def void(system: System, tenant: str, name: str, *, actor: Actor, now_us: int) -> KeptInvoice:
    """Nothing is due by it any more; what credits had paid of it is given back. Idempotent. Synchronous."""
    return billing_of(system).void_invoice(tenant, name, actor=actor, now_us=now_us)


async def _close(
    system: System,
    tenant: str,
    kept: Sequence[KeptSubscription],
    boundaries: dict[str, int],
    *,
    report: Report,
    failed: set[str],
    at_us: int,
    actor: Actor,
    names: dict[str, str],
) -> int:
    """Make one invoice for each; how many were kept. Those that fail are noted in `failed` and the report."""
    billing = billing_of(system)

    def fail(one: KeptSubscription, error: TallystickError) -> None:
        failed.update((one.id, names.get(one.id, one.id)))
        report.failed.append(Failed(tenant, one.id, error.code, error.detail))

    settled = await settle(system)
    try:
        jobs = await in_questions(system, lambda: jobs_of(system, tenant, kept, boundaries))
        jobs = without_standing(jobs, settled)
        answers = await _answers(system, tenant, jobs, settled)
    except (Unavailable, TimedOut):
        raise
    except TallystickError as error:
        if len(kept) == 1:
            fail(kept[0], error)
            return 0
        # One of them cannot be asked for: the others must not wait for it.
        done = 0
        for one in kept:
            done += await _close(
                system,
                tenant,
                [one],
                {one.id: boundaries[one.id]},
                report=report,
                failed=failed,
                at_us=at_us,
                actor=actor,
                names=names,
            )
        return done
    now_us = system.clock.now_us()
    of_closing: dict[int, tuple[KeptSubscription, Built]] = {}

    def closed(one: KeptSubscription, built: Built, *, is_final: bool, grace_until_us: int) -> Closing:
        made = closing_of(
            system,
            one,
            built,
            name=names.get(one.id) or new_invoice_id(),
            status="finalized" if is_final else "grace",
            grace_until_us=grace_until_us,
            now_us=now_us,
        )
        of_closing[id(made)] = (one, built)
        return made

    def make() -> list[Closing]:
        built_ones: list[tuple[KeptSubscription, Job, Built]] = []
        for one, job in zip(kept, jobs, strict=True):
            try:
                built_ones.append((one, job, build(job, answers, settled)))
            except Invalid as error:
                fail(one, error)
        made: list[Closing] = []
        final: list[int] = []
        for one, job, built in built_ones:
            ended = is_after_end(job)
            if ended and not built.lines and not built.given_back:
                look_us = closing_look(job.subscription, job.plans, job.timezone, job.boundary_us)
                billing.defer_subscription(tenant, one.id, look_us)
                continue
            grace_until_us = job.boundary_us + _grace_us(system.settings, job, built)
            is_final = ended or at_us >= grace_until_us
            if is_final:
                final.append(len(made))
            made.append(closed(one, built, is_final=is_final, grace_until_us=grace_until_us))
        # Only what becomes final is asked for: until then usage may change.
        asked = [(place, of_closing[id(made[place])]) for place in final]
        answers_of = taxed(system, tenant, [built for _, (_, built) in asked], answers, settled)
        for (place, (one, built)), answer in zip(asked, answers_of, strict=True):
            grace_until_us = made[place].invoice.grace_until_us
            if isinstance(answer, Built):
                if answer is not built:
                    made[place] = closed(one, answer, is_final=True, grace_until_us=grace_until_us)
                continue
            fail(one, answer)
            waiting = closed(one, built, is_final=False, grace_until_us=grace_until_us)
            made[place] = replace(waiting, invoice=replace(waiting.invoice, waits_for=answer.detail))
        return made

    closings = await in_questions(system, make)
    kept_count = 0
    for start in range(0, len(closings), KEPT_AT_ONCE):
        part = closings[start : start + KEPT_AT_ONCE]
        made = await in_questions(
            system, lambda part=part: billing.keep_invoices(part, actor=actor, now_us=now_us)
        )
        report.note(made)
        kept_count += len(made)
    return kept_count


async def _answers(system: System, tenant: str, jobs: Sequence[Job], settled: Settled) -> Answers:
    wanted = Wanted()
    for job in jobs:
        want(job, wanted)
    return await gather(system, tenant, wanted, settled.as_of_us)


def _grace_us(settings: Settings, job: Job, built: Built) -> int:
    span = job.subscription.span_at(built.period.from_us) or job.subscription.spans[-1]
    own = job.plans[span.plan, span.version].invoice_grace_us
    return grace_us(settings) if own is None else own


def grace_us(settings: Settings) -> int:
    """The setting. Raises Invalid (invalid_setting)."""
    found = parse_duration_us(settings.invoice_grace)
    if found is None:
        raise Invalid(
            f"TALLYSTICK_INVOICE_GRACE: {settings.invoice_grace!r} is no ISO 8601 duration such as PT1H.",
            code="invalid_setting",
        )
    return found


async def _subscriptions_of(
    system: System, tenant: str, invoices: Collection[KeptInvoice]
) -> dict[str, KeptSubscription]:
    billing = billing_of(system)
    wanted = {one.subscription for one in invoices}
    return await in_questions(
        system, lambda: {name: billing.subscription(tenant, name) for name in sorted(wanted)}
    )


def _first_of_each(invoices: Sequence[KeptInvoice]) -> list[KeptInvoice]:
    first: dict[str, KeptInvoice] = {}
    for one in sorted(invoices, key=lambda one: one.boundary_us):
        first.setdefault(one.subscription, one)
    return list(first.values())


def _by(items: Sequence[T], key: Callable[[T], str]) -> Iterator[tuple[str, list[T]]]:
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.items()
