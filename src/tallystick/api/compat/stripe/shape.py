"""How Stripe words things: errors, keys, lists."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tallystick.api.compat.stripe.parameters import Parameters
from tallystick.api.compat.vendor import ErrorAnswer, Problem, described
from tallystick.api.openapi import STRING, array, objects, query
from tallystick.errors import NotFound
from tallystick.flows.system import System

BASE = "/stripe"
FORM = "application/x-www-form-urlencoded"
SYSTEM = "stripe"
"""Our name for Stripe among a customer's external ids."""
STREAM_PATH = f"{BASE}/v2/billing/meter_event_stream"
LIST_DEFAULT, LIST_MAX = 10, 100

ERROR = objects(
    {
        "error": objects(
            {"type": STRING, "message": STRING, "code": STRING, "param": STRING},
            required=("type", "message"),
        )
    }
)
operation_of = partial(described, tag="Stripe", error=ERROR)
_BOOLEAN = {"type": "boolean"}
_CODES = {
    "missing": "parameter_missing",
    "unknown_parameter": "parameter_unknown",
    "invalid_number": "parameter_invalid_integer",
    "empty": "parameter_invalid_empty",
    "not_found": "resource_missing",
    "meter_exists": "resource_already_exists",
}
_BASIC = re.compile(rb"basic\s+([A-Za-z0-9+/=]+)\s*\Z", re.IGNORECASE)
_IN_URL = re.compile(r"/stripe(?=/)")


def error_of(problem: Problem, path: str) -> ErrorAnswer:
    """Stripe names the first fault alone. 400 for whatever is wrong with a request; its kinds are in `type`."""
    status = 400 if problem.status in (409, 412, 413, 415, 422) else problem.status
    error: dict[str, Any] = {"type": "invalid_request_error", "message": problem.detail}
    first = problem.errors[0] if problem.errors else None
    if problem.code == "idempotency_key_reused":
        error.update(
            type="idempotency_error",
            message="Keys for idempotent requests can only be used with the same parameters they were first used with.",
        )
    elif problem.code == "idempotency_key_in_use":
        status = 409
        error.update(type="idempotency_error", code=problem.code)
    elif status == 401:
        if path.rstrip("/") == STREAM_PATH:
            # What its libraries look for to begin another session.
            error |= {"type": "temporary_session_expired", "code": "billing_meter_event_session_expired"}
    elif status == 404:
        if problem.code == "route_not_found":
            error["message"] = f"Unrecognized request URL ({_IN_URL.sub('', path, count=1)})."
        else:
            error["code"] = "resource_missing"
    elif status == 429:
        error["code"] = "rate_limit"
    elif status >= 500:
        error["type"] = "api_error"
    if first is not None and not problem.code.startswith("idempotency_"):
        error["message"] = first.detail
        error["param"] = first.pointer
        if first.code in _CODES:
            error["code"] = _CODES[first.code]
    return ErrorAnswer(status, {"error": error})


def secret_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key as the user of HTTP Basic; `Bearer` is understood everywhere."""
    match = _BASIC.match(headers.get(b"authorization", b""))
    if match is None:
        return None
    try:
        return base64.b64decode(match[1], validate=True).partition(b":")[0]
    except (binascii.Error, ValueError):
        return None


def live_mode(system: System, tenant: str) -> bool:
    """Whether the tenant is more than a try. Synchronous."""
    return system.catalog.tenant(tenant).environment == "live"


def seconds(us: int) -> int:
    """Unix time."""
    return us // 1_000_000


def form(schema: dict[str, Any], example: str) -> dict[str, Any]:
    """The body of a v1 route, for the contract."""
    return {FORM: {"schema": schema, "example": example}}


# -- lists -----------------------------------------------------------------------------------------------------------
LIST_PARAMETERS = (
    query("limit", "1 to 100, 10 by default.", schema={"type": "integer"}),
    query("starting_after", "Go on behind this id."),
    query("ending_before", "Those before this id."),
    query("expand[]", "Ignored: everything is there."),
)


def listing_of(item: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list."""
    return objects({"object": STRING, "url": STRING, "has_more": _BOOLEAN, "data": array(item)})


def read_page(parameters: Parameters) -> tuple[int, str | None, str | None]:
    """limit, starting_after, ending_before."""
    limit = parameters.integer("limit", least=1, most=LIST_MAX) or LIST_DEFAULT
    return limit, parameters.text("starting_after"), parameters.text("ending_before")


def paged(
    documents: Sequence[Any],
    page: tuple[int, str | None, str | None],
    url: str,
    *,
    id_of: Callable[[Any], str],
) -> dict[str, Any]:
    """A page of all there are, newest first. Raises NotFound for an id that is none of theirs."""
    limit, after, before = page
    start, end = 0, len(documents)
    place = {id_of(document): index for index, document in enumerate(documents)}
    for name in (after, before):
        if name is not None and name not in place:
            raise NotFound(f"No such object: '{name[:80]}'.")
    if after is not None:
        start = place[after] + 1
    if before is not None:
        end = place[before]
        more = end - limit > start
        shown = documents[max(start, end - limit) : end]
    else:
        more = end > start + limit
        shown = documents[start : start + limit]
    return {"object": "list", "url": url, "has_more": more, "data": list(shown)}
