"""`/v1/admin`: does what is derived agree with the facts, and make it anew. For the admin of the whole installation."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, get, post

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, array, nullable, objects, operation, query
from tallystick.catalog.interface import DEFAULT_TENANT
from tallystick.errors import Forbidden
from tallystick.flows.doctor import MENDABLE, Examination, Part, Progress, examine, progress, rebuild
from tallystick.flows.rollup import RollupStatus
from tallystick.store.interface import RollupView

Connection = Request[Any, Any, Any]


def examination_document(found: Examination) -> dict[str, Any]:
    """An examination on the wire."""
    return {
        "healthy": not found.findings,
        "findings": [
            {"part": one.part, "code": one.code, "detail": one.detail, "mendable": one.mendable}
            for one in found.findings
        ],
        "position": found.position,
        "events": found.events,
        "duplicates": found.duplicates,
        "conflicts": found.conflicts,
        "readings": found.readings,
        "identities": found.identities,
        "meters_checked": found.meters_checked,
        "full": found.full,
        "busy": found.busy,
        "rollups": _rollups_document(found.rollups),
    }


def progress_document(made: Progress) -> dict[str, Any]:
    """How far a rebuild is, on the wire."""
    return {
        "done": made.done,
        "meters_left": made.meters_left,
        "readings": made.readings,
        "index_ready": made.index_ready,
        "rollups": _rollups_document(made.rollups),
    }


def _rollups_document(status: Mapping[RollupView, RollupStatus]) -> list[dict[str, Any]]:
    return [
        {
            "view": view.value,
            "meters": one.meters,
            "readings": one.readings,
            "pending": one.pending,
            "upto": wire.optional_time_text(one.upto_us or None),
            "by_day": list(one.by_day),
            "not_kept": list(one.not_kept),
            "fault": one.fault,
        }
        for view, one in status.items()
    ]


def check_installation_admin(request: Connection) -> None:
    who = caller(request)
    if who.tenant != DEFAULT_TENANT or who.customer is not None:
        raise Forbidden(f"Only an admin of the tenant {DEFAULT_TENANT!r} may do that.", code="other_tenant")


_COUNT = {"type": "integer"}
_BOOLEAN = {"type": "boolean"}
_ROLLUPS = array(
    objects(
        {
            "view": {
                "type": "string",
                "enum": [view.value for view in RollupView],
                "description": "Divided by customer and dimensions, by customer alone, or by dimensions alone.",
            },
            "meters": {**_COUNT, "description": "Meter versions whose roll-ups are kept."},
            "readings": {**_COUNT, "description": "Readings that are rolled up."},
            "pending": {**_COUNT, "description": "Readings of the step under way, not rolled up yet."},
            "upto": {
                **nullable(STRING),
                "description": "What was recorded until then is in; null while a meter has only begun.",
            },
            "by_day": array(_COUNT, description="Ids of meter versions that hours would not shrink."),
            "not_kept": array(_COUNT, description="Ids of meter versions that days would not shrink either."),
            "fault": nullable(STRING),
        }
    ),
    description="Derived: a question is answered from readings or events where these are missing or behind.",
)
_EXAMINATION = objects(
    {
        "healthy": _BOOLEAN,
        "findings": array(objects({"part": STRING, "code": STRING, "detail": STRING, "mendable": _BOOLEAN})),
        "position": {**_COUNT, "description": "Everything up to here is recorded."},
        "events": _COUNT,
        "duplicates": _COUNT,
        "conflicts": _COUNT,
        "readings": _COUNT,
        "identities": nullable(_COUNT),
        "meters_checked": _COUNT,
        "full": _BOOLEAN,
        "busy": {**_BOOLEAN, "description": "Something was being built and could not be checked."},
        "rollups": _ROLLUPS,
    }
)
_PROGRESS = objects(
    {
        "done": _BOOLEAN,
        "meters_left": _COUNT,
        "readings": _COUNT,
        "index_ready": _BOOLEAN,
        "rollups": _ROLLUPS,
    }
)


@get(
    "/v1/admin/doctor",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="Compare derived data with the facts",
            tag="Operation",
            description="Counts, the identity index, and usage derived again from the events. Changes nothing.",
            parameters=[query("full", "All of it; otherwise samples.", schema=_BOOLEAN)],
            answer=_EXAMINATION,
        )
    },
)
async def doctor(request: Connection) -> dict[str, Any]:
    """What is not as it must be."""
    check_installation_admin(request)
    fields = Fields.of_query(request)
    full = fields.boolean("full")
    fields.finish()
    return examination_document(await examine(wire.system_of(request), full=full))


@post(
    "/v1/admin/rebuild",
    guards=[require("admin")],
    status_code=202,
    opt={
        "operation": operation(
            summary="Make derived data anew from the facts",
            tag="Operation",
            description="Usage is answered from the events meanwhile, a little slower; no event is refused.",
            body=objects(
                {"parts": array({"type": "string", "enum": list(MENDABLE)}, minItems=1)},
                additionalProperties=False,
            ),
            body_example={"parts": ["readings"]},
            answer=_PROGRESS,
            status=202,
            errors=(504,),
        )
    },
)
async def start_rebuild(request: Connection) -> dict[str, Any]:
    """Begin; `GET` tells how far it is."""
    check_installation_admin(request)
    document = await wire.json_object(request)
    faults = wire.Faults()
    wire.check_members(document, ("parts",), faults)
    given: Any = document.get("parts")
    parts: list[Part] = [part for part in MENDABLE if isinstance(given, list) and part in given]
    if not isinstance(given, list) or not given or any(part not in MENDABLE for part in given):
        faults.add("/parts", "invalid_value", f"parts: a list of {' and '.join(MENDABLE)} is needed.")
    faults.raise_any()
    system = wire.system_of(request)
    await rebuild(system, parts)
    return progress_document(progress(system))


@get(
    "/v1/admin/rebuild",
    guards=[require("admin")],
    opt={"operation": operation(summary="How far a rebuild is", tag="Operation", answer=_PROGRESS)},
)
async def rebuild_progress(request: Connection) -> dict[str, Any]:
    """What is left to do."""
    check_installation_admin(request)
    wire.check_parameters(request, ())
    return progress_document(progress(wire.system_of(request)))


ROUTES = [doctor, start_rebuild, rebuild_progress]
