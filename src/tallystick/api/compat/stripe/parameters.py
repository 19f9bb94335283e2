"""The parameters of Stripe's requests: `payload[value]=1` in a form or a query string, or members of a JSON object."""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, cast
from urllib.parse import parse_qsl

from litestar import Request

from tallystick.api import wire
from tallystick.api.fields import TIME_END_US
from tallystick.errors import BadRequest

FIELDS_MAX = 1000
DEPTH_MAX = 8
TEXT_CHARACTERS_MAX = 5000
SECONDS_END = TIME_END_US // 1_000_000

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)\Z")
_KNOWN = ("expand",)


class Parameters:
    """Parameters, nested. Every reading method answers None where it notes a fault; `finish` raises them."""

    def __init__(self, raw: Mapping[str, Any], *, place: str = "", faults: wire.Faults | None = None) -> None:
        self._raw = raw
        self._place = place
        self._read: set[str] = set(_KNOWN)
        self._inner: list[Parameters] = []
        self.faults = wire.Faults() if faults is None else faults

    @classmethod
    async def of_form(cls, request: Request[Any, Any, Any]) -> "Parameters":
        """The body of a v1 request. Raises BadRequest."""
        body = await wire.arrived(request)
        if len(body) > wire.JSON_BODY_BYTES_MAX:
            raise BadRequest(f"The body is larger than {wire.JSON_BODY_BYTES_MAX} bytes.")
        return cls(_nested(body))

    @classmethod
    def of_query(cls, request: Request[Any, Any, Any]) -> "Parameters":
        return cls(_nested(request.scope.get("query_string", b"")))

    @classmethod
    async def of_json(cls, request: Request[Any, Any, Any]) -> "Parameters":
        """The body of a v2 request."""
        return cls(await wire.json_object(request))

    def pointer(self, name: str) -> str:
        return f"{self._place}[{name}]" if self._place else name

    def fault(self, name: str, code: str, detail: str) -> None:
        self.faults.add(self.pointer(name), code, detail)

    def take(self, name: str) -> Any:
        """The raw parameter, which counts as known then."""
        self._read.add(name)
        return self._raw.get(name)

    def given(self, name: str) -> bool:
        return name in self._raw

    def text(
        self, name: str, *, required: bool = False, characters_max: int = TEXT_CHARACTERS_MAX
    ) -> str | None:
        """A string; an empty one is none."""
        value: Any = self.take(name)
        if value is None:
            if required:
                self._missing(name)
            return None
        if not isinstance(value, str):
            self.fault(name, "invalid_value", f"Invalid string: {self.pointer(name)}.")
        elif not value and required:
            detail = f"You passed an empty string for '{self.pointer(name)}'."
            self.fault(name, "empty", detail)
        elif len(value) > characters_max:
            detail = f"Invalid string: {self.pointer(name)}; must be at most {characters_max} characters."
            self.fault(name, "invalid_value", detail)
        else:
            return value or None
        return None

    def integer(self, name: str, *, least: int, most: int, required: bool = False) -> int | None:
        value: Any = self.take(name)
        if value is None:
            if required:
                self._missing(name)
            return None
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(name, "invalid_number", f"Invalid integer: {str(value)[:60]}")
            return None
        if not least <= value <= most:
            self.fault(name, "invalid_value", f"{self.pointer(name)} must be from {least} to {most}.")
            return None
        return value

    def choice(self, name: str, choices: Collection[str], *, required: bool = False) -> str | None:
        value = self.text(name, required=required)
        if value is not None and value not in choices:
            detail = f"Invalid {self.pointer(name)}: must be one of {', '.join(choices)}"
            self.fault(name, "invalid_value", detail)
            return None
        return value

    def within(self, name: str) -> "Parameters | None":
        """A nested object; None where it is absent."""
        value: Any = self.take(name)
        if value is None or value == "":
            return None
        if not isinstance(value, dict):
            self.fault(name, "invalid_value", f"Invalid object: {self.pointer(name)}")
            return None
        inner = Parameters(cast("dict[str, Any]", value), place=self.pointer(name), faults=self.faults)
        self._inner.append(inner)
        return inner

    def texts(self, name: str, *, required: bool = False) -> dict[str, str] | None:
        """A map of strings; numbers become their text."""
        value: Any = self.take(name)
        if value is None:
            if required:
                self._missing(name)
            return None
        if value == "":
            return {}
        if not isinstance(value, dict):
            self.fault(name, "invalid_value", f"Invalid object: {self.pointer(name)}")
            return None
        found: dict[str, str] = {}
        for member, one in cast("dict[str, Any]", value).items():
            if isinstance(one, str):
                found[member] = one
            elif isinstance(one, int | Decimal) and not isinstance(one, bool):
                found[member] = str(one)
            else:
                detail = f"Invalid string: {self.pointer(name)}[{member[:60]}]"
                self.faults.add(f"{self.pointer(name)}[{member[:60]}]", "invalid_value", detail)
        return found

    def finish(self) -> None:
        """Raise Invalid with every fault, unknown parameters among them."""
        self.close()
        self.faults.raise_any()

    def close(self) -> None:
        """Note a fault for every parameter that nobody has read."""
        for name in self._raw:
            if name not in self._read:
                detail = f"Received unknown parameter: {self.pointer(name)[:120]}"
                self.fault(name, "unknown_parameter", detail)
        for inner in self._inner:
            inner.close()

    def _missing(self, name: str) -> None:
        self.fault(name, "missing", f"Missing required param: {self.pointer(name)}.")


def _nested(encoded: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            encoded.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        raise BadRequest(f"The parameters cannot be read: UTF-8, at most {FIELDS_MAX}.") from None
    made: dict[str, Any] = {}
    for name, value in pairs:
        match = _NAME.match(name)
        steps = (
            [name] if match is None else [match[1], *match[2].strip("[]").split("][")] if match[2] else [name]
        )
        if len(steps) > DEPTH_MAX:
            raise BadRequest(f"The parameter {name[:120]} is nested too deeply.")
        _put(made, steps, value)
    return made


def _put(made: dict[str, Any], steps: list[str], value: str) -> None:
    at = made
    for index, step in enumerate(steps[:-1]):
        inner: Any = at.setdefault(step or str(len(at)), {})
        if not isinstance(inner, dict):
            raise BadRequest(f"The parameter {'/'.join(steps[: index + 1])[:120]} is a value and an object.")
        at = cast("dict[str, Any]", inner)
    last = steps[-1] or str(len(at))
    if isinstance(at.get(last), dict):
        raise BadRequest(f"The parameter {'/'.join(steps)[:120]} is a value and an object.")
    at[last] = value
