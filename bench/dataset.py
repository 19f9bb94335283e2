"""The rows every system gets: a year of an AI gateway, made from their numbers, so that all get the same.

Event i of N: at i/N of the year 2025 and up to an hour later (the order a gateway would send them in), of one of 1,000
customers (the first ones are the largest), with a random id of 16 hexadecimal digits, which no system can compress to
less than 8 bytes. What the questions must answer is calculated here too, with NumPy and independently of every system.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tallystick.metering.event import EventColumns, content_of, identities_of

YEAR_BEGIN_US = 1_735_689_600_000_000  # 2025-01-01
YEAR_END_US = 1_767_225_600_000_000  # 2026-01-01
JUNE_BEGIN_US = 1_748_736_000_000_000  # 2025-06-01
JUNE_END_US = 1_751_328_000_000_000  # 2025-07-01
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000

TENANT, SOURCE, EVENT_TYPE = "default", "/gateway/eu-1", "llm.completion"
CUSTOMERS = [f"customer-{number:04d}" for number in range(1000)]
ASKED_CUSTOMER = 250  # has an average share of the events
MODELS = ("large-2", "large-1", "medium-3", "medium-2", "small-4", "small-3", "vision-1", "embed-1")
REGIONS = ("eu-west-1", "us-east-1", "ap-south-1")
TOKENS_MAX = 5000

_KINDS = 1 << 16  # different contents of `data`
U64 = NDArray[np.uint64]


def _mixed(number: U64, salt: int) -> U64:
    """64 well-mixed bits of a number; different numbers give different bits (the finaliser of splitmix64)."""
    value = number * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


_kind = np.arange(_KINDS, dtype=np.uint64)
KIND_TOKENS = (_mixed(_kind, 1) % np.uint64(TOKENS_MAX)).astype(np.int64)
KIND_MODEL = (_mixed(_kind, 2) % np.uint64(len(MODELS))).astype(np.int64)
KIND_REGION = (_mixed(_kind, 3) % np.uint64(len(REGIONS))).astype(np.int64)
KIND_DATA = [
    f'{{"tokens":{tokens},"model":"{MODELS[model]}","region":"{REGIONS[region]}","status":"ok","ms":{ms}}}'
    for tokens, model, region, ms in zip(
        KIND_TOKENS.tolist(),
        KIND_MODEL.tolist(),
        KIND_REGION.tolist(),
        (_mixed(_kind, 4) % np.uint64(900)).tolist(),
        strict=True,
    )
]
_DATA_BYTES = [data.encode() for data in KIND_DATA]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows as numbers: customer and kind are indices into CUSTOMERS and KIND_…; all of one length."""

    id: list[str]
    customer: NDArray[np.int64]
    time_us: NDArray[np.int64]
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.id)

    def event_columns(self, *, received_at_us: int) -> EventColumns:
        """The rows as decoding would hand them to the log."""
        count = len(self)
        source, event_type = [SOURCE] * count, [EVENT_TYPE] * count
        subject = [CUSTOMERS[number] for number in self.customer.tolist()]
        data = [_DATA_BYTES[kind] for kind in self.kind.tolist()]
        return EventColumns(
            tenant=TENANT,
            received_at_us=received_at_us,
            source=source,
            id=self.id,
            type=event_type,
            subject=subject,
            time_us=self.time_us,
            time_given=np.ones(count, np.bool_),
            data=data,
            attributes=[b""] * count,
            identity=identities_of(TENANT, source, self.id),
            content=content_of(event_type, subject, data),
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """`events` rows, numbered from 0."""

    events: int

    def rows(self, first: int, count: int) -> Rows:
        """Rows first … first + count - 1, cut off at the end."""
        number = np.arange(first, min(first + count, self.events), dtype=np.uint64)
        share = (_mixed(number, 6) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        span_us = YEAR_END_US - HOUR_US - YEAR_BEGIN_US
        step_us = span_us // self.events
        jitter_us = (_mixed(number, 7) % np.uint64(HOUR_US)).astype(np.int64)
        return Rows(
            id=[f"{digits:016x}" for digits in _mixed(number, 5).tolist()],
            customer=(share * share * len(CUSTOMERS)).astype(np.int64),
            time_us=YEAR_BEGIN_US + number.astype(np.int64) * step_us + jitter_us,
            kind=(_mixed(number, 8) % np.uint64(_KINDS)).astype(np.int64),
        )

    def blocks(self, size: int, *, first: int = 0) -> Iterator[Rows]:
        for start in range(first, self.events, size):
            yield self.rows(start, size)


Answer = list[tuple[int | str, ...]]
"""Rows of an answer, ordered: window start in microseconds (where there are windows), group, value."""


@dataclass(slots=True)
class Expected:
    """The answers to the questions of bench/questions.py, added up row by row. Sums of integers stay far below 2**53,
    so that NumPy's weights, which are floats, are exact."""

    by_day: Counter[int] = field(default_factory=Counter[int])
    by_customer: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CUSTOMERS), np.int64))
    by_model: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(MODELS), np.int64))
    by_day_and_model: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])

    def add(self, rows: Rows) -> None:
        tokens = KIND_TOKENS[rows.kind]
        model = KIND_MODEL[rows.kind]
        self.by_model += np.bincount(model, tokens, len(MODELS)).astype(np.int64)
        june = (rows.time_us >= JUNE_BEGIN_US) & (rows.time_us < JUNE_END_US)
        self.by_customer += np.bincount(rows.customer[june], tokens[june], len(CUSTOMERS)).astype(np.int64)
        asked = np.flatnonzero(rows.customer == ASKED_CUSTOMER)
        for time_us, value, number in zip(
            rows.time_us[asked].tolist(), tokens[asked].tolist(), model[asked].tolist(), strict=True
        ):
            day_us = time_us - time_us % DAY_US
            self.by_day[day_us] += value
            if JUNE_BEGIN_US <= time_us < JUNE_END_US:
                self.by_day_and_model[day_us, MODELS[number]] += value

    def answers(self) -> dict[str, Answer]:
        """By the name of the question."""
        customers = sorted(
            ((CUSTOMERS[number], value) for number, value in enumerate(self.by_customer.tolist()) if value),
            key=lambda row: (-row[1], row[0]),
        )
        return {
            "customer_year": sorted(self.by_day.items()),
            "top": list(customers[:10]),
            "by_model": sorted((name, value) for name, value in zip(MODELS, self.by_model.tolist(), strict=True) if value),
            "customer_month": sorted((*key, value) for key, value in self.by_day_and_model.items()),
            "total": [(int(self.by_model.sum()),)],
        }  # fmt: skip


def expected_answers(dataset: Dataset) -> dict[str, Answer]:
    expected = Expected()
    for rows in dataset.blocks(200_000):
        expected.add(rows)
    return expected.answers()
