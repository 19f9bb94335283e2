"""A message's data in words, for channels that people read."""

from typing import Any

import msgspec


def members(body: bytes) -> list[tuple[str, str]]:
    """Names and plain values of the message's data, one level of objects unfolded (`meter.key`); lists and what is empty
    are left out."""
    document = msgspec.json.decode(body)
    data = document.get("data") if isinstance(document, dict) else None
    made: list[tuple[str, str]] = []
    if isinstance(data, dict):
        for name, value in data.items():
            if isinstance(value, dict):
                made.extend((f"{name}.{inner}", _word(each)) for inner, each in value.items())
            else:
                made.append((str(name), _word(value)))
    return [(name, word) for name, word in made if word]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, str | int | float) else ""
