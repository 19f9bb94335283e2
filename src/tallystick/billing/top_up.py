"""Automatic top-up: credits bought when the balance falls below a threshold, up to a ceiling in a calendar period."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.billing.grant import PRIORITY_DEFAULT, PRIORITY_MAX, CreditUnit, check_precision, read_unit
from tallystick.billing.period import NAMES, Cadence, Length, Period, Unit, add_length, read_length
from tallystick.document import Document
from tallystick.money import ZERO, ceiling, exactly, plain, quotient

AMOUNTS_AT_ONCE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class TopUp:
    """When less than `below` is left: so many times `amount` as bring it back there, or what is missing `to` a level.

    Exactly one of `amount` and `to` is set. `most` is the ceiling of what one calendar period (`per`, UTC) adds; a top-up that
    would pass it is cut to what is left below it (`to`), or to the whole amounts that fit.
    """

    unit: CreditUnit
    below: Decimal
    amount: Decimal | None
    to: Decimal | None
    most: Decimal
    per: Length
    expires_after: Length | None = None
    priority: int = PRIORITY_DEFAULT

    @exactly
    def due(self, available: Decimal, added: Decimal) -> Decimal:
        """What to add now; 0 for nothing. `added`: what this period has added already."""
        room = self.most - added
        if available >= self.below or room <= 0:
            return ZERO
        if self.amount is None:
            assert self.to is not None
            return min(self.to - available, room)
        wanted = ceiling(quotient(self.below - available, self.amount))
        fitting = room // self.amount
        return self.amount * min(wanted, fitting, Decimal(AMOUNTS_AT_ONCE_MAX))

    def period_at(self, at_us: int) -> Period:
        return Cadence(self.per, "UTC").period_at(at_us)

    def expiry(self, at_us: int) -> int | None:
        return None if self.expires_after is None else add_length(at_us, self.expires_after, "UTC")

    def to_wire(self) -> dict[str, Any]:
        """The JSON that `read_top_up` reads, every member present."""
        return {
            "currency": self.unit.currency,
            "below": plain(self.below),
            "amount": None if self.amount is None else plain(self.amount),
            "to": None if self.to is None else plain(self.to),
            "ceiling": plain(self.most),
            "per": self.per.text(),
            "expires_after": None if self.expires_after is None else self.expires_after.text(),
            "priority": self.priority,
        }


def read_top_up(raw: object) -> TopUp:
    """A rule from parsed JSON. Raises Invalid with every fault."""
    document = Document(raw)
    unit = read_unit(document)
    if unit.meter is not None:
        document.fault("not_for_meters", "must be null: only money is topped up by itself.", "meter")
    below = document.required_decimal("below")
    amount, to = document.decimal("amount", above=ZERO), document.decimal("to", above=ZERO)
    most = document.required_decimal("ceiling", above=ZERO)
    for name, value in (("below", below), ("amount", amount), ("to", to), ("ceiling", most)):
        check_precision(document, unit, value, name)
    if document.has("amount") == document.has("to"):
        document.fault("missing", "needs either an amount or a level to fill up to.", "amount")
    if to is not None and to <= below:
        document.fault("too_small", "must be greater than below.", "to")
    if amount is not None and most < amount:
        document.fault("too_small", "must not be less than the amount.", "ceiling")
    per = read_length(document, "per") or NAMES["month"]
    if per.unit is Unit.HOUR:
        document.fault("invalid_period", "must be a day or longer.", "per")
    expires_after = read_length(document, "expires_after")
    priority = document.integer("priority", least=0, most=PRIORITY_MAX)
    document.finish()
    return TopUp(
        unit, below, amount, to, most, per, expires_after, PRIORITY_DEFAULT if priority is None else priority
    )
