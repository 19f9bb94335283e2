"""What of limits is kept, and the ledger of reservations. Protocols of their own, apart from the catalog's: metering runs
without them. The conventions are those of interface.py."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from tallystick.catalog.interface import Actor, Page
from tallystick.limits.limit import Limit
from tallystick.limits.reservation import Reservation

LIMITS_PER_TENANT_MAX = 10_000
RAISES_PER_LIMIT_MAX = 10_000
"""Those whose time is not over."""


@dataclass(frozen=True, slots=True)
class KeptLimit:
    """A limit, and since when."""

    tenant: str
    limit: Limit
    created_at_us: int
    changed_at_us: int


@dataclass(frozen=True, slots=True)
class LimitRaise:
    """`number` names it."""

    number: int
    tenant: str
    limit: str
    customer: str
    amount: Decimal
    until_us: int
    created_at_us: int


class LimitCatalog(Protocol):
    """See above."""

    def create_limit(self, tenant: str, limit: Limit, *, actor: Actor, now_us: int) -> KeptLimit:
        """Raises Conflict (limit_exists, too_many_limits)."""
        ...

    def change_limit(
        self, tenant: str, key: str, change: Callable[[KeptLimit], Limit], *, actor: Actor, now_us: int
    ) -> KeptLimit:
        """`change` is asked within the transaction; what it raises ends the change. Raises NotFound (limit_not_found)."""
        ...

    def delete_limit(
        self, tenant: str, key: str, *, expected: Callable[[KeptLimit], None], actor: Actor, now_us: int
    ) -> None:
        """With its raises. Raises NotFound (limit_not_found)."""
        ...

    def limit(self, tenant: str, key: str) -> KeptLimit:
        """Raises NotFound (limit_not_found)."""
        ...

    def limits(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> Page[KeptLimit]:
        """By key."""
        ...

    def all_limits(self, tenant: str) -> tuple[KeptLimit, ...]:
        """Every limit of a tenant, by key."""
        ...

    def raise_limit(
        self,
        tenant: str,
        key: str,
        *,
        customer: str,
        amount: Decimal,
        until_us: int,
        actor: Actor,
        now_us: int,
    ) -> LimitRaise:
        """Raises NotFound (limit_not_found, customer_not_found), Conflict (too_many_raises)."""
        ...

    def limit_raises(
        self, tenant: str, key: str, *, cursor: str | None = None, limit: int = 100
    ) -> Page[LimitRaise]:
        """In the order they were made. Raises NotFound (limit_not_found)."""
        ...

    def raises_of(self, tenant: str, *, now_us: int) -> tuple[LimitRaise, ...]:
        """Those of all limits of a tenant whose time is not over."""
        ...


class Ledger(Protocol):
    """Reservations, durable. One owner writes at a time. Synchronous, from any thread."""

    def write(self, states: Sequence[Reservation]) -> None:
        """The state that each has from now on, all or nothing; durable when it returns. Raises leases.LeaseLostError where
        another owner has taken over (nothing was written), StorageFull, Unavailable."""
        ...

    def flush(self) -> None:
        """Until a copy of the ledger's file has everything that was written before. Raises StorageFull, Unavailable."""
        ...

    def load_open(self) -> list[Reservation]:
        """Everything that still stands against a limit."""
        ...

    def find(self, reservations: Collection[str]) -> dict[str, Reservation]:
        """By id; those there are not are absent."""
        ...

    def page(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Reservation]:
        """In the order they were made."""
        ...

    def forget(self, *, closed_before_us: int) -> int:
        """Delete those that were closed before a moment and are counted; how many they were (a bounded number a call)."""
        ...

    def close(self) -> None: ...
