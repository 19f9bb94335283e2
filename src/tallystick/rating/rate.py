"""The way in: usage, a price and its adjustments become an amount that explains itself.

- `rate` a whole period. - `rate_part` what more usage of the same period adds (progressive bills, charges in advance):
the difference of two whole amounts, so that the parts always add up to the whole. - `rate_groups` a price whose tiers
count all groups together, shared out to them. - `rate_levels` a level that changes within the period (seats).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from tallystick.money import EXACT_FRACTION_DIGITS, ZERO, exactly, quotient, split
from tallystick.rating.adjustments import NO_ADJUSTMENTS, Adjustments, after_price, before_price
from tallystick.rating.model import Rated, Step, Usage, no_answer
from tallystick.rating.price import Price

_QUANTUM = Decimal(1).scaleb(-EXACT_FRACTION_DIGITS)
Group = TypeVar("Group", bound=Hashable)


@exactly
def rate(price: Price, parts: Sequence[Usage], adjustments: Adjustments = NO_ADJUSTMENTS) -> Rated:
    """What the parts cost together in one period, in currency, at full precision; the steps' sum is the amount.

    Raises Invalid with code negative_quantity, no_matching_cell or time_needed.
    """
    _check(parts)
    kept, steps = before_price(parts, adjustments)
    rated = price.rate(kept)
    steps += rated.steps
    steps += after_price(rated.amount, adjustments)
    whole = Rated.of(steps)
    return whole if price.unit is None else price.unit.convert(whole)


@exactly
def rate_part(
    price: Price,
    before: Sequence[Usage] | None,
    parts: Sequence[Usage],
    adjustments: Adjustments = NO_ADJUSTMENTS,
    *,
    last: bool = True,
) -> Rated:
    """What `parts` cost after `before`, of the same period, was billed; None: nothing was billed yet.

    The minimum is due with the `last` part only. Steps are differences: a tier that `before` filled does not appear.
    A volume or maximum may make the difference negative: what was billed in excess comes back.
    """
    now = rate(price, [*(before or ()), *parts], adjustments if last else adjustments.without_minimum())
    if before is None:
        return now
    return difference(now, rate(price, before, adjustments.without_minimum()))


@exactly
def difference(now: Rated, earlier: Rated) -> Rated:
    """now − earlier, step by step; steps that are the same in both are left out."""
    old = _by_place(earlier)
    steps: list[Step] = []
    for place, step in _by_place(now).items():
        was = old.pop(place, None)
        if was is None:
            steps.append(step)
            continue
        quantity = None if step.quantity is None else step.quantity - (was.quantity or ZERO)
        flat = None if step.flat_amount is None else step.flat_amount - (was.flat_amount or ZERO)
        amount = step.amount - was.amount
        if amount or quantity:
            steps.append(replace(step, amount=amount, quantity=quantity, flat_amount=flat))
    for step in old.values():
        quantity = None if step.quantity is None else -step.quantity
        flat = None if step.flat_amount is None else -step.flat_amount
        if step.amount or quantity:
            steps.append(replace(step, amount=-step.amount, quantity=quantity, flat_amount=flat))
    return Rated.of(steps)


def _by_place(rated: Rated) -> dict[tuple[object, ...], Step]:
    """The steps by their place; those of equal place (two discounts of one name) are told apart by their number."""
    made: dict[tuple[object, ...], Step] = {}
    for step in rated.steps:
        number = 0
        while (*step.place, number) in made:
            number += 1
        made[(*step.place, number)] = step
    return made


@exactly
def rate_groups(
    price: Price, groups: Mapping[Group, Decimal], adjustments: Adjustments = NO_ADJUSTMENTS
) -> tuple[Rated, dict[Group, Decimal]]:
    """One price whose tiers count all groups together, and each group's share of the amount.

    Shares are in proportion to quantity, by largest remainder at the 36th digit: they add up to the amount exactly. With
    no quantity at all, what is due anyway (a first tier's flat amount) is shared equally.
    """
    rated = rate(price, [Usage(quantity) for quantity in groups.values()] or [Usage(ZERO)], adjustments)
    if not groups:
        return rated, {}
    shares = split(rated.amount, list(groups.values()), _QUANTUM)
    return rated, dict(zip(groups, shares, strict=True))


@dataclass(frozen=True, slots=True)
class Level:
    """How many for which part of the period: `numerator` of `denominator` days or microseconds."""

    quantity: Decimal
    numerator: int
    denominator: int


@exactly
def rate_levels(price: Price, levels: Sequence[Level], adjustments: Adjustments = NO_ADJUSTMENTS) -> Rated:
    """A level that changes within the period: seats, reserved machines. Each level costs its share of the period.

    Flat amounts are those of the highest level that was held, once and in full. So a tier's units are dearer or
    cheaper for as long as the level was there, whichever came first (Lago's prorated graduated charges, without their
    dependence on the order of events).
    """
    if not levels:
        return rate(price, [], adjustments)
    _check([Usage(level.quantity) for level in levels])
    steps: list[Step] = []
    for index, level in enumerate(levels):
        if not level.numerator:
            continue
        for step in price.rate([Usage(level.quantity)]).steps:
            variable = step.amount - (step.flat_amount or ZERO)
            share = quotient(variable * level.numerator, Decimal(level.denominator))
            steps.append(replace(step, amount=share, flat_amount=None, label=(str(index + 1), *step.label)))
    highest = max(level.quantity for level in levels)
    steps += [
        replace(step, kind="fixed", amount=step.flat_amount, quantity=None, unit_amount=None)
        for step in price.rate([Usage(highest)]).steps
        if step.flat_amount
    ]
    amount = sum((step.amount for step in steps), ZERO)
    whole = Rated.of([*steps, *after_price(amount, adjustments)])
    return whole if price.unit is None else price.unit.convert(whole)


def _check(parts: Sequence[Usage]) -> None:
    for part in parts:
        if part.quantity < 0 or any(value < 0 for value in part.transactions or ()):
            raise no_answer(
                "negative_quantity",
                "A negative quantity has no price: a correction lowers the usage that is rated.",
                "/quantity",
            )


@exactly
def increments(changes: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Of each change to a running quantity, what lies above the highest it ever was: what a charge in advance bills.

    So a unit given back and taken again within a period is not billed twice."""
    running = highest = ZERO
    made: list[Decimal] = []
    for change in changes:
        running += change
        made.append(max(ZERO, running - highest))
        highest = max(highest, running)
    return tuple(made)
