"""Values computed by a CEL expression over the event: `{"cel": "ceil(data.ms / 1000.0)"}`.

Beside what every expression may call (expression.py) there are `ceil floor round trunc abs min max`. They answer an int
for an int and a double for a double. `round` takes halves away from zero; the first four may be given a number of
digits to keep after the point, `round(x, 2)`; `min` and `max` take numbers, or one list.

CEL does not mix int and double, and JSON does not tell them apart: `data.ms / 1000.0` fails for 1500 and not for
1500.5. So an expression that fails because of types is asked once more with every number as a double: those of data,
and whole-number literals (not indices). An int result is exact; a double is the shortest decimal that reads back as
the same double, so what goes through one has at most 17 digits.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from typing import Any, TypeGuard

from tallystick.metering.expression import (
    FUNCTIONS,
    Expression,
    ExpressionEvent,
    Token,
    compile_cel,
    compile_expression,
    values_of_members,
)

OWN_FUNCTIONS = frozenset({"ceil", "floor", "round", "trunc", "abs", "min", "max"})

DIGITS_MAX = 18

_EXACT = Context(prec=400)  # a double has up to 309 digits before the point

Number = int | float


class Failed:
    """What an expression gives for an event on which it fails."""


FAILED = Failed()

Computed = int | float | str | bool | Failed | None
"""What a value expression gave; None for null. What is no scalar is given as Failed."""


@dataclass(frozen=True, slots=True)
class CompiledValue:
    """A value expression, ready to be asked."""

    expression: Expression
    functions: tuple[str, ...]  # of ours, those it calls
    widened: Any = field(
        repr=False
    )  # the program with doubles for whole-number literals; None: there is none

    def value(self, event: ExpressionEvent) -> Computed:
        """What it gives for this event."""
        values = self.expression.values_of(event)
        return FAILED if values is None else self._ask(values)

    def value_of(
        self, *, event_id: str, source: str, event_type: str, subject: str, time_us: int, data: bytes
    ) -> Computed:
        """What it gives for the event with these attributes."""
        values = self.expression.values(
            event_id=event_id,
            source=source,
            event_type=event_type,
            subject=subject,
            time_us=time_us,
            data=data,
        )
        return FAILED if values is None else self._ask(values)

    def value_of_members(self, event_type: str, members: Mapping[str, object]) -> Computed:
        """The same for an event whose data has, of the expression's members, these; see `values_of_members`."""
        return self._ask(values_of_members(event_type, members))

    def _ask(self, values: dict[str, Any]) -> Computed:
        try:
            return self._run(self.expression.program, values)
        except TypeError:
            if self.widened is None:
                return FAILED
        except Exception:
            return FAILED
        try:
            return self._run(self.widened, _widened(values))
        except Exception:
            return FAILED

    def _run(self, program: Any, values: dict[str, Any]) -> Computed:
        functions = _Functions()
        given: object = program.execute({**functions.named(self.functions), **values})
        if functions.failed or not (given is None or isinstance(given, int | float | str)):
            return FAILED
        return given


@lru_cache(maxsize=1024)
def compile_value(expression: str) -> CompiledValue:
    """Compile a value expression, once in a process. Raises ExpressionError with the reason in words."""
    compiled = compile_expression(expression, noun="A value", functions=FUNCTIONS | OWN_FUNCTIONS)
    try:
        widened = compile_cel(_with_doubles(compiled.tokens))
    except Exception:
        widened = None
    called = frozenset[str](compiled.program.functions())
    return CompiledValue(compiled, tuple(sorted(called & OWN_FUNCTIONS)), widened)


def _with_doubles(tokens: tuple[Token, ...]) -> str:
    written: list[str] = []
    for index, token in enumerate(tokens):
        is_index = (
            index >= 2
            and tokens[index - 1].text == "["
            and (tokens[index - 2].kind == "name" or tokens[index - 2].text in (")", "]"))
        )
        whole = token.kind == "number" and re.fullmatch("[0-9]+", token.text) is not None
        written.append(f"{token.text}.0" if whole and not is_index else token.text)
    return " ".join(written)


def _widened(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, dict):
        members: dict[str, Any] = value
        return {name: _widened(member) for name, member in members.items()}
    if isinstance(value, list):
        elements: list[Any] = value
        return [_widened(element) for element in elements]
    return value


# -- functions --------------------------------------------------------------------------------------------------------


class _Functions:
    """The functions of one evaluation. One that cannot answer says so here and answers NaN: an exception would be
    logged by the library, a line for every such event."""

    def __init__(self) -> None:
        self.failed = False

    def named(self, names: tuple[str, ...]) -> dict[str, Callable[..., Number]]:
        return {name: getattr(self, name) for name in names}

    def ceil(self, *given: object) -> Number:
        return self._rounded(ROUND_CEILING, given)

    def floor(self, *given: object) -> Number:
        return self._rounded(ROUND_FLOOR, given)

    def trunc(self, *given: object) -> Number:
        return self._rounded(ROUND_DOWN, given)

    def round(self, *given: object) -> Number:
        return self._rounded(ROUND_HALF_UP, given)

    def abs(self, *given: object) -> Number:
        return abs(self._number(given[0] if len(given) == 1 else None))

    def min(self, *given: object) -> Number:
        return min(self._numbers(given))

    def max(self, *given: object) -> Number:
        return max(self._numbers(given))

    def _rounded(self, rounding: str, given: tuple[object, ...]) -> Number:
        number = self._number(given[0] if given else None)
        places = self._number(given[1]) if len(given) > 1 else 0
        if self.failed or isinstance(number, int):
            return number
        if len(given) > 2 or int(places) != places or not 0 <= places <= DIGITS_MAX:
            self.failed = True
            return math.nan
        # By the shortest decimal, which is what a user sees: round(1.005, 2) is 1.01.
        return float(Decimal(repr(number)).quantize(Decimal((0, (1,), -int(places))), rounding, _EXACT))

    def _number(self, given: object) -> Number:
        if _is_number(given):
            return given
        self.failed = True
        return math.nan

    def _numbers(self, given: tuple[object, ...]) -> list[Number]:
        elements: list[Any] = list(given)
        if len(given) == 1 and isinstance(given[0], list | tuple):
            elements = list(given[0])  # pyright: ignore[reportUnknownArgumentType]
        numbers = [one for one in elements if _is_number(one)]
        if len(numbers) != len(elements) or not numbers:
            self.failed = True
            return [math.nan]
        return numbers


def _is_number(given: object) -> TypeGuard[Number]:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
