"""`volume {tiers}`: every unit costs what the tier says that the whole quantity lies in.

Not monotonic: at a border a larger quantity may cost less."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import product
from tallystick.rating.model import Needs, Rated, Step, Usage, total
from tallystick.rating.tier import Tier, applying, read_tiers, tiers_to_wire


@dataclass(frozen=True, slots=True)
class Volume:
    """One tier for all units, and its flat amount."""

    tiers: tuple[Tier, ...]
    name: ClassVar[str] = "volume"

    @classmethod
    def read(cls, document: Document) -> "Volume":
        return cls(read_tiers(document, "unit_amount"))

    def rate(self, parts: Sequence[Usage]) -> Rated:
        found = applying(self.tiers, total(parts))
        step = Step(
            "tier",
            product(found.quantity, found.tier.price) + found.tier.flat_amount,
            quantity=found.quantity,
            unit_amount=found.tier.price,
            flat_amount=found.tier.flat_amount,
            above=found.above,
            up_to=found.tier.up_to,
        )
        return Rated.of([step])

    def needs(self) -> Needs:
        return Needs()

    def to_wire(self) -> dict[str, Any]:
        return {"tiers": tiers_to_wire(self.tiers, "unit_amount")}
