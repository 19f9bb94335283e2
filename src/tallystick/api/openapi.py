"""The published contract: one OpenAPI 3.1 document, put together from what each route says of itself.

A route says it with `opt={"operation": operation(…)}`. The parts that every route shares (security, request id, the errors
any route can answer, path parameters, Idempotency-Key) are added here, so that no route can forget them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from operator import attrgetter
from typing import Any

from litestar import Litestar
from litestar.routes import HTTPRoute

import tallystick
from tallystick.api.codes import CODES
from tallystick.api.example import example_of
from tallystick.metering.verdict import BODY_CODES

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
DECIMAL: Schema = {
    "type": "string",
    "pattern": r"^-?\d+(\.\d+)?$",
    "description": "An exact decimal.",
}
KEY: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"}
POSITION: Schema = {
    "type": "string",
    "description": "Opaque. Hand it back as `min_position` to get an answer that includes it.",
}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def objects(
    properties: Mapping[str, Schema], *, required: Iterable[str] | None = None, **more: Any
) -> Schema:
    """An object; all properties are required unless said otherwise."""
    names = list(properties) if required is None else list(required)
    schema: Schema = {"type": "object", "properties": dict(properties), **more}
    if names:
        schema["required"] = names
    return schema


def listing(item: Schema) -> Schema:
    """The answer of a list route."""
    return objects({"items": array(item), "next_cursor": nullable(STRING)})


def query(
    name: str,
    description: str,
    *,
    schema: Schema | None = None,
    required: bool = False,
    repeated: bool = False,
    example: Any = None,
) -> dict[str, Any]:
    """A query parameter. `repeated`: it may be given several times."""
    inner = schema or STRING
    parameter: dict[str, Any] = {
        "name": name,
        "in": "query",
        "description": description,
        "required": required,
        "schema": array(inner) if repeated else inner,
    }
    if repeated:
        parameter.update(style="form", explode=True)
    if example is not None:
        parameter["example"] = example
    return parameter


PAGE = (
    query(
        "limit", "How many items.", schema={"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    ),
    query("cursor", "`next_cursor` of the answer before."),
)
"""The parameters of a list route."""


def operation(
    *,
    summary: str,
    tag: str,
    description: str = "",
    parameters: Sequence[dict[str, Any]] = (),
    body: Schema | None = None,
    body_example: Any = None,
    body_types: Mapping[str, dict[str, Any]] | None = None,
    body_required: bool = True,
    answer: Schema | None = None,
    answer_example: Any = None,
    answer_types: Mapping[str, dict[str, Any]] | None = None,
    status: int = 200,
    answers: Mapping[int, dict[str, Any]] | None = None,
    errors: Sequence[int] = (),
    creates: bool = False,
    public: bool = False,
    deprecated: datetime | None = None,
    sunset: datetime | None = None,
) -> dict[str, Any]:
    """What a route says of itself.

    `body`/`answer`: JSON schemas; `…_types`: further content types with their media type objects; `answers`: further
    answers by status, as response objects; `errors`: statuses beyond 401, 403, 404 (with path parameters), 422, 500 and
    503; `creates`: it takes an Idempotency-Key; `public`: it needs no
    key; `deprecated`, `sunset`: since when there is something better, and from when on it may be gone (RFC 9745, 8594)."""
    made: dict[str, Any] = {"summary": summary, "tags": [tag]}
    if description:
        made["description"] = description
    if parameters:
        made["parameters"] = list(parameters)
    content: dict[str, Any] = {}
    if body is not None:
        content["application/json"] = _media(body, body_example)
    content.update(body_types or {})
    if content:
        made["requestBody"] = {"required": body_required, "content": content}
    answered: dict[str, Any] = {"description": "Done."}
    answer_content: dict[str, Any] = {}
    if answer is not None:
        answer_content["application/json"] = _media(answer, answer_example)
    answer_content.update(answer_types or {})
    if answer_content:
        answered["content"] = answer_content
    made["responses"] = {str(status): answered}
    made["responses"].update({str(number): response for number, response in (answers or {}).items()})
    made["x-errors"] = sorted({*errors, *((400, 413, 415) if content else ()), *((409,) if creates else ())})
    made["x-creates"] = creates
    made["x-public"] = public
    if deprecated is not None or sunset is not None:
        made["deprecated"] = True
        made["x-headers"] = deprecation_headers(deprecated, sunset)
    return made


def deprecation_headers(deprecated: datetime | None, sunset: datetime | None) -> list[tuple[bytes, bytes]]:
    """`Deprecation: @<seconds>` (RFC 9745) and `Sunset: <HTTP date>` (RFC 8594); both moments with their zone."""
    headers: list[tuple[bytes, bytes]] = []
    if deprecated is not None:
        headers.append((b"deprecation", b"@%d" % int(deprecated.timestamp())))
    if sunset is not None:
        headers.append((b"sunset", format_datetime(sunset.astimezone(UTC), usegmt=True).encode()))
    return headers


def _media(schema: Schema, example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


# -- POST /v1/events: a route of its own making (api/ingest.py) ----------------------------------------------------
_VERDICT = objects(
    {
        "index": {"type": "integer", "description": "Place in the request, from 0."},
        "id": nullable(STRING),
        "status": {"type": "string", "enum": ["rejected", "duplicate", "conflict", "quarantined"]},
        "code": STRING,
        "detail": STRING,
    },
    required=["index", "id", "status"],
)
_COUNT: Schema = {"type": "integer", "minimum": 0}
ACCEPTED = objects(
    {
        "accepted": _COUNT,
        "rejected": _COUNT,
        "position": POSITION,
        "results": array(_VERDICT, description="The events that were not accepted."),
        "waited": {
            "type": "boolean",
            "description": "With `wait=recorded`: the time ran out; the events are durable and will be recorded.",
        },
    },
    required=["accepted", "rejected", "position", "results"],
)
RECORDED = objects(
    {
        "recorded": _COUNT,
        "duplicates": _COUNT,
        "conflicts": _COUNT,
        "rejected": _COUNT,
        "position": POSITION,
        "results": array(_VERDICT, description="The events that were not recorded or do not count, and why."),
        "quarantined": {
            **_COUNT,
            "description": "Recorded, and counting once their subject belongs to a customer; absent for none.",
        },
    },
    required=["recorded", "duplicates", "conflicts", "rejected", "position", "results"],
)
EVENT = objects(
    {
        "specversion": {"type": "string", "const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "default": "/"},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": nullable(TIME),
        "data": nullable({"type": "object"}),
    },
    required=["id", "type", "subject"],
    description="A CloudEvents 1.0 event. Identity is (tenant, source, id), for ever.",
)
EVENT_EXAMPLE = {
    "id": "r-1",
    "source": "/gateway",
    "type": "llm.completion",
    "subject": "acme",
    "time": "2026-07-01T12:00:00Z",
    "data": {"model": "gpt-4", "tokens": 123},
}


def events_operation() -> dict[str, Any]:
    """`POST /v1/events`."""
    one: dict[str, Any] = {"schema": EVENT, "example": {"specversion": "1.0", **EVENT_EXAMPLE}}
    line = '{"id":"r-1","type":"llm.completion","subject":"acme","data":{"tokens":123}}'
    made = operation(
        summary="Send events",
        tag="Events",
        description=(
            "Answered once every accepted event is durable. Each event gets a verdict of its own. CloudEvents binary "
            "mode (attributes in `ce-*` headers, `data` as the body) is understood as well. `Content-Encoding: gzip` "
            "and `zstd` are accepted; the limits hold for the decoded size."
        ),
        parameters=(
            query(
                "wait",
                "Hold the answer (at most 10 s) until the events are recorded and countable.",
                schema={"type": "string", "enum": ["recorded"]},
            ),
            {
                "name": "Content-Encoding",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "enum": ["gzip", "zstd", "identity"]},
            },
        ),
        body_types={
            "application/cloudevents+json": one,
            "application/cloudevents-batch+json": {"schema": array(EVENT), "example": [one["example"]]},
            "application/json": {"schema": {"oneOf": [EVENT, array(EVENT)]}, "example": EVENT_EXAMPLE},
            "application/x-ndjson": {"schema": STRING, "example": line + "\n"},
            "text/csv": {
                "schema": STRING,
                "example": "id,type,subject,time,tokens\nr-1,llm.completion,acme,2026-07-01T12:00:00Z,123\n",
            },
        },
        answer=ACCEPTED,
        answer_example={"accepted": 1, "rejected": 0, "position": "p1-1", "results": []},
        status=202,
        answers={
            200: {
                "description": "With `wait=recorded`: recorded and countable.",
                "content": {"application/json": {"schema": RECORDED}},
            },
            422: {
                "description": "Nothing was accepted (`results` says why), or a parameter is wrong.",
                "content": {
                    "application/problem+json": {
                        "schema": {
                            "allOf": [
                                {"$ref": "#/components/schemas/Problem"},
                                objects(
                                    {"accepted": _COUNT, "rejected": _COUNT, "results": array(_VERDICT)},
                                    required=[],
                                ),
                            ]
                        }
                    }
                },
            },
        },
        errors=(408, 507),
    )
    made["responses"]["202"]["description"] = "Durable."
    return made


# -- the document ---------------------------------------------------------------------------------------------------
PROBLEM = objects(
    {
        "type": {"type": "string", "format": "uri"},
        "title": STRING,
        "status": {"type": "integer"},
        "detail": STRING,
        "code": {"type": "string", "description": "Stable; see docs/reference/errors.md."},
        "errors": array(objects({"pointer": STRING, "code": STRING, "detail": STRING})),
    },
    description="RFC 9457.",
)
_MEANING = {
    400: "The request cannot be read.",
    401: "A valid API key is needed.",
    403: "This key may not do that.",
    404: "There is no such thing.",
    406: "None of the content types asked for can be given.",
    408: "The body did not arrive in time.",
    409: "It contradicts what is already there.",
    412: "It has been changed in the meantime.",
    413: "The request is larger than the limit.",
    415: "The content type or encoding is not supported.",
    422: "It can be read, and is wrong; `errors` names every place.",
    429: "Too many requests.",
    500: "An unexpected error.",
    503: "A part is not available at the moment; see Retry-After.",
    504: "The answer took longer than allowed.",
    507: "The disk is full; nothing was stored.",
}
_REQUEST_ID = {
    "description": "Names this request in the logs. A sane one of the client's is taken over.",
    "schema": STRING,
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and request again answer what the first one did.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


@dataclass(frozen=True, slots=True)
class Refused:
    """How a route answers these statuses that does not answer them with a problem document; a component of the contract,
    under its name. A route has it as `x-refused` of its operation."""

    name: str
    response: Mapping[str, Any]
    statuses: Sequence[int]


def document(app: Litestar) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all routes. Raises LookupError for a route that says nothing of itself."""
    paths: dict[str, dict[str, Any]] = {}
    refused: dict[str, dict[str, Any]] = {}
    for route in sorted(app.routes, key=attrgetter("path_format")):
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods):
                if method == "OPTIONS":
                    continue
                said = handler.opt.get("operation")
                if said is None:
                    raise LookupError(f"{method} {route.path_format} has no opt['operation'].")
                scopes = [
                    scope for guard in handler.resolve_guards() if (scope := getattr(guard, "scope", None))
                ]
                own: Refused | None = said.get("x-refused")
                if own is not None and own.name not in refused:
                    refused[own.name] = _refused_response(own)
                item = paths.setdefault(route.path_format, {})
                item[method.lower()] = _complete(said, method, route.path_format, scopes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tallystick",
            "version": tallystick.__version__,
            "description": "Usage-based metering: every event counted once, for ever.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "responses": {
                **{f"Problem{status}": _problem_response(status) for status in sorted(_MEANING)},
                **refused,
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key with the scopes an operation names, or with `admin`; or a customer's token "
                    "(`POST /v1/portal_tokens`), which sees that customer and those below it alone: what is about the whole "
                    "tenant answers it 403.",
                }
            },
            "headers": {"RequestId": _REQUEST_ID},
        },
        "security": [{"key": []}],
    }


