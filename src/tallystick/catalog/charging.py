"""What of billing is kept beside periods: items that are billed once, credit notes, and the collecting of payments.

A part of the protocol of billing.py, with its conventions.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol

from tallystick.catalog.interface import Actor, Page

if TYPE_CHECKING:
    from tallystick.catalog.billing import KeptInvoice

NoteStatus = Literal["issued", "void"]
PaymentStatus = Literal["pending", "sent", "paid", "failed", "void"]
WAITING_ITEMS_MAX = 10_000
"""Of one customer."""


@dataclass(frozen=True, slots=True)
class KeptItem:
    """`content`: billing/item.Item as JSON. `invoice` None: it waits."""

    tenant: str
    id: str
    customer: str
    currency: str
    content: str
    created_at_us: int
    removed_at_us: int | None = None
    invoice: str | None = None


@dataclass(frozen=True, slots=True)
class KeptNote:
    """`document` never changes. `basis`: what was asked for, and the notes that there were. `grant`: what it gave."""

    tenant: str
    id: str
    sequence: int
    invoice: str
    customer: str
    kind: str
    status: NoteStatus
    document: str
    basis: str
    created_at_us: int
    grant: str | None = None
    voided_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class NoteContent:
    """What a note says. `total`: rounded money in `currency`."""

    kind: str
    document: str
    basis: str
    currency: str
    total: Decimal


MakeNote = Callable[["KeptInvoice", Sequence[KeptNote], Decimal], NoteContent]
"""(the invoice, its notes that are not void, what credits have paid of it) → the note. What it raises ends the change."""


@dataclass(frozen=True, slots=True)
class LateNote:
    """A note that is made with an invoice, for an earlier one. `changes`: (line, gross, not above zero)."""

    subscription: str
    invoice: str
    make: MakeNote
    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class KeptPayment:
    """Collecting what was due of an invoice. `amount`: rounded money as text. `next_us` None: nothing is to be done."""

    tenant: str
    invoice: str
    customer: str
    status: PaymentStatus
    amount: str
    currency: str
    attempts: int
    next_us: int | None
    created_at_us: int
    changed_at_us: int
    external_id: str | None = None
    url: str | None = None
    detail: str | None = None


class ChargingCatalog(Protocol):
    """See above."""

    # -- items --------------------------------------------------------------------------------------------------
    def add_items(self, items: Sequence[KeptItem], *, actor: Actor, now_us: int) -> None:
        """They wait for the customer's next invoice. Raises NotFound (customer_not_found), Conflict (too_many_items)."""
        ...

    def remove_item(self, tenant: str, customer: str, name: str, *, actor: Actor, now_us: int) -> None:
        """Idempotent. Raises NotFound (item_not_found), Conflict (item_billed)."""
        ...

    def items(
        self,
        tenant: str,
        customer: str,
        *,
        waiting: bool | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptItem]:
        """Newest first, without removed ones."""
        ...

    def waiting_items(self, tenant: str, customers: Collection[str]) -> dict[str, tuple[KeptItem, ...]]:
        """By customer, the oldest first."""
        ...

    # -- credit notes -------------------------------------------------------------------------------------------
    def add_credit_note(
        self, tenant: str, invoice: str, make: MakeNote, *, actor: Actor, now_us: int
    ) -> KeptNote:
        """With the next number; a note of kind credit gives the customer credits. Raises NotFound (invoice_not_found),
        Conflict (invoice_not_final), and what `make` does."""
        ...

    def void_credit_note(self, tenant: str, name: str, *, actor: Actor, now_us: int) -> KeptNote:
        """Takes its credits back. Idempotent. Raises NotFound (credit_note_not_found), Conflict (credit_note_spent,
        credit_note_late)."""
        ...

    def credit_note(self, tenant: str, name: str) -> KeptNote:
        """Raises NotFound (credit_note_not_found)."""
        ...

    def credit_notes(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        invoice: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptNote]:
        """Newest first."""
        ...

    def credit_notes_of(self, tenant: str, invoices: Collection[str]) -> dict[str, tuple[KeptNote, ...]]:
        """Those that are not void, by invoice, the oldest first."""
        ...

    def late_noted(
        self, tenant: str, subscriptions: Collection[str]
    ) -> tuple[tuple[str, str, str, str], ...]:
        """What notes gave back for lines that had changed: (subscription, of invoice, of line, gross below zero)."""
        ...

    # -- payments -----------------------------------------------------------------------------------------------
    def due_payments(self, now_us: int, *, limit: int) -> tuple[KeptPayment, ...]:
        """Of all tenants, the longest due first."""
        ...

    def advance_payment(
        self,
        present: KeptPayment,
        made: KeptPayment,
        *,
        actor: Actor,
        now_us: int,
    ) -> bool:
        """Compare and set: False where the payment is not as `present` any more."""
        ...

    def payment(self, tenant: str, invoice: str) -> KeptPayment | None: ...

    def payments_of(self, tenant: str, invoices: Collection[str]) -> dict[str, KeptPayment]: ...
