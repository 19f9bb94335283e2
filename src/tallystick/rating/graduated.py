"""`graduated {tiers}`: each unit costs what the tier it lies in says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import product
from tallystick.rating.model import Needs, Rated, Step, Usage, total
from tallystick.rating.tier import Tier, reached, read_tiers, tiers_to_wire


@dataclass(frozen=True, slots=True)
class Graduated:
    """Tiers filled from the lowest."""

    tiers: tuple[Tier, ...]
    name: ClassVar[str] = "graduated"

    @classmethod
    def read(cls, document: Document) -> "Graduated":
        return cls(read_tiers(document, "unit_amount"))

    def rate(self, parts: Sequence[Usage]) -> Rated:
        return Rated.of(
            Step(
                "tier",
                product(found.quantity, found.tier.price) + found.tier.flat_amount,
                quantity=found.quantity,
                unit_amount=found.tier.price,
                flat_amount=found.tier.flat_amount,
                above=found.above,
                up_to=found.tier.up_to,
            )
            for found in reached(self.tiers, total(parts))
        )

    def needs(self) -> Needs:
        return Needs()

    def to_wire(self) -> dict[str, Any]:
        return {"tiers": tiers_to_wire(self.tiers, "unit_amount")}
