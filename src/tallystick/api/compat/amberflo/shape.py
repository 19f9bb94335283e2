"""How Amberflo words things: errors, keys, the names of dimensions."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from xxhash import xxh3_64_hexdigest

from tallystick.api.compat.vendor import ErrorAnswer, Problem, described
from tallystick.api.openapi import STRING, objects
from tallystick.metering.definition import DIMENSION_NAME_PATTERN, RESERVED_DIMENSION_NAMES
from tallystick.metering.meter import Meter
from tallystick.metering.path import steps_of

BASE = "/amberflo"
VALUE_PATH = "$.meterValue"
DIMENSIONS = "dimensions"

ERROR = objects({"message": STRING})
operation_of = partial(described, tag="Amberflo", error=ERROR)

_NAME = re.compile(DIMENSION_NAME_PATTERN.rstrip("$"), re.ASCII)
_WORDS = (b"idtoken ", b"session ", b"bearer ")


def error_of(problem: Problem, path: str) -> ErrorAnswer:
    """A sentence, and 400 for whatever is wrong with a request. Its clients send again after 429 and 5xx alone."""
    status = 400 if problem.status in (409, 412, 413, 415, 422) else problem.status
    return ErrorAnswer(status, {"message": problem.detail})


def secret_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """`X-API-KEY`: the key, or the key behind one of the words that Amberflo's own pages put there."""
    key = headers.get(b"x-api-key")
    if key is None:
        return None
    for word in _WORDS:
        if key.lower().startswith(word):
            return key[len(word) :].strip()
    return key.strip()


def encoded(document: Any) -> bytes:
    """JSON of a document whose figures are `number`s."""
    return msgspec.json.encode(document)


# -- dimensions ----------------------------------------------------------------------------------------------------
def path_of(dimension: str) -> str:
    """Where a dimension stands in an event's data."""
    escaped = dimension.replace("\\", "\\\\").replace("'", "\\'")
    return f"$.{DIMENSIONS}['{escaped}']"


def declared_name(dimension: str) -> str:
    """The name our meter declares a dimension by: its own, where ours may have it."""
    if _NAME.fullmatch(dimension) and dimension not in RESERVED_DIMENSION_NAMES:
        return dimension
    return f"dimension.{xxh3_64_hexdigest(dimension.encode())}"


def dimension_of(path: str) -> str:
    """A dimension's name at Amberflo, by its path."""
    return str(steps_of(path)[-1])


def is_of_records(meter: Meter) -> bool:
    """Whether a meter reads events made of Amberflo's records."""
    if meter.value is not None:
        return meter.value == VALUE_PATH or steps_of(meter.value)[0] == DIMENSIONS
    return meter.value_cel is not None and (
        "data.meterValue" in meter.value_cel or f"data.{DIMENSIONS}" in meter.value_cel
    )
