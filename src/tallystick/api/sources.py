"""`/v1/sources`: where events come from by themselves, and how each stands."""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from litestar import Request, delete, get, post, put
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, etag_of
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
from tallystick.catalog.sourcing import KeptSource, SourceState
from tallystick.flows.customers import check_unbound
from tallystick.flows.sources.allowed import check_allowed, check_tenant
from tallystick.flows.sources.feed import catalog_of
from tallystick.flows.usage import in_questions
from tallystick.sources.kinds import KINDS
from tallystick.sources.source import Source, read_source

Connection = Request[Any, Any, Any]
PARTS_SHOWN_MAX = 100
STATUSES = ("starting", "running", "waiting", "failed", "stopped", "paused", "archived")


def definition_of(kept: KeptSource) -> dict[str, Any]:
    """A source as it is defined; what its ETag is made of."""
    return {
        **kept.content,
        "paused": kept.paused,
        "created_at": wire.time_text(kept.created_at_us),
        "changed_at": wire.time_text(kept.changed_at_us),
        "archived_at": wire.optional_time_text(kept.archived_at_us),
    }


def state_document(kept: KeptSource, state: SourceState, open_letters: int) -> dict[str, Any]:
    """How a source stands."""
    status = state.status
    if kept.archived_at_us is not None:
        status = "archived"
    elif kept.paused:
        status = "paused"
    return {
        "status": status,
        "fault": state.fault if kept.runs else None,
        "lag": state.lag if kept.runs else None,
        "taken": state.taken,
        "rejected": state.rejected,
        "dead_letters": open_letters,
        "last_error": state.last_error,
        "last_error_at": wire.optional_time_text(state.last_error_at_us),
        "taken_at": wire.optional_time_text(state.taken_at_us),
        "changed_at": wire.optional_time_text(state.changed_at_us),
    }


def _part_document(part: str, state: bytes) -> dict[str, Any]:
    try:
        said: Any = json.loads(state)
    except ValueError:
        said = base64.b64encode(state).decode()
    return {"part": part, "state": said}


_ANY: Schema = {"type": "object", "additionalProperties": True}
_KIND: Schema = {"type": "string", "enum": list(KINDS)}
_MAPPING: Schema = {
    **_ANY,
    "description": "Which part of a record is what of an event: `id`, `type`, `type_column`, `source`, `source_column`, "
    "`subject`, `subject_value`, `time`, `time_format`, `time_base`, `time_zone`, `data`, `text` as for `tallystick ingest` "
    "(columns, or paths such as `$.usage.tokens`), and CEL: `compute` (`data.NAME` or an attribute → expression, `data` being "
    "the record) and `where`. docs/howto/sources.md",
}
_SETTINGS: Schema = {
    **_ANY,
    "description": "By kind: "
    + "; ".join(f"{name}: {', '.join(kind.settings)}" for name, kind in KINDS.items())
    + ". A secret stands as `${TALLYSTICK_SECRET_NAME}`, an environment variable of the server.",
}
_STATE = objects(
    {
        "status": {"type": "string", "enum": list(STATUSES)},
        "fault": nullable(
            {"type": "string", "description": "Why it cannot go on at the moment; it tries again."}
        ),
        "lag": nullable({"type": "integer", "description": "Records it knows of and has not taken."}),
        "taken": {"type": "integer", "description": "Events that are in the log."},
        "rejected": {"type": "integer", "description": "Records that became dead letters, ever."},
        "dead_letters": {"type": "integer", "description": "Those that are open."},
        "last_error": nullable(STRING),
        "last_error_at": nullable(TIME),
        "taken_at": nullable(TIME),
        "changed_at": nullable(TIME),
    }
)
_PROPERTIES: dict[str, Schema] = {
    "key": KEY,
    "name": nullable(STRING),
    "kind": _KIND,
    "format": {
        "type": "string",
        "description": "Of its records, by kind: auto, ndjson, json, csv, parquet, combined.",
    },
    "settings": _SETTINGS,
    "mapping": _MAPPING,
    "paused": {"type": "boolean", "default": False},
    "created_at": TIME,
    "changed_at": TIME,
    "archived_at": nullable(TIME),
    "state": _STATE,
}
_PROGRESS = array(
    objects({"part": STRING, "state": {"description": "What the source has written down of this part."}}),
    maxItems=PARTS_SHOWN_MAX,
)
_SOURCE = objects(_PROPERTIES)
_SOURCE_WITH_PROGRESS = objects({**_PROPERTIES, "progress": _PROGRESS})
_BODY = objects(
    {name: _PROPERTIES[name] for name in ("key", "name", "kind", "format", "settings", "mapping", "paused")},
    required=("key", "kind"),
    additionalProperties=False,
)
_EXAMPLE: dict[str, Any] = {
    "key": "gateway-logs",
    "kind": "bucket",
    "format": "ndjson",
    "settings": {
        "url": "s3://usage/gateway/",
        "region": "eu-central-1",
        "access_key_id": "AKIAEXAMPLE",
        "secret_access_key": "${TALLYSTICK_SECRET_S3}",
    },
    "mapping": {
        "id": "request_id",
        "type": "api_call",
        "subject": "$.customer.id",
        "compute": {"data.kilobytes": "ceil(data.bytes / 1024.0)"},
        "where": "data.status < 500",
    },
}


