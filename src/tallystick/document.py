"""Reads the members of a parsed JSON object one by one and keeps every fault, with a pointer to its place.

For what users configure: prices, plans, subscriptions. Pure, so that the same reader serves the API, a file that is
applied, and a version read back from the catalog. `null` says the same as leaving a member out. Numbers are strings in
JSON syntax, int or Decimal, never float: at most 20 digits before the point and 18 after it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any, cast

from tallystick.errors import Fault, Invalid

KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
TEXT_CHARACTERS_MAX = 1024
INTEGER_DIGITS_MAX = 20
FRACTION_DIGITS_MAX = 18
FAULTS_MAX = 100
"""More are not listed: an answer has an end, and whoever mends a hundred asks again anyway."""

_ZERO = Decimal(0)
_KEY = re.compile(KEY_PATTERN.strip("^$"), re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,6})?", re.ASCII)
_NUMBER_CHARACTERS_MAX = 100


class NotDecimal(ValueError):
    """Why something is no decimal we read: the code of the fault, and a sentence that follows the place's name."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def decimal_of(raw: object) -> Decimal:
    """The exact decimal that parsed JSON says. Raises NotDecimal."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise NotDecimal("invalid_number", "must be a decimal, as a string or a number.")
    if isinstance(raw, str) and (len(raw) > _NUMBER_CHARACTERS_MAX or not _NUMBER.fullmatch(raw)):
        raise NotDecimal("invalid_number", f"is {raw[:40]!r}, which is no decimal such as 12.5.")
    value = Decimal(raw)
    if not value.is_finite():
        raise NotDecimal("invalid_number", "must be a decimal such as 12.5.")
    if not value:
        return _ZERO
    _, digits, exponent = value.as_tuple()
    significant, scale = len(digits), cast(int, exponent)
    while digits[significant - 1] == 0:
        significant -= 1
        scale += 1
    if significant + scale > INTEGER_DIGITS_MAX or -scale > FRACTION_DIGITS_MAX:
        raise NotDecimal(
            "number_out_of_range",
            f"has more than {INTEGER_DIGITS_MAX} digits before the point or {FRACTION_DIGITS_MAX} after it.",
        )
    return value


def pointer_of(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


class Document:
    """One object. Reading methods answer None, or a harmless stand-in where one is required, when they note a fault:
    `raise_any` comes before anything is made of what was read."""

    def __init__(self, raw: object, *place: str | int, faults: list[Fault] | None = None) -> None:
        self._place = place
        self._read: dict[str, None] = {}
        self.faults: list[Fault] = [] if faults is None else faults
        self._raw: Mapping[str, Any] = {}
        if isinstance(raw, Mapping):
            self._raw = cast("Mapping[str, Any]", raw)
        else:
            self._note(pointer_of(*place), "invalid_type", f"{self._name()} must be an object.")

    # -- places ------------------------------------------------------------------------------------------------------
    def _name(self, *steps: str | int) -> str:
        names = [str(step) for step in (*self._place, *steps)]
        return ".".join(names) or "It"

    def pointer(self, *steps: str | int) -> str:
        return pointer_of(*self._place, *steps)

    def fault(self, code: str, detail: str, *steps: str | int) -> None:
        """Note a fault at a place below this object; `detail` goes on after the place's name."""
        self._note(self.pointer(*steps), code, f"{self._name(*steps)} {detail}")

    def _note(self, pointer: str, code: str, detail: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(pointer, code, detail))

    def take(self, name: str) -> Any:
        """The raw member, None when absent. It then counts as known."""
        self._read[name] = None
        return self._raw.get(name)

    def has(self, name: str) -> bool:
        return self._raw.get(name) is not None

    def _missing(self, name: str) -> None:
        self.fault("missing", "is required.", name)

    # -- numbers -----------------------------------------------------------------------------------------------------
    def decimal(
        self,
        name: str,
        *,
        least: Decimal | None = _ZERO,
        above: Decimal | None = None,
        most: Decimal | None = None,
    ) -> Decimal | None:
        """A decimal, by default not negative; `above` is exclusive."""
        raw = self.take(name)
        return None if raw is None else self.decimal_at(raw, name, least=least, above=above, most=most)

    def required_decimal(
        self,
        name: str,
        *,
        least: Decimal | None = _ZERO,
        above: Decimal | None = None,
        most: Decimal | None = None,
    ) -> Decimal:
        """As `decimal`; a missing one is a fault. The stand-in is 1."""
        if self.take(name) is None:
            self._missing(name)
            return Decimal(1)
        found = self.decimal(name, least=least, above=above, most=most)
        return Decimal(1) if found is None else found

    def decimal_at(
        self,
        raw: object,
        *steps: str | int,
        least: Decimal | None = _ZERO,
        above: Decimal | None = None,
        most: Decimal | None = None,
    ) -> Decimal | None:
        """A decimal that stands in a list or deeper."""
        try:
            value = decimal_of(raw)
        except NotDecimal as error:
            self.fault(error.code, error.detail, *steps)
            return None
        if least is not None and value < least:
            code, detail = (
                ("negative", "must not be negative.")
                if not least
                else ("too_small", f"must be {least} or more.")
            )
            self.fault(code, detail, *steps)
            return None
        if above is not None and value <= above:
            self.fault("too_small", f"must be greater than {above}.", *steps)
            return None
        if most is not None and value > most:
            self.fault("too_large", f"must be at most {most}.", *steps)
            return None
        return value

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        raw = self.take(name)
        if raw is None:
            return None
        if isinstance(raw, str) and re.fullmatch(r"\d{1,18}(\.0{1,18})?", raw, re.ASCII):
            raw = int(raw.partition(".")[0])
        if isinstance(raw, Decimal) and raw.is_finite() and abs(raw) < 10**18 and raw == int(raw):
            raw = int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
            self.fault("invalid_number", f"must be a whole number from {least} to {most}.", name)
            return None
        return raw

    # -- other values ------------------------------------------------------------------------------------------------
    def text(self, name: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str | None:
        raw = self.take(name)
        if raw is None:
            return None
        if not isinstance(raw, str) or not 0 < len(raw) <= characters_max:
            self.fault("invalid_value", f"must be a string of 1 to {characters_max} characters.", name)
            return None
        return raw

    def required_text(self, name: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
        if self.take(name) is None:
            self._missing(name)
        return self.text(name, characters_max=characters_max) or ""

    def key(self, name: str, *, required: bool = True) -> str | None:
        """A key that a user chooses (API.md, conventions)."""
        raw = self.take(name)
        if raw is None:
            if required:
                self._missing(name)
            return None
        if not isinstance(raw, str) or not _KEY.fullmatch(raw):
            self.fault(
                "invalid_key",
                "must begin with a letter or digit and have at most 128 of letters, digits and _ . : -",
                name,
            )
            return None
        return raw

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        raw = self.take(name)
        if raw is None:
            return None
        if not isinstance(raw, str) or raw not in choices:
            self.fault("invalid_value", f"must be one of {', '.join(choices)}.", name)
            return None
        return raw

    def boolean(self, name: str) -> bool | None:
        raw = self.take(name)
        if raw is None:
            return None
        if not isinstance(raw, bool):
            self.fault("invalid_value", "must be true or false.", name)
            return None
        return raw

    # -- what stands below -------------------------------------------------------------------------------------------
    def below(self, raw: object, *steps: str | int) -> "Document":
        """An object further down; its faults are noted here, too."""
        return Document(raw, *self._place, *steps, faults=self.faults)

    def list_of(self, name: str, *, items_max: int, required: bool = False) -> list[Any]:
        """The raw items of a list; [] when absent."""
        raw = self.take(name)
        if raw is None:
            if required:
                self._missing(name)
            return []
        if not isinstance(raw, list | tuple):
            self.fault("invalid_type", "must be a list.", name)
            return []
        items = list(cast("list[Any]", raw))
        if required and not items:
            self.fault("missing", "must have at least one item.", name)
        if len(items) > items_max:
            self.fault("too_many", f"may have at most {items_max} items.", name)
            return items[:items_max]
        return items

    def objects(self, name: str, *, items_max: int, required: bool = False) -> Iterator["Document"]:
        """The objects of a list, each as a document; closed when the next is asked for."""
        for index, raw in enumerate(self.list_of(name, items_max=items_max, required=required)):
            one = self.below(raw, name, index)
            yield one
            one.close()

    def texts(self, name: str, *, items_max: int, required: bool = False) -> tuple[str, ...]:
        """Strings, each once."""
        items = self.list_of(name, items_max=items_max, required=required)
        if not all(isinstance(item, str) and 0 < len(item) <= TEXT_CHARACTERS_MAX for item in items):
            self.fault("invalid_value", f"must be strings of 1 to {TEXT_CHARACTERS_MAX} characters.", name)
            return ()
        if len(set(items)) != len(items):
            self.fault("repeated", "names something twice.", name)
        return tuple(dict.fromkeys(items))

    # -- the end -----------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Note a fault for every member that nobody has read."""
        for name in self._raw:
            if name not in self._read:
                known = ", ".join(self._read)
                self.fault("unknown_member", f"means nothing here; known: {known}.", str(name)[:80])

    def finish(self) -> None:
        """`close`, then raise what there is."""
        self.close()
        self.raise_any()

    def raise_any(self) -> None:
        """Raise Invalid with every fault there is; its code is the first one's."""
        if self.faults:
            details = " ".join(fault.detail for fault in self.faults[:5])
            raise Invalid(details, code=self.faults[0].code, faults=self.faults)
