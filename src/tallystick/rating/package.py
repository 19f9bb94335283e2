"""`package {package_size, amount, free_units}`: whole packages, also for a part of one; the free units come first."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import ZERO, plain, product
from tallystick.rating.model import Needs, Rated, Step, Usage, total


@dataclass(frozen=True, slots=True)
class Package:
    """A price for each begun package. Cut usage is added up first: 14 and 13 units of packages of 10 are 3 packages."""

    package_size: Decimal
    amount: Decimal
    free_units: Decimal = ZERO
    name: ClassVar[str] = "package"

    @classmethod
    def read(cls, document: Document) -> "Package":
        return cls(
            document.required_decimal("package_size", above=ZERO),
            document.required_decimal("amount"),
            document.decimal("free_units") or ZERO,
        )

    def rate(self, parts: Sequence[Usage]) -> Rated:
        quantity = total(parts)
        steps: list[Step] = []
        free = min(quantity, self.free_units)
        if free > 0:
            steps.append(Step("free", ZERO, quantity=free, unit_amount=ZERO))
            quantity -= free
        whole, rest = divmod(quantity, self.package_size)
        packages = whole + 1 if rest else whole
        steps.append(
            Step("package", product(packages, self.amount), quantity=packages, unit_amount=self.amount)
        )
        return Rated.of(steps)

    def needs(self) -> Needs:
        return Needs()

    def to_wire(self) -> dict[str, Any]:
        return {
            "package_size": plain(self.package_size),
            "amount": plain(self.amount),
            "free_units": plain(self.free_units),
        }