async def _shown(
    request: Connection, kept: KeptSource, *, status: int = 200, **headers: str
) -> Response[Any]:
    system = wire.system_of(request)
    catalog = catalog_of(system)

    def work() -> tuple[SourceState, int, Mapping[str, bytes]]:
        states, opened = catalog.source_states([kept.number]), catalog.open_letters([kept.number])
        # From "0" on: parts that begin with a dot are the source's own affair.
        parts = catalog.source_progress(kept.number, after="/", limit=PARTS_SHOWN_MAX)
        return states.get(kept.number, SourceState()), opened.get(kept.number, 0), parts

    state, letters, parts = await in_questions(system, work)
    document = definition_of(kept)
    etag = etag_of(document)
    answer = {
        **document,
        "state": state_document(kept, state, letters),
        "progress": [_part_document(part, said) for part, said in parts.items()],
    }
    return Response(answer, status_code=status, headers={"ETag": etag, **headers})


async def _read(request: Connection, key: str | None) -> Source:
    """The source of a body. Raises Invalid with every fault."""
    system, tenant = wire.system_of(request), caller(request).tenant
    check_tenant(system.settings, tenant)
    wire.check_parameters(request, ())
    document = await wire.json_object(request)
    if key is not None:
        if document.get("key", key) != key:
            raise wire.invalid("/key", "key_immutable", "A source's key cannot be changed.")
        document = {**document, "key": key}
    source = read_source(document)
    await asyncio.to_thread(check_allowed, system.settings, tenant, source)
    return source


def _content(source: Source) -> dict[str, Any]:
    return {name: value for name, value in source.to_wire().items() if name != "paused"}


@post(
    "/v1/sources",
    guards=[require("admin")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Create a source",
            tag="Sources",
            description="It begins at once, unless it is paused. Secrets are named, never sent: `${TALLYSTICK_SECRET_NAME}` is an "
            "environment variable of the server. See docs/howto/sources.md.",
            body=_BODY,
            body_example=_EXAMPLE,
            answer=_SOURCE_WITH_PROGRESS,
            status=201,
            creates=True,
            errors=(403, 409),
        )
    },
)
async def create_source(request: Connection) -> Response[Any]:
    """All faults at once."""
    system = wire.system_of(request)
    source = await _read(request, None)
    tenant, actor, now_us = caller(request).tenant, actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: catalog_of(system).create_source(
            tenant, source.key, _content(source), paused=source.paused, actor=actor, now_us=now_us
        ),
    )
    return await _shown(request, made, status=201, Location=f"/v1/sources/{quote(made.key, safe='')}")


