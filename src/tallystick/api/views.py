"""`/v1/views`: questions that were saved, for oneself or for everybody of the tenant."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from litestar import Request, delete, get, post, put
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, read_as, tagged
from tallystick.api.openapi import (
    KEY,
    PAGE,
    STRING,
    TIME,
    Schema,
    array,
    listing,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.catalog.interface import Caller
from tallystick.catalog.reporting import KeptView, Reader
from tallystick.flows.reports.definitions import checked_view, reports_of, view_of, view_text
from tallystick.flows.usage import in_questions
from tallystick.metering.formula import FORMULA_CHARACTERS_MAX
from tallystick.metering.query import Window
from tallystick.reporting.ranges import RANGES
from tallystick.reporting.view import (
    CUSTOMERS_MAX,
    DESCRIPTION_CHARACTERS_MAX,
    GROUP_BY_MAX,
    NAME_CHARACTERS_MAX,
    TOP_DEFAULT,
    TOP_MAX,
    VISIBILITIES,
)

Connection = Request[Any, Any, Any]


def reader_of(who: Caller) -> Reader:
    """Who looks. A person is the same one after another login, which gives another token."""
    owner = f"person/{who.name}" if who.key_id.startswith("tok_") else f"key/{who.key_id}"
    return Reader(owner, who.name, sees_all=who.allows("admin"))


def view_document(kept: KeptView, reader: Reader) -> dict[str, Any]:
    """A view on the wire, as one reader sees it."""
    view = view_of(kept.content)
    return {
        **view.to_wire(),
        "owner": kept.owner_name,
        "mine": kept.owner == reader.owner,
        "path": f"/explore?{urlencode(view.question.address())}",
        "created_at": wire.time_text(kept.created_at_us),
        "changed_at": wire.time_text(kept.changed_at_us),
        "archived_at": wire.optional_time_text(kept.archived_at_us),
    }


def keyed(members: dict[str, Any], key: str) -> dict[str, Any]:
    """The members of a PUT with their key. Raises Invalid (key_immutable)."""
    if members.get("key") not in (None, key):
        detail = "A key cannot be changed."
        raise wire.invalid("/key", "key_immutable", detail)
    return {**members, "key": key}


_QUESTION: Schema = objects(
    {
        "meter": KEY,
        "range": nullable({"type": "string", "enum": [*RANGES], "description": "Or `from` and `to`."}),
        "from": nullable(TIME),
        "to": nullable(TIME),
        "timezone": nullable({"type": "string", "default": "UTC"}),
        "window": nullable(
            {"type": "string", "enum": [*Window], "description": "Default: what suits the range."}
        ),
        "customer": array(STRING, maxItems=CUSTOMERS_MAX),
        "group_by": array(STRING, maxItems=GROUP_BY_MAX),
        "filter": {
            "type": ["object", "null"],
            "additionalProperties": True,
            "description": 'As in POST usage: `{"model": {"in": ["large"]}}`.',
        },
        "compare": nullable({"type": "string", "enum": ["previous"]}),
        "top": {"type": ["integer", "null"], "minimum": 1, "maximum": TOP_MAX, "default": TOP_DEFAULT},
        "chart": nullable({"type": "string", "enum": ["bars", "lines"]}),
        "formula": nullable(
            {
                "type": "string",
                "maxLength": FORMULA_CHARACTERS_MAX,
                "description": "Over several meters; `a` is `meter`. Without groups, filters and comparison.",
            }
        ),
        "meters": {
            "type": ["object", "null"],
            "additionalProperties": KEY,
            "description": "The formula's other letters: b, c, d.",
        },
    },
    required=("meter",),
    additionalProperties=False,
)
_MEMBERS: dict[str, Schema] = {
    "key": KEY,
    "name": nullable({"type": "string", "maxLength": NAME_CHARACTERS_MAX}),
    "description": nullable({"type": "string", "maxLength": DESCRIPTION_CHARACTERS_MAX}),
    "visibility": {
        "type": ["string", "null"],
        "enum": [*VISIBILITIES, None],
        "default": "private",
        "description": "private: its owner sees it, and who has the scope `admin`.",
    },
    "question": _QUESTION,
}
_EXAMPLE: dict[str, Any] = {
    "key": "tokens-by-model",
    "name": "Tokens by model",
    "visibility": "shared",
    "question": {"meter": "tokens", "range": "30d", "timezone": "Europe/Berlin", "group_by": ["model"]},
}
_VIEW = objects(
    {
        **_MEMBERS,
        "owner": {"type": "string", "description": "The name of the key, or of the person."},
        "mine": {"type": "boolean"},
        "path": {"type": "string", "description": "The page that shows it."},
        "created_at": TIME,
        "changed_at": TIME,
        "archived_at": nullable(TIME),
    }
)


@post(
    "/v1/views",
    guards=[require("usage:read")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Save a view",
            tag="Views",
            description="A question with all that the explorer's address says of it. An archived view of this key is replaced.",
            body=objects(_MEMBERS, required=("key", "question"), additionalProperties=False),
            body_example=_EXAMPLE,
            answer=_VIEW,
            status=201,
            creates=True,
        )
    },
)
async def create_view(request: Connection) -> Response[dict[str, Any]]:
    """The caller's own."""
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptView:
        view = checked_view(system, tenant, raw)
        return reports_of(system).create_view(
            tenant,
            view.key,
            view_text(view),
            shared=view.visibility == "shared",
            reader=reader,
            actor=actor,
            now_us=now_us,
        )

    made = await in_questions(system, work)
    return tagged(view_document(made, reader), status=201, Location=f"/v1/views/{quote(made.key, safe='')}")


