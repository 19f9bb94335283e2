"""Automatic top-up: credits bought when the balance falls below a threshold, up to a ceiling in a calendar period."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.billing.grant import PRIORITY_DEFAULT, PRIORITY_MAX, CreditUnit, check_precision, read_unit
from tallystick.billing.period import NAMES, Cadence, Length, Period, Unit, read_length
from tallystick.document import Document
from tallystick.money import ZERO, ceiling, exactly, plain, quotient

AMOUNTS_AT_ONCE_MAX = 1_000
GRANTED = ("at_once", "when_paid")


@dataclass(frozen=True, slots=True)
class TopUp:
    """When less than `below` is left: so many times `amount` as bring it back there, or what is missing `to` a level.

    Exactly one of `amount` and `to` is set. `most` is the ceiling of what one calendar period (`per`, UTC) adds; a top-up that
    would pass it is cut to what is left below it (`to`), or to the whole amounts that fit.
    `grant`: at_once, or when_paid (what is added has an invoice, and counts once that is paid). `collected`: it has an
    invoice that is collected, whichever comes first.
    """

    unit: CreditUnit
    below: Decimal
    amount: Decimal | None
    to: Decimal | None
    most: Decimal
    per: Length
    expires_after: Length | None = None
    priority: int = PRIORITY_DEFAULT
    grant: str = "at_once"
    collected: bool = False

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
            "grant": self.grant,
        }

    def kept(self) -> dict[str, Any]:
        """`to_wire`, and what follows from where it was set."""
        return {**self.to_wire(), "collected": self.collected}


def kept_top_up(raw: dict[str, Any]) -> TopUp:
    """From `TopUp.kept`, or what was kept before credits were collected."""
    rest = {name: value for name, value in raw.items() if name != "collected"}
    return read_top_up(rest, collects=bool(raw.get("collected")), charges=raw.get("grant") == "when_paid")


def read_top_up(raw: object, *, collects: bool = False, charges: bool = False) -> TopUp:
    """A rule from parsed JSON. Raises Invalid with every fault.

    `collects`: invoices are sent to be paid or booked; `charges`: to where they can be paid (when_paid is then the default
    of `grant`, and without it a fault: not_collected)."""
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
    grant = document.choice("grant", GRANTED) or ("when_paid" if charges else "at_once")
    if grant == "when_paid" and not charges:
        document.fault(
            "not_collected", "must be at_once: nothing here collects money (setting payments).", "grant"
        )
    document.finish()
    return TopUp(
        unit,
        below,
        amount,
        to,
        most,
        per,
        expires_after,
        PRIORITY_DEFAULT if priority is None else priority,
        grant,
        collects,
    )
