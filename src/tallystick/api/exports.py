"""`/v1/exports`: events, usage and invoices written to a bucket or folder by themselves, each row once."""

import re
import secrets
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import changed_meanwhile, etag_of, listed_in
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
)
from tallystick.billing.period import parse_duration_us
from tallystick.billing.plan import duration_text
from tallystick.catalog.exporting import (
    PARTITIONINGS,
    WHATS,
    ExportSetup,
    KeptExport,
    Partitioning,
    What,
)
from tallystick.document import KEY_PATTERN
from tallystick.errors import TallystickError
from tallystick.flows.customers import check_unbound
from tallystick.flows.exports.lake import Lake, lake_of, root_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

EVERY_S_DEFAULT = 300
EVERY_S_MIN = 5
EVERY_S_MAX = 86_400
METERS_MAX = 1000
_URL_CHARACTERS_MAX = 1024
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]*(/[A-Za-z0-9][A-Za-z0-9_.=-]*)*\Z", re.ASCII)


def export_document(kept: KeptExport, now_us: int) -> dict[str, Any]:
    """A continuous export on the wire."""
    return {
        **_setup_document(kept),
        "root": root_of(kept),
        "state": _state_document(kept, now_us),
        "created_at": wire.time_text(kept.created_at_us),
        "changed_at": wire.time_text(kept.changed_at_us),
    }


def _setup_document(kept: KeptExport) -> dict[str, Any]:
    setup = kept.setup
    return {
        "key": kept.key,
        "what": setup.what,
        "url": setup.url,
        "prefix": setup.prefix,
        "every": duration_text(setup.every_s * 1_000_000),
        "partitioning": setup.partitioning,
        "meters": None if setup.meters is None else list(setup.meters),
        "paused": setup.paused,
    }


def _state_document(kept: KeptExport, now_us: int) -> dict[str, Any]:
    state = kept.state
    if kept.setup.paused:
        status = "paused"
    elif state.error is not None:
        status = "failing"
    else:
        status = "writing" if state.plan is not None else "waiting"
    since_us = state.looked_us or kept.created_at_us
    return {
        "status": status,
        "manifests": state.number,
        "exported_to": wire.optional_time_text(state.to_us or None),
        "rows": state.rows,
        "files": state.files,
        "bytes": state.bytes,
        "lag_seconds": max(0, now_us - since_us) // 1_000_000,
        "error": None if state.error is None else {"code": state.error_code, "detail": state.error},
    }


_EVERY: Schema = {
    "type": "string",
    "description": "How long from one manifest to the next, PT5S to P1D.",
    "default": "PT5M",
}
_MEMBERS: dict[str, Schema] = {
    "every": _EVERY,
    "paused": {"type": "boolean", "default": False},
}
_PROPERTIES: dict[str, Schema] = {
    "key": KEY,
    "what": {"type": "string", "enum": list(WHATS)},
    "url": {
        "type": "string",
        "description": "s3://bucket/… or file:///…, as the setting export_urls allows.",
    },
    "prefix": {"type": "string", "description": "Folder below it; the tenant's and the export's key follow."},
    "partitioning": {"type": "string", "enum": list(PARTITIONINGS), "default": "date"},
    "meters": nullable({**array(STRING), "description": "Of usage: these alone; null: all in service."}),
    **_MEMBERS,
}
_EXPORT = objects(
    {
        **_PROPERTIES,
        "root": {"type": "string", "description": "The folder its manifests and files are in."},
        "state": objects(
            {
                "status": {"type": "string", "enum": ["waiting", "writing", "failing", "paused"]},
                "manifests": {"type": "integer"},
                "exported_to": nullable(TIME),
                "rows": {"type": "integer"},
                "files": {"type": "integer"},
                "bytes": {"type": "integer"},
                "lag_seconds": {
                    "type": "integer",
                    "description": "How long ago it had everything there was.",
                },
                "error": nullable(objects({"code": STRING, "detail": STRING})),
            }
        ),
        "created_at": TIME,
        "changed_at": TIME,
    }
)
_EXAMPLE = {
    "key": "lake",
    "what": "usage",
    "url": "s3://acme-lake/tallystick",
    "every": "PT5M",
    "partitioning": "date",
}


