"""A price: one model, perhaps in a unit of one's own. Read from JSON with every fault at once, and written back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import ZERO, exactly
from tallystick.rating.cost_plus import CostPlus, TokenBook
from tallystick.rating.flat import Flat
from tallystick.rating.graduated import Graduated
from tallystick.rating.graduated_percentage import GraduatedPercentage
from tallystick.rating.matrix import Matrix
from tallystick.rating.model import NESTING_MAX, Model, Needs, Rated, Step, Usage
from tallystick.rating.package import Package
from tallystick.rating.per_unit import PerUnit
from tallystick.rating.percentage import Percentage
from tallystick.rating.schedule import Scheduled, TimeOfDay
from tallystick.rating.unit import Conversion, CustomUnit, pooled
from tallystick.rating.volume import Volume

_LEAVES = {
    model.name: model
    for model in (Flat, PerUnit, Graduated, Volume, Package, Percentage, GraduatedPercentage)
}
_TABLES = {model.name: model for model in (CostPlus, TokenBook)}
_NESTS = {model.name: model for model in (Matrix, Scheduled, TimeOfDay)}
MODELS = (*_LEAVES, *_NESTS, *_TABLES)
"""The names of all price models."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A price for another unit than the one that is measured."""

    model: Model
    conversion: Conversion
    name: ClassVar[str] = "converted"

    def rate(self, parts: Sequence[Usage]) -> Rated:
        one = pooled(parts, self.conversion)
        rated = self.model.rate([one])
        return Rated.of([Step("convert", ZERO, quantity=one.quantity), *rated.steps])

    def needs(self) -> Needs:
        return self.model.needs()

    def to_wire(self) -> dict[str, Any]:
        return {**self.model.to_wire(), "convert": self.conversion.to_wire()}


@dataclass(frozen=True, slots=True)
class Price:
    """What `{"model": …}` says. Valid once read; equal ones rate alike."""

    model: Model
    unit: CustomUnit | None = None

    @property
    def model_name(self) -> str:
        return self.model.model.name if isinstance(self.model, Converted) else self.model.name

    def needs(self) -> Needs:
        """What a question for usage must ask for."""
        return self.model.needs()

    @exactly
    def rate(self, parts: Sequence[Usage]) -> Rated:
        """What the parts cost together, in the price's own unit where it has one. Raises Invalid (negative_quantity,
        no_matching_cell, time_needed)."""
        return self.model.rate(parts)

    def to_wire(self) -> dict[str, Any]:
        """The JSON that `parse_price` reads."""
        made = {"model": self.model_name, **self.model.to_wire()}
        if self.unit is not None:
            made["unit"] = self.unit.to_wire()
        return made


def parse_price(raw: object) -> Price:
    """Read a price from parsed JSON. Raises Invalid with a fault for everything that is wrong, pointers relative to it.

    Codes: missing, unknown_model, unknown_member, invalid_type, invalid_value, invalid_number, invalid_time,
    number_out_of_range, negative, too_small, too_large, too_many, repeated, tiers_not_ascending, last_tier_not_open,
    min_above_max, convert_not_allowed, nested_too_deep, unknown_timezone.
    """
    document = Document(raw)
    price = read_price(document)
    document.raise_any()
    return price


def read_price(document: Document) -> Price:
    """A price that stands in another document; its faults are noted there."""
    unit: CustomUnit | None = None
    if document.has("unit"):
        inner = document.below(document.take("unit"), "unit")
        unit = CustomUnit.read(inner)
        inner.close()
    return Price(_read_model(document, 1), unit)


def _read_model(document: Document, depth: int) -> Model:
    """Reads and closes the document. Answers a stand-in where there is a fault."""
    name = document.required_text("model", characters_max=64)
    conversion: Conversion | None = None
    if document.has("convert"):
        inner = document.below(document.take("convert"), "convert")
        conversion = Conversion.read(inner)
        inner.close()
        if name in _NESTS or name in _TABLES:
            document.fault(
                "convert_not_allowed", f"must stand in the prices within {name}, or be its `per`.", "convert"
            )
    if depth > NESTING_MAX:
        document.fault("nested_too_deep", f"may hold prices in prices {NESTING_MAX} deep.")
        return Flat(ZERO)

    def read_nested(inner: Document) -> Model:
        return _read_model(inner, depth + 1)

    model: Model
    if name in _LEAVES:
        model = _LEAVES[name].read(document)
    elif name in _TABLES:
        model = _TABLES[name].read(document)
    elif name in _NESTS:
        model = _NESTS[name].read(document, read_nested)
    else:
        if name:
            document.fault("unknown_model", f"is {name!r}; there are {', '.join(MODELS)}.", "model")
        # Which members are meant nobody can tell: no faults for them.
        return Flat(ZERO)
    document.close()
    return model if conversion is None else Converted(model, conversion)
