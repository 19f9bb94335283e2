"""`POST /ingest`, and the root, where LiteLLM's callback sends to."""

from typing import Any

import msgspec
from litestar import Request, Response, post

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.amberflo.records import Translated, translated
from tallystick.api.compat.amberflo.shape import BASE, operation_of
from tallystick.api.openapi import STRING, array, objects, query
from tallystick.errors import BadRequest
from tallystick.flows.correct import correct
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

SHOWN_FAULTS_MAX = 5
REASON = "amberflo: aflo.cancel_previous_resource_event"

_NUMBER = {"type": ["number", "string"]}
_RECORD = objects(
    {
        "uniqueId": STRING,
        "meterApiName": STRING,
        "meterValue": _NUMBER,
        "values": {"type": "object", "description": "Values by meter, in the place of one."},
        "customerId": STRING,
        "meterTimeInMillis": {"type": "integer"},
        "dimensions": {"type": "object"},
    },
    required=("meterTimeInMillis",),
)
_EXAMPLE = {
    "uniqueId": "u-1",
    "meterApiName": "api_calls",
    "meterValue": 1.5,
    "customerId": "acme",
    "meterTimeInMillis": 1_784_116_800_000,
    "dimensions": {"region": "eu"},
}
_OPERATION = operation_of(
    summary="Send meter records (Amberflo)",
    description="Answered once every record is durable. A record that equals one before in every attribute is counted "
    "once. Records that are none are refused with 400, which says how many of the others were stored.",
    parameters=[
        query("schemaDetection", "AUTO, as `send_custom` says it: records of the usual form are understood."),
        query("ingestSchemaId", "Refused: there are no schemas of your own here."),
    ],
    body_types={
        "application/json": {"schema": {"oneOf": [_RECORD, array(_RECORD)]}, "example": [_EXAMPLE]},
        "application/x-ndjson": {"schema": STRING},
        "text/csv": {"schema": STRING},
    },
    answer_types={"text/plain": {"schema": STRING, "example": "1 records were ingested"}},
    errors=(408, 507),
)


@post(
    [BASE, f"{BASE}/ingest"],
    guards=[require("events:write")],
    status_code=200,
    opt={"operation": _OPERATION},
)
async def ingest(request: Connection) -> Response[str]:
    """What is right is stored, whatever stands beside it: Amberflo's clients throw a refused batch away, and to send it
    again is safe."""
    system, who = wire.system_of(request), caller(request)
    body = await taking.body_of(request)
    if "ingestSchemaId" in request.query_params:
        raise BadRequest(
            "There are no ingest schemas here. `tallystick ingest` maps files of any form by a YAML."
        )
    content_type = request.headers.get("content-type", "")
    settings = system.settings
    made = await in_questions(
        system,
        lambda: translated(
            body,
            content_type,
            bytes_max=settings.body_bytes_max,
            records_max=settings.events_per_request_max,
        ),
    )
    if not made.count:
        raise BadRequest("The request has no records.", code="no_events")
    if made.events:
        decoded = await taking.judged(
            request,
            msgspec.json.encode(made.events),
            content_type="application/cloudevents-batch+json",
        )
        made.refused.update({made.of[one.index]: one.detail for one in decoded.rejected})
        if decoded.events:
            await taking.stored(request, decoded)
    if made.retract:
        await correct(
            system,
            who.tenant,
            reason=REASON,
            actor=actor_of(request),
            retract=made.retract,
            replacements=None,
        )
    if made.refused:
        raise BadRequest(_refusal(made), code="nothing_accepted")
    return Response(f"{made.count} records were ingested", status_code=200, media_type="text/plain")


def _refusal(made: Translated) -> str:
    shown = "; ".join(
        f"record {number}: {detail}" for number, detail in sorted(made.refused.items())[:SHOWN_FAULTS_MAX]
    )
    return (
        f"{len(made.refused)} of {made.count} records were refused, "
        f"{made.count - len(made.refused)} records were ingested: {shown}"
    )


ROUTES = [ingest]
