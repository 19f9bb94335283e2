"""What was billed within a period, taken off the later invoices of that period. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallystick.billing.invoice import Line
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.rating.model import Step

KIND = "progressive"


@dataclass(frozen=True, slots=True)
class Part:
    """An invoice that was made within a period: what its lines billed, what it took off for earlier ones included."""

    invoice: str
    title: str
    amount: Decimal


def deductions(parts: Sequence[Part], period: Period) -> tuple[Line, ...]:
    """A line for each, of the opposite amount."""
    made: list[Line] = []
    for part in parts:
        if not part.amount:
            continue
        place = hashlib.sha256(canonical(["progressive", part.invoice]).encode()).hexdigest()[:16]
        made.append(
            Line(
                f"progressive-{place}",
                KIND,
                KIND,
                f"Billed on {part.title}",
                Decimal(1),
                -part.amount,
                -part.amount,
                (Step("billed", -part.amount),),
                "",
                0,
                period,
                of=(part.invoice, ""),
            )
        )
    return tuple(made)
