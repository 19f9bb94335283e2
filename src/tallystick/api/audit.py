"""`/v1/audit`: who changed what, when, from where. Append-only; searched, and exported as a stream."""

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, cast

import msgspec
from litestar import Request, get
from litestar.response import Stream

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import PAGE, STRING, TIME, listing, nullable, objects, operation, query
from tallystick.catalog.interface import LIMIT_MAX, AuditRow, AuditSearch
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

FORMATS = {"ndjson": "application/x-ndjson", "csv": "text/csv; header=present"}


_MOMENT = re.compile(r"(?:.*_)?(?:at|until|from|to|boundary)_us\Z")
_OF_USERS = ("traits", "external_ids", "metadata")


def _spelled(kept: Any) -> Any:
    """What the catalog keeps of a thing, with its moments as the contract spells them; what users put in stays."""
    if not isinstance(kept, Mapping):
        return kept
    spelled: dict[str, Any] = {}
    for name, value in cast("Mapping[str, Any]", kept).items():
        if _MOMENT.match(name) and (value is None or type(value) is int):
            spelled[name.removesuffix("_us")] = wire.optional_time_text(value)
        else:
            spelled[name] = value if name in _OF_USERS else _spelled(value)
    return spelled


def audit_document(row: AuditRow) -> dict[str, Any]:
    """One change on the wire."""
    return {
        "id": str(row.id),
        "at": wire.time_text(row.at_us),
        "actor": row.actor,
        "key_id": row.key_id,
        "action": row.action,
        "resource": row.resource,
        "before": _spelled(row.before),
        "after": _spelled(row.after),
        "request_id": row.request_id,
        "address": row.address,
    }


_OBJECT = nullable({"type": "object"})
_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": STRING,
    "at": TIME,
    "actor": {"type": "string", "description": "The key's name, or `system`."},
    "key_id": nullable(STRING),
    "action": {"type": "string", "description": "Such as `customer.change`."},
    "resource": {"type": "string", "description": "Such as `customer/acme`."},
    "before": _OBJECT,
    "after": _OBJECT,
    "request_id": nullable(STRING),
    "address": nullable({"type": "string", "description": "The network address the request came from."}),
}
_AUDIT_ROW = objects(_PROPERTIES)
_SEARCH = [
    query("actor", "A key's name or id."),
    query("action", "The action; with `*` at the end, all that begin so.", example="customer.*"),
    query("resource", "The resource; with `*` at the end, all that begin so.", example="customer/acme"),
    query("request_id", "The request a change came with."),
    query("from", "Inclusive.", schema=TIME),
    query("to", "Exclusive.", schema=TIME),
    query("q", "Text anywhere in a row, whatever its capital letters."),
]


def _searched(fields: Fields) -> AuditSearch:
    search = AuditSearch(
        actor=fields.text("actor"),
        action=fields.text("action"),
        resource=fields.text("resource"),
        request_id=fields.text("request_id"),
        from_us=fields.time_us("from"),
        to_us=fields.time_us("to"),
        text=fields.part("q"),
    )
    if search.from_us is not None and search.to_us is not None and search.from_us >= search.to_us:
        fields.fault("to", "empty_range", "The range [from, to) is empty: from must be earlier than to.")
    return search


@get(
    "/v1/audit",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Who changed what",
            tag="Access",
            description="Every change of configuration or access, and every correction and export; newest first. Secrets "
            "never stand in it.",
            parameters=[*_SEARCH, *PAGE],
            answer=listing(_AUDIT_ROW),
        )
    },
)
async def list_audit(request: Connection) -> dict[str, Any]:
    """Newest first."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    search = _searched(fields)
    fields.finish()
    page = await in_questions(
        system, lambda: system.catalog.audit(tenant, search, cursor=cursor, limit=limit)
    )
    return wire.page_answer(map(audit_document, page.items), page.next_cursor)


@get(
    "/v1/audit/export",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Export the audit",
            tag="Access",
            description="All rows that match, newest first, as a stream. The export leaves a row itself.",
            parameters=[
                *_SEARCH,
                query(
                    "format",
                    "How rows are written; in CSV `before` and `after` are JSON.",
                    schema={"type": "string", "enum": list(FORMATS), "default": "ndjson"},
                ),
            ],
            answer_types={media.partition(";")[0]: {} for media in FORMATS.values()},
        )
    },
)
async def export_audit(request: Connection) -> Stream:
    """A stream of changes."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    form = fields.choice("format", tuple(FORMATS)) or "ndjson"
    search = _searched(fields)
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system, lambda: system.catalog.note(tenant, "audit.export", "audit", actor=actor, now_us=now_us)
    )
    write = _csv_rows if form == "csv" else _ndjson_rows
    return Stream(
        _pieces(system, tenant, search, write, header=form == "csv"),
        media_type=FORMATS[form],
        status_code=200,
    )


async def _pieces(
    system: System,
    tenant: str,
    search: AuditSearch,
    write: Callable[[list[dict[str, Any]]], bytes],
    *,
    header: bool,
) -> AsyncIterator[bytes]:
    if header:
        yield (",".join(_PROPERTIES) + "\r\n").encode()
    cursor: str | None = None
    while True:
        page = await in_questions(
            system, partial(system.catalog.audit, tenant, search, cursor=cursor, limit=LIMIT_MAX)
        )
        if page.items:
            yield write([audit_document(row) for row in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return


def _ndjson_rows(rows: list[dict[str, Any]]) -> bytes:
    return msgspec.json.Encoder().encode_lines(rows)


def _csv_rows(rows: list[dict[str, Any]]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    for row in rows:
        writer.writerow(
            "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for value in row.values()
        )
    return sink.getvalue().encode()


ROUTES = [list_audit, export_audit]
