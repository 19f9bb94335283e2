"""What of an event is worked out from the whole record, by CEL (metering/expression.py: its variables, functions, bounds).

In an expression `data` is the record, whatever its form: a row by its columns, a JSON object as it is. `id`, `source`,
`type`, `subject` and `time` are what the columns gave. A number worked out is exact where it is an int, and the shortest
decimal of a double otherwise.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

from tallystick.errors import Fault
from tallystick.metering.computed import FAILED, CompiledValue, compile_value
from tallystick.metering.expression import ExpressionError
from tallystick.metering.filter import CompiledFilter, Verdict, compile_filter
from tallystick.metering.instant import instant_us

COMPUTED_MAX = 50
ATTRIBUTES = ("id", "source", "type", "subject", "time")
_DATA = "data."


class ComputeError(ValueError):
    """An expression gives nothing for a record."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What expressions gave for one record: JSON texts by attribute, and of members of data by name."""

    attributes: Mapping[str, str]
    members: Mapping[str, str]


class Computer:
    """The expressions of one mapping, ready to be asked."""

    def __init__(self, compute: Sequence[tuple[str, str]], where: str | None) -> None:
        """Raises ExpressionError; `faults_of` finds all that is wrong."""
        self._values: list[tuple[str, CompiledValue]] = [
            (name, compile_value(text)) for name, text in compute
        ]
        self._where: CompiledFilter | None = None if where is None else compile_filter(where)

    def wanted(self, record: bytes, attributes: Mapping[str, str | None]) -> bool:
        """Whether `where` takes this record. Raises ComputeError when it gives neither true nor false."""
        if self._where is None:
            return True
        verdict = self._where.verdict_of(**_seen(attributes), data=record)
        if verdict is Verdict.ERROR:
            raise ComputeError("`where` gives neither true nor false for it.")
        return verdict is Verdict.MATCH

    def work(self, record: bytes, attributes: Mapping[str, str | None]) -> Worked:
        """Raises ComputeError, which names the member whose expression gives nothing."""
        seen = _seen(attributes)
        worked: dict[str, str] = {}
        members: dict[str, str] = {}
        for name, value in self._values:
            given = value.value_of(**seen, data=record)
            if given is FAILED or (isinstance(given, float) and not math.isfinite(given)):
                raise ComputeError(f"`compute` gives nothing for {name}: {value.expression.text[:200]}")
            if given is None:
                continue
            scalar = cast("int | float | str | bool", given)
            if name.startswith(_DATA):
                members[name.removeprefix(_DATA)] = json.dumps(scalar, ensure_ascii=False)
            else:
                text = scalar if isinstance(scalar, str) else json.dumps(scalar)
                worked[name] = json.dumps(text, ensure_ascii=False)
        return Worked(worked, members)


def faults_of(compute: Sequence[tuple[str, str]], where: str | None) -> list[Fault]:
    """Everything that is wrong with the expressions of a mapping."""
    faults: list[Fault] = []
    if len(compute) > COMPUTED_MAX:
        faults.append(Fault("--compute", "too_many", f"At most {COMPUTED_MAX} members can be worked out."))
    for name, text in compute[:COMPUTED_MAX]:
        place = f"--compute/{name}"
        if name not in ATTRIBUTES and not (name.startswith(_DATA) and len(name) > len(_DATA)):
            detail = f"{name!r} is none of {', '.join(ATTRIBUTES)} and data.NAME."
            faults.append(Fault(place, "unknown_member", detail))
            continue
        try:
            compile_value(text)
        except ExpressionError as error:
            faults.append(Fault(place, error.code, error.detail))
    if where is not None:
        try:
            compile_filter(where)
        except ExpressionError as error:
            faults.append(Fault("--where", error.code, error.detail))
    return faults


class _Seen(TypedDict):
    """The attributes, as the arguments of an expression."""

    event_id: str
    source: str
    event_type: str
    subject: str
    time_us: int


def _seen(attributes: Mapping[str, str | None]) -> _Seen:
    texts = {name: "" if value is None else _plain(value) for name, value in attributes.items()}
    try:
        time_us = instant_us(texts.get("time", "")) if texts.get("time") else 0
    except ValueError:
        time_us = 0
    return {
        "event_id": texts.get("id", ""),
        "source": texts.get("source", ""),
        "event_type": texts.get("type", ""),
        "subject": texts.get("subject", ""),
        "time_us": time_us,
    }


def _plain(literal: str) -> str:
    return cast("str", json.loads(literal)) if literal.startswith('"') else literal
