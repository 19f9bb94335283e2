"""`POST /v1/meter_preview`: a definition tried on the latest events; nothing is kept."""

from collections import Counter
from typing import Any

from litestar import Request, Response, post

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import NEW_METER, NEW_METER_EXAMPLE
from tallystick.api.openapi import STRING, array, objects, operation, query
from tallystick.api.search import contribution_document, encoded
from tallystick.flows import customers
from tallystick.flows.event_document import event_document
from tallystick.flows.preview import EVENTS_MAX, preview_meter
from tallystick.metering.definition import parse_meter
from tallystick.metering.reading import Reading

Connection = Request[Any, Any, Any]

LIMIT_DEFAULT = 50
_COUNT = {"type": "integer"}


@post(
    "/v1/meter_preview",
    guards=[require("events:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Try a definition of a meter",
            tag="Meters",
            description="What it would make of the latest events of its type, newest first: each event with its `reading`, "
            "as in look-up. Nothing is kept.",
            parameters=[
                query(
                    "limit",
                    "How many events.",
                    schema={
                        "type": "integer",
                        "minimum": 1,
                        "maximum": EVENTS_MAX,
                        "default": LIMIT_DEFAULT,
                    },
                )
            ],
            body=NEW_METER,
            body_example=NEW_METER_EXAMPLE,
            answer=objects(
                {
                    "scanned": {**_COUNT, "description": "Events that were looked at."},
                    "matched": {**_COUNT, "description": "Those that would count."},
                    "reasons": array(
                        objects({"reason": STRING, "count": _COUNT}), description="Why the others would not."
                    ),
                    "items": array(objects({"id": STRING, "source": STRING, "reading": {"type": "object"}})),
                }
            ),
        )
    },
)
async def try_meter(request: Connection) -> Response[bytes]:
    """Nothing is kept."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    fields = Fields.of_query(request)
    limit = fields.integer("limit", least=1, most=EVENTS_MAX) or LIMIT_DEFAULT
    fields.finish()
    definition = parse_meter(await wire.json_body(request))
    found = await preview_meter(system, who.tenant, definition, limit=limit)
    reasons = Counter(str(one.given.reading) for one in found if not isinstance(one.given.reading, Reading))
    return encoded(
        {
            "scanned": len(found),
            "matched": len(found) - reasons.total(),
            "reasons": [{"reason": reason, "count": count} for reason, count in reasons.most_common()],
            "items": [
                event_document(one.event) | {"reading": contribution_document(one.given)} for one in found
            ],
        }
    )


ROUTES = [try_meter]
