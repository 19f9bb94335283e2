"""The published contract: one OpenAPI 3.1 document, put together from what each route says of itself.

A route says it with `opt={"operation": operation(…)}`. The parts that every route shares (security, request id, the errors
any route can answer, path parameters, Idempotency-Key) are added here, so that no route can forget them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    answer: Schema | None = None,
    answer_example: Any = None,
    answer_types: Mapping[str, dict[str, Any]] | None = None,
    status: int = 200,
    answers: Mapping[int, dict[str, Any]] | None = None,
    errors: Sequence[int] = (),
    creates: bool = False,
) -> dict[str, Any]:
    """What a route says of itself.

    `body`/`answer`: JSON schemas; `…_types`: further content types with their media type objects; `answers`: further
    answers by status, as response objects; `errors`: statuses beyond 401, 403, 404 (with path parameters), 422, 500 and
    503; `creates`: it takes an Idempotency-Key."""
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
        made["requestBody"] = {"required": True, "content": content}
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
    return made


def _media(schema: Schema, example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}
