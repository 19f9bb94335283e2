"""`/v1/tenants`: whose configuration and whose events there are. For an admin of the tenant `default` alone."""

from typing import Any

from litestar import Request, delete, get, patch, post
from litestar.response import Response

from tallystick.api import wire
from tallystick.api.access import installation
from tallystick.api.auth import actor_of, forget_keys, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, tagged
from tallystick.api.openapi import KEY, PAGE, STRING, TIME, listing, nullable, objects, operation, query
from tallystick.catalog.interface import ENVIRONMENTS, Tenant
from tallystick.document import KEY_PATTERN
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]


def tenant_document(tenant: Tenant) -> dict[str, Any]:
    """A tenant on the wire."""
    return {
        "key": tenant.key,
        "name": tenant.name,
        "environment": tenant.environment,
        "suspended_at": wire.optional_time_text(tenant.suspended_at_us),
        "created_at": wire.time_text(tenant.created_at_us),
    }


_ENVIRONMENT = {
    "type": "string",
    "enum": list(ENVIRONMENTS),
    "description": "Tells apart what is in earnest from what is not; it changes nothing else.",
}
_PROPERTIES: dict[str, dict[str, Any]] = {
    "key": KEY,
    "name": STRING,
    "environment": _ENVIRONMENT,
    "suspended_at": nullable(TIME),
    "created_at": TIME,
}
_TENANT = objects(_PROPERTIES)


@post(
    "/v1/tenants",
    guards=[require("admin")],
    status_code=201,
    opt={
        "secret_members": ("admin_key",),
        "operation": operation(
            summary="Create a tenant",
            tag="Access",
            description="For an admin of the tenant `default`.",
            body=objects(
                {"key": KEY, "name": STRING, "environment": _ENVIRONMENT},
                required=("key",),
                additionalProperties=False,
            ),
            body_example={"key": "acme", "name": "Acme", "environment": "test"},
            answer=objects(
                {
                    **_PROPERTIES,
                    "admin_key": nullable({"type": "string", "description": "Shown in this answer alone."}),
                }
            ),
            status=201,
            creates=True,
        ),
    },
)
async def create_tenant(request: Connection) -> dict[str, Any]:
    """A tenant and its first key, with every scope."""
    system = installation(request)
    fields = await Fields.of_body(request, nulls=False)
    key = fields.key("key", KEY_PATTERN)
    name = fields.text("name", characters_max=256) or key
    environment = fields.choice("environment", ENVIRONMENTS) or ENVIRONMENTS[0]
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    tenant, first = await in_questions(
        system,
        lambda: system.catalog.create_tenant(key, name, environment=environment, actor=actor, now_us=now_us),
    )
    return {**tenant_document(tenant), "admin_key": first.secret}


@get(
    "/v1/tenants",
    guards=[require("admin")],
    opt={
        "operation": operation(summary="List tenants", tag="Access", parameters=PAGE, answer=listing(_TENANT))
    },
)
async def list_tenants(request: Connection) -> dict[str, Any]:
    """By key."""
    system = installation(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    fields.finish()
    page = await in_questions(system, lambda: system.catalog.tenants(cursor=cursor, limit=limit))
    return wire.page_answer(map(tenant_document, page.items), page.next_cursor)


@get(
    "/v1/tenants/{key:str}",
    guards=[require("admin")],
    opt={"operation": operation(summary="Read a tenant", tag="Access", answer=_TENANT)},
)
async def get_tenant(request: Connection) -> Response[dict[str, Any]]:
    """One tenant."""
    system = installation(request)
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    return tagged(tenant_document(await in_questions(system, lambda: system.catalog.tenant(key))))


@patch(
    "/v1/tenants/{key:str}",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Rename, suspend or resume a tenant",
            tag="Access",
            description="While it is suspended its keys and tokens are refused (403, tenant_suspended), within a second "
            "everywhere; what it has sent stays.",
            body=objects(
                {"name": STRING, "suspended": {"type": "boolean"}}, required=(), additionalProperties=False
            ),
            body_example={"suspended": True},
            answer=_TENANT,
            errors=(409, 412),
        )
    },
)
async def change_tenant(request: Connection) -> Response[dict[str, Any]]:
    """The members given; the others stay."""
    system = installation(request)
    fields = await Fields.of_body(request, nulls=False)
    name = fields.text("name", characters_max=256)
    suspended = fields.boolean("suspended") if "suspended" in set(fields.names()) else None
    fields.finish()
    key: str = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: system.catalog.change_tenant(
            key,
            name=name,
            suspended=suspended,
            expected=lambda present: check_if_match(request, tenant_document(present)),
            actor=actor,
            now_us=now_us,
        ),
    )
    forget_keys(request)
    return tagged(tenant_document(changed))


@delete(
    "/v1/tenants/{key:str}",
    guards=[require("admin")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Delete a tenant",
            tag="Access",
            description="Its keys stop within a second, and its key is never given again. In the background its events, "
            "configuration and audit are written to `exports/` of the data directory, and then its facts and customers are "
            "erased; the audit of the tenant `default` says when (`tenant.export`, `tenant.erase`).",
            parameters=[
                query(
                    "export",
                    "Write everything out before it is erased.",
                    schema={"type": "boolean", "default": True},
                )
            ],
            status=204,
            errors=(409,),
        )
    },
)
async def delete_tenant(request: Connection) -> None:
    """Its keys stop working; what it has sent goes in the background."""
    system = installation(request)
    fields = Fields.of_query(request)
    export = fields.boolean("export") or "export" not in set(fields.names())
    fields.finish()
    key: str = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system, lambda: system.catalog.delete_tenant(key, export=export, actor=actor, now_us=now_us)
    )
    forget_keys(request)


ROUTES = [create_tenant, list_tenants, get_tenant, change_tenant, delete_tenant]
