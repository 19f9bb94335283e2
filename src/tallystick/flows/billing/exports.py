"""All invoices of some time for other systems: as FOCUS rows, and as a bookkeeper's journal. Synchronous, from threads."""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal

from tallystick.billing.focus import Billed, focus_note_rows, focus_rows, table
from tallystick.billing.journal import note_postings, postings
from tallystick.billing.kept import plan_of
from tallystick.catalog.billing import InvoiceSearch, KeptInvoice
from tallystick.catalog.charging import KeptNote
from tallystick.catalog.credit_notes import note_number
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.paying import paid
from tallystick.flows.billing.prepare import number_of
from tallystick.flows.system import System
from tallystick.metering.instant import instant_text
from tallystick.money import ZERO

_PAGE = 500
Row = tuple[str, ...]
Meters = dict[tuple[str, int, str], tuple[str, str | None]]


def pages(system: System, tenant: str, from_us: int, to_us: int) -> Iterator[list[KeptInvoice]]:
    """Invoices whose period ends within (from_us, to_us] and that have a number, void ones too; newest first."""
    cursor: str | None = None
    while True:
        page = billing_of(system).invoices(tenant, InvoiceSearch(), cursor=cursor, limit=_PAGE)
        yield [one for one in page.items if one.finalized_at_us is not None and from_us < one.to_us <= to_us]
        cursor = page.next_cursor
        if cursor is None:
            return


def focus(system: System, tenant: str, from_us: int, to_us: int, *, issuer: str) -> Iterator[list[Row]]:
    """The rows of finalized invoices, page by page; void ones cost nothing and have none."""
    meters: Meters = {}
    names: dict[str, str] = {}
    for page in pages(system, tenant, from_us, to_us):
        # Credits that are bought are no cost here: what they pay for is.
        ones = [
            (one, json.loads(one.document))
            for one in page
            if one.status == "finalized" and one.kind != "top_up"
        ]
        places = {(line["plan"], line["version"]) for _, frozen in ones for line in frozen["lines"]}
        _learn(system, tenant, places, meters)
        made: list[Row] = []
        for one, frozen in ones:
            if one.customer not in names:
                names[one.customer] = system.catalog.customer(tenant, one.customer).name
            billed = Billed(one.id, number_of(one), names[one.customer], frozen, meters)
            made += table(focus_rows(billed, issuer=issuer))
        yield made
    for notes in _notes(system, tenant, from_us, to_us):
        rows: list[Row] = []
        for note in notes:
            if note.status == "void":
                continue
            invoice = billing_of(system).invoice(tenant, note.invoice)
            name = names.get(note.customer) or system.catalog.customer(tenant, note.customer).name
            noted = Billed(note.id, note_number(note.sequence), name, json.loads(note.document), {})
            period = json.loads(invoice.document)["period"]
            rows += table(focus_note_rows(noted, invoice=invoice.id, period=period, issuer=issuer))
        yield rows


def journal(system: System, tenant: str, from_us: int, to_us: int) -> Iterator[list[Row]]:
    """The postings of invoices with a number, page by page; void ones with the entry that undoes them."""
    for page in pages(system, tenant, from_us, to_us):
        applied = paid(system, tenant, [one.id for one in page])
        yield [row for one in page for row in _posted(one, applied.get(one.id, ZERO))]
    for notes in _notes(system, tenant, from_us, to_us):
        yield [
            posting.cells()
            for note in notes
            for posting in note_postings(
                json.loads(note.document),
                number=note_number(note.sequence),
                created_at=instant_text(note.created_at_us),
                voided_at=None if note.voided_at_us is None else instant_text(note.voided_at_us),
            )
        ]


def _notes(system: System, tenant: str, from_us: int, to_us: int) -> Iterator[list[KeptNote]]:
    """Credit notes made within (from_us, to_us], void ones too; newest first."""
    cursor: str | None = None
    while True:
        page = billing_of(system).credit_notes(tenant, cursor=cursor, limit=_PAGE)
        yield [one for one in page.items if from_us < one.created_at_us <= to_us]
        cursor = page.next_cursor
        if cursor is None:
            return


def _posted(one: KeptInvoice, applied: Decimal) -> Sequence[Row]:
    assert one.finalized_at_us is not None  # `pages` leaves out the others
    made = postings(
        json.loads(one.document),
        number=number_of(one) or one.id,
        finalized_at=instant_text(one.finalized_at_us),
        credits_applied=applied,
        voided_at=None if one.voided_at_us is None else instant_text(one.voided_at_us),
    )
    return [posting.cells() for posting in made]


def _learn(system: System, tenant: str, places: set[tuple[str, int]], meters: Meters) -> None:
    units = {
        meter.key: meter.unit for meter in system.catalog.meters(tenant, archived=True, limit=1000).items
    }
    for (key, version), kept in billing_of(system).plans_by_version(tenant, places).items():
        for charge in plan_of(kept.content).every_charge():
            if charge.meter is not None:
                meters[key, version, charge.key] = (charge.meter, units.get(charge.meter))
