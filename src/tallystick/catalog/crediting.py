"""What of credits is kept: grants, the ledger of what became of them, rules of automatic top-up. A protocol of its own,
apart from the catalog's: metering runs without it.

Money credits are paid out of the ledger here, under a lock of their customer, so that a balance reads its own writes.
Units of a meter are not: what is left of them follows from usage (flows/credit_balance.py), and only grants are kept.
The conventions are those of interface.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from tallystick.billing.credit import Entry, Holding, Payable
from tallystick.billing.grant import CreditUnit, Grant
from tallystick.billing.top_up import TopUp
from tallystick.catalog.interface import Actor, Page

GRANTS_PER_CUSTOMER_MAX = 10_000
"""Those that have not ended."""


@dataclass(frozen=True, slots=True)
class KeptGrant:
    """A grant, what is left of it, and the sums of its entries. `topped_up`: made by a rule."""

    holding: Holding
    granted: Decimal
    consumed: Decimal
    expired: Decimal
    voided: Decimal
    topped_up: bool = False

    @property
    def grant(self) -> Grant:
        return self.holding.grant


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """A row of the ledger. `at_us`: when it took effect; `recorded_at_us`: when it was written down."""

    number: int
    unit: CreditUnit
    entry: Entry
    recorded_at_us: int


@dataclass(frozen=True, slots=True)
class Payment:
    """What was paid with credits: in all, and of each payable by its id."""

    amount: Decimal
    by_payable: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class KeptPurchase:
    """Credits that a rule of top-up has ordered and that are to be paid for. `invoice`, `grant`: their ids, which may not
    exist yet; `state`: ordered, billed, cancelled; `granted`: the customer has them; `expires_after`: Length.text()."""

    tenant: str
    invoice: str
    customer: str
    unit: CreditUnit
    amount: Decimal
    priority: int
    expires_after: str | None
    grant: str
    state: str
    granted: bool
    ordered_at_us: int


class CreditCatalog(Protocol):
    """See above."""

    def grant_credits(self, tenant: str, grant: Grant, *, actor: Actor, now_us: int) -> KeptGrant:
        """Raises NotFound (customer_not_found), Conflict (too_many_grants)."""
        ...

    def void_credits(self, tenant: str, grant_id: str, *, actor: Actor, now_us: int) -> KeptGrant:
        """What is left of it is taken back, from now on. Idempotent. Raises NotFound (grant_not_found)."""
        ...

    def credit_grant(self, tenant: str, grant_id: str, *, now_us: int) -> KeptGrant:
        """Raises NotFound (grant_not_found)."""
        ...

    def credit_grants(self, tenant: str, customer: str, *, now_us: int) -> tuple[KeptGrant, ...]:
        """All of a customer, ended ones too, in the order of creation, as they are at `now_us`."""
        ...

    def customers_with_credits(self, tenant: str, customers: Collection[str], unit: CreditUnit) -> set[str]:
        """Which of them have a grant in this unit that has not ended."""
        ...

    def credit_ledger(
        self,
        tenant: str,
        customer: str,
        *,
        unit: CreditUnit | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptEntry]:
        """Newest first."""
        ...

    def pay_with_credits(
        self,
        tenant: str,
        customer: str,
        currency: str,
        payables: Sequence[Payable],
        *,
        reference: str,
        now_us: int,
    ) -> Payment:
        """Pay what there is for, in whole minor units. Once for each reference: again, it answers what was paid then."""
        ...

    def credits_paid(self, tenant: str, references: Collection[str]) -> dict[str, Decimal]:
        """What is paid under each reference, less what was given back; absent: nothing."""
        ...

    def return_credits(self, tenant: str, reference: str, *, now_us: int) -> Decimal:
        """Give back what was paid under a reference; how much that was. Idempotent: the second time, 0."""
        ...

    def set_top_up(self, tenant: str, customer: str, rule: TopUp, *, actor: Actor, now_us: int) -> None:
        """One rule a unit. It counts at once. Raises NotFound (customer_not_found)."""
        ...

    def delete_top_up(
        self, tenant: str, customer: str, unit: CreditUnit, *, actor: Actor, now_us: int
    ) -> None:
        """Idempotent."""
        ...

    def top_ups(self, tenant: str, customer: str) -> tuple[TopUp, ...]: ...

    def purchases_to_bill(self, tenant: str | None, *, limit: int) -> tuple[KeptPurchase, ...]:
        """Ordered by top-ups, and not on an invoice yet, the oldest first. None: of all tenants."""
        ...

    def purchase(self, tenant: str, invoice: str) -> KeptPurchase | None:
        """What an invoice of kind top_up bills."""
        ...
