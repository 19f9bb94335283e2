"""A charge of a plan: what it counts, its price, when it is billed, and what is done to its amount."""

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tallystick.billing.proration import Share
from tallystick.document import Document
from tallystick.money import ZERO, plain
from tallystick.rating.adjustments import NO_ADJUSTMENTS, Adjustments
from tallystick.rating.flat import Flat
from tallystick.rating.price import Price, read_price

CHARGES_MAX = 200
GROUP_BY_MAX = 8
FILTER_CHARACTERS_MAX = 16_384
NAME_CHARACTERS_MAX = 256


class Timing(StrEnum):
    """When a charge's period is billed: at its beginning, or at its end."""

    ADVANCE = "advance"
    ARREARS = "arrears"


class Tiers(StrEnum):
    """With `group_by`: whether each group fills tiers of its own, or all of them together (rate.rate_groups)."""

    GROUP = "group"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of an invoice, or one for each group.

    With `meter` the quantity is its usage; without, it is `quantity` (seats), which a subscription may change, and a flat
    price needs none. `minimum`, `maximum`, `included` and discounts of an amount are for a whole period; `prorate` says
    whether they, and a fee without a meter, shrink with a shorter one. Usage is never prorated.
    """

    key: str
    name: str
    price: Price
    meter: str | None = None
    filter: str | None = None
    """The filter of a usage question as JSON text (API.md, `filter`), checked where the meter is known."""
    group_by: tuple[str, ...] = ()
    timing: Timing = Timing.ARREARS
    prorate: bool = True
    quantity: Decimal = Decimal(1)
    adjustments: Adjustments = NO_ADJUSTMENTS
    tiers: Tiers = Tiers.GROUP

    def adjustments_for(self, part: Share) -> Adjustments:
        """The adjustments of a shorter period: what is an amount or a number of units shrinks with it, if `prorate`."""
        if part.whole or not self.prorate:
            return self.adjustments
        own = self.adjustments
        return Adjustments(
            part.of(own.included),
            tuple(
                replace(
                    discount,
                    amount=None if discount.amount is None else part.of(discount.amount),
                    units=None if discount.units is None else part.of(discount.units),
                )
                for discount in own.discounts
            ),
            None if own.minimum is None else part.of(own.minimum),
            None if own.maximum is None else part.of(own.maximum),
        )

    def to_wire(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "meter": self.meter,
            "filter": None if self.filter is None else json.loads(self.filter),
            "group_by": list(self.group_by),
            "price": self.price.to_wire(),
            "timing": self.timing.value,
            "prorate": self.prorate,
            "quantity": None if self.meter is not None else plain(self.quantity),
            "tiers": self.tiers.value,
            **self.adjustments.to_wire(),
        }


def read_charges(document: Document) -> tuple[Charge, ...]:
    made: dict[str, Charge] = {}
    for index, one in enumerate(document.objects("charges", items_max=CHARGES_MAX)):
        charge = read_charge(one)
        if charge.key and charge.key in made:
            document.fault(
                "repeated", f"is the key of another charge, {charge.key!r}.", "charges", index, "key"
            )
        made[charge.key or f" {index}"] = charge
    return tuple(made.values())


def read_charge(document: Document) -> Charge:
    """One charge; the caller closes the document."""
    key = document.key("key") or ""
    meter = document.key("meter", required=False)
    timing = Timing(document.choice("timing", tuple(Timing)) or Timing.ARREARS)
    if document.has("meter") and timing is Timing.ADVANCE:
        document.fault(
            "timing_not_allowed", "must be arrears: usage is known when it has happened.", "timing"
        )
    quantity = document.decimal("quantity")
    if quantity is not None and document.has("meter"):
        document.fault(
            "quantity_not_allowed", "means nothing beside a meter, whose usage is the quantity.", "quantity"
        )
    group_by = document.texts("group_by", items_max=GROUP_BY_MAX)
    if group_by and not document.has("meter"):
        document.fault("group_by_not_allowed", "needs a meter.", "group_by")
    if document.take("price") is None:
        document.fault("missing", "is required.", "price")
        price = Price(Flat(ZERO))  # a stand-in: the fault is noted
    else:
        price = read_price(document.below(document.take("price"), "price"))
    prorate = document.boolean("prorate")
    return Charge(
        key=key,
        name=document.text("name", characters_max=NAME_CHARACTERS_MAX) or key,
        price=price,
        meter=meter,
        filter=_read_filter(document),
        group_by=group_by,
        timing=timing,
        prorate=True if prorate is None else prorate,
        quantity=Decimal(1) if quantity is None else quantity,
        adjustments=Adjustments.read(document),
        tiers=Tiers(document.choice("tiers", tuple(Tiers)) or Tiers.GROUP),
    )


def _read_filter(document: Document) -> str | None:
    raw = document.take("filter")
    if raw is None:
        return None
    if not isinstance(raw, dict):
        document.fault("invalid_filter", 'must be an object such as {"model": {"in": ["gpt-4"]}}.', "filter")
        return None
    if not document.has("meter"):
        document.fault("invalid_filter", "needs a meter.", "filter")
    # Canonical text: equal filters are equal charges, whatever the order of their members was.
    text = json.dumps(raw, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_number_text)
    if len(text) > FILTER_CHARACTERS_MAX:
        document.fault("too_large", f"may have at most {FILTER_CHARACTERS_MAX} characters.", "filter")
        return None
    return text


def _number_text(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    raise TypeError(type(value).__name__)
