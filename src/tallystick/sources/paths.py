"""Paths into records, and records as JSON texts, without losing a digit. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from tallystick.sources.rows import Rows, json_string

PATH_STEPS_MAX = 32
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])


def is_path(name: str) -> bool:
    """Whether a name may lead into a member: `usage.tokens`, `$.usage.tokens`, `$.items.0.n`."""
    return "." in name


def values_at(path: str, columns: Mapping[str, Sequence[str | None]], count: int) -> list[str | None]:
    """What stands at a path in each row: its JSON text; None: nothing, null or ""."""
    first, *steps = path.removeprefix("$.").split(".")[: PATH_STEPS_MAX + 1]
    # A member's own name may hold dots.
    found = columns.get(path.removeprefix("$."))
    if found is not None:
        return list(found)
    column = columns.get(first)
    if column is None:
        return [None] * count
    return [None if text is None else _within(text, steps) for text in column]


def _within(text: str, steps: Sequence[str]) -> str | None:
    for step in steps:
        try:
            if text.startswith("{"):
                members = _members.decode(text.encode())
                if step not in members:
                    return None
                text = bytes(members[step]).decode()
            elif text.startswith("["):
                elements = _elements.decode(text.encode())
                if not step.isdigit() or len(step) > 9 or int(step) >= len(elements):
                    return None
                text = bytes(elements[int(step)]).decode()
            else:
                return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    return None if text in ("null", '""') else text


def record_of(rows: Rows, at: int) -> bytes:
    """A row as a JSON object: as it stood there where it was one, its columns otherwise."""
    if rows.objects is not None:
        return rows.objects[at]
    pairs = ((name, texts[at]) for name, texts in rows.columns.items())
    return (
        "{" + ",".join(f"{json_string(name)}:{text}" for name, text in pairs if text is not None) + "}"
    ).encode()


def with_members(data: str | None, members: Mapping[str, str]) -> str:
    """An object's text with these members in it, in the place of those of the same name."""
    kept: dict[str, str] = {}
    if data is not None:
        try:
            kept = {name: bytes(raw).decode() for name, raw in _members.decode(data.encode()).items()}
        except msgspec.DecodeError:
            return data  # no object; who takes the event says so
    kept.update(members)
    return "{" + ",".join(f"{json_string(name)}:{text}" for name, text in kept.items()) + "}"
