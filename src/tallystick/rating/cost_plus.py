"""Prices derived from what something costs: `cost_plus` from a table of costs, `token_book` from the prices of language
models by input, output and cached tokens.

`cost_plus {dimensions, cells: [{values, unit_cost}], default, per, markup, fixed_amount}`: quantity × cost / `per`, and
`markup` percent on it. `token_book {book: [{model, input, output, cached_input, …}], per, markup, model_dimension,
type_dimension}`: the same for a table with a row a model and a column a kind of token; `per` (default 1,000,000) says for
how many tokens the prices are, as providers print them. What the table does not name is an error, never free.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import ZERO, plain, product, quotient
from tallystick.rating.matrix import Values, read_values
from tallystick.rating.model import CELLS_MAX, DIMENSIONS_MAX, Needs, Rated, Step, Usage, no_answer, total
from tallystick.rating.tier import PERCENT_MAX

HUNDRED = Decimal(100)
TOKENS_PER_PRICE = Decimal(1_000_000)
TOKEN_KINDS = ("input", "output", "cached_input", "cache_write", "reasoning")
MARKUP_LEAST = Decimal(-100)


@dataclass(frozen=True, slots=True)
class CostPlus:
    """Costs by the values of dimensions, and what is put on them."""

    dimensions: tuple[str, ...]
    cells: tuple[tuple[Values, Decimal], ...]
    default: Decimal | None = None
    per: Decimal = Decimal(1)
    markup_percent: Decimal = ZERO
    fixed_amount: Decimal = ZERO
    name: ClassVar[str] = "cost_plus"

    @classmethod
    def read(cls, document: Document) -> "CostPlus":
        dimensions = document.texts("dimensions", items_max=DIMENSIONS_MAX)
        cells: dict[Values, Decimal] = {}
        for index, one in enumerate(document.objects("cells", items_max=CELLS_MAX)):
            values = read_values(one, len(dimensions))
            if values in cells:
                document.fault("repeated", "has the values of another cell.", "cells", index, "values")
            cells[values] = one.required_decimal("unit_cost")
        default = document.decimal("default")
        if not cells and not document.has("default"):
            document.fault("missing", "needs cells, a default or both.")
        per = document.decimal("per", above=ZERO)
        return cls(
            dimensions,
            tuple(cells.items()),
            default,
            Decimal(1) if per is None else per,
            _read_markup(document),
            document.decimal("fixed_amount") or ZERO,
        )

    def rate(self, parts: Sequence[Usage]) -> Rated:
        steps = list(
            cost_steps(
                parts,
                self.dimensions,
                dict(self.cells),
                self.default,
                per=self.per,
                markup_percent=self.markup_percent,
            )
        )
        if self.fixed_amount:
            steps.append(Step("fixed", self.fixed_amount, flat_amount=self.fixed_amount))
        return Rated.of(steps)

    def needs(self) -> Needs:
        return Needs(dimensions=frozenset(self.dimensions))

    def to_wire(self) -> dict[str, Any]:
        return {
            "dimensions": list(self.dimensions),
            "cells": [{"values": list(values), "unit_cost": plain(cost)} for values, cost in self.cells],
            "default": None if self.default is None else plain(self.default),
            "per": plain(self.per),
            "markup": plain(self.markup_percent),
            "fixed_amount": plain(self.fixed_amount),
        }


@dataclass(frozen=True, slots=True)
class TokenBook:
    """Prices of language models, as providers print them."""

    book: tuple[tuple[str, tuple[tuple[str, Decimal], ...]], ...]
    per: Decimal = TOKENS_PER_PRICE
    markup_percent: Decimal = ZERO
    model_dimension: str = "model"
    type_dimension: str = "type"
    name: ClassVar[str] = "token_book"

    @classmethod
    def read(cls, document: Document) -> "TokenBook":
        book: dict[str, tuple[tuple[str, Decimal], ...]] = {}
        for index, one in enumerate(document.objects("book", items_max=CELLS_MAX, required=True)):
            model = one.required_text("model")
            if model in book:
                document.fault("repeated", "is the model of another row.", "book", index, "model")
            row = [(kind, amount) for kind in TOKEN_KINDS if (amount := one.decimal(kind)) is not None]
            if not any(one.has(kind) for kind in TOKEN_KINDS):
                one.fault("missing", f"needs at least one of {', '.join(TOKEN_KINDS)}.")
            book[model] = tuple(row)
        per = document.decimal("per", above=ZERO)
        return cls(
            tuple(book.items()),
            TOKENS_PER_PRICE if per is None else per,
            _read_markup(document),
            document.text("model_dimension") or "model",
            document.text("type_dimension") or "type",
        )

    def rate(self, parts: Sequence[Usage]) -> Rated:
        cells: dict[Values, Decimal] = {
            (model, kind): amount for model, row in self.book for kind, amount in row
        }
        dimensions = (self.model_dimension, self.type_dimension)
        return Rated.of(
            cost_steps(parts, dimensions, cells, None, per=self.per, markup_percent=self.markup_percent)
        )

    def needs(self) -> Needs:
        return Needs(dimensions=frozenset((self.model_dimension, self.type_dimension)))

    def to_wire(self) -> dict[str, Any]:
        return {
            "book": [
                {"model": model, **{kind: plain(amount) for kind, amount in row}} for model, row in self.book
            ],
            "per": plain(self.per),
            "markup": plain(self.markup_percent),
            "model_dimension": self.model_dimension,
            "type_dimension": self.type_dimension,
        }


def cost_steps(
    parts: Sequence[Usage],
    dimensions: tuple[str, ...],
    cells: dict[Values, Decimal],
    default: Decimal | None,
    *,
    per: Decimal,
    markup_percent: Decimal,
) -> Iterable[Step]:
    """One step for each cost that has usage: quantity × cost × (100 + markup) / (100 × per), divided once."""
    by_cell: dict[Values | None, list[Usage]] = {}
    for part in parts:
        values = tuple(part.dimension(name) for name in dimensions)
        if values not in cells and default is None:
            said = ", ".join(f"{name} {value!r}" for name, value in zip(dimensions, values, strict=True))
            raise no_answer("no_matching_cell", f"The table of costs has no row for {said[:300]}.")
        by_cell.setdefault(values if values in cells else None, []).append(part)
    factor, divisor = HUNDRED + markup_percent, HUNDRED * per
    order: list[Values | None] = [*cells, None]
    for values in order:
        if values not in by_cell:
            continue
        quantity = total(by_cell[values])
        cost = cells[values] if values is not None else (ZERO if default is None else default)
        yield Step(
            "cost",
            quotient(quantity * cost * factor, divisor),
            quantity=quantity,
            unit_amount=quotient(product(cost, factor), divisor),
            rate=markup_percent,
            label=("default",)
            if values is None
            else tuple("" if value is None else value for value in values),
        )


def _read_markup(document: Document) -> Decimal:
    """Percent on the cost; down to −100, which is for nothing."""
    return document.decimal("markup", least=MARKUP_LEAST, most=PERCENT_MAX) or ZERO
