"""An invoice as a file: CSV, PDF. Made from the document that the API answers, so that they cannot say other things."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.catalog.billing import KeptInvoice
from tallystick.flows.billing.prepare import number_of
from tallystick.flows.paper import source

_TEMPLATE = Path(__file__).with_name("invoice.typ")
_NOTE_TEMPLATE = Path(__file__).with_name("credit_note.typ")
_LINE_COLUMNS = ("id", "kind", "charge", "name", "quantity", "amount", "rounded")


def invoice_csv(document: Mapping[str, Any]) -> str:
    """A row a line, the invoice's number, customer and currency in each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(
        ["invoice", "number", "status", "customer", "currency", "line", *_LINE_COLUMNS[1:], "from", "to"]
    )
    for line in document["lines"]:
        writer.writerow(
            [
                document["id"],
                document["number"] or "",
                document["status"],
                _cell(document["customer"]),
                document["currency"],
                *(_cell(str(line[name])) if name == "name" else line[name] for name in _LINE_COLUMNS),
                line["period"]["from"],
                line["period"]["to"],
            ]
        )
    return text.getvalue()


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def invoice_pdf(document: Mapping[str, Any], name: str, email: str | None) -> bytes:
    """One or more A4 pages. Texts go in as data, so nothing in them is read as markup."""
    import typst  # half a second that a start without invoices need not wait

    data = {**document, "customer_name": name, "customer_email": email or ""}
    return typst.compile(source(_TEMPLATE), sys_inputs={"invoice": json.dumps(data)})


def credit_note_csv(document: Mapping[str, Any]) -> str:
    """A row a line and tax; amounts are what is given back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(
        ["credit_note", "number", "status", "invoice", "customer", "currency", "line", "name", "amount"]
    )
    head = [document[name] for name in ("id", "number", "status", "invoice", "customer", "currency")]
    head[4] = _cell(head[4])
    for line in document["lines"]:
        writer.writerow([*head, line["line"], _cell(line["name"]), line["amount"]])
    for tax in document["taxes"]:
        writer.writerow([*head, "", _cell(f"{tax['name']} {tax['percent']} %"), tax["amount"]])
    return text.getvalue()


def credit_note_pdf(document: Mapping[str, Any], name: str, email: str | None, invoice: KeptInvoice) -> bytes:
    """As `invoice_pdf`."""
    import typst  # see above

    data = {
        **document,
        "customer_name": name,
        "customer_email": email or "",
        "invoice_number": number_of(invoice) or invoice.id,
    }
    return typst.compile(source(_NOTE_TEMPLATE), sys_inputs={"note": json.dumps(data)})
