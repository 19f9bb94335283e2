"""How OpenMeter words things: errors, times, ids, pages."""

import ast
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from zoneinfo import ZoneInfo

from tallystick.api import wire
from tallystick.api.compat.vendor import ErrorAnswer, Problem, described
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, objects
from tallystick.api.problem import PROBLEM_TYPE

BASE = "/openmeter/api"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ERROR = objects(
    {
        "type": STRING,
        "title": STRING,
        "status": {"type": "integer"},
        "detail": STRING,
        "instance": STRING,
        "extensions": {"type": "object"},
    },
    required=("type", "title", "status", "detail"),
)
operation_of = partial(described, tag="OpenMeter", error=ERROR, error_media_type=PROBLEM_TYPE)


def error_of(problem: Problem, path: str) -> ErrorAnswer:
    """OpenMeter has 400 for whatever is wrong with a request, and a problem document with nothing but the usual members.
    What we know beyond that stands in `extensions`."""
    status = 400 if problem.status in (413, 415, 422) else problem.status
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": problem.detail,
        "instance": f"urn:request:{path}",
        "extensions": {
            "code": problem.code,
            "errors": [
                {"pointer": one.pointer, "code": one.code, "detail": one.detail} for one in problem.errors
            ],
        },
    }
    return ErrorAnswer(status, document, PROBLEM_TYPE)


def time_text(us: int, zone: ZoneInfo | None = None) -> str:
    """A moment; in a zone with its offset, as OpenMeter answers windows."""
    if zone is None or zone.key == "UTC":
        return wire.time_text(us)
    moment = (_EPOCH + timedelta(microseconds=us)).astimezone(zone)
    return moment.isoformat()


def object_in(fields: Fields, name: str) -> dict[str, Any] | None:
    """A query parameter that holds an object: JSON, or, as the Python client writes it, a Python literal."""
    text = fields.text(name)
    if text is None:
        return None
    try:
        found: Any = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
    if isinstance(found, dict):
        return cast("dict[str, Any]", found)
    fields.fault(name, "invalid_value", f"{name} must be a JSON object.")
    return None
