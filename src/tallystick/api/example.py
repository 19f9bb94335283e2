"""An example of a JSON schema, for answers whose route gives none: valid, and with values a reader knows from the field."""

from collections.abc import Mapping
from typing import Any

_BY_NAME: Mapping[str, Any] = {
    "key": "tokens",
    "meter": "tokens",
    "customer": "acme",
    "subject": "acme",
    "parent": None,
    "name": "Acme",
    "currency": "USD",
    "timezone": "UTC",
    "email": "billing@acme.example",
    "type": "llm.completion",
    "event_type": "llm.completion",
    "source": "/gateway",
    "id": "r-1",
    "unit": "token",
    "next_cursor": None,
    "request_id": "5e0618072d3d-66",
    "actor": "admin",
    "reason": "Sent twice.",
    "prefix": "tsk_0a1b2c3d",
    "secret": "tsk_0a1b2c3d_…",
    "token": "tpt_0a1b2c3d_…",
    "admin_key": "tsk_0a1b2c3d_…",
    "value": "123.5",
    "address": "203.0.113.7",
}
_TIMES: Mapping[str, str] = {
    "to": "2026-08-01T00:00:00Z",
    "window_end": "2026-08-01T00:00:00Z",
    "expires_at": "2026-08-01T00:00:00Z",
}
_DEPTH_MAX = 8


def example_of(schema: Mapping[str, Any], *, name: str = "", depth: int = 0) -> Any:
    """One valid value: what the schema itself says, or what its names suggest."""
    for said in ("example", "const", "default"):
        if said in schema:
            return schema[said]
    if schema.get("enum"):
        return schema["enum"][0]
    for combined in ("anyOf", "oneOf"):
        if combined in schema:
            return example_of(schema[combined][0], name=name, depth=depth)
    kinds = schema.get("type")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if isinstance(kinds, list) and "null" in kinds and _BY_NAME.get(name, "") is None:
        return None
    if kind == "object":
        return _object(schema, depth)
    if kind == "array":
        items = schema.get("items")
        return [example_of(items, name=name, depth=depth + 1)] if items and depth < _DEPTH_MAX else []
    if kind == "integer":
        return schema.get("minimum", 1)
    if kind == "number":
        return schema.get("minimum", 1)
    if kind == "boolean":
        return False
    if kind == "string":
        return _text(schema, name)
    return None


def _object(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth >= _DEPTH_MAX:
        return {}
    properties: Mapping[str, Any] = schema.get("properties", {})
    return {name: example_of(inner, name=name, depth=depth + 1) for name, inner in properties.items()}


def _text(schema: Mapping[str, Any], name: str) -> str:
    if schema.get("format") == "date-time":
        return _TIMES.get(name, "2026-07-01T00:00:00Z")
    if schema.get("format") == "duration":
        return "PT1H"
    if schema.get("pattern", "").startswith(r"^-?\d"):
        return "123.5"
    found = _BY_NAME.get(name)
    return found if isinstance(found, str) else "text"
