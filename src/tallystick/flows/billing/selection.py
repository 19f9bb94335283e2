"""The filter of a charge, as a usage question takes it."""

import json
import re
from functools import lru_cache
from typing import Any, cast

from tallystick.errors import Fault, Invalid
from tallystick.metering.query import Filter, Operator

OPERANDS_MAX = 1000
CONDITIONS_MAX = 100
_LISTS = (Operator.IN, Operator.NOT_IN)
_NUMERIC = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)


@lru_cache(maxsize=4096)
def filters_of(text: str | None) -> tuple[Filter, ...]:
    """`{"model": {"in": ["a", "b"]}}` as conditions that must all hold. Raises Invalid (invalid_filter)."""
    if text is None:
        return ()
    made: list[Filter] = []
    for name, conditions in cast("dict[str, Any]", json.loads(text)).items():
        if not isinstance(conditions, dict) or not conditions:
            raise _invalid(f'{name[:60]!r} needs an object of operators such as {{"in": ["a"]}}.')
        for spelled, operand in cast("dict[str, Any]", conditions).items():
            made.append(_condition(name, spelled, operand))
    if len(made) > CONDITIONS_MAX:
        raise _invalid(f"a filter may have at most {CONDITIONS_MAX} conditions.")
    return tuple(made)


def _condition(name: str, spelled: str, operand: Any) -> Filter:
    try:
        operator = Operator(spelled)
    except ValueError:
        raise _invalid(f"no operator {spelled[:40]!r}; known: {', '.join(Operator)}.") from None
    raw = cast("list[Any]", operand) if isinstance(operand, list) and operator in _LISTS else [operand]
    operands = [_operand(one) for one in raw]
    if not 0 < len(operands) <= (OPERANDS_MAX if operator in _LISTS else 1):
        raise _invalid(f"{operator} takes {'1 to 1000 operands' if operator in _LISTS else 'one operand'}.")
    if operator is Operator.EXISTS and operands[0] not in ("true", "false"):
        raise _invalid("exists takes true or false.")
    if operator in _NUMERIC and not _NUMBER.match(operands[0]):
        raise _invalid(f"{operator} takes a number such as 12.5.")
    return Filter(name, operator, tuple(dict.fromkeys(operands)))


def _operand(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and len(value) <= 1024:
        return value
    if isinstance(value, int):
        return str(value)
    raise _invalid("operands are strings of at most 1024 characters.")


def _invalid(detail: str) -> Invalid:
    return Invalid(detail, code="invalid_filter", faults=[Fault("/filter", "invalid_filter", detail)])
