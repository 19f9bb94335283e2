"""`GET /v1/me`: whose key this is and what it may do. What a page asks first."""

from typing import Any

from litestar import Request, get

from tallystick.api import wire
from tallystick.api.auth import any_key, caller
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, operation
from tallystick.catalog.scopes import SCOPES

Connection = Request[Any, Any, Any]

_ME = objects(
    {
        "tenant": STRING,
        "name": {"type": "string", "description": "Of the key; of the person, after a login."},
        "customer": nullable(
            {"type": "string", "description": "Whom a portal token belongs to; null: it sees every customer."}
        ),
        "scopes": array(
            {"type": "string", "enum": [*SCOPES]}, description="What it may do; `admin` is all of it."
        ),
        "expires_at": nullable(TIME),
    }
)


@get(
    "/v1/me",
    guards=[any_key],
    opt={
        "operation": operation(
            summary="Whose key this is",
            tag="Access",
            description="Any valid key may ask, whatever its scopes.",
            answer=_ME,
            answer_example={
                "tenant": "default",
                "name": "dashboards",
                "customer": None,
                "scopes": ["usage:read"],
                "expires_at": None,
            },
        )
    },
)
async def me(request: Connection) -> dict[str, Any]:
    """The caller."""
    wire.check_parameters(request, ())
    who = caller(request)
    return {
        "tenant": who.tenant,
        "name": who.name,
        "customer": who.customer,
        "scopes": [scope for scope in SCOPES if scope in who.scopes],
        "expires_at": wire.optional_time_text(who.expires_at_us),
    }


ROUTES = [me]
