"""`/v1/api_keys`: who may do what."""

from typing import Any

from litestar import Request, delete, get, post

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import PAGE, STRING, TIME, array, listing, nullable, objects, operation
from tallystick.catalog.interface import SCOPES, ApiKey, NewApiKey
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]


def key_document(key: ApiKey) -> dict[str, Any]:
    """An API key on the wire, without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": list(key.scopes),
        "created_at": wire.time_text(key.created_at_us),
        "expires_at": wire.optional_time_text(key.expires_at_us),
        "revoked_at": wire.optional_time_text(key.revoked_at_us),
        "configured": key.configured,
    }


def new_key_document(made: NewApiKey) -> dict[str, Any]:
    """The one answer that shows the secret. A replay (api/idempotency.py) answers it as null."""
    return {**key_document(made.key), "secret": made.secret}


_SCOPES = array({"type": "string", "enum": list(SCOPES)})
_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": STRING,
    "name": STRING,
    "prefix": {"type": "string", "description": "How the secret begins, for telling keys apart."},
    "scopes": _SCOPES,
    "created_at": TIME,
    "expires_at": nullable(TIME),
    "revoked_at": nullable(TIME),
    "configured": {"type": "boolean", "description": "From the setting `admin_key`, and changed only there."},
}
_API_KEY = objects(_PROPERTIES)
_NEW_API_KEY = objects(
    {**_PROPERTIES, "secret": nullable({"type": "string", "description": "Shown in this answer alone."})}
)


@post(
    "/v1/api_keys",
    guards=[require("admin")],
    status_code=201,
    opt={
        "secret_members": ("secret",),
        "operation": operation(
            summary="Create an API key",
            tag="Access",
            body=objects(
                {"name": STRING, "scopes": _SCOPES, "expires_at": nullable(TIME)},
                required=("name", "scopes"),
                additionalProperties=False,
            ),
            body_example={"name": "ingest", "scopes": ["events:write"], "expires_at": None},
            answer=_NEW_API_KEY,
            status=201,
            creates=True,
        ),
    },
)
async def create_api_key(request: Connection) -> dict[str, Any]:
    """Its secret is in this answer and nowhere else."""
    system, tenant = administered(request)
    fields = await Fields.of_body(request, nulls=False)
    name = fields.required_text("name", characters_max=256)
    scopes = fields.texts("scopes", items_max=len(SCOPES))
    if scopes is None and fields.take("scopes") is None:
        fields.fault("scopes", "missing", "scopes is required: a list of what the key may do.")
    expires_at_us = fields.time_us("expires_at")
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: system.catalog.create_api_key(
            tenant, name=name, scopes=scopes or (), expires_at_us=expires_at_us, actor=actor, now_us=now_us
        ),
    )
    return new_key_document(made)


@get(
    "/v1/api_keys",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="List API keys", tag="Access", parameters=PAGE, answer=listing(_API_KEY)
        )
    },
)
async def list_api_keys(request: Connection) -> dict[str, Any]:
    """In the order of their creation, revoked ones too; never a secret."""
    system, tenant = administered(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    fields.finish()
    page = await in_questions(system, lambda: system.catalog.api_keys(tenant, cursor=cursor, limit=limit))
    return wire.page_answer(map(key_document, page.items), page.next_cursor)


@post(
    "/v1/api_keys/{id:str}/rotate",
    guards=[require("admin")],
    status_code=201,
    opt={
        "secret_members": ("secret",),
        "operation": operation(
            summary="Give an API key a new secret",
            tag="Access",
            description="The old secret stops working at once.",
            answer=_NEW_API_KEY,
            status=201,
            creates=True,
        ),
    },
)
async def rotate_api_key(request: Connection) -> dict[str, Any]:
    """A new secret under the same id."""
    system, tenant = administered(request)
    key_id: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system, lambda: system.catalog.rotate_api_key(tenant, key_id, actor=actor, now_us=now_us)
    )
    return new_key_document(made)


@delete(
    "/v1/api_keys/{id:str}",
    guards=[require("admin")],
    status_code=204,
    opt={"operation": operation(summary="Revoke an API key", tag="Access", status=204, errors=(409,))},
)
async def revoke_api_key(request: Connection) -> None:
    """It stops working within a second, everywhere. Idempotent."""
    system, tenant = administered(request)
    key_id: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system, lambda: system.catalog.revoke_api_key(tenant, key_id, actor=actor, now_us=now_us)
    )


ROUTES = [create_api_key, list_api_keys, rotate_api_key, revoke_api_key]
