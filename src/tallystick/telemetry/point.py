"""A reading of a metric, whoever sent it, and which series it belongs to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tallystick.errors import BadRequest

TIME_NS_MAX = 2**63 - 1
ATTRIBUTES_MAX = 256
POINTS_MAX = 100_000
"""Readings and log records in one request."""

Attributes = Mapping[str, Any]


class Kind(StrEnum):
    """What the value says. delta: what came since `start_ns`. cumulative: all since the series began. gauge: a level."""

    DELTA = "delta"
    CUMULATIVE = "cumulative"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Point:
    """One reading. `values`: of a histogram or a summary its sum and its count, otherwise one value. `start_ns` 0: not known.
    `target`: whose series it is (Prometheus: job and instance), where a start is never known. `replica`: which of several
    readers of the same counters read it; it is no part of the series."""

    source: str
    name: str
    unit: str
    kind: Kind
    resource: Attributes
    attributes: Attributes
    start_ns: int
    time_ns: int
    values: tuple[Decimal, ...]
    scope: str = ""
    target: str = ""
    replica: str = ""

    @property
    def series(self) -> str:
        """Identity of the series, 32 hexadecimal digits. One that begins anew with a known start is another one."""
        start_ns = self.start_ns if self.kind is Kind.CUMULATIVE else 0
        return digest_of(
            self.source, self.name, self.kind, self.resource, self.scope, self.attributes, start_ns
        )


def digest_of(*parts: Any) -> str:
    """32 hexadecimal digits that are the same for the same content."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_count(count: int) -> None:
    """Raises BadRequest for more readings than one request may have."""
    if count > POINTS_MAX:
        raise BadRequest(
            f"The request has more than {POINTS_MAX} readings. Send it in several requests.",
            code="too_many_points",
        )
