"""`/v1/dead_letters`: what sources could not take, with the reason; mended, retried or discarded here."""

import base64
import binascii
from typing import Any, cast

from litestar import Request, delete, get, post, put
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, etag_of
from tallystick.api.openapi import PAGE, STRING, TIME, Schema, listing, nullable, objects, operation, query
from tallystick.catalog.sourcing import (
    LETTER_STATUSES,
    LETTERS_AT_ONCE_MAX,
    RAW_BYTES_MAX,
    DeadLetter,
    LetterSearch,
    LetterStatus,
)
from tallystick.errors import NotFound
from tallystick.flows.customers import check_unbound
from tallystick.flows.sources.feed import catalog_of
from tallystick.flows.sources.letters import discard_all, retry, retry_all
from tallystick.flows.usage import in_questions
from tallystick.sources.records import record_text

Connection = Request[Any, Any, Any]
_NUMBER_DIGITS_MAX = 18


def letter_document(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter on the wire. `raw` is text; what is no UTF-8 stands in `raw_base64`."""
    text = record_text(letter.raw)
    return {
        "id": str(letter.number),
        "source": letter.source,
        "where": letter.place,
        "form": letter.form,
        "raw": text,
        "raw_base64": base64.b64encode(letter.raw).decode() if text is None else None,
        "truncated": letter.truncated,
        "edited": letter.edited,
        "code": letter.code,
        "detail": letter.detail,
        "status": letter.status,
        "attempts": letter.attempts,
        "event": None if letter.event_id is None else {"source": letter.event_source, "id": letter.event_id},
        "created_at": wire.time_text(letter.created_at_us),
        "changed_at": wire.time_text(letter.changed_at_us),
    }


_LETTER = objects(
    {
        "id": STRING,
        "source": {"type": "string", "description": "Key of the source."},
        "where": {
            "type": "string",
            "description": "Place within the source: object and row, topic and offset.",
        },
        "form": {
            "type": "string",
            "enum": ["record", "event"],
            "description": "record: as it came in, before the mapping. event: what the mapping made of it.",
        },
        "raw": nullable(STRING),
        "raw_base64": nullable(STRING),
        "truncated": {"type": "boolean", "description": "It was too long to be kept whole."},
        "edited": {"type": "boolean"},
        "code": {"type": "string", "description": "Why it was refused, last."},
        "detail": STRING,
        "status": {"type": "string", "enum": list(LETTER_STATUSES)},
        "attempts": {"type": "integer"},
        "event": nullable(objects({"source": STRING, "id": STRING})),
        "created_at": TIME,
        "changed_at": TIME,
    }
)
_FILTER: dict[str, Schema] = {
    "source": {"type": "string", "description": "Key of a source."},
    "code": {"type": "string", "description": "A reason, such as `missing_subject`."},
}


def _answer(letter: DeadLetter) -> Response[Any]:
    document = letter_document(letter)
    return Response(document, headers={"ETag": etag_of(document)})


def _number(request: Connection) -> int:
    text: str = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX):
        raise NotFound("There is no such dead letter.", code="dead_letter_not_found")
    return int(text)


@get(
    "/v1/dead_letters",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="List dead letters",
            tag="Sources",
            parameters=[
                query("source", "Of this source."),
                query(
                    "status", "Default: open.", schema={"type": "string", "enum": [*LETTER_STATUSES, "any"]}
                ),
                query("code", "Refused for this reason."),
                *PAGE,
            ],
            answer=listing(_LETTER),
        )
    },
)
async def list_dead_letters(request: Connection) -> dict[str, Any]:
    """The oldest first."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = Fields.of_query(request)
    status = fields.choice("status", (*LETTER_STATUSES, "any")) or "open"
    search = LetterSearch(
        source=fields.text("source"),
        status=None if status == "any" else cast("LetterStatus", status),
        code=fields.text("code"),
    )
    limit, cursor = fields.catalog_page()
    fields.finish()

    def work() -> dict[str, Any]:
        page = catalog_of(system).dead_letters(who.tenant, search, cursor=cursor, limit=limit)
        return wire.page_answer(map(letter_document, page.items), page.next_cursor)

    return await in_questions(system, work)


@get(
    "/v1/dead_letters/{id:str}",
    guards=[require("events:read")],
    opt={"operation": operation(summary="Read a dead letter", tag="Sources", answer=_LETTER)},
)
async def get_dead_letter(request: Connection) -> Response[Any]:
    """As it came in, or as it was edited."""
    wire.check_parameters(request, ())
    system, who, number = wire.system_of(request), caller(request), _number(request)
    check_unbound(who.customer)
    return _answer(await in_questions(system, lambda: catalog_of(system).dead_letter(who.tenant, number)))


@put(
    "/v1/dead_letters/{id:str}",
    guards=[require("events:write")],
    opt={
        "operation": operation(
            summary="Edit a dead letter",
            tag="Sources",
            description="Sets what is retried: one JSON object, a record for the mapping (`form: record`) or an event. Its "
            "identity stays: where it says no id, it has one that follows from its place.",
            body=objects(
                {
                    "raw": {"type": "string", "maxLength": RAW_BYTES_MAX},
                    "raw_base64": {"type": "string", "description": "In the place of `raw`."},
                },
                required=(),
                additionalProperties=False,
            ),
            body_example={"raw": '{"id":"r-7","type":"api_call","subject":"acme","data":{"n":1}}'},
            answer=_LETTER,
            errors=(409, 412),
        )
    },
)
async def edit_dead_letter(request: Connection) -> Response[Any]:
    """Nothing is sent before it is retried."""
    system, tenant = wire.system_of(request), caller(request).tenant
    number = _number(request)
    fields = await Fields.of_body(request, nulls=False)
    text = fields.text("raw", characters_max=RAW_BYTES_MAX)
    encoded = fields.text("raw_base64", characters_max=2 * RAW_BYTES_MAX)
    raw = b"" if text is None else text.encode()
    if encoded is not None:
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            fields.fault("raw_base64", "invalid_value", "raw_base64 is no base64.")
    if (text is None) == (encoded is None) and not fields.faults.found:
        fields.fault("raw", "missing", "raw is required (or raw_base64, for what is no text).")
    if len(raw) > RAW_BYTES_MAX:
        fields.fault("raw", "too_large", f"A dead letter has at most {RAW_BYTES_MAX:,} bytes.")
    fields.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    edited = await in_questions(
        system,
        lambda: catalog_of(system).edit_dead_letter(
            tenant,
            number,
            raw,
            expected=lambda found: check_if_match(request, letter_document(found)),
            actor=actor,
            now_us=now_us,
        ),
    )
    return _answer(edited)


@post(
    "/v1/dead_letters/{id:str}/retry",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Retry a dead letter",
            tag="Sources",
            description="Through the source's mapping, as it is now, into the log. `status: retried` with the event's identity, or "
            "`open` with the reason. However often it is tried, it is one event.",
            answer=_LETTER,
            errors=(409, 507),
        )
    },
)
async def retry_dead_letter(request: Connection) -> Response[Any]:
    """Answers when the event is durable."""
    wire.check_parameters(request, ())
    return _answer(await retry(wire.system_of(request), caller(request).tenant, _number(request)))


