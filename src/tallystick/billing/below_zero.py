"""Usage below zero, where a price is applied to it: what is taken back lowers what was used, and never below nothing.

A sum may be negative: refunds, units given back, a gauge below zero. A price has no answer to that, and one such group must
not keep a customer's invoice from being made. So what is negative is taken off what was used last before it, then off what
came after, among the parts with the same dimensions; the rest counts as none (docs/decisions/0058-usage-below-zero.md).
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from tallystick.money import ZERO, exactly
from tallystick.rating.model import Step, Usage


@exactly
def above_zero(parts: Sequence[Usage]) -> tuple[Sequence[Usage], tuple[Step, ...]]:
    """The parts without anything negative, and a step for what is below zero after all; the same parts where nothing is.

    A transaction below zero is none of its own: it takes off those around it, and pays no fixed amount."""
    if not any(part.quantity < 0 or any(value < 0 for value in part.transactions or ()) for part in parts):
        return parts, ()
    alike: dict[tuple[tuple[str, str | None], ...], list[int]] = {}
    for place in sorted(range(len(parts)), key=lambda place: (parts[place].at_us or 0, place)):
        alike.setdefault(parts[place].dimensions, []).append(place)
    made = list(parts)
    below = ZERO
    for places in alike.values():
        values = [
            list(parts[place].transactions or ())
            if parts[place].transactions is not None
            else [parts[place].quantity]
            for place in places
        ]
        left, rest = _taken_off([value for own in values for value in own])
        below += rest
        remaining = iter(left)
        for place, own in zip(places, values, strict=True):
            kept = [(old, next(remaining)) for old in own]
            quantity = sum((new for _, new in kept), ZERO)
            if parts[place].transactions is None:
                made[place] = replace(parts[place], quantity=quantity)
                continue
            transactions = tuple(new for old, new in kept if old >= 0)
            made[place] = replace(
                parts[place],
                quantity=quantity,
                transactions=transactions,
                transaction_count=len(transactions),
            )
    return made, (Step("below_zero", ZERO, quantity=below),) if below else ()


def _taken_off(values: Sequence[Decimal]) -> tuple[list[Decimal], Decimal]:
    """In the order of time: the values with what is negative taken off the last before it, then the next; and what is
    below zero of them all (negative or 0). Called within `exactly`."""
    left: list[Decimal] = []
    open_places: list[int] = []
    owed = ZERO
    for value in values:
        left.append(ZERO)
        if value >= 0:
            taken = min(value, owed)
            owed -= taken
            left[-1] = value - taken
            if left[-1]:
                open_places.append(len(left) - 1)
            continue
        back = -value
        while back and open_places:
            place = open_places[-1]
            taken = min(back, left[place])
            left[place] -= taken
            back -= taken
            if not left[place]:
                open_places.pop()
        owed += back
    return left, -owed
