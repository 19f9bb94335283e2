"""The filters of OpenMeter's questions, `{"$in":["a","b"]}` and the like, as predicates.

Strings are compared as strings, as ClickHouse does it for OpenMeter; `$like` knows `%`, `_` and a backslash before either.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

from tallystick.api import wire
from tallystick.api.fields import Fields

T = TypeVar("T", str, int)
Accepts = Callable[[T], bool]
"""Whether a value passes. Times are in microseconds since 1970."""

DEPTH_MAX = 8
OPERANDS_MAX = 1000
TEXT_OPERATORS = ("$eq", "$ne", "$in", "$nin", "$like", "$nlike", "$ilike", "$nilike")
ORDERINGS = ("$gt", "$gte", "$lt", "$lte")
_JOINTS = ("$and", "$or")
_Read = Callable[[Any], T | None]


class _WrongConditionError(Exception):
    """What is wrong with a condition, in words."""


def of_text(fields: Fields, parameter: str, name: str, condition: object) -> Accepts[str]:
    """The condition on a string. Faults are left in `fields`."""
    try:
        return _all(_given(condition), _text, (*TEXT_OPERATORS, *ORDERINGS), DEPTH_MAX)
    except _WrongConditionError as error:
        fields.fault(parameter, "unknown_operator", f"{name}: {error}")
        return lambda _: True


def of_time(fields: Fields, parameter: str, name: str, condition: object) -> Accepts[int]:
    """The condition on a moment. Faults are left in `fields`."""

    def read(given: Any) -> int | None:
        if not isinstance(given, str):
            return None
        return fields.faults.attempt(lambda: wire.parse_time(given, parameter), 0)

    try:
        return _all(_given(condition), read, ORDERINGS, DEPTH_MAX)
    except _WrongConditionError as error:
        fields.fault(parameter, "unknown_operator", f"{name}: {error}")
        return lambda _: True


def _given(condition: object) -> dict[str, Any]:
    return cast("dict[str, Any]", condition) if isinstance(condition, dict) else {"$eq": condition}


def _all(given: dict[str, Any], read: _Read[T], operators: tuple[str, ...], depth: int) -> Accepts[T]:
    if depth == 0:
        raise _WrongConditionError(f"conditions may be nested {DEPTH_MAX} deep.")
    parts = [
        _one(spelled, operand, read, operators, depth)
        for spelled, operand in given.items()
        if operand is not None
    ]
    return lambda value: all(accepts(value) for accepts in parts)


def _one(spelled: str, operand: Any, read: _Read[T], operators: tuple[str, ...], depth: int) -> Accepts[T]:
    if spelled in _JOINTS:
        listed = cast("list[Any]", operand)
        if not isinstance(operand, list) or not 0 < len(listed) <= OPERANDS_MAX:
            raise _WrongConditionError(f"{spelled} takes an array of conditions.")
        if not all(isinstance(one, dict) for one in listed):
            raise _WrongConditionError(f"{spelled} takes an array of conditions.")
        parts = [_all(one, read, operators, depth - 1) for one in listed]
        joint = all if spelled == "$and" else any
        return lambda value: joint(accepts(value) for accepts in parts)
    if spelled not in operators:
        raise _WrongConditionError(
            f"{spelled[:40]} is not supported; {', '.join((*operators, *_JOINTS))} are."
        )
    several = spelled in ("$in", "$nin")
    listed = cast("list[Any]", operand) if several and isinstance(operand, list) else [operand]
    values = [value for one in listed if (value := read(one)) is not None]
    if not values or len(values) < len(listed) or len(values) > OPERANDS_MAX:
        raise _WrongConditionError(
            f"{spelled} takes {f'1 to {OPERANDS_MAX} values' if several else 'a value'}."
        )
    if spelled in ("$in", "$eq"):
        return frozenset(values).__contains__
    if spelled in ("$nin", "$ne"):
        excluded = frozenset(values)
        return lambda value: value not in excluded
    bound = values[0]
    if spelled in ORDERINGS:
        return _ordering(spelled, bound)
    return cast("Accepts[T]", _like(spelled, str(bound)))


def _ordering(spelled: str, bound: T) -> Accepts[T]:
    if spelled == "$gt":
        return lambda value: value > bound
    if spelled == "$gte":
        return lambda value: value >= bound
    if spelled == "$lt":
        return lambda value: value < bound
    return lambda value: value <= bound


def _like(spelled: str, pattern: str) -> Accepts[str]:
    wanted = spelled in ("$like", "$ilike")
    folded = spelled in ("$ilike", "$nilike")
    matches = _matcher(pattern.casefold() if folded else pattern)
    return lambda value: matches(value.casefold() if folded else value) is wanted


def _matcher(pattern: str) -> Accepts[str]:
    """SQL's LIKE, piece by piece between its `%`: the time is that of a search for each, whatever the pattern."""
    pieces: list[str] = [""]
    at = 0
    while at < len(pattern):
        mark = pattern[at]
        if mark == "%":
            pieces.append("")
        elif mark == "_":
            pieces[-1] += "."
        else:
            if mark == "\\" and pattern[at + 1 : at + 2] in ("%", "_", "\\"):
                at += 1
            pieces[-1] += re.escape(pattern[at])
        at += 1
    first, *between = [re.compile(piece, re.DOTALL) for piece in pieces[:-1]] or [None]
    last = re.compile(f"(?:{pieces[-1]})\\Z", re.DOTALL)
    if first is None:
        return lambda value: last.match(value) is not None
    length = _length(pieces[-1])

    def matches(value: str) -> bool:
        begun = first.match(value)
        if begun is None:
            return False
        end = begun.end()
        for piece in between:
            found = cast("re.Pattern[str]", piece).search(value, end)
            if found is None:
                return False
            end = found.end()
        return len(value) - length >= end and last.match(value, len(value) - length) is not None

    return matches


def _length(piece: str) -> int:
    """Characters that a piece stands for: each of its own, or behind a backslash."""
    return len(re.sub(r"\\(.)", r"\1", piece, flags=re.DOTALL))


def _text(given: Any) -> str | None:
    return given if isinstance(given, str) else None
