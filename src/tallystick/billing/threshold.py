"""Amounts within a period at which an invoice is made before its end. Pure.

Each threshold is crossed once a period; after the last, a recurring one is crossed again with every such amount. What an
invoice within a period has billed is taken off the later ones of that period, the one at its end included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.document import Document
from tallystick.money import ZERO, exactly, plain

THRESHOLDS_MAX = 50


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`amounts` ascending. Nothing in it: invoices are made at the ends of periods alone."""

    amounts: tuple[Decimal, ...] = ()
    recurring: Decimal | None = None

    def __bool__(self) -> bool:
        return bool(self.amounts) or self.recurring is not None

    @exactly
    def crossed(self, amount: Decimal) -> int:
        """How many of them an amount has reached."""
        count = sum(amount >= one for one in self.amounts)
        last = self.amounts[-1] if self.amounts else ZERO
        if self.recurring is not None and amount > last:
            count += int((amount - last) // self.recurring)
        return count

    def to_wire(self) -> list[Any]:
        """What `read_thresholds` reads."""
        made: list[Any] = [plain(amount) for amount in self.amounts]
        if self.recurring is not None:
            made.append({"amount": plain(self.recurring), "recurring": True})
        return made


NO_THRESHOLDS = Thresholds()


def read_thresholds(document: Document, name: str = "thresholds") -> Thresholds:
    """A list of amounts, or of `{"amount", "recurring"}`; at most one recurs, and it stands last."""
    amounts: list[Decimal] = []
    recurring: Decimal | None = None
    listed = document.list_of(name, items_max=THRESHOLDS_MAX)
    for index, raw in enumerate(listed):
        again = False
        if isinstance(raw, Mapping):
            inner = document.below(raw, name, index)
            inner.required_decimal("amount", above=ZERO)
            again = inner.boolean("recurring") or False
            inner.close()
            raw = inner.take("amount")  # noqa: PLW2901
            if raw is None:
                continue
        amount = document.decimal_at(raw, name, index, above=ZERO)
        if amount is None:
            continue
        if again:
            if index != len(listed) - 1:
                document.fault("not_ascending", "must stand last, as it recurs.", name, index)
            recurring = amount
            continue
        if amounts and amount <= amounts[-1]:
            document.fault("not_ascending", "must be greater than the one before.", name, index)
        amounts.append(amount)
    return Thresholds(tuple(amounts), recurring)
