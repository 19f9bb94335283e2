"""Reads the members of a request one by one and keeps every fault, so that all of them are answered at once.

The same reader serves a query string and a JSON body, so that `GET` and `POST` of one question cannot drift apart: only
the spelling differs (a list is a repeated parameter, a number is digits), never the rules.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

from litestar import Request

from tallystick.api import wire
from tallystick.errors import Invalid

TEXT_CHARACTERS_MAX = 1024
LIST_ITEMS_MAX = 1000

# 1900 and 2299: what the store's microsecond timestamps hold.
TIME_LEAST_US = -2_208_988_800_000_000
TIME_END_US = 10_382_256_000_000_000


class Fields:
    """The members of one request. Every reading method answers None (or its default) where it notes a fault."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        body: bool,
        place: tuple[str, ...] = (),
        faults: wire.Faults | None = None,
    ) -> None:
        self._raw = raw
        self._body = body
        self._place = place
        self._read: dict[str, None] = {}
        self.faults = wire.Faults() if faults is None else faults

    @classmethod
    def of_query(cls, request: Request[Any, Any, Any]) -> "Fields":
        """From a query string, repeated parameters together."""
        return cls.of_pairs(request.query_params.multi_items())

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, str]]) -> "Fields":
        raw: dict[str, list[str]] = {}
        for name, value in pairs:
            raw.setdefault(name, []).append(value)
        return cls(raw, body=False)

    @classmethod
    async def of_body(cls, request: Request[Any, Any, Any], *, nulls: bool = True) -> "Fields":
        """From a JSON object; without `nulls`, a member that is null is absent. Parameters in the query string beside
        it are faults."""
        document = await wire.json_object(request)
        if not nulls:
            document = {name: value for name, value in document.items() if value is not None}
        fields = cls(document, body=True)
        fields.faults.attempt(lambda: wire.check_parameters(request, ()), None)
        return fields

    def within(self, raw: Mapping[str, Any], *place: str) -> "Fields":
        """The members of an object further down in the body; its faults are noted here, too."""
        return Fields(raw, body=True, place=(*self._place, *place), faults=self.faults)

    @property
    def in_body(self) -> bool:
        return self._body

    def pointer(self, name: str, *steps: str) -> str:
        """Where a member is: a JSON pointer into the body, or the parameter as it is spelled in a query string."""
        if self._body:
            return wire.pointer_of(*self._place, name, *steps)
        return name + "".join(f"[{step}]" for step in steps)

    def fault(self, name: str, code: str, detail: str, *steps: str) -> None:
        self.faults.add(self.pointer(name, *steps), code, detail)

    def know(self, *names: str) -> None:
        """Count these as known, for readers that read only what is there."""
        self._read.update(dict.fromkeys(names))

    def names(self) -> Iterable[str]:
        return self._raw

    def take(self, name: str) -> Any:
        """The raw member: a JSON value, or a list of strings; None when absent. It then counts as known."""
        self._read[name] = None
        return self._raw.get(name)

    # -- one value -------------------------------------------------------------------------------------------------
    def _one(self, name: str) -> Any:
        value = self.take(name)
        if self._body or value is None:
            return value
        if len(value) > 1:
            self.fault(name, "repeated", f"{name} may be given only once.")
        return value[0]

    def text(self, name: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str | None:
        value = self._one(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= characters_max:
            self.fault(name, "invalid_value", f"{name} must be a string of 1 to {characters_max} characters.")
            return None
        return value

    def part(self, name: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str | None:
        """A part of texts to look for. An empty one is part of all of them, so it is as if it were not there."""
        if self.take(name) in ("", [""]):
            return None
        return self.text(name, characters_max=characters_max)

    def required_text(self, name: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
        """As `text`; a missing one is a fault. Answers "" then: whoever reads it raises the faults first."""
        if self.take(name) is None:
            self.fault(name, "missing", f"{name} is required.")
            return ""
        return self.text(name, characters_max=characters_max) or ""

    def key(self, name: str, pattern: str) -> str:
        """A required key that users choose. Answers "" where it notes a fault."""
        value = self.required_text(name)
        if value and not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value, re.ASCII):
            self.fault(
                name,
                "invalid_key",
                f"{name} must begin with a letter or digit and have at most 128 of letters, digits and _ . : -",
            )
            return ""
        return value

    def time_us(self, name: str) -> int | None:
        value = self._one(name)
        if value is None:
            return None
        try:
            time_us = wire.parse_time(value, self.pointer(name))
        except Invalid as error:
            self.faults.take(error)
            return None
        if not TIME_LEAST_US <= time_us < TIME_END_US:
            self.fault(name, "invalid_time", f"{name} must lie in the years 1900 to 2298.")
            return None
        return time_us

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        value = self._one(name)
        if value is None:
            return None
        number: int | None = None
        if self._body:
            number = value if isinstance(value, int) and not isinstance(value, bool) else None
        elif re.fullmatch(r"\d{1,18}", value, re.ASCII):
            number = int(value)
        if number is None or not least <= number <= most:
            code = "invalid_limit" if name == "limit" else "invalid_number"
            self.fault(name, code, f"{name} must be a whole number from {least} to {most}.")
            return None
        return number

    def boolean(self, name: str) -> bool:
        """Absent is false."""
        value = self._one(name)
        if value is None:
            return False
        if not self._body and value in ("true", "false"):
            return value == "true"
        if not isinstance(value, bool):
            self.fault(name, "invalid_value", f"{name} must be true or false.")
            return False
        return value

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        value = self._one(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in choices:
            self.fault(name, "invalid_value", f"{name} must be one of {', '.join(choices)}.")
            return None
        return value

    # -- lists -----------------------------------------------------------------------------------------------------
    def texts(
        self, name: str, *, commas: bool = False, items_max: int = LIST_ITEMS_MAX
    ) -> tuple[str, ...] | None:
        """Strings, each once: a list or one string in a body, repeated in a query string; `commas` splits at commas."""
        value = self.take(name)
        if value is None:
            return None
        listed: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        if commas:
            listed = [
                part for item in listed for part in (item.split(",") if isinstance(item, str) else [item])
            ]
        if len(listed) > items_max:
            self.fault(name, "too_many", f"{name} may have at most {items_max} items.")
            return None
        if not all(isinstance(item, str) and 0 < len(item) <= TEXT_CHARACTERS_MAX for item in listed):
            self.fault(
                name, "invalid_value", f"{name} must be strings of 1 to {TEXT_CHARACTERS_MAX} characters."
            )
            return None
        return tuple(dict.fromkeys(listed))

    # -- lists of answers ------------------------------------------------------------------------------------------
    def page(
        self, shape: tuple[type[str] | type[int], ...], *, limit_max: int = wire.LIST_LIMIT_MAX
    ) -> wire.Page:
        """`limit` and `cursor`. `shape`: the types of the values the cursor was made of."""
        limit = self.integer("limit", least=1, most=limit_max) or wire.LIST_LIMIT_DEFAULT
        cursor = self.text("cursor", characters_max=wire.CURSOR_LENGTH_MAX)
        after = None
        if cursor is not None:
            after = self.faults.attempt(lambda: wire.read_cursor(cursor, shape), None)
        return wire.Page(limit, after)

    def catalog_page(self) -> tuple[int, str | None]:
        """`limit` and the `cursor` of a list whose cursors are the catalog's own."""
        limit = self.integer("limit", least=1, most=wire.LIST_LIMIT_MAX) or wire.LIST_LIMIT_DEFAULT
        return limit, self.text("cursor", characters_max=wire.CURSOR_LENGTH_MAX)

    # -- the end ---------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Note a fault for every member that nobody has read."""
        kind = "member" if self._body else "parameter"
        known = ", ".join(self._read)
        for name in self._raw:
            if name not in self._read:
                self.fault(name, f"unknown_{kind}", f"There is no {kind} {name[:60]!r} here; known: {known}.")

    def finish(self, rules: Callable[[], object] | None = None) -> None:
        """`close`, then raise Invalid with every fault there is. `rules` are a room's own, which it holds to by itself:
        they are asked only where something is wrong anyway, so that what they find is answered together with it."""
        self.close()
        if rules is not None and self.faults.found:
            try:
                rules()
            except Invalid as error:
                noted = {fault.pointer for fault in self.faults.found}
                self.faults.found.extend(fault for fault in error.faults if fault.pointer not in noted)
        self.faults.raise_any()
