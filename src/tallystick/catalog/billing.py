"""What of billing is kept: plan versions, subscriptions, invoices, terms. A protocol of its own, apart from the catalog's:
metering runs without it.

Contents are text (JSON) here; what they mean is billing's and flows'. The conventions are those of interface.py.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tallystick.billing.credit import Payable
from tallystick.catalog.charging import ChargingCatalog, LateNote
from tallystick.catalog.interface import SYSTEM, Actor, Page

InvoiceStatus = Literal["grace", "finalized", "void"]
InvoiceKind = Literal["period", "one_off", "threshold", "closing", "top_up"]
"""Of a period; of items alone; within a period, at a threshold; of what changed after a subscription's last period; of
credits that were topped up."""
PLANS_PER_TENANT_MAX = 10_000
"""Versions of all plans of a tenant."""


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """A version. `state`: draft, published, archived (billing/plan.PlanState)."""

    tenant: str
    key: str
    version: int
    state: str
    content: str
    created_at_us: int
    published_at_us: int | None
    archived_at_us: int | None


@dataclass(frozen=True, slots=True)
class KeptSubscription:
    """`plan`: of its last span, for lists. `closed_us`: invoices were made up to here; `due_us`, `progressive`: see the
    table."""

    tenant: str
    id: str
    key: str | None
    customer: str
    plan: str
    timezone: str
    content: str
    include_children: bool
    created_at_us: int
    closed_us: int | None = None
    due_us: int | None = None
    progressive: bool = False


@dataclass(frozen=True, slots=True)
class KeptInvoice:
    """`sequence` None: not finalized yet. `document` and `basis` never change once it is. `subscription` of a one-off one
    is its own id."""

    tenant: str
    id: str
    customer: str
    subscription: str
    boundary_us: int
    from_us: int
    to_us: int
    status: InvoiceStatus
    grace_until_us: int
    document: str
    basis: str
    created_at_us: int
    sequence: int | None = None
    finalized_at_us: int | None = None
    voided_at_us: int | None = None
    kind: InvoiceKind = "period"
    waits_for: str | None = None
    """Why it is not final although its grace is over."""


@dataclass(frozen=True, slots=True)
class LateLine:
    """`line` of `invoice` bills `amount` (rounded money as text) because `of_line` of `of_invoice` has changed."""

    tenant: str
    subscription: str
    invoice: str
    line: str
    of_invoice: str
    of_line: str
    amount: str


@dataclass(frozen=True, slots=True)
class Closing:
    """An invoice to keep, and what is then true of its subscription."""

    invoice: KeptInvoice
    content: str | None
    """The subscription it was made from: when that has changed since, nothing is kept. None: it has none."""
    closed_us: int | None
    """None: the subscription stays as it is."""
    due_us: int | None
    late: tuple[LateLine, ...] = ()
    """This and what follows is of an invoice that is finalized at once."""
    items: tuple[str, ...] = ()
    """Items that are billed by it: when one of them waits no more, nothing is kept."""
    parts: tuple[str, ...] = ()
    """Invoices within the period that it takes off: when there are others, nothing is kept."""
    notes: tuple[LateNote, ...] = ()
    payables: Callable[[], Sequence[Payable]] | None = None
    """What credits may pay of it, asked for where the customer has any. Not to be paid with credits: None."""
    collect: bool = False
    """What credits leave of it is to be collected."""


@dataclass(frozen=True, slots=True)
class InvoiceSearch:
    """None: any."""

    customers: tuple[str, ...] | None = None
    subscription: str | None = None
    status: str | None = None
    kind: str | None = None


class BillingCatalog(ChargingCatalog, Protocol):
    """See above."""

    # -- plans --------------------------------------------------------------------------------------------------
    def add_plan_version(
        self,
        tenant: str,
        key: str,
        content: str,
        *,
        first: bool,
        expected: Callable[[KeptPlan], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> KeptPlan:
        """A new draft. `first`: there must be no draft of this key as yet (Conflict plan_exists); otherwise a draft that
        is there is replaced. `expected` is asked within the transaction about the newest version there is; what it raises
        ends the change."""
        ...

    def change_plan_state(
        self,
        tenant: str,
        key: str,
        version: int | None,
        to_state: Callable[[KeptPlan], str],
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptPlan:
        """`to_state` is asked within the transaction; what it raises ends the change. None: the newest version.
        Raises NotFound (plan_not_found, plan_version_not_found)."""
        ...

    def plan(
        self, tenant: str, key: str, version: int | None = None, *, state: str | None = None
    ) -> KeptPlan:
        """The newest version (in a state), or the one asked for. Raises NotFound."""
        ...

    def plans(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> Page[KeptPlan]:
        """Newest versions, by key."""
        ...

    def plan_versions(self, tenant: str, key: str) -> tuple[KeptPlan, ...]:
        """Oldest first. Raises NotFound (plan_not_found)."""
        ...

    def plans_by_version(
        self, tenant: str, wanted: Collection[tuple[str, int]]
    ) -> dict[tuple[str, int], KeptPlan]: ...

    # -- subscriptions ------------------------------------------------------------------------------------------
    def create_subscription(
        self, subscription: KeptSubscription, *, actor: Actor, now_us: int
    ) -> KeptSubscription:
        """Raises Conflict (subscription_exists), NotFound (customer_not_found)."""
        ...

    def change_subscription(
        self,
        tenant: str,
        name: str,
        change: Callable[[KeptSubscription], KeptSubscription],
        *,
        action: str,
        actor: Actor,
        now_us: int,
    ) -> KeptSubscription:
        """`change` is asked within the transaction. Raises NotFound (subscription_not_found)."""
        ...

    def subscription(self, tenant: str, name: str) -> KeptSubscription:
        """By its id or its key. Raises NotFound (subscription_not_found)."""
        ...

    def subscriptions(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        plan: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptSubscription]:
        """In the order of their creation."""
        ...

    def due_subscriptions(
        self, tenant: str | None, at_us: int, *, excluded: Collection[str] = (), limit: int
    ) -> tuple[KeptSubscription, ...]:
        """Those an invoice is to be made for at a moment, the earliest first."""
        ...

    def defer_subscription(self, tenant: str, name: str, due_us: int | None) -> None:
        """When to look at it again: no change that a person made."""
        ...

    def progressive_subscriptions(
        self, tenant: str | None, at_us: int, *, after: int = 0, limit: int
    ) -> tuple[tuple[int, KeptSubscription], ...]:
        """Those with thresholds whose period is open at a moment, each behind its number, from the next after `after`."""
        ...

    def open_subscriptions(self, tenant: str) -> tuple[KeptSubscription, ...]:
        """Those an invoice will still be made for."""
        ...

    # -- invoices -----------------------------------------------------------------------------------------------
    def keep_invoices(
        self, closings: Sequence[Closing], *, actor: Actor = SYSTEM, now_us: int
    ) -> tuple[KeptInvoice, ...]:
        """Make, or replace while they are not finalized: all of them or none. One that has become finalized meanwhile
        stays as it is; those whose subscription has changed are left out. Those with status finalized get their number
        here, are paid with credits, and take their items with them. In the order given."""
        ...

    def parts_of(self, tenant: str, subscriptions: Collection[str]) -> dict[str, tuple[KeptInvoice, ...]]:
        """Finalized invoices within periods (kind threshold), void ones not, by subscription, the oldest first."""
        ...

    def void_invoice(self, tenant: str, name: str, *, actor: Actor, now_us: int) -> KeptInvoice:
        """What credits paid of it is given back. Idempotent. Raises NotFound (invoice_not_found), Conflict
        (invoice_has_credit_notes)."""
        ...

    def invoice(self, tenant: str, name: str) -> KeptInvoice:
        """By its id. Raises NotFound (invoice_not_found)."""
        ...

    def invoices(
        self,
        tenant: str,
        search: InvoiceSearch = InvoiceSearch(),
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptInvoice]:
        """Newest first."""
        ...

    def invoices_in_grace(
        self, tenant: str | None, until_us: int, *, excluded: Collection[str] = (), limit: int
    ) -> tuple[KeptInvoice, ...]:
        """Those whose grace has ended by then, by period."""
        ...

    def finalized_invoices(
        self, tenant: str, subscriptions: Collection[str]
    ) -> dict[str, tuple[KeptInvoice, ...]]:
        """Of periods, by subscription, void ones not, in the order they were finalized."""
        ...

    def late_lines(
        self, tenant: str, subscriptions: Collection[str] | None = None, *, limit: int = 100_000
    ) -> tuple[LateLine, ...]:
        """Of invoices that are finalized, void ones not, in their order. None: of all subscriptions."""
        ...

    # -- terms --------------------------------------------------------------------------------------------------
    def billing_terms(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        """Contents by customer, for those who have some."""
        ...

    def set_billing_terms(
        self, tenant: str, customer: str, content: str, *, actor: Actor, now_us: int
    ) -> None:
        """Raises NotFound (customer_not_found)."""
        ...
