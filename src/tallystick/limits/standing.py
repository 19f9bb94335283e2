"""What stands against a limit at one moment, and what is decided by it.

All hard limits that concern a use must hold. The one that answers is, of those that refuse, the one with least remaining;
where none refuses, the one with least remaining of all; units and money beside each other are compared by what part of each
limit remains. What is unknown decides by its `fail`.
"""

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from tallystick.limits.limit import Enforce, Fail, Limit, Window
from tallystick.metering.meter import Aggregation
from tallystick.money import ZERO, exactly, quotient

NO_LIMIT = "no_limit"
WITHIN = "within_limit"
EXCEEDED = "limit_exceeded"
OVER_SOFT = "over_soft_limit"
UNKNOWN_OPEN = "usage_unknown_open"
UNKNOWN_CLOSED = "usage_unknown_closed"
REASONS = (NO_LIMIT, WITHIN, EXCEEDED, OVER_SOFT, UNKNOWN_OPEN, UNKNOWN_CLOSED)

ADDED_UP = frozenset({Aggregation.SUM, Aggregation.COUNT})
"""Of these an amount can be reserved: what is used is the sum of what was."""
_GROWING = ADDED_UP | {
    Aggregation.UNIQUE_COUNT,
    Aggregation.DURATION,
    Aggregation.TIME_WEIGHTED,
    Aggregation.REGISTER,
}


class Standing(Struct, frozen=True):
    """One limit for one customer. All in the limit's own unit (units of the meter, or money).

    `amount` is what may be used in all (raises and carry-over included), `after` what used and held together would come to.
    `known` False: usage could not be had, and the figures mean nothing."""

    limit: Limit
    window: Window
    amount: Decimal
    used: Decimal
    held: Decimal
    after: Decimal
    reset_us: int
    known: bool = True
    currency: str | None = None

    @property
    def remaining(self) -> Decimal:
        """Never below 0."""
        return _left(self.amount, self.used, self.held)

    @property
    def fits(self) -> bool:
        return self.after <= self.amount


class Decision(Struct, frozen=True):
    """`standing` is the limit that answers; None where there is none."""

    allowed: bool
    reason: str
    standing: Standing | None


def decide(standings: Sequence[Standing]) -> Decision:
    """See the module."""
    if not standings:
        return Decision(True, NO_LIMIT, None)
    refusing = [
        one
        for one in standings
        if one.limit.enforce is Enforce.HARD
        and (not one.fits if one.known else one.limit.fail is Fail.CLOSED)
    ]
    if refusing:
        first = _least(refusing)
        return Decision(False, EXCEEDED if first.known else UNKNOWN_CLOSED, first)
    over = [one for one in standings if one.known and not one.fits]
    if over:
        return Decision(True, OVER_SOFT, _least(over))
    first = _least(standings)
    return Decision(True, WITHIN if first.known else UNKNOWN_OPEN, first)


def _least(standings: Sequence[Standing]) -> Standing:
    if len(standings) == 1:
        return standings[0]
    in_money = sum(one.limit.cost for one in standings)
    return min(standings, key=_part_order if 0 < in_money < len(standings) else _order)


def _order(one: Standing) -> tuple[bool, Decimal, str]:
    return (not one.known, one.remaining, one.limit.key)


def _part_order(one: Standing) -> tuple[bool, Decimal, str]:
    part = quotient(one.remaining, one.amount) if one.amount > 0 else ZERO
    return (not one.known, part, one.limit.key)


@exactly
def _left(amount: Decimal, used: Decimal, held: Decimal) -> Decimal:
    return max(ZERO, amount - used - held)


@exactly
def after_use(used: Decimal, held: Decimal, amount: Decimal, aggregation: Aggregation) -> Decimal:
    """What it comes to where this much more is used. Of figures that do not add up: a maximum is the greater of both, a
    figure that only grows is taken to grow by the amount, and of all others what is recorded counts alone."""
    both = used + held
    if aggregation in _GROWING:
        return both + amount
    return max(both, amount) if aggregation is Aggregation.MAX else both


@exactly
def carried_over(most: Decimal | None, amount: Decimal, used_before: Decimal | None) -> Decimal:
    """What is added for what was left of the period before, of its own amount alone: what was carried into it is not
    carried on. `used_before` None: there was no such period."""
    if most is None or used_before is None:
        return ZERO
    return min(most, max(ZERO, amount - used_before))
