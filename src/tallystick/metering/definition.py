"""A meter's definition as users write it: read from JSON, checked whole, and written back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.errors import Fault, Invalid
from tallystick.metering.filter import FilterError, compile_filter
from tallystick.metering.meter import DIMENSIONS_MAX, Aggregation, Dimension, Meter
from tallystick.metering.path import PathError, steps_of

KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
DIMENSION_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
RESERVED_DIMENSION_NAMES = frozenset({"customer", "subject"})
NAME_CHARACTERS_MAX = 256
EVENT_TYPE_CHARACTERS_MAX = 256
UNIT_CHARACTERS_MAX = 64
DESCRIPTION_CHARACTERS_MAX = 4096

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


def parse_meter(raw: object) -> MeterDefinition:
    """Read a definition from parsed JSON: key, name, event_type, aggregation, value, dimensions, filter, unit,
    description. `null` says the same as leaving a member out; `name` defaults to the key.

    Raises Invalid with a fault for everything that is wrong. Codes: missing, invalid_type, unknown_member, invalid_key,
    empty, too_long, unknown_aggregation, value_not_allowed, invalid_path, path_not_singular, path_too_long,
    too_many_dimensions, invalid_dimension_name, reserved_name, and those of filter.FilterError.
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
        "value": definition.value,
        "dimensions": {dimension.name: dimension.path for dimension in definition.dimensions},
        "filter": definition.filter,
        "unit": definition.unit,
        "description": definition.description,
    }


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
        value = self._value(aggregation)
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
        given = self._raw.get("aggregation")
        allowed = ", ".join(Aggregation)
        if given is None:
            self._fault("/aggregation", "missing", f"`aggregation` is missing; it is one of {allowed}.")
            return None
        if not isinstance(given, str):
            self._fault("/aggregation", "invalid_type", f"`aggregation` must be one of {allowed}.")
            return None
        try:
            return Aggregation(given)
        except ValueError:
            self._fault(
                "/aggregation",
                "unknown_aggregation",
                f"There is no aggregation {given[:64]!r}; it is one of {allowed}.",
            )
            return None

    def _value(self, aggregation: Aggregation | None) -> str | None:
        given = self._raw.get("value")
        if given is None:
            if aggregation is not None and aggregation is not Aggregation.COUNT:
                self._fault(
                    "/value", "missing", f"`value` is missing: {aggregation} reads one, like $.tokens."
                )
            return None
        if aggregation is Aggregation.COUNT:
            self._fault("/value", "value_not_allowed", "`value` has no meaning for count; leave it out.")
            return None
        return self._path("/value", given)

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
        except FilterError as error:
            self._fault("/filter", error.code, error.detail)
            return None
        return given


def _escaped(name: str) -> str:
    """A member's name within a JSON pointer (RFC 6901, section 3), cut to what is worth reading."""
    return name[:128].replace("~", "~0").replace("/", "~1")
