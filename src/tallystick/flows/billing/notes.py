"""Credit notes: made by a person, or for money that is due back because usage has changed; and checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick import __version__
from tallystick.billing.credit_note import Asked, asked_of, note_of, read_asked
from tallystick.billing.invoice import time_text
from tallystick.billing.kept import canonical
from tallystick.catalog.billing import KeptInvoice
from tallystick.catalog.charging import KeptNote, LateNote, MakeNote, NoteContent
from tallystick.catalog.interface import Actor
from tallystick.flows.billing.build import Built
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.system import System
from tallystick.money import ZERO, exactly, money_text, round_money


def create_note(
    system: System, tenant: str, invoice: str, raw: object, *, actor: Actor, now_us: int
) -> KeptNote:
    """Raises Invalid with every fault, NotFound (invoice_not_found), Conflict (invoice_not_final). Synchronous."""
    asked = read_asked(raw)
    return billing_of(system).add_credit_note(
        tenant, invoice, making(asked, now_us=now_us), actor=actor, now_us=now_us
    )


def making(asked: Asked, *, now_us: int) -> MakeNote:
    """What the catalog asks within its transaction, so that no two notes give the same money back."""

    def make(invoice: KeptInvoice, earlier: Sequence[KeptNote], applied: Decimal) -> NoteContent:
        frozen = json.loads(invoice.document)
        documents = [json.loads(note.document) for note in earlier]
        refundable = _refundable(frozen, documents, applied)
        document = note_of(
            frozen,
            documents,
            asked,
            invoice_id=invoice.id,
            refundable=refundable,
            at=time_text(now_us),
            program=__version__,
        )
        basis = canonical(
            {
                "asked": asked.to_wire(),
                "earlier": [note.id for note in earlier],
                "refundable": money_text(refundable),
            }
        )
        total = Decimal(json.loads(document)["total"])
        return NoteContent(asked.kind, document, basis, frozen["currency"], total)

    return make


@exactly
def _refundable(frozen: dict[str, Any], notes: Sequence[dict[str, Any]], applied: Decimal) -> Decimal:
    """What the customer paid with money, less what is refunded already."""
    refunded = sum((Decimal(note["total"]) for note in notes if note["kind"] == "refund"), ZERO)
    return round_money(max(ZERO, Decimal(frozen["total"]) - applied - refunded), frozen["currency"])


def late_notes(subscription: str, built: Built, *, now_us: int) -> tuple[LateNote, ...]:
    """The notes that go with an invoice: what has become less of earlier ones."""
    return tuple(
        LateNote(
            subscription,
            given.earlier.id,
            making(
                Asked("credit", f"Usage of {given.earlier.title} has changed", given.lines, late=True),
                now_us=now_us,
            ),
            tuple((line, money_text(round_money(amount, built.currency))) for line, amount in given.changes),
        )
        for given in built.given_back
    )


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    note: KeptNote
    document: str

    @property
    def same(self) -> bool:
        return self.note.document == self.document


def verify_note(system: System, tenant: str, name: str) -> VerifiedNote:
    """Make a note again from its invoice and the notes there were. Synchronous."""
    billing = billing_of(system)
    note = billing.credit_note(tenant, name)
    basis, frozen = json.loads(note.basis), json.loads(note.document)
    invoice = billing.invoice(tenant, note.invoice)
    earlier = [json.loads(billing.credit_note(tenant, one).document) for one in basis["earlier"]]
    document = note_of(
        json.loads(invoice.document),
        earlier,
        asked_of(basis["asked"]),
        invoice_id=invoice.id,
        refundable=Decimal(basis["refundable"]),
        at=frozen["at"],
        program=frozen["program"],
    )
    return VerifiedNote(note, document)
