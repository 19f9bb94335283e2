"""The coming invoice: what a period that is still open will probably cost when it ends.

Usage so far stands as it is; what is still to come of each charge is forecast (flows/forecast.py), shared out to customers
and dimensions as the last 30 days were, and rated by the same engine as every invoice. The interval is rated, too: once
with every charge at its low end and once at its high end, which is wide where charges do not move together.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import cycle

from tallystick.billing.due import Question
from tallystick.errors import Invalid
from tallystick.flows.billing.build import Built, build, want
from tallystick.flows.billing.gather import Answers, Settled, Wanted, gather
from tallystick.flows.billing.preview import open_jobs
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.forecast import DAY_US, HOURS_UP_TO_DAYS, Forecast, ForecastRequest, forecast
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.flows.usage import DAYS_30_US, UsageRequest, in_questions, usage
from tallystick.forecast.predict import STEPS_MAX
from tallystick.metering.query import Window
from tallystick.money import ZERO, exactly, quotient
from tallystick.rating.model import Usage

TRANSACTIONS_AHEAD_MAX = 100_000
_PLACES = Decimal(1).scaleb(-18)
_ROUNDING = Context(prec=240, rounding=ROUND_HALF_EVEN)
_HOUR_US = DAY_US // 24
_ENDS = ("value", "low", "high")

Place = tuple[Question, int]
Group = tuple[str, tuple[str | None, ...]]
"""A customer, and the values of the question's dimensions."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is still to come of one question. `reason`: why nothing is foreseen (`not_additive`, `no_history`,
    `no_transactions`); what was used so far then stands alone."""

    question: Question
    method: str
    value: Decimal
    low: Decimal
    high: Decimal
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Foreseen:
    """An open period's invoice: with the usage `so_far`, and with what is to come as expected, at its low, at its high
    end."""

    so_far: Built
    expected: Built
    low: Built
    high: Built
    ahead: tuple[Ahead, ...]


async def foresee(
    system: System, tenant: str, customer: str, *, subscription: str | None, level: float
) -> tuple[Foreseen, ...]:
    """One for each subscription of the customer, the oldest first. Raises NotFound (customer_not_found,
    no_subscription)."""
    now_us = system.clock.now_us()
    jobs = await in_questions(
        system, lambda: open_jobs(system, tenant, customer, subscription, at_us=now_us, until_us=None)
    )
    settled = Settled(system.recorder.recorded_at_us, token_of(system.recorder.position))
    wanted = Wanted()
    for job in jobs:
        want(job, wanted)
    answers = await gather(system, tenant, wanted, None)
    coming: dict[Place, tuple[Ahead, dict[str, Answers]]] = {}
    for place, customers in wanted.by_question.items():
        if place[0].to_us > now_us:
            coming[place] = await _coming(
                system,
                tenant,
                place,
                customers=tuple(sorted(customers)),
                so_far=answers[place],
                now_us=now_us,
                level=level,
            )

    def rate() -> tuple[Foreseen, ...]:
        made: list[Foreseen] = []
        for job in jobs:
            own = Wanted()
            want(job, own)
            ends = {
                end: build(job, {**answers, **_merged(coming[place][1][end] for place in coming)}, settled)
                for end in _ENDS
            }
            by_total = sorted(ends.values(), key=_total)
            made.append(
                Foreseen(
                    build(job, answers, settled),
                    ends["value"],
                    by_total[0],
                    by_total[-1],
                    tuple(coming[place][0] for place in own.by_question if place in coming),
                )
            )
        return tuple(made)

    return await in_questions(system, rate)


def _merged(answers: Iterable[Answers]) -> dict[Place, Mapping[str, Sequence[Usage]] | Invalid]:
    return {place: answer for one in answers for place, answer in one.items()}


def _total(built: Built) -> Decimal:
    return Decimal(json.loads(built.document)["total"])


async def _coming(
    system: System,
    tenant: str,
    place: Place,
    *,
    customers: tuple[str, ...],
    so_far: Mapping[str, Sequence[Usage]] | Invalid,
    now_us: int,
    level: float,
) -> tuple[Ahead, dict[str, Answers]]:
    """What is to come of one question, and its answer at each end with that added."""
    question, version = place
    horizon_us = question.to_us - now_us
    by_hour = horizon_us <= HOURS_UP_TO_DAYS * DAY_US or (
        question.window is not None and horizon_us // _HOUR_US < STEPS_MAX
    )
    made = await forecast(
        system,
        ForecastRequest(
            tenant=tenant,
            meter=question.meter,
            horizon_us=horizon_us + (_HOUR_US if by_hour else DAY_US),  # the open window has begun already
            window=Window.HOUR if by_hour else Window.DAY,
            timezone=question.timezone,
            customers=customers,
            filters=filters_of(question.filter),
            level=level,
            version=version,
        ),
    )
    begin_us = max(now_us, question.from_us)
    ends = remainder(made, begin_us, question.to_us)
    reason = None
    if isinstance(so_far, Invalid):
        reason = so_far.code
    elif not made.sums:
        reason = "no_history" if not made.rows else "not_additive"
    elif question.one_by_one and not any(one.transactions for each in so_far.values() for one in each):
        reason = "no_transactions" if ends["value"] else None
    ahead = Ahead(question, made.prediction.method, ends["value"], ends["low"], ends["high"], reason)
    if reason is not None or isinstance(so_far, Invalid):
        return replace(ahead, value=ZERO, low=ZERO, high=ZERO), {end: {place: so_far} for end in _ENDS}
    if question.one_by_one:
        return ahead, {end: {place: _repeated(so_far, ends[end])} for end in _ENDS}
    weights = await _weights(system, tenant, place, customers, made)
    windows = _windows(made, begin_us, question) if question.window is not None else [(begin_us, Decimal(1))]
    return ahead, {end: {place: _added(so_far, question, weights, windows, ends[end])} for end in _ENDS}


# -- how much ---------------------------------------------------------------------------------------------------------
@exactly
def remainder(made: Forecast, from_us: int, to_us: int) -> dict[str, Decimal]:
    """What the forecast has between two moments that are not before now: `value`, `low`, `high`. Within a window it
    is spread evenly; the ends of a part that begins later are the whole's, in proportion."""
    if not made.sums or from_us >= to_us:
        return dict.fromkeys(_ENDS, ZERO)
    whole = {end: max(_up_to(made, to_us, end) - made.so_far, ZERO) for end in _ENDS}
    if from_us <= made.now_us or not whole["value"]:
        return whole
    part = max(_up_to(made, to_us, "value") - _up_to(made, from_us, "value"), ZERO)
    return {end: _rounded(quotient(amount * part, whole["value"])) for end, amount in whole.items()}


