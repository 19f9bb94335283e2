"""How Lago words things: errors, pages, money in the smallest unit, ids."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from litestar import Request, Response

from tallystick.api import wire
from tallystick.api.compat.vendor import ErrorAnswer, Problem, described, uuid_of
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, Schema, array, nullable, objects, query
from tallystick.errors import BadRequest
from tallystick.money import exponent_of

Connection = Request[Any, Any, Any]

BASE = "/lago/api/v1"
PER_PAGE = 100
PER_PAGE_MAX = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ERROR = objects(
    {
        "status": {"type": "integer"},
        "error": STRING,
        "code": STRING,
        "error_details": {"description": "Field → codes; of a batch, index → field → codes."},
    },
    required=("status", "error"),
)
operation_of = partial(described, tag="Lago", error=_ERROR, errors=(405, 408, 507))

_CODES = {"meter_not_found": "billable_metric_not_found", "route_not_found": "not_found"}
_EXISTS = {"meter_exists": "code", "plan_exists": "code", "subscription_exists": "external_id"}
_MANDATORY = ("missing", "missing_id", "missing_type", "missing_subject", "empty", "required")


def error_of(problem: Problem, path: str) -> ErrorAnswer:
    """Lago answers 422 where we have 409 and 413, and names fields with codes of its own."""
    if problem.status in (409, 413, 422):
        field = _EXISTS.get(problem.code)
        if field is not None:
            return ErrorAnswer(422, refusal({field: ["value_already_exist"]}))
        return ErrorAnswer(422, refusal(_details(problem)))
    document: dict[str, Any] = {"status": problem.status, "error": HTTPStatus(problem.status).phrase}
    if problem.status == 400:
        document["error"] = f"BadRequest: {problem.detail}"
    elif problem.status not in (401, 500):
        document["code"] = _CODES.get(problem.code, problem.code)
    return ErrorAnswer(problem.status, document)


def refusal(details: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a 422."""
    return {
        "status": 422,
        "error": "Unprocessable Entity",
        "code": "validation_errors",
        "error_details": dict(details),
    }


def refused(details: Mapping[str, Any]) -> Response[dict[str, Any]]:
    """A 422 in Lago's own codes."""
    return Response(refusal(details), status_code=422)


def _details(problem: Problem) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for one in problem.errors:
        field = one.pointer.strip("/").rpartition("/")[2] or "base"
        made.setdefault(field, []).append(_code(one.code))
    return made or {"base": [problem.code]}


def _code(code: str) -> str:
    if code in _MANDATORY:
        return "value_is_mandatory"
    return "value_is_invalid" if code.startswith("invalid_") and code != "invalid_format" else code


async def root_of(request: Connection, name: str) -> Fields:
    """The object under the one member a body has: `{"customer": {…}}`. Members that are null are absent."""
    document = await wire.json_object(request)
    inner = document.get(name)
    if not isinstance(inner, dict):
        raise BadRequest(f"param is missing or the value is empty or invalid: {name}")
    members = cast("dict[str, Any]", inner)
    return Fields({key: value for key, value in members.items() if value is not None}, body=True)


def lago_id(kind: str, tenant: str, key: str) -> str:
    return uuid_of("lago", kind, tenant, key)


def time_text(us: int) -> str:
    """To the second, as Lago answers."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%SZ")


def optional_time(us: int | None) -> str | None:
    return None if us is None else time_text(us)


def cents(amount: Decimal, currency: str) -> int:
    """Whole smallest units, half up."""
    return int(amount.scaleb(exponent_of(currency)).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def units_text(value: Decimal) -> str:
    """Exact, and with a point, as Lago writes units: 3 → `3.0`."""
    text = wire.decimal_text(value)
    return text if "." in text else f"{text}.0"


def page_of(fields: Fields) -> tuple[int, int]:
    """`page` and `per_page`."""
    page = fields.integer("page", least=1, most=1_000_000) or 1
    return page, fields.integer("per_page", least=1, most=PER_PAGE_MAX) or PER_PAGE


def paged(name: str, items: Sequence[dict[str, Any]], page: int, size: int) -> dict[str, Any]:
    """One page of a list that is all there."""
    pages = -(-len(items) // size)
    return {
        name: list(items[(page - 1) * size : page * size]),
        "meta": {
            "current_page": page,
            "next_page": page + 1 if page < pages else None,
            "prev_page": page - 1 if page > 1 else None,
            "total_pages": pages,
            "total_count": len(items),
        },
    }


_INTEGER: Schema = {"type": "integer"}
PAGES = [
    query("page", "From 1.", schema={"type": "integer", "minimum": 1}),
    query("per_page", "At most 1000.", schema={"type": "integer", "minimum": 1, "maximum": PER_PAGE_MAX}),
]


def listing(name: str, item: Schema) -> Schema:
    """The schema of `paged`."""
    meta = objects(
        {
            "current_page": _INTEGER,
            "next_page": nullable(_INTEGER),
            "prev_page": nullable(_INTEGER),
            "total_pages": _INTEGER,
            "total_count": _INTEGER,
        }
    )
    return objects({name: array(item), "meta": meta})
