"""Units of quantity and units of price.

`convert {multiply, divide, round, precision}`: what is measured is not always what is priced (bytes and gigabytes,
tokens and thousands of tokens). Applied to the whole quantity before anything else, so that cutting usage cannot make
more of it by rounding up twice.

`unit {name, amount}` or `{name, per_currency_unit}`: a price in credits or tokens of one's own. Everything up to the
minimum is reckoned in them, then the sum becomes currency: × amount, or / how many of them a unit of currency buys
("tokens per dollar").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.document import Document
from tallystick.money import ZERO, exact, plain, product, quotient
from tallystick.rating.model import Rated, Step, Usage, total

_ROUNDINGS = ("up", "down", "half_up")
PRECISION_MAX = 18


@dataclass(frozen=True, slots=True)
class Conversion:
    """`round` is up, down, half_up (away from zero) or None; `precision`: digits after the point, negative before it."""

    multiply: Decimal = Decimal(1)
    divide: Decimal = Decimal(1)
    round: str | None = None
    precision: int = 0

    @classmethod
    def read(cls, document: Document) -> "Conversion":
        multiply = document.decimal("multiply", above=ZERO)
        divide = document.decimal("divide", above=ZERO)
        raw = document.take("precision")
        precision = raw if isinstance(raw, int) and not isinstance(raw, bool) else 0
        if raw is not None and (precision != raw or not -PRECISION_MAX <= precision <= PRECISION_MAX):
            document.fault(
                "invalid_number",
                f"must be a whole number from -{PRECISION_MAX} to {PRECISION_MAX}.",
                "precision",
            )
        return cls(
            Decimal(1) if multiply is None else multiply,
            Decimal(1) if divide is None else divide,
            document.choice("round", _ROUNDINGS),
            precision,
        )

    def apply(self, quantity: Decimal) -> Decimal:
        """The quantity to be priced. Called within `exactly`."""
        scaled = quantity * self.multiply
        if self.round is None:
            return quotient(scaled, self.divide)
        # In whole steps of the last digit that is kept: the quotient and the rest of an integer division are exact.
        step = self.divide.scaleb(-self.precision)
        whole, rest = divmod(scaled, step)
        away = Decimal(-1 if scaled < 0 else 1)
        if rest and (
            (self.round == "up" and scaled > 0)
            or (self.round == "down" and scaled < 0)
            or (self.round == "half_up" and 2 * abs(rest) >= step)
        ):
            whole += away
        return exact(whole.scaleb(-self.precision))

    def to_wire(self) -> dict[str, Any]:
        return {
            "multiply": plain(self.multiply),
            "divide": plain(self.divide),
            "round": self.round,
            "precision": self.precision,
        }


@dataclass(frozen=True, slots=True)
class CustomUnit:
    """What one's own unit of price is worth: `amount` of currency each, or so many for one unit of currency."""

    label: str
    amount: Decimal | None = None
    per_currency_unit: Decimal | None = None

    @classmethod
    def read(cls, document: Document) -> "CustomUnit":
        made = cls(
            document.required_text("name", characters_max=64),
            document.decimal("amount"),
            document.decimal("per_currency_unit", above=ZERO),
        )
        if document.has("amount") == document.has("per_currency_unit"):
            document.fault("missing", "needs either amount or per_currency_unit.")
        return made

    def worth(self, units: Decimal) -> Decimal:
        if self.amount is not None:
            return product(units, self.amount)
        return quotient(units, self.per_currency_unit or Decimal(1))

    def convert(self, rated: Rated) -> Rated:
        """The same steps, and one that turns the sum in units into currency. Called within `exactly`."""
        worth = self.worth(rated.amount)
        step = Step(
            "unit",
            worth - rated.amount,
            quantity=rated.amount,
            unit_amount=self.amount
            if self.amount is not None
            else quotient(Decimal(1), self.per_currency_unit or Decimal(1)),
            label=(self.label,),
        )
        return Rated.of([*rated.steps, step])

    def to_wire(self) -> dict[str, Any]:
        return {
            "name": self.label,
            "amount": None if self.amount is None else plain(self.amount),
            "per_currency_unit": None if self.per_currency_unit is None else plain(self.per_currency_unit),
        }


def pooled(parts: Sequence[Usage], conversion: Conversion) -> Usage:
    """All parts as one, in the unit that is priced. Transactions are converted one by one."""
    count = sum(part.transaction_count or 0 for part in parts)
    known = all(part.transaction_count is not None for part in parts)
    if parts and all(part.transactions is not None for part in parts):
        transactions = tuple(conversion.apply(value) for part in parts for value in part.transactions or ())
        return Usage(sum(transactions, ZERO), transactions, len(transactions))
    return Usage(conversion.apply(total(parts)), None, count if known else None)
