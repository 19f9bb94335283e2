"""`POST /v1/events/corrections`: take events back, or put others in their place. Facts that cite facts; nothing is altered."""

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from litestar import Request, Response, post

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.openapi import EVENT, EVENT_EXAMPLE, POSITION, STRING, array, nullable, objects, operation
from tallystick.api.search import contribution_document
from tallystick.errors import BadRequest, Invalid, TooLarge, UnsupportedMediaType
from tallystick.flows.correct import CorrectionResult, correct
from tallystick.flows.customers import check_unbound
from tallystick.flows.position import token_of
from tallystick.flows.preview import Effect, preview_correction
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.decode import Decoded, Limits, decode
from tallystick.metering.verdict import ID_CHARACTERS_MAX, SOURCE_CHARACTERS_MAX

Connection = Request[Any, Any, Any]

ITEMS_MAX = 10_000
REASON_CHARACTERS_MAX = 1000
BODY_BYTES_MAX = 32 * 1024 * 1024
SOURCE_DEFAULT = "/"

_MEMBERS = ("reason", "retract", "replace")
_SPACE = " \t\r\n"


# -- the body ----------------------------------------------------------------------------------------------------------
def members_of(body: bytes) -> dict[str, bytes]:
    """The members of a JSON object, each as its own bytes: events keep theirs letter for letter.

    Raises BadRequest (invalid_json, duplicate_key) and Invalid (not_an_object)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8 (at byte {error.start}).", code="invalid_json") from None
    read = json.JSONDecoder(parse_constant=_refuse)
    members: dict[str, bytes] = {}
    at = _next(text, 0)
    if at == len(text):
        raise BadRequest("A JSON body is needed.", code="invalid_json")
    if text[at] != "{":
        raise wire.invalid("", "not_an_object", "The body must be a JSON object.")
    at = _next(text, at + 1)
    first = True
    while not (first and text[at : at + 1] == "}"):
        name, at = _value(read, text, at)
        if not isinstance(name, str):
            raise _not_json("a name is needed", at)
        at = _expected(text, at, ":")
        start = _next(text, at)
        _, at = _value(read, text, start)
        if name in members:
            raise BadRequest(f"The member {name[:80]!r} stands twice in one object.", code="duplicate_key")
        members[name] = text[start:at].encode()
        at = _next(text, at)
        if text[at : at + 1] == "}":
            break
        at = _next(text, _expected(text, at, ","))
        first = False
    if _next(text, at + 1) != len(text):
        raise _not_json("something follows the object", at + 1)
    return members


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _expected(text: str, at: int, mark: str) -> int:
    at = _next(text, at)
    if text[at : at + 1] != mark:
        raise _not_json(f"{mark!r} is needed", at)
    return at + 1


def _value(read: json.JSONDecoder, text: str, at: int) -> tuple[Any, int]:
    try:
        return read.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise _not_json(error.msg, error.pos) from None
    except (RecursionError, ValueError):
        # Nested without end, or a numeral of thousands of digits.
        raise _not_json("a value cannot be read", at) from None


def _not_json(what: str, at: int) -> BadRequest:
    return BadRequest(f"The body is not JSON: {what} at character {at + 1}.", code="invalid_json")


def _refuse(text: str) -> Any:
    raise BadRequest(f"{text} is not JSON.", code="invalid_json")


def _reason(raw: bytes | None, faults: wire.Faults) -> str:
    reason = None if raw is None else wire.parse_json(raw, bytes_max=BODY_BYTES_MAX)
    if reason is None:
        faults.add("/reason", "missing", "reason is required.")
    elif not isinstance(reason, str) or not 0 < len(reason) <= REASON_CHARACTERS_MAX:
        detail = f"reason must be a string of 1 to {REASON_CHARACTERS_MAX} characters."
        faults.add("/reason", "invalid_value", detail)
    else:
        return reason
    return ""


def _retracted(raw: bytes | None, faults: wire.Faults) -> list[tuple[str, str]]:
    """(source, id) of each; faults are noted."""
    listed = None if raw is None else wire.parse_json(raw, bytes_max=BODY_BYTES_MAX)
    if listed is None:
        return []
    if not isinstance(listed, list):
        faults.add("/retract", "invalid_value", 'retract must be an array of {"source", "id"}.')
        return []
    items: list[tuple[str, str]] = []
    for number, item in enumerate(cast("list[Any]", listed)):
        place = wire.pointer_of("retract", number)
        if not isinstance(item, dict):
            faults.add(place, "invalid_value", f'{place} must be an object {{"source", "id"}}.')
            continue
        members = cast("dict[str, Any]", item)
        for name in members:
            if name not in ("source", "id"):
                pointer = wire.pointer_of("retract", number, name)
                faults.add(pointer, "unknown_member", f"There is no member {name[:60]!r} here.")
        source = members.get("source")
        source = SOURCE_DEFAULT if source is None else source
        event_id = members.get("id")
        if event_id is None:
            faults.add(f"{place}/id", "missing_id", f"{place}/id is required.")
        elif not _named(event_id, ID_CHARACTERS_MAX):
            detail = f"{place}/id must be a string of 1 to {ID_CHARACTERS_MAX} characters without NUL."
            faults.add(f"{place}/id", "invalid_value", detail)
        if not _named(source, SOURCE_CHARACTERS_MAX):
            detail = (
                f"{place}/source must be a string of 1 to {SOURCE_CHARACTERS_MAX} characters without NUL."
            )
            faults.add(f"{place}/source", "invalid_source", detail)
        items.append((str(source), str(event_id)))
        if len(faults.found) >= wire.LIST_LIMIT_MAX:
            break
    return items


def _named(text: object, characters_max: int) -> bool:
    if not isinstance(text, str) or not 0 < len(text) <= characters_max or "\0" in text:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _replacing(raw: bytes | None, system: System, tenant: str, *, items_max: int) -> Decoded | None:
    """The events of `replace`, judged as those of ingest; None when there are none."""
    if raw is None or raw == b"null" or not raw.strip(b"[] \t\r\n"):
        return None
    if not raw.startswith(b"["):
        raise wire.invalid("/replace", "invalid_value", "replace must be an array of events.")
    settings = system.settings
    return decode(
        raw,
        content_type="application/cloudevents-batch+json",
        ce_headers={},
        tenant=tenant,
        received_at_us=system.clock.now_us(),
        limits=Limits(
            events_max=items_max,
            event_bytes_max=settings.event_bytes_max,
            depth_max=settings.event_depth_max,
            future_tolerance_us=settings.future_tolerance_s * 1_000_000,
        ),
    )


def _read(
    body: bytes, system: System, tenant: str, *, needs_reason: bool = True
) -> tuple[str, list[tuple[str, str]], Decoded | None]:
    members: Mapping[str, bytes] = members_of(body)
    faults = wire.Faults()
    wire.check_members(dict.fromkeys(members), _MEMBERS, faults)
    reason = _reason(members.get("reason"), faults) if needs_reason or "reason" in members else ""
    retract = _retracted(members.get("retract"), faults)
    if len(retract) > ITEMS_MAX:
        raise TooLarge(
            f"The request has more than {ITEMS_MAX} corrections. Send them in several.",
            code="too_many_events",
        )
    replace: Decoded | None = None
    try:
        replace = _replacing(members.get("replace"), system, tenant, items_max=ITEMS_MAX - len(retract))
    except Invalid as error:
        faults.take(error)
    if not retract and replace is None and not faults.found:
        faults.add("", "no_corrections", "The request corrects nothing: retract and replace are empty.")
    faults.raise_any()
    return reason, retract, replace


# -- the answer --------------------------------------------------------------------------------------------------------
def results_of(
    retract: list[tuple[str, str]], replace: Decoded | None, statuses: list[str]
) -> list[dict[str, Any]]:
    """One result an item: those of `retract`, then those of `replace`, each in the order of the request."""
    results: list[dict[str, Any]] = [
        {"index": index, "action": "retract", "source": source, "id": event_id, "status": status}
        for index, ((source, event_id), status) in enumerate(
            zip(retract, statuses[: len(retract)], strict=True)
        )
    ]
    if replace is None:
        return results
    replaced: list[dict[str, Any]] = [
        {
            "index": row if replace.indices is None else replace.indices[row],
            "action": "replace",
            "source": replace.events.source[row],
            "id": replace.events.id[row],
            "status": status,
        }
        for row, status in enumerate(statuses[len(retract) :])
    ]
    replaced += [
        {
            "index": rejection.index,
            "action": "replace",
            "source": None,
            "id": rejection.id,
            "status": "rejected",
            "code": rejection.code,
            "detail": rejection.detail,
        }
        for rejection in replace.rejected
    ]
    replaced.sort(key=_index)
    return results + replaced


def _index(result: dict[str, Any]) -> int:
    return result["index"]


STATUSES = ("retracted", "replaced", "restored", "unchanged", "already_retracted", "not_found", "rejected")


@post(
    "/v1/events/corrections",
    guards=[require("events:write")],
    status_code=200,
    request_max_body_size=BODY_BYTES_MAX,
    opt={
        "operation": operation(
            summary="Correct events",
            tag="Events",
            description="Retracts events, and puts others in the place of those with their identity. A correction is a new "
            "fact with its reason and author; what it corrects stays, and usage asked `as_of` an earlier moment still "
            "counts it. The corrections count when this is answered. Retractions are made first. `replace` of a retracted "
            "event restores it. A status for each: `unchanged` (it says what it replaces says), `already_retracted`, "
            f"`not_found` (no such event is recorded), `rejected` (no valid event). At most {ITEMS_MAX} in one request.",
            body=objects(
                {
                    "reason": {"type": "string", "minLength": 1, "maxLength": REASON_CHARACTERS_MAX},
                    "retract": array(
                        objects(
                            {"source": {"type": "string", "default": SOURCE_DEFAULT}, "id": STRING},
                            required=("id",),
                            additionalProperties=False,
                        ),
                        maxItems=ITEMS_MAX,
                    ),
                    "replace": array(
                        EVENT, maxItems=ITEMS_MAX, description="Events with an existing identity."
                    ),
                },
                required=("reason",),
                additionalProperties=False,
            ),
            body_example={
                "reason": "billed twice by the gateway",
                "retract": [{"source": "/gateway", "id": "r-2"}],
                "replace": [EVENT_EXAMPLE],
            },
            answer=objects(
                {
                    "position": POSITION,
                    "results": array(
                        objects(
                            {
                                "index": {"type": "integer", "description": "Place in its list, from 0."},
                                "action": {"type": "string", "enum": ["retract", "replace"]},
                                "source": nullable(STRING),
                                "id": nullable(STRING),
                                "status": {"type": "string", "enum": [*STATUSES]},
                                "code": STRING,
                                "detail": STRING,
                            },
                            required=("index", "action", "source", "id", "status"),
                        )
                    ),
                }
            ),
            errors=(504, 507),
            creates=True,
        )
    },
)
async def correct_events(request: Connection) -> Response[bytes]:
    """Retract and replace."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    wire.check_parameters(request, ())
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(f"Content-Type {media_type[:60]!r}: this route takes application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("This route takes no Content-Encoding.", code="unsupported_encoding")
    body = await wire.arrived(request)
    reason, retract, replace = await in_questions(system, lambda: _read(body, system, who.tenant))
    accepted = None if replace is None or not len(replace.events) else replace.events
    result = CorrectionResult(system.recorder.position, [])
    if retract or accepted is not None:
        result = await correct(
            system,
            who.tenant,
            reason=reason,
            actor=actor_of(request),
            retract=retract,
            replacements=accepted,
        )
    document = {
        "position": token_of(result.position),
        "results": results_of(retract, replace, result.statuses),
    }
    return Response(msgspec.json.encode(document), media_type="application/json", status_code=200)


PREVIEWED_MAX = 100
_SIDE = array(
    objects(
        {"meter": STRING, "version": {"type": "integer"}, "value": STRING, "excluded": STRING},
        required=("meter", "version"),
    ),
    description="For each meter of its type what it contributes, or why nothing.",
)


@post(
    "/v1/correction_preview",
    guards=[require("events:read")],
    status_code=200,
    request_max_body_size=BODY_BYTES_MAX,
    opt={
        "operation": operation(
            summary="What a correction would change",
            tag="Events",
            description="Takes what `POST /v1/events/corrections` takes, of which `reason` may be left out, and changes "
            f"nothing. At most {PREVIEWED_MAX} in one request.",
            body=objects(
                {
                    "reason": {"type": "string", "maxLength": REASON_CHARACTERS_MAX},
                    "retract": array(
                        objects(
                            {"source": {"type": "string", "default": SOURCE_DEFAULT}, "id": STRING},
                            required=("id",),
                            additionalProperties=False,
                        )
                    ),
                    "replace": array(EVENT, description="Events with an existing identity."),
                },
                required=(),
                additionalProperties=False,
            ),
            body_example={"retract": [{"source": "/gateway", "id": "r-2"}]},
            answer=objects(
                {
                    "items": array(
                        objects(
                            {
                                "action": {"type": "string", "enum": ["retract", "replace"]},
                                "source": STRING,
                                "id": STRING,
                                "found": {
                                    "type": "boolean",
                                    "description": "Whether there is such an event.",
                                },
                                "before": _SIDE,
                                "after": _SIDE,
                            }
                        )
                    ),
                    "rejected": array(
                        objects({"index": {"type": "integer"}, "code": STRING, "detail": STRING}),
                        description="Events of `replace` that are none.",
                    ),
                }
            ),
        )
    },
)
async def preview_corrections(request: Connection) -> Response[bytes]:
    """Nothing is changed."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    wire.check_parameters(request, ())
    body = await wire.arrived(request)
    _, retract, replace = await in_questions(
        system, lambda: _read(body, system, who.tenant, needs_reason=False)
    )
    accepted = None if replace is None or not len(replace.events) else replace.events
    if len(retract) + (0 if accepted is None else len(accepted)) > PREVIEWED_MAX:
        raise TooLarge(
            f"At most {PREVIEWED_MAX} corrections are previewed at a time.", code="too_many_events"
        )
    effects = await preview_correction(system, who.tenant, retract, accepted)
    return Response(
        msgspec.json.encode(
            {
                "items": [_effect(one) for one in effects],
                "rejected": [
                    {"index": one.index, "code": one.code, "detail": one.detail}
                    for one in ([] if replace is None else replace.rejected)
                ],
            }
        ),
        media_type="application/json",
        status_code=200,
    )


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "action": effect.action,
        "source": effect.source,
        "id": effect.id,
        "found": effect.found,
        "before": [contribution_document(one) for one in effect.before],
        "after": [contribution_document(one) for one in effect.after],
    }


ROUTES = [correct_events, preview_corrections]
