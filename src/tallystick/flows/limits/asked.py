"""What requests ask of the gate, be it in this process (gate.py) or in one of its own (process.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from tallystick.catalog.interface import Page
from tallystick.errors import TallystickError
from tallystick.flows.limits.rules import Ask
from tallystick.limits.reservation import Reservation
from tallystick.limits.standing import Standing


@dataclass(frozen=True, slots=True)
class Reserved:
    """A reservation with its receipt."""

    reservation: Reservation
    receipt: dict[str, Any]


class AskedGate(Protocol):
    """Every one raises Unavailable (gate_not_ready) where the gate is lost meanwhile; what else, see LimitGate."""

    async def check(self, ask: Ask) -> dict[str, Any]: ...

    async def reserve(self, ask: Ask, ttl_s: int) -> Reserved: ...

    async def reserve_each(self, asks: Sequence[tuple[Ask, int]]) -> list[Reserved | TallystickError]: ...

    async def settle(
        self, tenant: str, name: str, amount: Decimal | None, event: dict[str, Any] | None
    ) -> Reserved: ...

    async def release(self, tenant: str, name: str) -> Reserved: ...

    async def get(self, tenant: str, name: str) -> Reservation: ...

    async def page(
        self,
        tenant: str,
        *,
        customers: Sequence[str] | None,
        state: str | None,
        cursor: str | None,
        limit: int,
    ) -> Page[Reservation]: ...

    async def standings(self, tenant: str, customer: str) -> list[Standing]: ...
