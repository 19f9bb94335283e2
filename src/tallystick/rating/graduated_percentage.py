"""`graduated_percentage {tiers: [{up_to, rate, flat_amount}]}`: of each part of the amount, the percentage of its tier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import product
from tallystick.rating.model import Needs, Rated, Step, Usage, total
from tallystick.rating.percentage import HUNDREDTH
from tallystick.rating.tier import Tier, reached, read_tiers, tiers_to_wire


@dataclass(frozen=True, slots=True)
class GraduatedPercentage:
    """Tiers of the amount that flows through, filled from the lowest."""

    tiers: tuple[Tier, ...]
    name: ClassVar[str] = "graduated_percentage"

    @classmethod
    def read(cls, document: Document) -> "GraduatedPercentage":
        return cls(read_tiers(document, "rate"))

    def rate(self, parts: Sequence[Usage]) -> Rated:
        return Rated.of(
            Step(
                "tier",
                product(found.quantity, found.tier.price, HUNDREDTH) + found.tier.flat_amount,
                quantity=found.quantity,
                unit_amount=product(found.tier.price, HUNDREDTH),
                flat_amount=found.tier.flat_amount,
                above=found.above,
                up_to=found.tier.up_to,
                rate=found.tier.price,
            )
            for found in reached(self.tiers, total(parts))
        )

    def needs(self) -> Needs:
        return Needs()

    def to_wire(self) -> dict[str, Any]:
        return {"tiers": tiers_to_wire(self.tiers, "rate")}