def _every_s(fields: Fields) -> int | None:
    text = fields.text("every", characters_max=40)
    if text is None:
        return None
    us = parse_duration_us(text)
    if us is None or not EVERY_S_MIN * 1_000_000 <= us <= EVERY_S_MAX * 1_000_000:
        fields.fault("every", "invalid_period", "every must be an ISO 8601 duration from PT5S to P1D.")
        return None
    return us // 1_000_000


def _read_setup(fields: Fields, lake: Lake) -> ExportSetup:
    what = fields.choice("what", WHATS)
    if "what" not in fields.names():
        fields.fault("what", "missing", f"what is required: one of {', '.join(WHATS)}.")
    url = fields.required_text("url", characters_max=_URL_CHARACTERS_MAX)
    if url:
        fields.faults.attempt(lambda: lake.check(url), None)
    prefix = fields.text("prefix", characters_max=_URL_CHARACTERS_MAX) or ""
    if prefix and _PREFIX.match(prefix) is None:
        detail = "prefix must be folders with / between them, of letters, digits and _ . = -"
        fields.fault("prefix", "invalid_value", detail)
    meters = fields.texts("meters", items_max=METERS_MAX)
    if meters is not None and what not in (None, "usage"):
        fields.fault("meters", "invalid_value", "Only an export of usage has meters.")
    return ExportSetup(
        what=cast("What", what or "events"),
        url=url,
        prefix=prefix,
        every_s=_every_s(fields) or EVERY_S_DEFAULT,
        partitioning=cast("Partitioning", fields.choice("partitioning", PARTITIONINGS) or "date"),
        meters=meters,
        paused=fields.boolean("paused"),
    )


def _ready(request: Connection) -> tuple[System, Lake]:
    check_unbound(caller(request).customer)
    system = wire.system_of(request)
    return system, lake_of(system)


def _answer(system: System, kept: KeptExport, *, status: int = 200, **headers: str) -> Response[Any]:
    document = export_document(kept, system.clock.now_us())
    headers = {"ETag": etag_of(_setup_document(kept)), **headers}
    return Response(document, status_code=status, headers=headers)


@post(
    "/v1/exports",
    guards=[require("admin")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Export continuously",
            tag="Exports",
            description="What is recorded from the beginning on, as Parquet files that manifests name: every row is in exactly "
            "one, whatever fails. docs/howto/continuous-export.md",
            body=objects(_PROPERTIES, required=("key", "what", "url"), additionalProperties=False),
            body_example=_EXAMPLE,
            answer=_EXPORT,
            status=201,
            creates=True,
            errors=(409,),
        )
    },
)
async def create_export(request: Connection) -> Response[Any]:
    """The first manifest is written at once."""
    system, lake = _ready(request)
    who, actor = caller(request), actor_of(request)
    fields = await Fields.of_body(request, nulls=False)
    key = fields.key("key", KEY_PATTERN)
    setup = _read_setup(fields, lake)
    if setup.what == "invoices" and system.billing is None:
        fields.fault("what", "invalid_value", "Billing is switched off: there are no invoices.")
    if setup.meters is not None:
        for index, meter in enumerate(setup.meters):
            try:
                await in_questions(system, lambda meter=meter: system.catalog.meter(who.tenant, meter))
            except TallystickError as error:
                fields.fault("meters", error.code, error.detail, str(index))
    fields.finish()
    made = await in_questions(
        system,
        lambda: lake.catalog.create_export(
            who.tenant, key, setup, name=secrets.token_hex(8), actor=actor, now_us=system.clock.now_us()
        ),
    )
    return _answer(system, made, status=201, Location=f"/v1/exports/{quote(key, safe='')}")


