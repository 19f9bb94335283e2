"""`/v1/api_keys`: who may do what."""

from typing import Any

from litestar import Request, Response, delete, get, patch, post
from msgspec import UNSET

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, forget_keys, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, etag_of, listed_in
from tallystick.api.openapi import PAGE, STRING, TIME, array, listing, nullable, objects, operation
from tallystick.catalog.interface import ApiKey, ApiKeyChange, NewApiKey
from tallystick.catalog.scopes import GRANTABLE, check_key
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
        "last_used_at": wire.optional_time_text(key.last_used_at_us),
        "previous_secret_until": wire.optional_time_text(key.previous_until_us),
    }


def key_etag_document(key: ApiKey) -> dict[str, Any]:
    """What its ETag is made of: using a key does not change it."""
    document = key_document(key)
    del document["last_used_at"]
    return document


def new_key_document(made: NewApiKey) -> dict[str, Any]:
    """The one answer that shows the secret. A replay (api/idempotency.py) answers it as null."""
    return {**key_document(made.key), "secret": made.secret}


OVERLAP_S_MAX = 7 * 24 * 3600

_SCOPES = array(
    {"type": "string", "enum": list(GRANTABLE)},
    description="`customers:*` is every scope of customers; `admin` is all there are.",
)
_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": STRING,
    "name": STRING,
    "prefix": {"type": "string", "description": "How the secret begins, for telling keys apart."},
    "scopes": _SCOPES,
    "created_at": TIME,
    "expires_at": nullable(TIME),
    "revoked_at": nullable(TIME),
    "configured": {"type": "boolean", "description": "From the setting `admin_key`, and changed only there."},
    "last_used_at": nullable({**TIME, "description": "To within a minute."}),
    "previous_secret_until": nullable(
        {**TIME, "description": "How long the secret before the last rotation is good."}
    ),
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
async def create_api_key(request: Connection) -> Response[dict[str, Any]]:
    """Its secret is in this answer and nowhere else."""
    system, tenant = administered(request)
    fields = await Fields.of_body(request, nulls=False)
    name = fields.required_text("name", characters_max=256)
    scopes = fields.texts("scopes", items_max=len(GRANTABLE))
    if scopes is None and fields.take("scopes") is None:
        fields.fault("scopes", "missing", "scopes is required: a list of what the key may do.")
    expires_at_us = fields.time_us("expires_at")
    actor, now_us = actor_of(request), system.clock.now_us()
    fields.finish(lambda: check_key(name, scopes or (), expires_at_us, now_us))
    made = await in_questions(
        system,
        lambda: system.catalog.create_api_key(
            tenant, name=name, scopes=scopes or (), expires_at_us=expires_at_us, actor=actor, now_us=now_us
        ),
    )
    return Response(
        new_key_document(made),
        status_code=201,
        headers={"Location": f"/v1/api_keys/{made.key.id}", "ETag": etag_of(key_etag_document(made.key))},
    )


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


@get(
    "/v1/api_keys/{id:str}",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Read an API key",
            tag="Access",
            answer=_API_KEY,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_api_key(request: Connection) -> Response[Any]:
    """One key, revoked ones too; never its secret."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    key_id: str = request.path_params["id"]
    key = await in_questions(system, lambda: system.catalog.api_key(tenant, key_id))
    etag = etag_of(key_etag_document(key))
    if listed_in(request.headers.get("if-none-match"), etag):
        return Response(None, status_code=304, headers={"ETag": etag})
    return Response(key_document(key), headers={"ETag": etag})


@patch(
    "/v1/api_keys/{id:str}",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Change an API key",
            tag="Access",
            description="The members given replace the present ones. It holds within a second, everywhere.",
            body=objects(
                {"name": STRING, "scopes": _SCOPES, "expires_at": nullable(TIME)},
                required=(),
                additionalProperties=False,
            ),
            body_example={"scopes": ["events:write", "events:read"]},
            answer=_API_KEY,
            errors=(409, 412),
        )
    },
)
async def change_api_key(request: Connection) -> Response[dict[str, Any]]:
    """Its name, its scopes, its end."""
    system, tenant = administered(request)
    fields = await Fields.of_body(request)
    fields.know("name", "scopes", "expires_at")
    present_names = set(fields.names()) & {"name", "scopes", "expires_at"}
    given = {name for name in present_names if name == "expires_at" or fields.take(name) is not None}
    change = ApiKeyChange(
        name=(fields.text("name", characters_max=256) or "") if "name" in given else UNSET,
        scopes=(fields.texts("scopes", items_max=len(GRANTABLE)) or ()) if "scopes" in given else UNSET,
        expires_at_us=fields.time_us("expires_at") if "expires_at" in given else UNSET,
    )
    for name in ("name", "scopes"):
        if name in present_names - given:
            fields.fault(name, "invalid_value", f"{name} cannot be null; leave it out to keep it.")
    fields.finish()
    key_id: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: system.catalog.change_api_key(
            tenant,
            key_id,
            change,
            expected=lambda present: check_if_match(request, key_etag_document(present)),
            actor=actor,
            now_us=now_us,
        ),
    )
    forget_keys(request)
    return Response(key_document(changed), headers={"ETag": etag_of(key_etag_document(changed))})


@post(
    "/v1/api_keys/{id:str}/rotate",
    guards=[require("admin")],
    status_code=201,
    opt={
        "secret_members": ("secret",),
        "operation": operation(
            summary="Give an API key a new secret",
            tag="Access",
            description="The old secret goes on for `overlap_seconds`, by default not at all; the one before it stops at "
            "once. The body may be left out.",
            body=objects(
                {
                    "overlap_seconds": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": OVERLAP_S_MAX,
                        "default": 0,
                    }
                },
                required=(),
                additionalProperties=False,
            ),
            body_example={"overlap_seconds": 3600},
            body_required=False,
            answer=_NEW_API_KEY,
            status=201,
            creates=True,
        ),
    },
)
async def rotate_api_key(request: Connection) -> dict[str, Any]:
    """A new secret under the same id."""
    system, tenant = administered(request)
    overlap_s = 0
    if await wire.arrived(request):
        fields = await Fields.of_body(request, nulls=False)
        overlap_s = fields.integer("overlap_seconds", least=0, most=OVERLAP_S_MAX) or 0
        fields.finish()
    else:
        wire.check_parameters(request, ())
    key_id: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: system.catalog.rotate_api_key(
            tenant, key_id, overlap_us=overlap_s * 1_000_000, actor=actor, now_us=now_us
        ),
    )
    forget_keys(request)
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
    forget_keys(request)


ROUTES = [
    create_api_key,
    list_api_keys,
    get_api_key,
    change_api_key,
    rotate_api_key,
    revoke_api_key,
]
