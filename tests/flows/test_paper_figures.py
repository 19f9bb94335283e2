"""Figures on paper: invoices and credit notes share how they are written."""

import json
from typing import Any

import pytest
import typst

from tallystick.flows import paper
from tallystick.flows.billing import render


@pytest.mark.parametrize(
    ("figure", "groups"),
    [
        ("0", ["0"]),
        ("4510.50", ["4510.50"]),
        ("14076", ["14", "076"]),
        ("-123456.000001", ["123", "456.000001"]),
        ("1246727183", ["1", "246", "727", "183"]),
        ("12345678901234567890.5", ["12", "345", "678", "901", "234", "567", "890.5"]),
    ],
)
def test_thousands_are_set_apart_by_room_alone(figure: str, groups: list[str]) -> None:
    """Joined, the groups are the figure: nothing is rounded, and copying gives the figure itself."""
    assert "".join(groups) == figure.removeprefix("-")
    source = paper.FIGURES.read_bytes() + f'#metadata(parts("{figure}")) <groups>'.encode()
    answered: Any = json.loads(typst.query(source, "<groups>", field="value", one=True))
    assert answered == groups


def test_an_invoice_is_written_with_large_and_negative_figures() -> None:
    line = {
        "name": "Tokens",
        "group": {"model": None},
        "period": {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"},
        "quantity": "-12345678.5",
        "rounded": "-1234567.89",
    }
    document = {
        "id": "inv_1",
        "number": "INV-000001",
        "status": "finalized",
        "customer": "acme",
        "currency": "USD",
        "period": line["period"],
        "lines": [line],
        "subtotal": "-1234567.89",
        "discount": "10000.00",
        "taxes": [{"name": "VAT", "percent": "19", "amount": "0.00"}],
        "total": "-1244567.89",
        "credits_applied": "0.00",
        "amount_due": "-1244567.89",
        "plans": ["pro@1"],
        "position": "p1-1",
        "as_of": "2026-08-01T01:00:00Z",
        "finalized_at": "2026-08-01T01:00:00Z",
    }
    assert render.invoice_pdf(document, "Acme", None).startswith(b"%PDF")
