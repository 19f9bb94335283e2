"""`GET /docs`: the contract for people, one plain page made from the OpenAPI document. No script, nothing from elsewhere."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, cast

Schema = Mapping[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#1c2024;background:#fff}
main{max-width:60rem;margin:0 auto;padding:1rem 1.5rem 6rem}
h1,h2,h3{line-height:1.2}h2{margin-top:3rem;border-bottom:2px solid #1c2024;padding-bottom:.25rem}
article{border:1px solid #d5dade;border-radius:6px;padding:.25rem 1rem 1rem;margin:1.25rem 0}
h3{font-size:1rem}h3 code{font-size:1rem}h4{margin:1rem 0 .25rem;font-size:.85rem;color:#555d66}
.m{display:inline-block;min-width:4rem;font-weight:700}
code,pre{font-family:ui-monospace,monospace;font-size:.85rem}
pre{background:#f4f6f8;padding:.75rem;overflow:auto;border-radius:4px;margin:.25rem 0}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #e6eaee}
nav ul{columns:2;padding-left:1rem}a{color:#0b5cad}.old{color:#a12a2a;font-weight:700}
@media (prefers-color-scheme:dark){body{background:#14171a;color:#e4e8ec}article{border-color:#333b43}pre{background:#1d2126}
td,th{border-color:#2a3138}h2{border-color:#e4e8ec}a{color:#7db7f0}h4{color:#a2abb5}}
"""
POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)
"""The page's Content-Security-Policy: this one style, and nothing else at all."""

_INTRODUCTION = """
<p>Send <code>Authorization: Bearer &lt;key&gt;</code>. Quantities and money are exact decimals: JSON strings in every answer.
Times are RFC 3339; ranges are half-open. Lists take <code>limit</code> and <code>cursor</code> and answer
<code>{"items": […], "next_cursor": …}</code>. Every answer carries <code>X-Request-Id</code>; errors are RFC 9457 problems with a
stable <code>code</code>. <code>Idempotency-Key</code> on a POST that creates makes it safe to repeat. The machine-readable form is
<a href="/openapi.json">/openapi.json</a>.</p>
"""


def page(document: Schema) -> str:
    """The whole page."""
    by_tag: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                said = item[method]
                by_tag.setdefault(said["tags"][0], []).append((method, path, said))
    title = escape(document["info"]["title"])
    sections = "".join(_section(tag, routes, document) for tag, routes in sorted(by_tag.items()))
    contents = "".join(
        f'<li><a href="#{escape(said["operationId"])}">{escape(said["summary"])}</a></li>'
        for _, routes in sorted(by_tag.items())
        for _, _, said in routes
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>'
        f"<h1>{title} API {escape(document['info']['version'])}</h1>"
        f"<p>{escape(document['info']['description'])}</p>{_INTRODUCTION}<nav><ul>{contents}</ul></nav>{sections}"
        "</main></body></html>\n"
    )


def _section(tag: str, routes: Iterable[tuple[str, str, Schema]], document: Schema) -> str:
    return f"<h2>{escape(tag)}</h2>" + "".join(
        _operation(method, path, said, document) for method, path, said in routes
    )


def _operation(method: str, path: str, said: Schema, document: Schema) -> str:
    parts = [
        f'<article id="{escape(said["operationId"])}"><h3><span class="m">{method.upper()}</span>'
        f"<code>{escape(path)}</code></h3><p><strong>{escape(said['summary'])}.</strong></p>"
    ]
    if said.get("deprecated"):
        parts.append('<p class="old">Deprecated.</p>')
    parts.extend(f"<p>{_prose(one)}</p>" for one in said.get("description", "").split("\n\n") if one)
    parameters = said.get("parameters", ())
    if parameters:
        rows = "".join(
            f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
            f"<td>{escape(_kind(one['schema']))}{', required' if one.get('required') else ''}</td>"
            f"<td>{_prose(one.get('description', ''))}</td></tr>"
            for one in parameters
        )
        parts.append(f"<h4>Parameters</h4><table>{rows}</table>")
    for media_type, media in said.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h4>Body, <code>{escape(media_type)}</code></h4>{_media(media)}")
    for status, response in said["responses"].items():
        if status.startswith(("2", "3")):
            parts.append(f"<h4>{status}: {escape(response['description'])}</h4>")
            for media_type, media in response.get("content", {}).items():
                parts.append(f"<p><code>{escape(media_type)}</code></p>{_media(media)}")
    rows = "".join(
        f"<tr><td>{status}</td><td>{_prose(_resolved(response, document)['description'])}</td></tr>"
        for status, response in said["responses"].items()
        if not status.startswith(("2", "3"))
    )
    parts.append(f"<h4>Errors</h4><table>{rows}</table></article>")
    return "".join(parts)


def _resolved(response: Schema, document: Schema) -> Schema:
    reference = response.get("$ref")
    return response if reference is None else document["components"]["responses"][reference.rsplit("/", 1)[1]]


def _media(media: Schema) -> str:
    members = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(inner))}"
        f"{', required' if required else ''}</td><td>{_prose(inner.get('description', ''))}</td></tr>"
        for name, inner, required in _members(media.get("schema", {}))
    )
    table = f"<table>{members}</table>" if members else ""
    example = media.get("example")
    if example is None:
        return table
    text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False, indent=2)
    return f"{table}<pre>{escape(text)}</pre>"


def _members(schema: Schema) -> Iterable[tuple[str, Schema, bool]]:
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        yield name, inner, name in required


def _kind(schema: Schema) -> str:
    """The type of a value, in a few words."""
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    for combined in ("anyOf", "oneOf"):
        if combined in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[combined]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    names = [str(one) for one in cast("list[Any]", kind)] if isinstance(kind, list) else [str(kind)]
    if schema.get("format"):
        names[0] = f"{names[0]} ({schema['format']})"
    return " or ".join(names)


def _prose(text: str) -> str:
    """Text with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
