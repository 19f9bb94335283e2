"""The outer form of an entry: which members, of which kinds. What they may hold is the rooms' to judge."""

import datetime
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, cast

from tallystick.cli.client import Literal
from tallystick.cli.config.noun import Entry
from tallystick.errors import Fault, Invalid

DIGITS_MAX = 15
"""That a binary float keeps whatever they are."""
_WORDS = {str: "a string", list: "a list", dict: "a mapping", type(None): "null"}


def fault(pointer: str, code: str, detail: str) -> Fault:
    return Fault(pointer, code, detail)


def checked_members(
    raw: Any,
    kinds: Mapping[str, tuple[type, ...]],
    *,
    required: Collection[str],
    texts: Collection[str] = (),
) -> Entry:
    """The members of an entry. `texts`: lists and mappings that hold strings alone. Raises Invalid with every fault."""
    if not isinstance(raw, dict):
        raise Invalid("A mapping is needed.", faults=[fault("", "invalid_value", "A mapping is needed.")])
    entry = cast("Entry", plain(raw))
    faults = [
        fault(
            f"/{name}",
            "unknown_member",
            f"There is no member {str(name)[:60]!r} here; known: {', '.join(kinds)}.",
        )
        for name in entry
        if name not in kinds
    ]
    faults += [fault("", "missing", f"{name} is required.") for name in required if entry.get(name) is None]
    for name, allowed in kinds.items():
        if name not in entry or (name in required and entry[name] is None):
            continue
        value = entry[name]
        if not isinstance(value, allowed):
            words = " or ".join(_WORDS[kind] for kind in allowed)
            faults.append(
                fault(
                    f"/{name}",
                    "invalid_value",
                    f"{words} is needed; quote what YAML takes for something else.",
                )
            )
        elif name in texts:
            held = cast("list[Any]", list(value.values()) if isinstance(value, dict) else value)
            if not all(isinstance(one, str) for one in held):
                faults.append(fault(f"/{name}", "invalid_value", "Strings are needed; quote numbers."))
    if faults:
        raise Invalid(" ".join(one.detail for one in faults[:5]), faults=faults)
    return entry


def plain(value: Any) -> Any:
    """The same in JSON's kinds: times YAML has recognised as RFC 3339 text, numbers as numbers."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [plain(one) for one in cast("list[Any]", value)]
    if isinstance(value, Literal):
        return float(value)
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return value


def moment(text: str, pointer: str = "/expires_at") -> str:
    """As the API writes it. Raises Invalid."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        said = fault(pointer, "invalid_time", f"{text[:40]!r} is no RFC 3339 time with an offset.")
        raise Invalid(said.detail, faults=[said])
    in_utc = found.astimezone(datetime.UTC).replace(tzinfo=None)
    written = in_utc.isoformat(timespec="microseconds" if in_utc.microsecond else "seconds")
    return f"{written}Z"


def exact_numbers(value: Any, pointer: str = "") -> Any:
    """The same with the floats that YAML makes of numbers as decimal text. Of up to 15 digits the text is the one that was
    written; raises Invalid for longer ones, which must be quoted."""
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
        return {str(name): exact_numbers(one, f"{pointer}/{name}") for name, one in members}
    if isinstance(value, list):
        listed = cast("list[Any]", value)
        return [exact_numbers(one, f"{pointer}/{place}") for place, one in enumerate(listed)]
    if not isinstance(value, float):
        return value
    number = Decimal(repr(value))
    if not number.is_finite() or len(number.normalize().as_tuple().digits) > DIGITS_MAX:
        said = fault(
            pointer, "invalid_number", f"{value!r}: quote a number of more than {DIGITS_MAX} digits."
        )
        raise Invalid(said.detail, faults=[said])
    return format(number, "f")
