"""Members of a vendor's meter that our definition has no place for.

They stand at the end of the description, as one line of JSON behind the vendor's name: nothing of what was sent is lost,
people see it, and the vendor's client reads back what it wrote.
"""

import json
from collections.abc import Mapping
from typing import Any, cast


def noted(description: str | None, vendor: str, members: Mapping[str, Any]) -> str | None:
    """The description with the members that are not None noted in it; None for nothing at all."""
    kept = {name: value for name, value in members.items() if value is not None}
    lines = [description] if description else []
    if kept:
        lines.append(f"[{vendor}] {json.dumps(kept, ensure_ascii=False, separators=(',', ':'), default=str)}")
    return "\n".join(lines) or None


def unnoted(description: str | None, vendor: str) -> tuple[str | None, dict[str, Any]]:
    """The description as the vendor's client sent it, and the members noted in it."""
    text, mark, noted_members = ("\n" + (description or "")).rpartition(f"\n[{vendor}] ")
    if not mark:
        return description, {}
    try:
        members: Any = json.loads(noted_members)
    except ValueError:
        return description, {}
    if not isinstance(members, dict):
        return description, {}
    return text.removeprefix("\n") or None, cast("dict[str, Any]", members)
