"""`POST /api/v1/events`; listed.py lists them.

An event is ours: identity is its source and id, and the first one stays. OpenMeter stores what comes before a bad event
of a batch; here a batch with a bad event stores nothing, so that it may be mended and sent again.
"""

from typing import Any

import msgspec
from litestar import Request, post

from tallystick.api.auth import require
from tallystick.api.compat import taking
from tallystick.api.compat.openmeter.shape import BASE, operation_of
from tallystick.api.ingest import ce_headers_of
from tallystick.api.openapi import EVENT, EVENT_EXAMPLE, array
from tallystick.errors import BadRequest, Fault

Connection = Request[Any, Any, Any]

LIMIT_MAX = 100
SHOWN_FAULTS_MAX = 5

_sources = msgspec.json.Decoder(list[dict[str, msgspec.Raw]] | dict[str, msgspec.Raw])


@post(
    f"{BASE}/v1/events",
    guards=[require("events:write")],
    status_code=204,
    opt={
        "operation": operation_of(
            summary="Send events (OpenMeter)",
            description="Answered once every event is durable. One bad event: nothing of the request is stored.",
            body_types={
                "application/cloudevents+json": {"schema": EVENT, "example": EVENT_EXAMPLE},
                "application/cloudevents-batch+json": {"schema": array(EVENT), "example": [EVENT_EXAMPLE]},
                "application/json": {"schema": {"oneOf": [EVENT, array(EVENT)]}, "example": EVENT_EXAMPLE},
            },
            status=204,
            errors=(408, 507),
        )
    },
)
async def ingest_events(request: Connection) -> None:
    """CloudEvents: structured, batch, plain JSON, and binary mode."""
    body = await taking.body_of(request)
    headers = dict(request.scope["headers"])
    ce_headers = ce_headers_of(headers)
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    decoded = await taking.judged(request, body, content_type=content_type, ce_headers=ce_headers)
    faults = [Fault(f"/{one.index}", one.code, one.detail) for one in decoded.rejected]
    faults += _without_source(decoded.events.source, body, ce_headers)
    if faults:
        shown = " ".join(fault.detail for fault in faults[:SHOWN_FAULTS_MAX])
        raise BadRequest(f"invalid event: {shown}", faults=faults)
    await taking.stored(request, decoded)


def _without_source(sources: list[str], body: bytes, ce_headers: dict[str, str]) -> list[Fault]:
    """OpenMeter needs the source, which we do without."""
    if "/" not in sources:
        return []
    if ce_headers:
        missing = [] if "ce-source" in ce_headers else [0]
    else:
        found = _sources.decode(body)
        events = found if isinstance(found, list) else [found]
        missing = [index for index, event in enumerate(events) if "source" not in event]
    return [Fault(f"/{index}", "missing_source", "`source` is missing.") for index in missing]


ROUTES = [ingest_events]