@get(
    "/v1/views",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="List views",
            tag="Views",
            description="By key: shared ones, and the caller's own.",
            parameters=[*PAGE, query("archived", "`true`: archived ones too.", schema={"type": "boolean"})],
            answer=listing(_VIEW),
        )
    },
)
async def list_views(request: Connection) -> dict[str, Any]:
    """Those the caller sees."""
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    archived = fields.boolean("archived")
    fields.finish()
    page = await in_questions(
        system,
        lambda: reports_of(system).views(
            tenant, reader=reader, archived=archived, cursor=cursor, limit=limit
        ),
    )
    return wire.page_answer((view_document(one, reader) for one in page.items), page.next_cursor)


@get(
    "/v1/views/{key:str}",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Read a view",
            tag="Views",
            answer=_VIEW,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_view(request: Connection) -> Response[Any]:
    """Also an archived one."""
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    kept = await in_questions(system, lambda: reports_of(system).view(tenant, key, reader=reader))
    document = view_document(kept, reader)
    return read_as(request, document)


@put(
    "/v1/views/{key:str}",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Replace a view",
            tag="Views",
            description="All members at once; what is left out has its default. Of the caller's own views (`admin`: any). "
            "`If-Match` guards against a change in between. Reports of it send the new question.",
            body=objects(_MEMBERS, required=("question",), additionalProperties=False),
            body_example=_EXAMPLE,
            answer=_VIEW,
            errors=(412,),
        )
    },
)
async def replace_view(request: Connection) -> Response[dict[str, Any]]:
    """All of it at once."""
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    members = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptView:
        reports_of(system).view(tenant, key, reader=reader)
        view = checked_view(system, tenant, keyed(members, key))
        return reports_of(system).change_view(
            tenant,
            key,
            view_text(view),
            shared=view.visibility == "shared",
            reader=reader,
            expected=lambda present: check_if_match(request, view_document(present, reader)),
            actor=actor,
            now_us=now_us,
        )

    return tagged(view_document(await in_questions(system, work), reader))


@delete(
    "/v1/views/{key:str}",
    guards=[require("usage:read")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Archive a view",
            tag="Views",
            description="It is listed no more, and its key may be used again. Refused while reports send it.",
            status=204,
            errors=(409, 412),
        )
    },
)
async def archive_view(request: Connection) -> None:
    """Of the caller's own."""
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system,
        lambda: reports_of(system).archive_view(
            tenant,
            key,
            reader=reader,
            expected=lambda present: check_if_match(request, view_document(present, reader)),
            actor=actor,
            now_us=now_us,
        ),
    )


ROUTES: Sequence[ControllerRouterHandler] = (create_view, list_views, get_view, replace_view, archive_view)
