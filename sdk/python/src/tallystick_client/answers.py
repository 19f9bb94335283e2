"""What the server answers to questions, typed. Quantities are exact decimals."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One window of one group. `value` is None for a maximum, an average and the like of nothing."""

    window_start: str
    window_end: str
    group: Mapping[str, str | None]
    value: Decimal | None


@dataclass(frozen=True, slots=True)
class Usage:
    """An answer to a question about a meter."""

    meter: str
    rows: tuple[UsageRow, ...]
    position: str | None
    document: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Usage":
        """Read the server's answer."""
        rows = tuple(
            UsageRow(row["window_start"], row["window_end"], row["group"], _decimal(row["value"]))
            for row in document["rows"]
        )
        return cls(document["meter"], rows, document.get("position"), document)


@dataclass(frozen=True, slots=True)
class Check:
    """Whether an amount may be used. `limit` and what follows are None when no limit speaks."""

    allowed: bool
    limit: Decimal | None
    used: Decimal | None
    held: Decimal | None
    remaining: Decimal | None
    reset_at: str | None
    rule: str | None
    reason: str | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Check":
        """Read the server's answer."""
        return cls(
            allowed=bool(document["allowed"]),
            limit=_decimal(document.get("limit")),
            used=_decimal(document.get("used")),
            held=_decimal(document.get("held")),
            remaining=_decimal(document.get("remaining")),
            reset_at=document.get("reset_at"),
            rule=document.get("rule"),
            reason=document.get("reason"),
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """An amount that is held until it is settled, released, or its time is over."""

    id: str
    allowed: bool
    document: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Reservation":
        """Read the server's answer."""
        return cls(document["id"], bool(document.get("allowed", True)), document)
