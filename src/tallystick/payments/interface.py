"""Where finalized invoices go: systems that collect money, and books that record it. One interface for both.

Owns: how an invoice looks to that system. Does not own: what an invoice says (billing), when it is sent (flows).
Sending twice is sending once: every call names the invoice, and a receiver makes nothing new of one it knows. All calls
are synchronous, from threads; they raise errors.Unavailable when the other side does not answer (send again later), and
errors.Invalid (code payment_refused) when it will not have it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A finalized invoice. `document`: the frozen one; `account`: the customer's id in the other system."""

    id: str
    number: str
    account: str
    finalized_at: str
    document: Mapping[str, Any]
    credits_applied: Decimal
    voided_at: str | None = None
    charge: bool = False
    """Taken from the customer's stored means of payment now, rather than asked for."""
    again: bool = False
    """It may have been sent before, whatever became of it."""
    attempt: str = "1"
    """Another one for each time it is sent."""
    external_id: str | None = None
    """What it became over there the last time."""

    @property
    def currency(self) -> str:
        return self.document["currency"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the other system made of it. `status` in its words; `url`: where the customer can pay."""

    external_id: str
    status: str
    url: str | None = None
    detail: str | None = None
    """Why it is refused: with status refused."""


class InvoiceReceiver(Protocol):
    """See above."""

    def send(self, invoice: Outgoing) -> Sent: ...

    def look(self, invoice: Outgoing, external_id: str) -> Sent | None:
        """How it stands with one that was sent; None: nothing will become of it over there (books)."""
        ...

    def void(self, invoice: Outgoing, external_id: str) -> Sent:
        """Of one that was sent. Idempotent. One that is paid already stays so: status paid."""
        ...