async def _filter_of(request: Connection) -> LetterSearch:
    if not await wire.arrived(request):
        wire.check_parameters(request, ())
        return LetterSearch()
    fields = await Fields.of_body(request, nulls=False)
    search = LetterSearch(source=fields.text("source"), code=fields.text("code"))
    fields.finish()
    return search


@post(
    "/v1/dead_letters/retry",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Retry dead letters",
            tag="Sources",
            description=f"The oldest open ones of a source, of a reason, or all: at most {LETTERS_AT_ONCE_MAX}; `more` says "
            "whether there are others. The body may be left out.",
            body=objects(_FILTER, required=(), additionalProperties=False),
            body_example={"source": "gateway-logs"},
            body_required=False,
            answer=objects(
                {"retried": {"type": "integer"}, "refused": {"type": "integer"}, "more": {"type": "boolean"}}
            ),
            errors=(507,),
        )
    },
)
async def retry_dead_letters(request: Connection) -> dict[str, Any]:
    """Those that are refused again stay open."""
    search = await _filter_of(request)
    done = await retry_all(wire.system_of(request), caller(request).tenant, search)
    return {"retried": done.retried, "refused": done.refused, "more": done.more}


@post(
    "/v1/dead_letters/discard",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Discard dead letters",
            tag="Sources",
            description=f"Closes the oldest open ones, at most {LETTERS_AT_ONCE_MAX}: they are not retried any more.",
            body=objects(_FILTER, required=(), additionalProperties=False),
            body_example={"source": "gateway-logs", "code": "invalid_json"},
            body_required=False,
            answer=objects({"discarded": {"type": "integer"}, "more": {"type": "boolean"}}),
        )
    },
)
async def discard_dead_letters(request: Connection) -> dict[str, Any]:
    """The audit has how many."""
    search = await _filter_of(request)
    system = wire.system_of(request)
    closed, more = await discard_all(system, caller(request).tenant, search, actor=actor_of(request))
    return {"discarded": closed, "more": more}


@delete(
    "/v1/dead_letters/{id:str}",
    guards=[require("events:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Discard a dead letter",
            tag="Sources",
            description="It is not retried any more. The list has it under `status=discarded`.",
            status=204,
        )
    },
)
async def discard_dead_letter(request: Connection) -> None:
    """Discarding a closed one changes nothing."""
    wire.check_parameters(request, ())
    system, tenant, number = wire.system_of(request), caller(request).tenant, _number(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> None:
        catalog_of(system).dead_letter(tenant, number)
        catalog_of(system).discard_dead_letters(tenant, [number], actor=actor, now_us=now_us)

    await in_questions(system, work)


ROUTES: tuple[ControllerRouterHandler, ...] = (
    list_dead_letters,
    retry_dead_letters,
    discard_dead_letters,
    get_dead_letter,
    edit_dead_letter,
    retry_dead_letter,
    discard_dead_letter,
)
