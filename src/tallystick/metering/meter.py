"""What a meter is: a definition that says what each event of a type contributes."""

from dataclasses import dataclass
from enum import StrEnum

DIMENSIONS_MAX = 16
"""Slots for dimensions in a reading; a definition with more is refused."""


class Aggregation(StrEnum):
    """How the readings of a range become one figure; docs/howto/aggregations.md says it with examples."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVERAGE = "average"
    LATEST = "latest"
    UNIQUE_COUNT = "unique_count"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"
    TIME_WEIGHTED = "time_weighted"
    DURATION = "duration"
    REGISTER = "register"


PERCENTILES = {Aggregation.P50: 50, Aggregation.P90: 90, Aggregation.P95: 95, Aggregation.P99: 99}
"""Percent p of each: the ceil(n * p / 100)-th smallest of n readings (nearest rank)."""

SERIES = frozenset({Aggregation.TIME_WEIGHTED, Aggregation.DURATION, Aggregation.REGISTER})
"""Those whose figure depends on the order of a series' readings, also of readings outside the range."""

ZEROES = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT, *SERIES})
"""Those whose figure without any reading is 0; the others have none."""

INNER = frozenset(set(Aggregation) - SERIES)
OUTER = frozenset(INNER - {Aggregation.UNIQUE_COUNT})
"""What may stand inside and outside of an aggregate of aggregates."""


class Window(StrEnum):
    """Calendar windows of the question's zone; weeks begin on Monday."""

    MINUTE = "minute"
    MINUTES_5 = "5m"
    MINUTES_15 = "15m"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class InnerAggregation:
    """The inner part of an aggregate of aggregates: one figure for each customer, group and window of the question's
    zone. The meter's own aggregation is over these figures."""

    aggregation: Aggregation  # one of INNER
    window: Window


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
    value: str | None  # RFC 9535 singular path into `data`; None for count, and where value_cel stands
    dimensions: tuple[Dimension, ...] = ()
    filter: str | None = None  # CEL over the event
    unit: str | None = None
    description: str | None = None
    created_at_us: int = 0
    archived_at_us: int | None = None
    value_cel: str | None = None  # CEL over the event, in the place of `value`
    pair_by: str | None = None  # duration: path of what a start and its stop have in common
    timeout_us: int | None = None  # time_weighted, duration: how long a level or a start holds at most
    of: InnerAggregation | None = None  # `aggregation` is over the figures of this one

    @property
    def read_as(self) -> Aggregation:
        """The aggregation that readings are made for: the inner one where there is one."""
        return self.aggregation if self.of is None else self.of.aggregation

    @property
    def goes_on(self) -> bool:
        """Whether a figure may change while nothing is recorded: levels hold, and starts are closed by their timeout."""
        if self.aggregation is Aggregation.DURATION:
            return self.timeout_us is not None
        return self.aggregation is Aggregation.TIME_WEIGHTED

    def slot(self, dimension: str) -> int | None:
        """Index of the reading's slot that holds this dimension, or None when it is not declared."""
        for index, declared in enumerate(self.dimensions):
            if declared.name == dimension:
                return index
        return None
