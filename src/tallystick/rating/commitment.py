"""Commitments: an amount a customer has promised to spend in a period, and what happens below and above it.

Below it, a **true-up** makes up the difference: the commitment is due whatever was used. Above it, the excess is due as
it is, or as **overage** at `overage_percent` of it (120: a fifth dearer beyond what was promised; 80: cheaper). Credits
and coupons do not count against the promise: what is compared is what was charged (Lago's rule).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.document import Document
from tallystick.money import ZERO, exactly, plain, product
from tallystick.rating.model import Rated, Step
from tallystick.rating.tier import PERCENT_MAX

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Commitment:
    """`amount` for a whole period."""

    amount: Decimal
    overage_percent: Decimal = HUNDRED
    label: str = ""

    @classmethod
    def read(cls, document: Document) -> "Commitment":
        percent = document.decimal("overage_percent", most=PERCENT_MAX)
        return cls(
            document.required_decimal("amount"),
            HUNDRED if percent is None else percent,
            document.text("name", characters_max=256) or "",
        )

    def to_wire(self) -> dict[str, Any]:
        return {
            "amount": plain(self.amount),
            "overage_percent": plain(self.overage_percent),
            "name": self.label or None,
        }


@exactly
def settle(commitment: Commitment, charged: Sequence[Decimal], *, due: Decimal | None = None) -> Rated:
    """What comes on top of `charged` (the amounts of the period's lines): a true_up, or an overage, which is negative
    where the excess is cheaper. `due`: the commitment of this period where it is prorated. Sum 0: no steps."""
    promised = commitment.amount if due is None else due
    spent = sum(charged, ZERO)
    label = (commitment.label,) if commitment.label else ()
    if spent < promised:
        return Rated.of([Step("true_up", promised - spent, label=label)])
    extra = product(spent - promised, commitment.overage_percent - HUNDRED, Decimal("0.01"))
    if not extra:
        return Rated.of([])
    return Rated.of(
        [Step("overage", extra, quantity=spent - promised, rate=commitment.overage_percent, label=label)]
    )