@get(
    "/v1/exports",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="List continuous exports", tag="Exports", parameters=[*PAGE], answer=listing(_EXPORT)
        )
    },
)
async def list_exports(request: Connection) -> dict[str, Any]:
    """By key, with how far each is."""
    system, lake = _ready(request)
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    fields.finish()
    tenant = caller(request).tenant
    page = await in_questions(system, lambda: lake.catalog.exports(tenant, cursor=cursor, limit=limit))
    now_us = system.clock.now_us()
    return wire.page_answer((export_document(one, now_us) for one in page.items), page.next_cursor)


@get(
    "/v1/exports/{key:str}",
    guards=[require("admin")],
    opt={"operation": operation(summary="Read a continuous export", tag="Exports", answer=_EXPORT)},
)
async def get_export(request: Connection) -> Response[Any]:
    """With how far it is."""
    system, lake = _ready(request)
    wire.check_parameters(request, ())
    tenant, key = caller(request).tenant, request.path_params["key"]
    return _answer(system, await in_questions(system, lambda: lake.catalog.export(tenant, key)))


@patch(
    "/v1/exports/{key:str}",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Change or pause a continuous export",
            tag="Exports",
            description="`every` and `paused`. One that is paused goes on later where it was.",
            body=objects(_MEMBERS, required=(), additionalProperties=False),
            body_example={"paused": True},
            answer=_EXPORT,
            errors=(412,),
        )
    },
)
async def change_export(request: Connection) -> Response[Any]:
    """`If-Match` takes the `ETag` of what is set; how far it is does not count."""
    system, lake = _ready(request)
    tenant, key, actor = caller(request).tenant, request.path_params["key"], actor_of(request)
    fields = await Fields.of_body(request, nulls=False)
    every_s = _every_s(fields)
    paused = fields.boolean("paused") if "paused" in fields.names() else None
    fields.know("paused")
    await in_questions(system, lambda: lake.catalog.export(tenant, key))
    fields.finish()

    def change(present: KeptExport) -> ExportSetup:
        _check_if_match(request, present)
        return msgspec.structs.replace(
            present.setup,
            every_s=present.setup.every_s if every_s is None else every_s,
            paused=present.setup.paused if paused is None else paused,
        )

    made = await in_questions(
        system,
        lambda: lake.catalog.change_export(tenant, key, change, actor=actor, now_us=system.clock.now_us()),
    )
    return _answer(system, made)


def _check_if_match(request: Connection, present: KeptExport) -> None:
    header = request.headers.get("if-match")
    if header is not None and not listed_in(header, etag_of(_setup_document(present))):
        raise changed_meanwhile()


@delete(
    "/v1/exports/{key:str}",
    guards=[require("admin")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Delete a continuous export",
            tag="Exports",
            description="What it has written stays. Another one of the same key needs another prefix.",
            status=204,
            errors=(412,),
        )
    },
)
async def delete_export(request: Connection) -> None:
    """For good."""
    system, lake = _ready(request)
    tenant, key, actor = caller(request).tenant, request.path_params["key"], actor_of(request)
    await in_questions(
        system,
        lambda: lake.catalog.delete_export(
            tenant,
            key,
            expected=lambda present: _check_if_match(request, present),
            actor=actor,
            now_us=system.clock.now_us(),
        ),
    )


@post(
    "/v1/exports/{key:str}/run",
    guards=[require("admin")],
    status_code=202,
    opt={
        "operation": operation(
            summary="Export now",
            tag="Exports",
            description="Writes what there is within the next seconds, whatever `every` says; the answer does not wait for it.",
            answer=_EXPORT,
            status=202,
        )
    },
)
async def run_export(request: Connection) -> Response[Any]:
    """It is due at once."""
    system, lake = _ready(request)
    wire.check_parameters(request, ())
    tenant, key = caller(request).tenant, request.path_params["key"]
    made = await in_questions(
        system, lambda: lake.catalog.hurry_export(tenant, key, now_us=system.clock.now_us())
    )
    return _answer(system, made, status=202)


ROUTES: Sequence[ControllerRouterHandler] = (
    create_export,
    list_exports,
    get_export,
    change_export,
    delete_export,
    run_export,
)
