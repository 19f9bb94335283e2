"""`per_unit {unit_amount, free_units}`: every unit beyond the free ones costs the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import ZERO, plain, product
from tallystick.rating.model import Needs, Rated, Step, Usage, total


@dataclass(frozen=True, slots=True)
class PerUnit:
    """A price for each unit, and for parts of one in proportion."""

    unit_amount: Decimal
    free_units: Decimal = ZERO
    name: ClassVar[str] = "per_unit"

    @classmethod
    def read(cls, document: Document) -> "PerUnit":
        return cls(document.required_decimal("unit_amount"), document.decimal("free_units") or ZERO)

    def rate(self, parts: Sequence[Usage]) -> Rated:
        quantity = total(parts)
        steps: list[Step] = []
        free = min(quantity, self.free_units)
        if free > 0:
            steps.append(Step("free", ZERO, quantity=free, unit_amount=ZERO))
            quantity -= free
        amount = product(quantity, self.unit_amount)
        steps.append(Step("units", amount, quantity=quantity, unit_amount=self.unit_amount))
        return Rated.of(steps)

    def needs(self) -> Needs:
        return Needs()

    def to_wire(self) -> dict[str, Any]:
        made = {"unit_amount": plain(self.unit_amount)}
        if self.free_units:
            made["free_units"] = plain(self.free_units)
        return made
