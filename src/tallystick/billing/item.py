"""What is billed once: on an invoice of its own, or on the next one of its customer. Pure.

An item is a quantity of something at a unit amount, or an amount. It may be below zero: it is then taken off the invoice
it comes to. An invoice of items alone must not be below zero; money is given back by a credit note.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.billing.invoice import Line
from tallystick.billing.period import Period
from tallystick.document import Document
from tallystick.errors import Invalid
from tallystick.money import exact, exponent_of, plain, product, round_money
from tallystick.rating.model import Step

ITEMS_MAX = 500
NAME_CHARACTERS_MAX = 256
DESCRIPTION_CHARACTERS_MAX = 4096
KIND = "item"


@dataclass(frozen=True, slots=True)
class Item:
    """`unit_amount` is exact; the product is rounded once, when the line is written."""

    id: str
    name: str
    quantity: Decimal
    unit_amount: Decimal
    description: str | None = None

    @property
    def amount(self) -> Decimal:
        return product(self.quantity, self.unit_amount)

    def to_wire(self) -> dict[str, Any]:
        """What `item_of` reads."""
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "quantity": plain(self.quantity),
            "unit_amount": plain(self.unit_amount),
        }


def item_of(raw: Mapping[str, Any]) -> Item:
    """From `to_wire`."""
    return Item(
        raw["id"], raw["name"], Decimal(raw["quantity"]), Decimal(raw["unit_amount"]), raw["description"]
    )


def read_item(document: Document, item_id: str) -> Item:
    """`{"name", "amount"}` or `{"name", "quantity", "unit_amount"}`, and `description`. Notes its faults."""
    name = document.required_text("name", characters_max=NAME_CHARACTERS_MAX)
    description = document.text("description", characters_max=DESCRIPTION_CHARACTERS_MAX)
    quantity = document.decimal("quantity")
    amount = document.decimal("amount", least=None)
    unit_amount = document.decimal("unit_amount", least=None)
    if document.has("amount") == document.has("unit_amount"):
        document.fault("missing", "needs either an amount, or a quantity and a unit_amount.", "amount")
    if document.has("amount") and document.has("quantity"):
        document.fault("invalid_value", "goes with a unit_amount.", "quantity")
    return Item(
        item_id,
        name,
        Decimal(1) if quantity is None else quantity,
        (amount if amount is not None else unit_amount) or Decimal(0),
        description,
    )


def read_currency(document: Document) -> str | None:
    """The member `currency`; None where it is absent, or no currency (which is then a fault)."""
    currency = document.text("currency", characters_max=16)
    if currency is None:
        return None
    try:
        exponent_of(currency)
    except Invalid as error:
        document.fault(error.code, f"is {currency!r}, no ISO 4217 code such as EUR.", "currency")
        return None
    return currency


def item_lines(items: Iterable[Item], currency: str, period: Period, *, kind: str = KIND) -> tuple[Line, ...]:
    """Their lines, on an invoice of a period."""
    made: list[Line] = []
    for item in items:
        amount = exact(item.amount)
        step = Step("item", amount, quantity=item.quantity, unit_amount=item.unit_amount)
        made.append(
            Line(
                item.id,
                kind,
                kind,
                item.name,
                item.quantity,
                amount,
                round_money(amount, currency),
                (step,),
                "",
                0,
                period,
            )
        )
    return tuple(made)
