"""`flat {amount}`: the same amount whatever the quantity, also for none."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import plain
from tallystick.rating.model import Needs, Rated, Step, Usage


@dataclass(frozen=True, slots=True)
class Flat:
    """A fixed fee."""

    amount: Decimal
    name: ClassVar[str] = "flat"

    @classmethod
    def read(cls, document: Document) -> "Flat":
        return cls(document.required_decimal("amount"))

    def rate(self, parts: Sequence[Usage]) -> Rated:
        return Rated.of([Step("flat", self.amount, flat_amount=self.amount)])

    def needs(self) -> Needs:
        return Needs()

    def to_wire(self) -> dict[str, Any]:
        return {"amount": plain(self.amount)}
