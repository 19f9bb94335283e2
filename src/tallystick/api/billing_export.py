"""`GET /v1/billing/export`: invoices for other systems, as CSV."""

import csv
import io
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Any

from litestar import Request, get
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import TIME, operation, query
from tallystick.billing import focus, journal
from tallystick.flows import customers
from tallystick.flows.billing import exports
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
FORMATS = ("focus", "journal")
ISSUER_DEFAULT = "Tallystick"


@get(
    "/v1/billing/export",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Invoices for other systems",
            tag="Invoices",
            description="Invoices whose period ends within (`from`, `to`] and that are finalized. `focus`: FOCUS 1.0, a row for each "
            "line, discount and tax. `journal`: debit and credit, in balance for each entry; credits that paid, and voiding.",
            parameters=[
                query(
                    "format",
                    "What to write.",
                    schema={"type": "string", "enum": list(FORMATS)},
                    required=True,
                ),
                query("from", "Default: everything.", schema=TIME),
                query("to", "Default: now.", schema=TIME),
                query("issuer", f"Who sends the invoices (FOCUS); default {ISSUER_DEFAULT}."),
            ],
            answer_types={"text/csv": {"schema": {"type": "string"}}},
        )
    },
)
async def export_billing(request: Connection) -> Stream:
    """Streamed page by page."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    fields = Fields.of_query(request)
    kind = fields.choice("format", FORMATS)
    if kind is None and not fields.faults.found:
        fields.fault("format", "missing", f"format is required: {' or '.join(FORMATS)}.")
    from_us, to_us = fields.time_us("from"), fields.time_us("to")
    issuer = fields.text("issuer", characters_max=256) or ISSUER_DEFAULT
    fields.finish()
    begin_us = 0 if from_us is None else from_us
    end_us = system.clock.now_us() if to_us is None else to_us
    if kind == "focus":
        rows = exports.focus(system, who.tenant, begin_us, end_us, issuer=issuer)
        head: Sequence[str] = focus.COLUMNS
    else:
        rows = exports.journal(system, who.tenant, begin_us, end_us)
        head = journal.COLUMNS
    return Stream(_written(system, head, rows), media_type="text/csv")


async def _written(
    system: System, head: Sequence[str], pages: Iterator[list[tuple[str, ...]]]
) -> AsyncGenerator[bytes]:
    yield _csv([head])
    while (page := await in_questions(system, lambda: next(pages, None))) is not None:
        if page:
            yield _csv(page)


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula; numbers stay numbers."""
    if text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and not text[1:2].isdigit()):
        return "'" + text
    return text


ROUTES: Sequence[ControllerRouterHandler] = (export_billing,)
