"""Write sdk/typescript/src/contract.ts: the types of every route, from the OpenAPI document of this checkout.

python -m tools.typescript_contract > sdk/typescript/src/contract.ts
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tallystick.api.published import published_document
from tallystick.config import Settings

Schema = Mapping[str, Any]

_HEAD = """// Made by `make web` from the OpenAPI document of the server; do not change.

/** The contract: for each route what its path, query and body take, and its JSON answer. */
export interface Operations {
"""
_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def contract(document: Schema) -> Iterator[str]:
    """The file, in pieces."""
    yield _HEAD
    for path, item in document["paths"].items():
        for method, said in item.items():
            yield from _operation(f"{method.upper()} {path}", said)
    yield "}\n"


def _operation(name: str, said: Schema) -> Iterator[str]:
    parameters = said.get("parameters", ())
    yield f"  /** {_comment(said['summary'])} */\n  {json.dumps(name)}: {{\n"
    for place in ("path", "query"):
        members = [_parameter(one) for one in parameters if one["in"] == place]
        yield f"    {place}: {{ {'; '.join(members)} }};\n"
    body = said.get("requestBody", {}).get("content", {}).get("application/json")
    yield f"    body: {'undefined' if body is None else _type(body['schema'])};\n"
    yield f"    answer: {_answer(said)};\n  }};\n"


def _parameter(parameter: Schema) -> str:
    kind = _type(parameter["schema"])
    if parameter["schema"].get("type") == "array":
        kind = f"{kind} | {_type(parameter['schema']['items'])}"
    mark = "" if parameter.get("required") else "?"
    undefined = "" if parameter.get("required") else " | undefined"
    return f"{json.dumps(parameter['name'])}{mark}: {kind}{undefined}"


def _answer(said: Schema) -> str:
    for status, response in said["responses"].items():
        if status.startswith("2"):
            media = response.get("content", {}).get("application/json")
            return "undefined" if media is None else _type(media["schema"])
    return "undefined"


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return "Record<string, unknown>"
    if "enum" in schema:
        return " | ".join(json.dumps(one) for one in schema["enum"])
    for combined, sign in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " & ")):
        if combined in schema:
            return "(" + sign.join(dict.fromkeys(_type(one) for one in schema[combined])) + ")"
    kind = schema.get("type")
    if isinstance(kind, list):
        return "(" + " | ".join(_type({**schema, "type": one}) for one in kind) + ")"
    if kind == "array":
        return f"({_type(schema.get('items', {}))})[]"
    if kind == "object":
        return _object(schema)
    return _PLAIN.get(str(kind), "unknown")


def _object(schema: Schema) -> str:
    required = schema.get("required", ())
    members = [
        f"{json.dumps(name)}{'' if name in required else '?'}: {_type(inner)}"
        for name, inner in schema.get("properties", {}).items()
    ]
    more = schema.get("additionalProperties")
    if not members:
        return f"Record<string, {_type(more) if isinstance(more, Mapping) else 'unknown'}>"
    return "{ " + "; ".join(members) + " }"


def _comment(text: str) -> str:
    return text.replace("*/", "* /")


if __name__ == "__main__":
    sys.stdout.writelines(contract(published_document(Settings())))