def _problem_response(status: int) -> dict[str, Any]:
    """An error's answer: what it means, the codes it may have, an example."""
    codes = {code: meaning for code, (one, meaning) in CODES.items() if one == status}
    codes.update(
        {
            code: text.partition(". ")[2]
            for code, text in BODY_CODES.items()
            if text.partition(". ")[0] == str(status)
        }
    )
    code, meaning = next(iter(codes.items()), ("internal", _MEANING[status]))
    headers: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    if status in (429, 503):
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": STRING}
    example = {
        "type": f"urn:tallystick:problem:{code}",
        "title": _MEANING[status].rstrip("."),
        "status": status,
        "detail": meaning,
        "code": code,
        "errors": [],
    }
    return {
        "description": f"{_MEANING[status]} Codes: {', '.join(f'`{one}`' for one in codes)}.",
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example,
            }
        },
        "headers": headers,
    }


def _refused_response(refused: Refused) -> dict[str, Any]:
    return {
        **refused.response,
        "content": _with_examples(refused.response["content"]),
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
    }


def _with_examples(content: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every form of a body with a schema, and JSON with an example."""
    made: dict[str, dict[str, Any]] = {}
    for kind, media in content.items():
        found = {"schema": {}, **media}
        if kind == "application/json" and "example" not in found:
            found["example"] = example_of(found["schema"])
        made[kind] = found
    return made


def _complete(said: Mapping[str, Any], method: str, path: str, scopes: Sequence[str]) -> dict[str, Any]:
    made = {name: value for name, value in said.items() if not name.startswith("x-")}
    names = re.findall(r"\{(\w+)\}", path)
    words = [word for word in re.split(r"[/{}_]+", path) if word and word != "v1"]
    made["operationId"] = "_".join([method.lower(), *words])
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in names
    ]
    parameters.extend(said.get("parameters", ()))
    if said["x-creates"]:
        parameters.append(_IDEMPOTENCY)
    if parameters:
        made["parameters"] = parameters
    statuses = {500, *said["x-errors"]}
    if said["x-public"]:
        made["security"] = []
    else:
        statuses |= {401, 403, 422, 429, 503, *((404,) if names else ())}
        if scopes:
            # OpenAPI 3.1 has roles here for schemes that know no scopes of their own.
            made["security"] = [{"key": list(scopes)}]
            needed = f"Needs the scope `{scopes[0]}`."
            made["description"] = "\n\n".join(filter(None, (said.get("description"), needed)))
    if "requestBody" in made:
        body = made["requestBody"]
        made["requestBody"] = {**body, "content": _with_examples(body["content"])}
    responses = {status: dict(response) for status, response in said["responses"].items()}
    for response in responses.values():
        if "content" in response:
            response["content"] = _with_examples(response["content"])
    for response in responses.values():
        response["headers"] = {
            **response.get("headers", {}),
            "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
        }
        for name, _ in said.get("x-headers", ()):
            response["headers"][name.decode().title()] = {"schema": STRING}
    refused: Refused | None = said.get("x-refused")
    if refused is not None:
        for status in refused.statuses:
            responses.setdefault(str(status), {"$ref": f"#/components/responses/{refused.name}"})
    for status in sorted(statuses):
        if str(status) not in responses:
            responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    made["responses"] = dict(sorted(responses.items()))
    return made
