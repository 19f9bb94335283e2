"""Tiers: where one begins and ends, and what must hold for a list of them.

A tier reaches from the one below, exclusive, to `up_to`, inclusive. Its flat amount is due once it is reached: the first
tier's already at 0 (so Lago, OpenMeter; a first tier `up_to` 0 without a flat amount makes it due from the first unit).
The last tier must be open: a quantity that no tier reaches would be billed as less, which some systems do silently.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.document import Document
from tallystick.money import ZERO, plain
from tallystick.rating.model import TIERS_MAX

PERCENT_MAX = Decimal(10) ** 6


@dataclass(frozen=True, slots=True)
class Tier:
    """`price` is the amount for a unit, or the rate in percent."""

    up_to: Decimal | None
    price: Decimal
    flat_amount: Decimal


@dataclass(frozen=True, slots=True)
class Reached:
    """A tier that a quantity reaches, and how much of it lies in it."""

    tier: Tier
    above: Decimal
    quantity: Decimal


def reached(tiers: Sequence[Tier], quantity: Decimal) -> Iterator[Reached]:
    """The tiers that a quantity (0 or more) reaches, from the lowest."""
    above = ZERO
    for index, tier in enumerate(tiers):
        if index and quantity <= above:
            return
        end = quantity if tier.up_to is None else min(quantity, tier.up_to)
        yield Reached(tier, above, end - above)
        above = end if tier.up_to is None else tier.up_to


def applying(tiers: Sequence[Tier], quantity: Decimal) -> Reached:
    """The one tier that the whole quantity lies in; `quantity` is all of it."""
    *_, last = reached(tiers, quantity)
    return Reached(last.tier, last.above, quantity)


def read_tiers(document: Document, price_name: str) -> tuple[Tier, ...]:
    """The member `tiers`. Faults: tiers_not_ascending, last_tier_not_open, and those of a document."""
    tiers: list[Tier] = []
    most = PERCENT_MAX if price_name == "rate" else None
    ends: list[Decimal | None] = []
    for one in document.objects("tiers", items_max=TIERS_MAX, required=True):
        given = one.has("up_to")
        up_to = one.decimal("up_to")
        price = one.decimal(price_name, most=most)
        flat_amount = one.decimal("flat_amount")
        if not one.has(price_name) and not one.has("flat_amount"):
            one.fault("missing", f"needs {price_name}, flat_amount or both.")
        tiers.append(Tier(up_to, price or ZERO, flat_amount or ZERO))
        ends.append(up_to if up_to is not None or not given else Decimal("NaN"))
    below: Decimal | None = None
    for index, end in enumerate(ends):
        last = index == len(ends) - 1
        if end is not None and end.is_nan():
            continue  # could not be read: that is fault enough
        if end is None and not last:
            document.fault(
                "tiers_not_ascending",
                "is open (up_to null), which only the last tier may be.",
                "tiers",
                index,
                "up_to",
            )
        elif end is not None and below is not None and end <= below:
            document.fault(
                "tiers_not_ascending",
                f"must be greater than that of the tier below, {plain(below)}.",
                "tiers",
                index,
                "up_to",
            )
        if end is not None:
            below = end
    if ends and ends[-1] is not None and not ends[-1].is_nan():
        document.fault(
            "last_tier_not_open",
            "must be null: the last tier is open, because units beyond it would never be billed.",
            "tiers",
            len(ends) - 1,
            "up_to",
        )
    return tuple(tiers)


def tiers_to_wire(tiers: Sequence[Tier], price_name: str) -> list[dict[str, Any]]:
    return [
        {
            "up_to": None if tier.up_to is None else plain(tier.up_to),
            price_name: plain(tier.price),
            "flat_amount": plain(tier.flat_amount),
        }
        for tier in tiers
    ]
