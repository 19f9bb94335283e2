"""What every price model has: it is read from a document, rates usage, and says what it needs to know of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from tallystick.document import Document
from tallystick.errors import Fault, Invalid
from tallystick.money import ZERO, exactly

TIERS_MAX = 100
CELLS_MAX = 10_000
DIMENSIONS_MAX = 8
NESTING_MAX = 4
"""Prices in prices: a matrix of schedules of times of day of tiers."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one price is applied to: a quantity, as a whole or as the transactions that make it up.

    Several of them are what one price is applied to *together*: parts with different dimensions (for a matrix) or
    moments (for rates that change over time). Parts that a price does not tell apart are added up first, so that it
    never matters how usage was cut.
    """

    quantity: Decimal
    transactions: tuple[Decimal, ...] | None = None
    """In the order they happened; their sum is `quantity`. None: not known one by one."""
    transaction_count: int | None = None
    """How many transactions `quantity` comes from, where that alone is known."""
    dimensions: tuple[tuple[str, str | None], ...] = ()
    at_us: int | None = None
    """The beginning of the window the part was used in."""

    @classmethod
    def of(cls, quantity: Decimal | int | str, **dimensions: str | None) -> "Usage":
        return cls(Decimal(quantity), dimensions=tuple(sorted(dimensions.items())))

    @classmethod
    @exactly
    def of_transactions(cls, values: Iterable[Decimal], **dimensions: str | None) -> "Usage":
        transactions = tuple(values)
        return cls(
            sum(transactions, ZERO),
            transactions,
            len(transactions),
            dimensions=tuple(sorted(dimensions.items())),
        )

    def dimension(self, name: str) -> str | None:
        return dict(self.dimensions).get(name)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the explanation. The amounts of all steps add up to the amount they explain, exactly."""

    kind: str
    """tier, units, package, transactions, fixed, cell, cost, flat; and those of adjustments.py and unit.py."""
    amount: Decimal
    quantity: Decimal | None = None
    unit_amount: Decimal | None = None
    flat_amount: Decimal | None = None
    above: Decimal | None = None
    """Of a tier: where it begins, exclusive."""
    up_to: Decimal | None = None
    """Of a tier: where it ends, inclusive; None is open."""
    rate: Decimal | None = None
    """Percent."""
    label: tuple[str, ...] = ()
    """Which of several of a kind: the cell's values, the rate's name."""

    @property
    def place(self) -> tuple[object, ...]:
        """Which step of the price this is, whatever the quantity."""
        return (self.label, self.kind, self.above, self.up_to)


@dataclass(frozen=True, slots=True)
class Rated:
    """An amount at full precision (up to 36 digits after the point), and why."""

    amount: Decimal
    steps: tuple[Step, ...]

    @classmethod
    @exactly
    def of(cls, steps: Iterable[Step]) -> "Rated":
        kept = tuple(steps)
        return cls(sum((step.amount for step in kept), ZERO), kept)

    @property
    def tiers(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.kind == "tier")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a price must be told of usage, so that one question to the store can be made for it."""

    dimensions: frozenset[str] = frozenset()
    window_minutes: int | None = None
    """Usage must come in windows of at most this length that follow the face of `timezone`'s clock: 60, 15, 5 or 1."""
    timezone: str | None = None
    split_us: frozenset[int] = frozenset()
    """Moments at which usage must be cut, because the price changes."""
    transactions: bool = False
    """The transactions one by one, not only their sum."""
    transaction_count: bool = False
    """How many transactions there were."""

    def __or__(self, other: "Needs") -> "Needs":
        windows = [needs.window_minutes for needs in (self, other) if needs.window_minutes is not None]
        if self.timezone and other.timezone and self.timezone != other.timezone:
            # Zones differ by quarters of an hour, so windows of one are windows of the other.
            windows.append(15)
        return Needs(
            self.dimensions | other.dimensions,
            min(windows, default=None),
            self.timezone or other.timezone,
            self.split_us | other.split_us,
            self.transactions or other.transactions,
            self.transaction_count or other.transaction_count,
        )


class Model(Protocol):
    """A price model: frozen, valid once read."""

    name: ClassVar[str]

    def rate(self, parts: Sequence[Usage]) -> Rated:
        """What the parts cost together. Called within `exactly`. Raises Invalid where the price has no answer."""
        ...

    def needs(self) -> Needs: ...

    def to_wire(self) -> dict[str, Any]:
        """The JSON members beside `model`, as `read` takes them; decimals as text."""
        ...


ReadNested = Callable[[Document], Model]
"""Reads a price that stands inside another one."""


def total(parts: Sequence[Usage]) -> Decimal:
    """The quantity of all parts together."""
    return sum((part.quantity for part in parts), ZERO)


def no_answer(code: str, detail: str, pointer: str = "/price") -> Invalid:
    """The price does not say what this usage costs: never billed as less, always an error."""
    return Invalid(detail, code=code, faults=[Fault(pointer, code, detail)])


def dimensions_of(raw: Mapping[str, str | None]) -> tuple[tuple[str, str | None], ...]:
    """Dimensions as `Usage` keeps them."""
    return tuple(sorted(raw.items()))
