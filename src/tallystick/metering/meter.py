"""What a meter is: a definition that says what each event of a type contributes."""

from dataclasses import dataclass
from enum import StrEnum

DIMENSIONS_MAX = 16
"""Slots for dimensions in a reading; a definition with more is refused."""


class Aggregation(StrEnum):
    """How the readings of a range become one figure."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVERAGE = "average"
    LATEST = "latest"
    UNIQUE_COUNT = "unique_count"


@dataclass(frozen=True, slots=True)
class Dimension:
    """A declared dimension: its name and the RFC 9535 singular path into `data` it is read from."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Meter:
    """One version of a meter's definition, valid once built.

    `id` numbers (tenant, key, version) in this installation, 1 and up: readings carry it, so that every version has
    its own readings and older versions stay readable.
    """

    id: int
    tenant: str
    key: str
    version: int
    name: str
    event_type: str
    aggregation: Aggregation
    value: str | None  # RFC 9535 singular path into `data`; None only for count
    dimensions: tuple[Dimension, ...] = ()
    filter: str | None = None  # CEL over the event
    unit: str | None = None
    description: str | None = None
    created_at_us: int = 0
    archived_at_us: int | None = None

    def slot(self, dimension: str) -> int | None:
        """Index of the reading's slot that holds this dimension, or None when it is not declared."""
        for index, declared in enumerate(self.dimensions):
            if declared.name == dimension:
                return index
        return None
