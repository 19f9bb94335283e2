"""The share of a period that something lasted: by whole days of the customer's calendar, or by time.

By day: a day that was begun counts. Where one thing follows another within a day (an upgrade), the day is the new one's,
so that the shares of all parts add up to the period; where nothing follows (`ends`), the day it ended on still counts.
By second: the exact share of the time that elapsed.

A share is a fraction and stays one: 1000 for 17 of 31 days is 1000 × 17 / 31, rounded where the line is, never before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from tallystick.billing.period import Period, day_begin_us, local
from tallystick.money import ZERO, exactly, quotient
from tallystick.rating.rate import Level


class ProrateBy(StrEnum):
    """NONE: what is begun is due in full."""

    DAY = "day"
    SECOND = "second"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Share:
    """numerator of denominator days, or microseconds."""

    numerator: int
    denominator: int

    @property
    def whole(self) -> bool:
        return self.numerator == self.denominator

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.numerator, self.denominator)

    @exactly
    def of(self, amount: Decimal) -> Decimal:
        """The share of an amount, to 36 digits after the point."""
        if self.whole:
            return amount
        return quotient(amount * self.numerator, Decimal(self.denominator))


WHOLE = Share(1, 1)


def share(period: Period, part: Period | None, *, by: ProrateBy, timezone: str, ends: bool = True) -> Share:
    """Which share of the period `part` (within it) is; None: nothing of it. `ends`: nothing follows on the part's last
    day, so that day counts."""
    if part is None:
        return Share(0, 1)
    if by is ProrateBy.NONE or part == period:
        return WHOLE
    if by is ProrateBy.SECOND:
        return Share(part.length_us, period.length_us)
    whole = days_of(period, period, timezone, ends=False)
    return Share(min(whole, days_of(period, part, timezone, ends=ends)), whole)


def days_of(period: Period, part: Period, timezone: str, *, ends: bool) -> int:
    """Days of the calendar in the part. A period that begins and ends within one day has one."""
    first = local(part.from_us, timezone).toordinal()
    last_face = local(part.to_us, timezone)
    last = last_face.toordinal()
    begun = part.to_us > day_begin_us(last_face, timezone)
    if part.to_us < period.to_us and ends and begun:
        last += 1
    if part == period:
        return max(1, last - first)
    return last - first


@dataclass(frozen=True, slots=True)
class Change:
    """From `at_us` on there are `quantity`."""

    at_us: int
    quantity: Decimal


def levels(
    period: Period,
    part: Period,
    changes: Sequence[Change],
    *,
    by: ProrateBy,
    timezone: str,
    ends: bool = True,
) -> tuple[Level, ...]:
    """How many for which share of the period: for rating/rate.py, `rate_levels`.

    `changes` in order of time; what holds at the part's beginning is the last one up to there (0 without one). By day,
    a day counts with the highest level held in it: what comes counts from its day on, what goes still counts that day.
    The day a period ends on within is the next period's. NONE: the highest level, for the whole period.
    """
    at_start = ZERO
    inner: list[Change] = []
    for change in changes:
        if change.at_us <= part.from_us:
            at_start = change.quantity
        elif change.at_us < part.to_us:
            inner.append(change)
    held = [Change(part.from_us, at_start), *inner]
    if by is ProrateBy.NONE:
        return (Level(max(change.quantity for change in held), 1, 1),)
    ends_us = [*(change.at_us for change in inner), part.to_us]
    runs = [(change, end_us) for change, end_us in zip(held, ends_us, strict=True) if change.at_us < end_us]
    if by is ProrateBy.SECOND:
        return _merged(
            [(change.quantity, end_us - change.at_us) for change, end_us in runs], period.length_us
        )
    whole = days_of(period, period, timezone, ends=False)
    beyond = local(period.from_us, timezone).toordinal() + whole
    if not ends:
        beyond = min(beyond, local(part.to_us, timezone).toordinal())
    by_day: dict[int, Decimal] = {}
    for change, end_us in runs:
        first, last = (local(at_us, timezone).toordinal() for at_us in (change.at_us, end_us - 1))
        # A date that the zone left out (Samoa's 30 December 2011) goes with what was held before it.
        last = max(last, local(end_us, timezone).toordinal() - 1)
        for day in range(first, min(last + 1, beyond)):
            by_day[day] = max(by_day.get(day, change.quantity), change.quantity)
    return _merged([(by_day[day], 1) for day in sorted(by_day)], whole)


def _merged(runs: Sequence[tuple[Decimal, int]], denominator: int) -> tuple[Level, ...]:
    """Neighbours of one level together; none of length 0."""
    made: list[Level] = []
    for quantity, length in runs:
        if made and made[-1].quantity == quantity:
            made[-1] = Level(quantity, made[-1].numerator + length, denominator)
        elif length:
            made.append(Level(quantity, length, denominator))
    return tuple(made)
