"""`/v1/portal_tokens`: what a customer's own pages use. A token sees one customer and those below it, and nothing else."""

from typing import Any

from litestar import Request, delete, get, post

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, forget_keys, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import PAGE, STRING, TIME, array, listing, nullable, objects, operation, query
from tallystick.catalog.interface import Caller, Token
from tallystick.catalog.scopes import PORTAL_DEFAULT, PORTAL_SCOPES
from tallystick.errors import Fault, Forbidden
from tallystick.flows.customers import check_unbound
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

TTL_S_DEFAULT = 3600
TTL_S_MAX = 7 * 24 * 3600
CUSTOMER_CHARACTERS_MAX = 256


def token_document(token: Token) -> dict[str, Any]:
    """A token on the wire, without its secret."""
    return {
        "id": token.id,
        "customer": token.customer,
        "scopes": list(token.scopes),
        "created_at": wire.time_text(token.created_at_us),
        "expires_at": wire.time_text(token.expires_at_us),
        "revoked_at": wire.optional_time_text(token.revoked_at_us),
        "last_used_at": wire.optional_time_text(token.last_used_at_us),
    }


def scopes_for_token(who: Caller, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """What a token gets: what was asked for, or the usual ones that the key has.

    Raises Forbidden (scope_not_granted), a fault for each, where the key that makes it has less."""
    if asked is None:
        asked = tuple(scope for scope in PORTAL_DEFAULT if who.allows(scope))
    lacking = [scope for scope in asked if not who.allows(scope)]
    if lacking or not asked:
        detail = f"This key cannot pass on what it lacks: {', '.join(lacking or PORTAL_DEFAULT)}."
        faults = [
            Fault(
                wire.pointer_of("scopes", asked.index(scope)), "scope_not_granted", f"This key lacks {scope}."
            )
            for scope in lacking
        ]
        raise Forbidden(detail, code="scope_not_granted", faults=faults)
    return asked


_SCOPES = array({"type": "string", "enum": list(PORTAL_SCOPES)}, uniqueItems=True, minItems=1)
_CUSTOMER = {"type": "string", "minLength": 1, "maxLength": CUSTOMER_CHARACTERS_MAX}
_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": STRING,
    "customer": STRING,
    "scopes": array({"type": "string", "enum": list(PORTAL_SCOPES)}),
    "created_at": TIME,
    "expires_at": TIME,
    "revoked_at": nullable(TIME),
    "last_used_at": nullable({**TIME, "description": "To within a minute."}),
}
_TOKEN = objects(_PROPERTIES)


@post(
    "/v1/portal_tokens",
    guards=[require("customers:write")],
    status_code=201,
    opt={
        "secret_members": ("token",),
        "operation": operation(
            summary="Make a customer's token",
            tag="Access",
            description="For the pages of one customer: it sees this customer and those below it alone. It has at most the "
            "scopes of the key that makes it, and ends with that key: when it expires, and when it is revoked.",
            body=objects(
                {
                    "customer": _CUSTOMER,
                    "ttl_seconds": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": TTL_S_MAX,
                        "default": TTL_S_DEFAULT,
                    },
                    "scopes": {
                        **_SCOPES,
                        "description": f"Default: {', '.join(PORTAL_DEFAULT)}, as far as the key has them.",
                    },
                },
                required=("customer",),
                additionalProperties=False,
            ),
            body_example={"customer": "acme", "ttl_seconds": 3600, "scopes": ["usage:read"]},
            answer=objects(
                {
                    "token": nullable({"type": "string", "description": "Shown in this answer alone."}),
                    **_PROPERTIES,
                }
            ),
            status=201,
            creates=True,
            errors=(404,),
        ),
    },
)
async def create_portal_token(request: Connection) -> dict[str, Any]:
    """Its secret is in this answer and nowhere else."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = await Fields.of_body(request, nulls=False)
    customer = fields.required_text("customer", characters_max=CUSTOMER_CHARACTERS_MAX)
    ttl_s = fields.integer("ttl_seconds", least=1, most=TTL_S_MAX) or TTL_S_DEFAULT
    asked = fields.texts("scopes", items_max=len(PORTAL_SCOPES))
    for index, scope in enumerate(asked or ()):
        if scope not in PORTAL_SCOPES:
            known = ", ".join(PORTAL_SCOPES)
            detail = f"A customer's token cannot have {scope[:40]!r}, but {known}."
            fields.fault("scopes", "unknown_scope", detail, str(index))
    fields.finish()
    scopes = scopes_for_token(who, None if asked is None else tuple(dict.fromkeys(asked)))
    actor, now_us = actor_of(request), system.clock.now_us()
    ends_at_us = now_us + ttl_s * 1_000_000
    if who.expires_at_us is not None:
        ends_at_us = min(ends_at_us, who.expires_at_us)
    made = await in_questions(
        system,
        lambda: system.catalog.create_token(
            who.tenant,
            kind="portal",
            name=f"portal {customer}",
            customer=customer,
            scopes=scopes,
            issued_by=who.key_id,
            expires_at_us=ends_at_us,
            actor=actor,
            now_us=now_us,
        ),
    )
    return {"token": made.secret, **token_document(made.token)}


@get(
    "/v1/portal_tokens",
    guards=[require("customers:read")],
    opt={
        "operation": operation(
            summary="List customers' tokens",
            tag="Access",
            description="Those that have not expired.",
            parameters=[query("customer", "Of this customer."), *PAGE],
            answer=listing(_TOKEN),
        )
    },
)
async def list_portal_tokens(request: Connection) -> dict[str, Any]:
    """In the order of their creation, revoked ones too; never a secret."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    customer = fields.text("customer", characters_max=CUSTOMER_CHARACTERS_MAX)
    fields.finish()
    now_us = system.clock.now_us()
    page = await in_questions(
        system,
        lambda: system.catalog.tokens(
            who.tenant, kind="portal", customer=customer, cursor=cursor, limit=limit, now_us=now_us
        ),
    )
    return wire.page_answer(map(token_document, page.items), page.next_cursor)


@delete(
    "/v1/portal_tokens/{id:str}",
    guards=[require("customers:write")],
    status_code=204,
    opt={"operation": operation(summary="Revoke a customer's token", tag="Access", status=204)},
)
async def revoke_portal_token(request: Connection) -> None:
    """It stops working within a second, everywhere. Idempotent."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    token_id: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system,
        lambda: system.catalog.revoke_token(who.tenant, token_id, kind="portal", actor=actor, now_us=now_us),
    )
    forget_keys(request)


ROUTES = [create_portal_token, list_portal_tokens, revoke_portal_token]
