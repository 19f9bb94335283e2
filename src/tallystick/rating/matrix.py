"""`matrix {dimensions, cells: [{values, unit_amount | price, free_units}], default}`: the price depends on dimensions.

A cell holds for the usage that has its values, in the order of `dimensions`; a value of null is a missing dimension.
`default` (a unit amount, or `{"unit_amount"}` or `{"price"}`) is for all other usage. Without one, usage that no cell
names is an error, never free. Usage of one cell is added up before it is priced, so that a cell may have tiers of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import ZERO
from tallystick.rating.model import (
    CELLS_MAX,
    DIMENSIONS_MAX,
    Model,
    Needs,
    Rated,
    ReadNested,
    Step,
    Usage,
    no_answer,
)
from tallystick.rating.per_unit import PerUnit

Values = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """Usage with these values has this price."""

    values: Values
    price: Model


@dataclass(frozen=True, slots=True)
class Matrix:
    """Prices by the values of dimensions."""

    dimensions: tuple[str, ...]
    cells: tuple[Cell, ...]
    default: Model | None = None
    name: ClassVar[str] = "matrix"

    @classmethod
    def read(cls, document: Document, read_nested: ReadNested) -> "Matrix":
        dimensions = document.texts("dimensions", items_max=DIMENSIONS_MAX, required=True)
        cells: dict[Values, Cell] = {}
        for index, one in enumerate(document.objects("cells", items_max=CELLS_MAX)):
            values = read_values(one, len(dimensions))
            if values in cells:
                document.fault("repeated", "has the values of another cell.", "cells", index, "values")
            cells[values] = Cell(values, _read_price(one, read_nested))
        default: Model | None = None
        raw = document.take("default")
        if isinstance(raw, dict):
            inner = document.below(raw, "default")  # pyright: ignore[reportUnknownArgumentType]
            default = _read_price(inner, read_nested)
            inner.close()
        elif raw is not None:
            amount = document.decimal("default")
            default = PerUnit(ZERO if amount is None else amount)
        if not cells and default is None:
            document.fault("missing", "needs cells, a default or both.")
        return cls(dimensions, tuple(cells.values()), default)

    def rate(self, parts: Sequence[Usage]) -> Rated:
        steps: list[Step] = []
        prices = {cell.values: cell.price for cell in self.cells}
        by_cell: dict[Values, list[Usage]] = {}
        others: list[Usage] = []
        for part in parts:
            values = tuple(part.dimension(name) for name in self.dimensions)
            if values in prices:
                by_cell.setdefault(values, []).append(part)
            else:
                others.append(part)
        for cell in self.cells:
            if cell.values in by_cell:
                label = tuple("" if value is None else value for value in cell.values)
                steps += labelled(cell.price.rate(by_cell[cell.values]).steps, *label)
        if others:
            if self.default is None:
                said = ", ".join(f"{name} {others[0].dimension(name)!r}"[:160] for name in self.dimensions)
                raise no_answer(
                    "no_matching_cell",
                    f"No cell of the matrix is for {said}, and it has no default. Add the cell, or a default.",
                )
            steps += labelled(self.default.rate(others).steps, "default")
        return Rated.of(steps)

    def needs(self) -> Needs:
        return together(self.dimensions, [cell.price for cell in self.cells], self.default)

    def to_wire(self) -> dict[str, Any]:
        return {
            "dimensions": list(self.dimensions),
            "cells": [{"values": list(cell.values), **_price_to_wire(cell.price)} for cell in self.cells],
            "default": None if self.default is None else _price_to_wire(self.default),
        }


def read_values(cell: Document, count: int) -> Values:
    """The member `values` of a cell: a string or null for each dimension."""
    raw = cell.list_of("values", items_max=DIMENSIONS_MAX, required=True)
    if raw and len(raw) != count:
        cell.fault("invalid_value", f"must have a value for each of the {count} dimensions.", "values")
    values: list[str | None] = []
    for index, value in enumerate(raw):
        if value is not None and (not isinstance(value, str) or len(value) > 1024):
            cell.fault(
                "invalid_value", "must be a string of at most 1024 characters, or null.", "values", index
            )
            value = None  # noqa: PLW2901
        values.append(value)
    return tuple(values)


def labelled(steps: Iterable[Step], *label: str) -> list[Step]:
    """The steps of a price inside another, told apart by which one it was."""
    return [replace(step, label=(*label, *step.label)) for step in steps]


def together(dimensions: Iterable[str], prices: Iterable[Model], default: Model | None) -> Needs:
    needs = Needs(dimensions=frozenset(dimensions))
    for price in prices:
        needs |= price.needs()
    return needs if default is None else needs | default.needs()


def _read_price(document: Document, read_nested: ReadNested) -> Model:
    if document.has("price"):
        return read_nested(document.below(document.take("price"), "price"))
    return PerUnit.read(document)


def _price_to_wire(price: Model) -> dict[str, Any]:
    if isinstance(price, PerUnit):
        return price.to_wire()
    return {"price": {"model": price.name, **price.to_wire()}}
