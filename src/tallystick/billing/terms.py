"""What holds for all invoices of a customer: taxes, and a discount in percent."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.document import Document
from tallystick.money import ZERO, plain

TAXES_MAX = 10
_PERCENT_MAX = Decimal(100)


@dataclass(frozen=True, slots=True)
class Tax:
    """`percent` of what is due after the discount."""

    name: str
    percent: Decimal


@dataclass(frozen=True, slots=True)
class Terms:
    taxes: tuple[Tax, ...] = ()
    discount_percent: Decimal = ZERO

    def to_wire(self) -> dict[str, Any]:
        return {
            "taxes": [{"name": tax.name, "percent": plain(tax.percent)} for tax in self.taxes],
            "discount_percent": plain(self.discount_percent),
        }


NO_TERMS = Terms()


def parse_terms(raw: object) -> Terms:
    """`{"taxes": [{"name", "percent"}], "discount_percent"}`. Raises Invalid with every fault."""
    document = Document(raw)
    taxes: list[Tax] = []
    for one in document.objects("taxes", items_max=TAXES_MAX):
        percent = one.required_decimal("percent", most=_PERCENT_MAX)
        taxes.append(Tax(one.required_text("name", characters_max=128), percent))
    discount = document.decimal("discount_percent", most=_PERCENT_MAX)
    document.finish()
    return Terms(tuple(taxes), discount or ZERO)