def _up_to(made: Forecast, at_us: int, end: str) -> Decimal:
    """The sum from the beginning of the open window to a moment; at least what is used already."""
    before, begin_us = ZERO, made.to_us
    for row in made.sums:
        total: Decimal = getattr(row, end)
        if row.to_us >= at_us:
            if (
                begin_us <= made.now_us < row.to_us
            ):  # of the open window, what is still to come lies ahead of now
                before, begin_us = made.so_far, made.now_us
            part = quotient(Decimal(at_us - begin_us), Decimal(row.to_us - begin_us))
            return _rounded(before + (total - before) * max(part, ZERO))
        before, begin_us = total, row.to_us
    return before


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(_PLACES, context=_ROUNDING).normalize() if value else ZERO


# -- whose, and of what -------------------------------------------------------------------------------------------------
async def _weights(
    system: System, tenant: str, place: Place, customers: tuple[str, ...], made: Forecast
) -> dict[Group, Decimal]:
    """How usage was shared out in the last 30 days; figures, not shares."""
    question, version = place
    names = tuple(name for name in question.dimensions if name != "customer")
    from_us = max(made.now_us - DAYS_30_US, made.from_us)
    alone: dict[Group, Decimal] = {(customers[0], tuple(None for _ in names)): Decimal(1)}
    if from_us >= made.now_us or (len(customers) == 1 and not names):
        return alone
    answer = await usage(
        system,
        UsageRequest(
            tenant=tenant,
            meter=question.meter,
            from_us=from_us,
            to_us=made.now_us,
            customers=customers,
            group_by=("customer", *names),
            filters=filters_of(question.filter),
            version=version,
        ),
    )
    found = {
        (str(row.group[0]), tuple(row.group[1:])): row.value
        for row in answer.rows
        if row.value is not None and row.value > 0
    }
    return found or alone


def _windows(made: Forecast, begin_us: int, question: Question) -> list[tuple[int, Decimal]]:
    """When it will be used: the beginnings of the windows to come with their figures."""
    found = [
        (max(row.from_us, begin_us), row.value)
        for row in made.rows
        if row.to_us > begin_us and row.from_us < question.to_us and row.value > 0
    ]
    return found or [(begin_us, Decimal(1))]


@exactly
def _added(
    so_far: Mapping[str, Sequence[Usage]],
    question: Question,
    weights: Mapping[Group, Decimal],
    windows: Sequence[tuple[int, Decimal]],
    amount: Decimal,
) -> dict[str, list[Usage]]:
    """The answer with an amount more, shared out by weight to groups and windows."""
    made = {customer: list(each) for customer, each in so_far.items()}
    if not amount:
        return made
    names = [name for name in question.dimensions if name != "customer"]
    whole = sum(weights.values(), ZERO) * sum((share for _, share in windows), ZERO)
    left = amount
    places = [(group, weight, at_us, share) for group, weight in weights.items() for at_us, share in windows]
    for index, ((customer, values), weight, at_us, share) in enumerate(places):
        part = left if index == len(places) - 1 else _rounded(quotient(amount * weight * share, whole))
        left -= part
        by_name = {**dict(zip(names, values, strict=True)), "customer": customer}
        made.setdefault(customer, []).append(
            Usage(part, dimensions=tuple((name, by_name[name]) for name in question.dimensions), at_us=at_us)
        )
    return made


@exactly
def _repeated(so_far: Mapping[str, Sequence[Usage]], amount: Decimal) -> dict[str, list[Usage]]:
    """Transactions to come are like those there were, over again, until they add up to the amount: a price that knows
    each of them has no answer for their sum alone."""
    made = {customer: list(each) for customer, each in so_far.items()}
    whole = sum((one.quantity for each in so_far.values() for one in each), ZERO)
    if whole <= 0:
        return made
    for each in made.values():
        for index, one in enumerate(each):
            if not one.transactions or one.quantity <= 0:
                continue
            target = quotient(amount * one.quantity, whole)
            more: list[Decimal] = []
            total = ZERO
            for value in cycle(one.transactions):
                if total + value / 2 >= target or len(more) >= TRANSACTIONS_AHEAD_MAX:
                    break
                more.append(value)
                total += value
            longer = Usage.of_transactions((*one.transactions, *more))
            each[index] = replace(longer, dimensions=one.dimensions, at_us=one.at_us)
    return made