@get(
    "/v1/sources",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="List sources",
            tag="Sources",
            parameters=[
                query(
                    "include_archived", "Also archived ones.", schema={"type": "boolean", "default": False}
                ),
                *PAGE,
            ],
            answer=listing(_SOURCE),
        )
    },
)
async def list_sources(request: Connection) -> dict[str, Any]:
    """By key, each with how it stands."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = Fields.of_query(request)
    archived = fields.boolean("include_archived")
    limit, cursor = fields.catalog_page()
    fields.finish()
    catalog = catalog_of(system)

    def work() -> dict[str, Any]:
        page = catalog.sources(who.tenant, archived=archived, cursor=cursor, limit=limit)
        numbers = [kept.number for kept in page.items]
        states, letters = catalog.source_states(numbers), catalog.open_letters(numbers)
        shown = (
            {
                **definition_of(kept),
                "state": state_document(
                    kept, states.get(kept.number, SourceState()), letters.get(kept.number, 0)
                ),
            }
            for kept in page.items
        )
        return wire.page_answer(shown, page.next_cursor)

    return await in_questions(system, work)


@get(
    "/v1/sources/{key:str}",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="Read a source",
            tag="Sources",
            description="`state` says how it stands; `progress` has what it has written down of its first parts.",
            answer=_SOURCE_WITH_PROGRESS,
        )
    },
)
async def get_source(request: Connection) -> Response[Any]:
    """Its ETag is of the definition: how it stands changes all the time."""
    wire.check_parameters(request, ())
    return await _shown(request, await _present(request))


async def _present(request: Connection) -> KeptSource:
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    key: str = request.path_params["key"]
    return await in_questions(system, lambda: catalog_of(system).source(who.tenant, key))


@put(
    "/v1/sources/{key:str}",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Set a source anew",
            tag="Sources",
            description="The whole definition. It goes on from where it was. Restores an archived one.",
            body=objects(
                dict(_BODY["properties"]),
                required=("kind",),
                additionalProperties=False,
            ),
            body_example={"kind": "folder", "settings": {"dir": "incoming"}},
            answer=_SOURCE_WITH_PROGRESS,
            errors=(403, 409, 412),
        )
    },
)
async def change_source(request: Connection) -> Response[Any]:
    """Its kind stays: what it has written down is of that kind."""
    system = wire.system_of(request)
    present = await _present(request)
    source = await _read(request, present.key)
    if source.kind != present.content["kind"]:
        raise wire.invalid("/kind", "kind_immutable", "A source's kind cannot be changed: make another one.")
    tenant, actor, now_us = caller(request).tenant, actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: catalog_of(system).change_source(
            tenant,
            source.key,
            _content(source),
            paused=source.paused,
            expected=lambda found: check_if_match(request, definition_of(found)),
            actor=actor,
            now_us=now_us,
        ),
    )
    return await _shown(request, changed)


@delete(
    "/v1/sources/{key:str}",
    guards=[require("admin")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Archive a source",
            tag="Sources",
            description="It takes nothing any more. What it has taken stays, and so does how far it was.",
            status=204,
            errors=(412,),
        )
    },
)
async def archive_source(request: Connection) -> None:
    """PUT restores it."""
    wire.check_parameters(request, ())
    system, tenant = wire.system_of(request), caller(request).tenant
    key: str = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system,
        lambda: catalog_of(system).archive_source(
            tenant,
            key,
            expected=lambda found: check_if_match(request, definition_of(found)),
            actor=actor,
            now_us=now_us,
        ),
    )


async def _set_paused(request: Connection, *, paused: bool) -> Response[Any]:
    wire.check_parameters(request, ())
    system, tenant = wire.system_of(request), caller(request).tenant
    key: str = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: catalog_of(system).change_source(
            tenant,
            key,
            paused=paused,
            expected=lambda found: check_if_match(request, definition_of(found)),
            actor=actor,
            now_us=now_us,
        ),
    )
    return await _shown(request, changed)


@post(
    "/v1/sources/{key:str}/pause",
    guards=[require("admin")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Pause a source",
            tag="Sources",
            description="It takes nothing until it is resumed, and forgets nothing.",
            answer=_SOURCE_WITH_PROGRESS,
            errors=(409, 412),
        )
    },
)
async def pause_source(request: Connection) -> Response[Any]:
    """Pausing a paused one changes nothing."""
    return await _set_paused(request, paused=True)


@post(
    "/v1/sources/{key:str}/resume",
    guards=[require("admin")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Resume a source",
            tag="Sources",
            description="It goes on from where it was.",
            answer=_SOURCE_WITH_PROGRESS,
            errors=(409, 412),
        )
    },
)
async def resume_source(request: Connection) -> Response[Any]:
    """Resuming a running one changes nothing."""
    return await _set_paused(request, paused=False)


ROUTES: tuple[ControllerRouterHandler, ...] = (
    create_source,
    list_sources,
    get_source,
    change_source,
    archive_source,
    pause_source,
    resume_source,
)
