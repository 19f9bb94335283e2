"""A meter's definition as users write it: read from JSON, checked whole, and written back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from tallystick.errors import Fault, Invalid
from tallystick.metering.computed import compile_value
from tallystick.metering.expression import ExpressionError
from tallystick.metering.filter import compile_filter
from tallystick.metering.meter import (
    DIMENSIONS_MAX,
    INNER,
    OUTER,
    Aggregation,
    Dimension,
    InnerAggregation,
    Meter,
    Window,
)
from tallystick.metering.path import PathError, steps_of

KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
DIMENSION_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
RESERVED_DIMENSION_NAMES = frozenset({"customer", "subject"})
NAME_CHARACTERS_MAX = 256
EVENT_TYPE_CHARACTERS_MAX = 256
UNIT_CHARACTERS_MAX = 64
DESCRIPTION_CHARACTERS_MAX = 4096
TIMEOUT_DAYS_MAX = 366

_KEY = re.compile(KEY_PATTERN.rstrip("$"), re.ASCII)
_DIMENSION_NAME = re.compile(DIMENSION_NAME_PATTERN.rstrip("$"), re.ASCII)
_MEMBERS = (
    "key",
    "name",
    "event_type",
    "aggregation",
    "value",
    "dimensions",
    "filter",
    "unit",
    "description",
    "pair_by",
    "timeout",
    "of",
)
_Names = TypeVar("_Names", bound=StrEnum)
_DAY_US = 86_400_000_000
_UNITS_US = {"W": 7 * _DAY_US, "D": _DAY_US, "H": 3_600_000_000, "M": 60_000_000, "S": 1_000_000}
# ISO 8601, 5.5.2.4, without years and months, which have no fixed length.
_TIMEOUT = re.compile(
    r"P(?!$)(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:\.([0-9]{1,6}))?S)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class MeterDefinition:
    """What a user says of a meter; the catalog adds id, tenant and version and makes it a `Meter`.

    The members are those of `Meter`. Two equal definitions mean the same, so that a change to nothing is no new
    version.
    """

    key: str
    name: str
    event_type: str
    aggregation: Aggregation
    value: str | None
    dimensions: tuple[Dimension, ...] = ()
    filter: str | None = None
    unit: str | None = None
    description: str | None = None
    value_cel: str | None = None
    pair_by: str | None = None
    timeout_us: int | None = None
    of: InnerAggregation | None = None


def parse_meter(raw: object) -> MeterDefinition:
    """Read a definition from parsed JSON: key, name, event_type, aggregation, value, dimensions, filter, unit,
    description, pair_by, timeout, of. `null` says the same as leaving a member out; `name` defaults to the key.

    Raises Invalid with a fault for everything that is wrong. Codes: missing, invalid_type, unknown_member, invalid_key,
    empty, too_long, unknown_aggregation, value_not_allowed, invalid_path, path_not_singular, path_too_long,
    too_many_dimensions, invalid_dimension_name, reserved_name, pair_by_not_allowed, timeout_not_allowed,
    invalid_timeout, of_not_allowed, unknown_window, and those of expression.ExpressionError.
    """
    if not isinstance(raw, Mapping):
        fault = Fault("", "invalid_type", "A meter is a JSON object with key, event_type and aggregation.")
        raise Invalid(fault.detail, faults=[fault])
    return _Reader(raw).read()  # pyright: ignore[reportUnknownArgumentType]


def definition_to_wire(definition: MeterDefinition | Meter) -> dict[str, Any]:
    """The JSON shape `parse_meter` reads, every member present, absent ones null."""
    return {
        "key": definition.key,
        "name": definition.name,
        "event_type": definition.event_type,
        "aggregation": definition.aggregation.value,
        "value": definition.value if definition.value_cel is None else {"cel": definition.value_cel},
        "dimensions": {dimension.name: dimension.path for dimension in definition.dimensions},
        "filter": definition.filter,
        "unit": definition.unit,
        "description": definition.description,
        "pair_by": definition.pair_by,
        "timeout": None if definition.timeout_us is None else timeout_text(definition.timeout_us),
        "of": None
        if definition.of is None
        else {"aggregation": definition.of.aggregation.value, "window": definition.of.window.value},
    }


def timeout_of(text: str) -> int | None:
    """Microseconds of an ISO 8601 duration of fixed length, a day of 24 hours: PT1H, P1DT12H, PT0.5S. None for
    anything else."""
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        return None
    *wholes, fraction = match.groups()
    whole_us = sum(int(count or 0) * _UNITS_US[unit] for count, unit in zip(wholes, "WDHMS", strict=True))
    return whole_us + int((fraction or "").ljust(6, "0"))


def timeout_text(timeout_us: int) -> str:
    """The shortest form: days, hours, minutes and seconds, none that is 0."""
    days, rest_us = divmod(timeout_us, _DAY_US)
    hours, rest_us = divmod(rest_us, _UNITS_US["H"])
    minutes, rest_us = divmod(rest_us, _UNITS_US["M"])
    seconds, fraction_us = divmod(rest_us, _UNITS_US["S"])
    second = f"{seconds}.{fraction_us:06d}".rstrip("0") if fraction_us else str(seconds)
    time = "".join(
        f"{count}{unit}"
        for count, unit in ((str(hours), "H"), (str(minutes), "M"), (second, "S"))
        if count != "0"
    )
    return f"P{f'{days}D' if days else ''}{f'T{time}' if time else ''}"


class _Reader:
    """Reads one definition and collects what is wrong with it."""

    def __init__(self, raw: Mapping[Any, Any]) -> None:
        self._raw = raw
        self._faults: list[Fault] = []

    def read(self) -> MeterDefinition:
        for member in self._raw:
            if member not in _MEMBERS:
                self._fault(
                    f"/{_escaped(str(member))}",
                    "unknown_member",
                    f"A meter has no member {str(member)[:64]!r}, only {', '.join(_MEMBERS)}.",
                )
        key = self._key()
        name = self._text("name", NAME_CHARACTERS_MAX)
        event_type = self._text("event_type", EVENT_TYPE_CHARACTERS_MAX, required=True)
        aggregation = self._aggregation()
        of = self._of(aggregation)
        value, value_cel = self._value(aggregation if of is None else of.aggregation)
        pair_by = self._pair_by(aggregation)
        timeout_us = self._timeout(aggregation)
        dimensions = self._dimensions()
        expression = self._filter()
        unit = self._text("unit", UNIT_CHARACTERS_MAX)
        description = self._text("description", DESCRIPTION_CHARACTERS_MAX)
        if self._faults or key is None or event_type is None or aggregation is None:
            raise Invalid(
                "The meter is not valid: " + " ".join(fault.detail for fault in self._faults),
                faults=self._faults,
            )
        return MeterDefinition(
            key=key,
            name=name if name is not None else key,
            event_type=event_type,
            aggregation=aggregation,
            value=value,
            dimensions=dimensions,
            filter=expression,
            unit=unit,
            description=description,
            value_cel=value_cel,
            pair_by=pair_by,
            timeout_us=timeout_us,
            of=of,
        )

    def _fault(self, pointer: str, code: str, detail: str) -> None:
        self._faults.append(Fault(pointer, code, detail))

    def _text(self, member: str, characters_max: int, *, required: bool = False) -> str | None:
        given = self._raw.get(member)
        pointer = f"/{member}"
        if given is None:
            if required:
                self._fault(pointer, "missing", f"`{member}` is missing.")
            return None
        if not isinstance(given, str):
            self._fault(pointer, "invalid_type", f"`{member}` must be a string.")
            return None
        if not given:
            self._fault(pointer, "empty", f"`{member}` must not be empty.")
            return None
        if len(given) > characters_max:
            self._fault(pointer, "too_long", f"`{member}` has more than {characters_max} characters.")
            return None
        return given

    def _key(self) -> str | None:
        given = self._raw.get("key")
        if given is None:
            self._fault("/key", "missing", "`key` is missing.")
        elif not isinstance(given, str):
            self._fault("/key", "invalid_type", "`key` must be a string.")
        elif not _KEY.fullmatch(given):
            self._fault(
                "/key",
                "invalid_key",
                "`key` must begin with a letter or digit and have at most 128 of letters, digits and _ . : -",
            )
        else:
            return given
        return None

    def _aggregation(self) -> Aggregation | None:
        return self._one_of("/aggregation", self._raw.get("aggregation"), Aggregation, "aggregation")

    def _one_of(self, pointer: str, given: object, kind: type[_Names], noun: str) -> _Names | None:
        allowed = ", ".join(kind)
        if given is None:
            self._fault(pointer, "missing", f"`{noun}` is missing; it is one of {allowed}.")
            return None
        if not isinstance(given, str):
            self._fault(pointer, "invalid_type", f"`{noun}` must be one of {allowed}.")
            return None
        try:
            return kind(given)
        except ValueError:
            self._fault(
                pointer, f"unknown_{noun}", f"There is no {noun} {given[:64]!r}; it is one of {allowed}."
            )
            return None

    def _of(self, outer: Aggregation | None) -> InnerAggregation | None:
        given = self._raw.get("of")
        if given is None:
            return None
        if not isinstance(given, Mapping):
            self._fault("/of", "invalid_type", "`of` must be an object of aggregation and window.")
            return None
        for member in given:  # pyright: ignore[reportUnknownVariableType]
            if member not in ("aggregation", "window"):
                self._fault(
                    f"/of/{_escaped(str(member))}",  # pyright: ignore[reportUnknownArgumentType]
                    "unknown_member",
                    "`of` has the members aggregation and window, no other.",
                )
        inner = self._one_of("/of/aggregation", given.get("aggregation"), Aggregation, "aggregation")  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        window = self._one_of("/of/window", given.get("window"), Window, "window")  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        if inner is not None and inner not in INNER:
            self._fault(
                "/of/aggregation",
                "of_not_allowed",
                f"`of` takes {_listed(INNER)}, not {inner}.",
            )
            return None
        if outer is not None and outer not in OUTER:
            self._fault("/of", "of_not_allowed", f"`of` has a meaning for {_listed(OUTER)}, not for {outer}.")
            return None
        return None if inner is None or window is None else InnerAggregation(inner, window)

    def _value(self, read_as: Aggregation | None) -> tuple[str | None, str | None]:
        """Path and CEL expression, of which one is None."""
        given = self._raw.get("value")
        if given is None:
            if read_as is not None and read_as is not Aggregation.COUNT:
                self._fault("/value", "missing", f"`value` is missing: {read_as} reads one, like $.tokens.")
            return None, None
        if read_as is Aggregation.COUNT:
            self._fault("/value", "value_not_allowed", "`value` has no meaning for count; leave it out.")
            return None, None
        if not isinstance(given, Mapping):
            return self._path("/value", given), None
        if set(given) != {"cel"}:  # pyright: ignore[reportUnknownArgumentType]
            self._fault("/value", "invalid_type", '`value` is a path or an object {"cel": "…"}, no other.')
            return None, None
        expression: object = given["cel"]
        if not isinstance(expression, str):
            self._fault("/value/cel", "invalid_type", "`cel` must be a string, a CEL expression.")
            return None, None
        try:
            compile_value(expression)
        except ExpressionError as error:
            self._fault("/value/cel", error.code, error.detail)
            return None, None
        return None, expression

    def _pair_by(self, aggregation: Aggregation | None) -> str | None:
        given = self._raw.get("pair_by")
        if aggregation is Aggregation.DURATION:
            if given is None:
                self._fault(
                    "/pair_by",
                    "missing",
                    "`pair_by` is missing: duration needs the path of what a start and its stop have in common,"
                    " like $.session.",
                )
                return None
            return self._path("/pair_by", given)
        if given is not None and aggregation is not None:
            self._fault("/pair_by", "pair_by_not_allowed", "`pair_by` has a meaning for duration only.")
        return None

    def _timeout(self, aggregation: Aggregation | None) -> int | None:
        given = self._raw.get("timeout")
        if given is None or aggregation is None:
            return None
        if aggregation not in (Aggregation.TIME_WEIGHTED, Aggregation.DURATION):
            self._fault(
                "/timeout",
                "timeout_not_allowed",
                "`timeout` has a meaning for time_weighted and duration only.",
            )
            return None
        timeout_us = timeout_of(given) if isinstance(given, str) else None
        if timeout_us is None or not 0 < timeout_us <= TIMEOUT_DAYS_MAX * _DAY_US:
            self._fault(
                "/timeout",
                "invalid_timeout",
                "`timeout` must be an ISO 8601 duration in weeks, days, hours, minutes and seconds, like PT1H,"
                f" more than 0 and at most P{TIMEOUT_DAYS_MAX}D; years and months have no fixed length.",
            )
            return None
        return timeout_us

    def _path(self, pointer: str, given: object) -> str | None:
        if not isinstance(given, str):
            self._fault(pointer, "invalid_type", "A path is a string, like $.tokens.")
            return None
        try:
            steps_of(given)
        except PathError as error:
            self._fault(pointer, error.code, error.detail)
            return None
        return given

    def _dimensions(self) -> tuple[Dimension, ...]:
        given = self._raw.get("dimensions")
        if given is None:
            return ()
        if not isinstance(given, Mapping):
            self._fault("/dimensions", "invalid_type", "`dimensions` must be an object of names and paths.")
            return ()
        if len(given) > DIMENSIONS_MAX:  # pyright: ignore[reportUnknownArgumentType]
            self._fault(
                "/dimensions", "too_many_dimensions", f"A meter has at most {DIMENSIONS_MAX} dimensions."
            )
            return ()
        dimensions: list[Dimension] = []
        for name, path in given.items():  # pyright: ignore[reportUnknownVariableType]
            pointer = f"/dimensions/{_escaped(str(name))}"  # pyright: ignore[reportUnknownArgumentType]
            if not isinstance(name, str) or not _DIMENSION_NAME.fullmatch(name):
                self._fault(
                    pointer,
                    "invalid_dimension_name",
                    "A dimension's name begins with a letter or _ and has at most 64 of letters, digits and _ . -",
                )
            elif name in RESERVED_DIMENSION_NAMES:
                self._fault(
                    pointer, "reserved_name", f"Every meter has {name!r} already; choose another name."
                )
            else:
                read = self._path(pointer, path)
                if read is not None:
                    dimensions.append(Dimension(name, read))
        return tuple(dimensions)

    def _filter(self) -> str | None:
        given = self._raw.get("filter")
        if given is None:
            return None
        if not isinstance(given, str):
            self._fault("/filter", "invalid_type", "`filter` must be a string, a CEL expression.")
            return None
        try:
            compile_filter(given)
        except ExpressionError as error:
            self._fault("/filter", error.code, error.detail)
            return None
        return given


def _listed(aggregations: frozenset[Aggregation]) -> str:
    return ", ".join(one for one in Aggregation if one in aggregations)


def _escaped(name: str) -> str:
    """A member's name within a JSON pointer (RFC 6901, section 3), cut to what is worth reading."""
    return name[:128].replace("~", "~0").replace("/", "~1")
