"""Credit notes: numbered without gaps, frozen, and what they give the customer in the same transaction."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from tallystick.billing.grant import CreditUnit, Grant, Source
from tallystick.catalog import billing_tables
from tallystick.catalog.billing import KeptInvoice
from tallystick.catalog.billing_events import tell_note
from tallystick.catalog.charging import KeptNote, LateNote, MakeNote
from tallystick.catalog.credit_ledger import grant_within, paid_under, void_within
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Change, Database, among
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.invoice_rows import read_invoice
from tallystick.catalog.secret import new_id
from tallystick.errors import Conflict, NotFound
from tallystick.money import ZERO, money_text

_table = billing_tables.credit_notes
_column = _table.c
_late = billing_tables.late_notes


class CreditNotes:
    """The part of the catalog that keeps credit notes."""

    _database: Database

    def add_credit_note(
        self, tenant: str, invoice: str, make: MakeNote, *, actor: Actor, now_us: int
    ) -> KeptNote:
        with self._database.changing(actor, now_us) as change:
            return issue(change, read_invoice(change.connection, tenant, invoice), make)

    def void_credit_note(self, tenant: str, name: str, *, actor: Actor, now_us: int) -> KeptNote:
        with self._database.changing(actor, now_us) as change:
            connection = change.connection
            present = _get(connection, tenant, name)
            if present.status == "void":
                return present
            of_changes = select(_late.c.number).where(_late.c.tenant == tenant, _late.c.note == name)
            if connection.execute(of_changes.limit(1)).one_or_none() is not None:
                detail = "The note gives back what usage has become less by; it cannot be void."
                raise Conflict(detail, code="credit_note_late")
            if present.grant is not None and not void_within(
                connection, tenant, present.customer, present.grant, now_us=now_us
            ):
                detail = "Some of the credits that the note gave are spent or gone already."
                raise Conflict(detail, code="credit_note_spent")
            here = (_column.tenant == tenant, _column.id == name)
            connection.execute(update(_table).where(*here).values(status="void", voided_at_us=now_us))
            change.record((), tenant, "credit_note.void", f"credit_note/{name}")
            made = _get(connection, tenant, name)
            tell_note(connection, made, "voided", now_us=now_us)
            return made

    def credit_note(self, tenant: str, name: str) -> KeptNote:
        with self._database.reading() as connection:
            return _get(connection, tenant, name)

    def credit_notes(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        invoice: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptNote]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.number.desc())
        before = number_of(cursor, "credit_notes")
        if before is not None:
            query = query.where(_column.number < before)
        if invoice is not None:
            query = query.where(_column.invoice == invoice)
        with self._database.reading() as connection:
            if customers is not None:
                query = query.where(among(connection, _column.customer, customers))
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_note, found[:limit])),
            cursor_of("credit_notes", found[limit - 1].number) if more else None,
        )

    def credit_notes_of(self, tenant: str, invoices: Collection[str]) -> dict[str, tuple[KeptNote, ...]]:
        with self._database.reading() as connection:
            return issued(connection, tenant, invoices)

    def late_noted(
        self, tenant: str, subscriptions: Collection[str]
    ) -> tuple[tuple[str, str, str, str], ...]:
        with self._database.reading() as connection:
            query = select(_late).where(
                _late.c.tenant == tenant, among(connection, _late.c.subscription, subscriptions)
            )
            return tuple(
                (row.subscription, row.of_invoice, row.of_line, row.amount)
                for row in connection.execute(query.order_by(_late.c.number))
            )


# -- within a transaction -------------------------------------------------------------------------------------------
def issued(connection: Connection, tenant: str, invoices: Collection[str]) -> dict[str, tuple[KeptNote, ...]]:
    """Notes that are not void, by invoice, the oldest first."""
    made: dict[str, list[KeptNote]] = {}
    query = select(_table).where(
        _column.tenant == tenant,
        _column.status == "issued",
        among(connection, _column.invoice, invoices),
    )
    for note in map(_note, connection.execute(query.order_by(_column.number))):
        made.setdefault(note.invoice, []).append(note)
    return {invoice: tuple(notes) for invoice, notes in made.items()}


def issue(change: Change, invoice: KeptInvoice, make: MakeNote) -> KeptNote:
    """Make a note: its number is given in this transaction, where changes are one at a time, so there are no gaps."""
    if invoice.status != "finalized":
        detail = f"The invoice is {invoice.status}: only a finalized one can be credited."
        raise Conflict(detail, code="invoice_not_final")
    if invoice.kind == "top_up":
        detail = "The invoice is of credits: make them void, or the invoice as long as none of them is spent."
        raise Conflict(detail, code="invoice_of_credits")
    connection, tenant, now_us = change.connection, invoice.tenant, change.now_us
    there = issued(connection, tenant, [invoice.id]).get(invoice.id, ())
    applied = paid_under(connection, tenant, [invoice.id]).get(invoice.id, ZERO)
    content = make(invoice, there, applied)
    last = connection.execute(select(func.max(_column.sequence)).where(_column.tenant == tenant)).scalar_one()
    sequence = (last or 0) + 1
    grant: Grant | None = None
    if content.kind == "credit" and content.total > 0:
        grant = Grant(
            id=new_id("credit"),
            customer=invoice.customer,
            unit=CreditUnit(currency=content.currency),
            amount=content.total,
            effective_us=now_us,
            created_us=now_us,
            source=Source.PREPAID,
            name=f"Credit note {note_number(sequence)}",
        )
        grant_within(connection, tenant, grant, now_us=now_us)
    made = KeptNote(
        tenant=tenant,
        id=new_id("cn"),
        sequence=sequence,
        invoice=invoice.id,
        customer=invoice.customer,
        kind=content.kind,
        status="issued",
        document=content.document,
        basis=content.basis,
        created_at_us=now_us,
        grant=None if grant is None else grant.id,
    )
    connection.execute(insert(_table), _values(made))
    change.record(
        (),
        tenant,
        "credit_note.create",
        f"credit_note/{made.id}",
        after={"invoice": invoice.id, "sequence": sequence, "total": money_text(content.total)},
    )
    tell_note(connection, made, "created", now_us=now_us)
    return made


def issue_late(change: Change, invoice: KeptInvoice, late: LateNote) -> KeptNote:
    """A note for what has changed, and what of which line it is for."""
    made = issue(change, invoice, late.make)
    rows = [
        {
            "tenant": invoice.tenant,
            "subscription": late.subscription,
            "note": made.id,
            "of_invoice": invoice.id,
            "of_line": line,
            "amount": amount,
        }
        for line, amount in late.changes
    ]
    change.connection.execute(insert(_late), rows)
    return made


def note_number(sequence: int) -> str:
    """`CN-000001`."""
    return f"CN-{sequence:06d}"


def _get(connection: Connection, tenant: str, name: str) -> KeptNote:
    row = connection.execute(select(_table).where(_column.tenant == tenant, _column.id == name)).one_or_none()
    if row is None:
        detail = f"There is no credit note {name[:80]!r}. GET /v1/credit_notes lists them."
        raise NotFound(detail, code="credit_note_not_found")
    return _note(row)


def _note(row: Row[Any]) -> KeptNote:
    return KeptNote(
        row.tenant,
        row.id,
        row.sequence,
        row.invoice,
        row.customer,
        row.kind,
        row.status,
        row.document,
        row.basis,
        row.created_at_us,
        row.grant,
        row.voided_at_us,
    )


def _values(one: KeptNote) -> dict[str, Any]:
    return {
        "tenant": one.tenant,
        "id": one.id,
        "sequence": one.sequence,
        "invoice": one.invoice,
        "customer": one.customer,
        "kind": one.kind,
        "status": one.status,
        "document": one.document,
        "basis": one.basis,
        "grant": one.grant,
        "created_at_us": one.created_at_us,
        "voided_at_us": one.voided_at_us,
    }
