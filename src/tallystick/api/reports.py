"""`/v1/reports`: views that are sent to a channel, at stated times or now; and what became of each time."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from litestar import Request, delete, get, post, put
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, check_scope, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, read_as, tagged
from tallystick.api.openapi import (
    KEY,
    PAGE,
    STRING,
    TIME,
    Schema,
    listing,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.api.views import keyed, reader_of
from tallystick.catalog.reporting import KeptReport, ReportRun
from tallystick.errors import NotFound
from tallystick.flows.reports.definitions import checked_report, report_of, report_text, reports_of
from tallystick.flows.reports.run import send_now
from tallystick.flows.usage import in_questions
from tallystick.reporting.report import FORMATS
from tallystick.reporting.schedule import EVERY, HOUR_DEFAULT, WEEKDAYS
from tallystick.reporting.view import NAME_CHARACTERS_MAX

Connection = Request[Any, Any, Any]


def report_document(kept: KeptReport) -> dict[str, Any]:
    """A report on the wire."""
    return {
        **report_of(kept.content).to_wire(),
        "next_due_at": wire.optional_time_text(kept.next_due_us),
        "created_at": wire.time_text(kept.created_at_us),
        "changed_at": wire.time_text(kept.changed_at_us),
        "archived_at": wire.optional_time_text(kept.archived_at_us),
    }


def run_document(run: ReportRun) -> dict[str, Any]:
    """A run on the wire."""
    file = None
    if run.file_name is not None:
        file = {
            "name": run.file_name,
            "media_type": run.media_type,
            "bytes": run.file_bytes,
            "sha256": run.digest,
            "kept": run.has_file,
        }
    return {
        "id": run.id,
        "kind": run.kind,
        "due_at": wire.time_text(run.due_at_us),
        "at": wire.time_text(run.at_us),
        "missed": run.missed,
        "status": run.status,
        "delivery": run.delivery,
        "error": run.error,
        "detail": run.detail,
        "from": wire.optional_time_text(run.from_us),
        "to": wire.optional_time_text(run.to_us),
        "file": file,
    }


_SCHEDULE: Schema = objects(
    {
        "every": {"type": "string", "enum": [*EVERY]},
        "hour": {"type": ["integer", "null"], "minimum": 0, "maximum": 23, "default": HOUR_DEFAULT},
        "timezone": nullable({"type": "string", "default": "UTC"}),
        "weekday": nullable({"type": "string", "enum": [*WEEKDAYS], "description": "Of a weekly one."}),
        "day": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 31,
            "description": "Of a monthly one; in a shorter month its last day.",
        },
    },
    required=("every",),
    additionalProperties=False,
)
_MEMBERS: dict[str, Schema] = {
    "key": KEY,
    "name": nullable({"type": "string", "maxLength": NAME_CHARACTERS_MAX}),
    "view": KEY,
    "schedule": _SCHEDULE,
    "format": {"type": "string", "enum": [*FORMATS]},
    "channel": {**KEY, "description": "One of the tenant's own."},
    "enabled": {"type": ["boolean", "null"], "default": True},
}
_EXAMPLE: dict[str, Any] = {
    "key": "monthly-tokens",
    "name": "Tokens of the month",
    "view": "tokens-by-model",
    "schedule": {"every": "month", "day": 1, "hour": 6, "timezone": "Europe/Berlin"},
    "format": "pdf",
    "channel": "finance",
}
_REPORT = objects(
    {
        **_MEMBERS,
        "next_due_at": nullable(TIME),
        "created_at": TIME,
        "changed_at": TIME,
        "archived_at": nullable(TIME),
    }
)
_FILE = objects(
    {
        "name": STRING,
        "media_type": STRING,
        "bytes": {"type": "integer"},
        "sha256": STRING,
        "kept": {"type": "boolean", "description": "Whether it can still be fetched."},
    }
)
_RUN = objects(
    {
        "id": STRING,
        "kind": {"type": "string", "enum": ["scheduled", "manual"]},
        "due_at": TIME,
        "at": TIME,
        "missed": {"type": "integer", "description": "Times before this one that nobody was there for."},
        "status": {"type": "string", "enum": ["sent", "failed"]},
        "delivery": nullable({"type": "string", "description": "GET /v1/deliveries/{id} says how it went."}),
        "error": nullable(STRING),
        "detail": nullable(STRING),
        "from": nullable(TIME),
        "to": nullable(TIME),
        "file": nullable(_FILE),
    }
)


@post(
    "/v1/reports",
    guards=[require("alerts:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Schedule a report",
            tag="Reports",
            description="Sends a view as a file to a channel: e-mail has it attached, a webhook is sent it in its message, or, "
            "where it is large, its address. Whoever sets one needs `usage:read`, too. An archived report of this key is "
            "replaced. See docs/howto/reports.md.",
            body=objects(
                _MEMBERS,
                required=("key", "view", "schedule", "format", "channel"),
                additionalProperties=False,
            ),
            body_example=_EXAMPLE,
            answer=_REPORT,
            status=201,
            creates=True,
        )
    },
)
async def create_report(request: Connection) -> Response[dict[str, Any]]:
    """First due after now."""
    system, tenant = administered(request)
    who = caller(request)
    wire.check_parameters(request, ())
    raw = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptReport:
        report = checked_report(system, tenant, reader_of(who), raw)
        check_scope(who, "usage:read")
        return reports_of(system).create_report(
            tenant,
            report.key,
            report.view,
            report_text(report),
            next_due_us=report.next_due_us(now_us),
            actor=actor,
            now_us=now_us,
        )

    made = await in_questions(system, work)
    return tagged(report_document(made), status=201, Location=f"/v1/reports/{quote(made.key, safe='')}")


@get(
    "/v1/reports",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="List reports",
            tag="Reports",
            description="By key: of views that the caller sees.",
            parameters=[*PAGE, query("archived", "`true`: archived ones too.", schema={"type": "boolean"})],
            answer=listing(_REPORT),
        )
    },
)
async def list_reports(request: Connection) -> dict[str, Any]:
    """Those the caller sees."""
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    archived = fields.boolean("archived")
    fields.finish()
    page = await in_questions(
        system,
        lambda: reports_of(system).reports(
            tenant, reader=reader, archived=archived, cursor=cursor, limit=limit
        ),
    )
    return wire.page_answer(map(report_document, page.items), page.next_cursor)


async def _report(request: Connection) -> KeptReport:
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    key: str = request.path_params["key"]
    return await in_questions(system, lambda: reports_of(system).report(tenant, key, reader=reader))


@get(
    "/v1/reports/{key:str}",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="Read a report",
            tag="Reports",
            answer=_REPORT,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_report(request: Connection) -> Response[Any]:
    """As it was set, and when it is due next."""
    wire.check_parameters(request, ())
    document = report_document(await _report(request))
    return read_as(request, document)


@put(
    "/v1/reports/{key:str}",
    guards=[require("alerts:write")],
    opt={
        "operation": operation(
            summary="Replace a report",
            tag="Reports",
            description="All members at once; it is then due for the first time after now. `If-Match` guards against a change "
            "in between.",
            body=objects(
                _MEMBERS, required=("view", "schedule", "format", "channel"), additionalProperties=False
            ),
            body_example=_EXAMPLE,
            answer=_REPORT,
            errors=(412,),
        )
    },
)
async def replace_report(request: Connection) -> Response[dict[str, Any]]:
    """All of it at once."""
    system, tenant = administered(request)
    who = caller(request)
    reader = reader_of(who)
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    await _report(request)
    members = await wire.json_object(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> KeptReport:
        report = checked_report(system, tenant, reader, keyed(members, key))
        check_scope(who, "usage:read")
        return reports_of(system).change_report(
            tenant,
            key,
            report.view,
            report_text(report),
            next_due_us=report.next_due_us(now_us),
            reader=reader,
            expected=lambda present: check_if_match(request, report_document(present)),
            actor=actor,
            now_us=now_us,
        )

    return tagged(report_document(await in_questions(system, work)))


@delete(
    "/v1/reports/{key:str}",
    guards=[require("alerts:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Archive a report",
            tag="Reports",
            description="It is sent no more, and its key may be used again.",
            status=204,
            errors=(412,),
        )
    },
)
async def archive_report(request: Connection) -> None:
    """What was sent stays in the log of deliveries."""
    system, tenant = administered(request)
    reader = reader_of(caller(request))
    wire.check_parameters(request, ())
    key: str = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system,
        lambda: reports_of(system).archive_report(
            tenant,
            key,
            reader=reader,
            expected=lambda present: check_if_match(request, report_document(present)),
            actor=actor,
            now_us=now_us,
        ),
    )


@post(
    "/v1/reports/{key:str}/run",
    guards=[require("alerts:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Send a report now",
            tag="Reports",
            description="Beside its schedule, which stays as it is. Ranges such as the last 30 days end now.",
            answer=_RUN,
            status=201,
            creates=True,
        )
    },
)
async def run_report(request: Connection) -> Response[dict[str, Any]]:
    """The run; `failed` says why nothing was sent."""
    wire.check_parameters(request, ())
    system, report = wire.system_of(request), await _report(request)
    name = await send_now(system, report)
    found = await in_questions(system, lambda: reports_of(system).report_run(report, name))
    return Response(run_document(found), status_code=201)


@get(
    "/v1/reports/{key:str}/runs",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="Runs of a report",
            tag="Reports",
            description="Newest first. Whoever was not there at several due times sends the newest alone; `missed` counts "
            "the others.",
            parameters=[*PAGE],
            answer=listing(_RUN),
        )
    },
)
async def list_runs(request: Connection) -> dict[str, Any]:
    """What became of each due time."""
    fields = Fields.of_query(request)
    limit, cursor = fields.catalog_page()
    fields.finish()
    system, report = wire.system_of(request), await _report(request)
    page = await in_questions(
        system, lambda: reports_of(system).report_runs(report, cursor=cursor, limit=limit)
    )
    return wire.page_answer(map(run_document, page.items), page.next_cursor)


@get(
    "/v1/reports/{key:str}/runs/{id:str}/file",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="The file of a run",
            tag="Reports",
            description="As it was sent. The newest fifty of a report are kept.",
            answer_types={
                "text/csv": {"schema": STRING},
                "application/pdf": {"schema": {"type": "string", "format": "binary"}},
            },
        )
    },
)
async def get_file(request: Connection) -> Response[bytes]:
    """Byte for byte what was sent."""
    wire.check_parameters(request, ())
    system, report = wire.system_of(request), await _report(request)
    name: str = request.path_params["id"]

    def work() -> Any:
        reports_of(system).report_run(report, name)
        return reports_of(system).report_file(report.tenant, name)

    file = await in_questions(system, work)
    if file is None:
        raise NotFound("This run has made no file, or it is not kept any more.", code="report_file_not_found")
    kind = "text/csv; charset=utf-8" if file.media_type == "text/csv" else file.media_type
    headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
    return Response(file.content, media_type=kind, headers=headers)


ROUTES: Sequence[ControllerRouterHandler] = (
    create_report,
    list_reports,
    get_report,
    replace_report,
    archive_report,
    run_report,
    list_runs,
    get_file,
)
