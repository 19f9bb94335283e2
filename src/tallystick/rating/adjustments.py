"""What is done to a price's amount, in one stated order, each step with its reason.

1. **Included units** come off the quantity before it is priced: the customer has them whatever the price is. From the
   earliest usage on, of one moment in the order of dimensions, so that the order in which usage arrived never matters.
2. **Discount of units** likewise: it is a promise of units, not of money.
3. The **price**, and after it, in the price's own unit:
4. **Discount in percent**, several one after the other on what is left: it scales with the price, so it comes before
   amounts that do not.
5. **Discount of an amount**, never below zero.
6. **Maximum**: the customer never pays more, so it is compared with what he would pay (OpenMeter's order).
7. **Minimum**: what he has promised to pay at least. After discounts, or a discount would undo the promise; after the
   maximum, which is never below it.
8. The price's **own unit** becomes currency, once, at the end (rating/unit.py).

Rounding to money is not here: a line is rounded once, when it is written (money.round_money).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tallystick.document import Document
from tallystick.money import ZERO, plain, product
from tallystick.rating.model import Step, Usage

DISCOUNTS_MAX = 20
HUNDREDTH = Decimal("0.01")
PERCENT_WHOLE = Decimal(100)


@dataclass(frozen=True, slots=True)
class Discount:
    """One of percent (0 to 100), amount, units."""

    percent: Decimal | None = None
    amount: Decimal | None = None
    units: Decimal | None = None
    label: str = ""

    @classmethod
    def read(cls, document: Document) -> "Discount":
        made = cls(
            document.decimal("percent", most=PERCENT_WHOLE),
            document.decimal("amount"),
            document.decimal("units"),
            document.text("name", characters_max=256) or "",
        )
        if sum(document.has(name) for name in ("percent", "amount", "units")) != 1:
            document.fault("missing", "needs exactly one of percent, amount and units.")
        return made

    def to_wire(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            name: plain(value)
            for name, value in (("percent", self.percent), ("amount", self.amount), ("units", self.units))
            if value is not None
        }
        if self.label:
            made["name"] = self.label
        return made


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What a charge does to its price. `minimum`, `maximum` and `included` are those of the period rated: whoever
    prorates them does so before."""

    included: Decimal = ZERO
    discounts: tuple[Discount, ...] = ()
    minimum: Decimal | None = None
    maximum: Decimal | None = None

    @classmethod
    def read(cls, document: Document) -> "Adjustments":
        """The members included, discounts, minimum and maximum of a charge (or of a question)."""
        discounts: list[Discount] = []
        for one in document.objects("discounts", items_max=DISCOUNTS_MAX):
            discounts.append(Discount.read(one))  # noqa: PERF401  (the loop closes each document)
        made = cls(
            document.decimal("included") or ZERO,
            tuple(discounts),
            document.decimal("minimum"),
            document.decimal("maximum"),
        )
        if made.minimum is not None and made.maximum is not None and made.minimum > made.maximum:
            document.fault("min_above_max", "is greater than maximum.", "minimum")
        return made

    def to_wire(self) -> dict[str, Any]:
        return {
            "included": plain(self.included),
            "discounts": [discount.to_wire() for discount in self.discounts],
            "minimum": None if self.minimum is None else plain(self.minimum),
            "maximum": None if self.maximum is None else plain(self.maximum),
        }

    def without_minimum(self) -> "Adjustments":
        """For a part of a period that is not its last: the minimum is due once, at the end."""
        return replace(self, minimum=None)


NO_ADJUSTMENTS = Adjustments()


def before_price(parts: Sequence[Usage], adjustments: Adjustments) -> tuple[list[Usage], list[Step]]:
    """Included and discounted units off the quantities; and the steps that say so. Called within `exactly`."""
    steps: list[Step] = []
    kept = list(parts)
    given = [("included", adjustments.included, "")]
    given += [
        ("discount_units", discount.units, discount.label)
        for discount in adjustments.discounts
        if discount.units
    ]
    for kind, units, label in given:
        if not units:
            continue
        kept, taken = _take_off(kept, units)
        if taken:
            steps.append(Step(kind, ZERO, quantity=-taken, label=(label,) if label else ()))
    return kept, steps


def after_price(amount: Decimal, adjustments: Adjustments) -> list[Step]:
    """The steps from what the price says to what is due. Called within `exactly`."""
    steps: list[Step] = []

    def add(kind: str, change: Decimal, label: str = "", rate: Decimal | None = None) -> None:
        nonlocal amount
        amount += change
        steps.append(Step(kind, change, rate=rate, label=(label,) if label else ()))

    for discount in adjustments.discounts:
        if discount.percent is not None and amount:
            add(
                "discount_percent",
                -product(amount, discount.percent, HUNDREDTH),
                discount.label,
                discount.percent,
            )
    for discount in adjustments.discounts:
        if discount.amount and amount > 0:
            add("discount_amount", -min(discount.amount, amount), discount.label)
    if adjustments.maximum is not None and amount > adjustments.maximum:
        add("maximum", adjustments.maximum - amount)
    if adjustments.minimum is not None and amount < adjustments.minimum:
        add("minimum", adjustments.minimum - amount)
    return steps


def _order(part: Usage) -> tuple[object, ...]:
    dimensions = tuple((name, value is not None, value or "") for name, value in part.dimensions)
    return (part.at_us is not None, part.at_us or 0, dimensions)


def _take_off(parts: Sequence[Usage], units: Decimal) -> tuple[list[Usage], Decimal]:
    left = units
    kept: list[Usage] = []
    for part in sorted(parts, key=_order):
        if left <= 0 or part.quantity <= 0:
            kept.append(part)
            continue
        off = min(left, part.quantity)
        left -= off
        rest = part.quantity - off
        if part.transactions is None:
            count = 0 if rest == 0 and part.transaction_count is not None else part.transaction_count
            kept.append(replace(part, quantity=rest, transaction_count=count))
        else:
            remaining = _without(part.transactions, off)
            kept.append(
                replace(part, quantity=rest, transactions=remaining, transaction_count=len(remaining))
            )
    return kept, units - left


def _without(transactions: Sequence[Decimal], units: Decimal) -> tuple[Decimal, ...]:
    """The transactions after the first `units`; one that is cut keeps its rest."""
    rest: list[Decimal] = []
    for value in transactions:
        if units >= value and units > 0:
            units -= value
        else:
            rest.append(value - units)
            units = ZERO
    return tuple(rest)
