"""CEL expressions over an event: what a filter and a computed value have in common.

Variables: `id`, `source`, `type`, `subject` (strings), `time` (timestamp) and `data` (a map; empty when the event has
none). Numbers as CEL sees them: an integer of up to 64 bits is an int, every other number a double.

Bounds. An expression comes from outside and runs once an event, so that what makes its cost explode is refused:
its length, comprehensions inside comprehensions, additions inside or beside them, many additions.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

EXPRESSION_CHARACTERS_MAX = 4096
COMPREHENSION_CHARACTERS_MAX = 1024
COMPREHENSION_DATA_BYTES_MAX = 8192
ADDITIONS_MAX = 32
MEMO_ENTRIES_MAX = 16_384
MEMO_TEXT_CHARACTERS_MAX = 256

VARIABLES = frozenset({"id", "source", "type", "subject", "time", "data"})
FUNCTIONS = frozenset(
    [
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "string",
        "bytes",
        "double",
        "int",
        "uint",
        "duration",
        "timestamp",
        "dyn",
        "type",
        "getFullYear",
        "getMonth",
        "getDayOfYear",
        "getDayOfMonth",
        "getDate",
        "getDayOfWeek",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    ]
)
MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHITESPACE = re.compile(r"(?:\s+|//[^\n]*)+")
_TOKEN = re.compile(
    r"""(?P<string>[bBrR]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>(?:0x[0-9A-Fa-f]+|[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)[uU]?)
    |(?P<sign>&&|\|\||[<>=!]=|[-+*/%!<>?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_STRING = re.compile(r""""([^"\\\n]*)"|'([^'\\\n]*)'""")


class ExpressionError(ValueError):
    """The text is no usable expression. `code` is stable: invalid_expression, expression_too_long,
    expression_too_complex, unknown_variable, unknown_function."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ExpressionEvent(Protocol):
    """What an expression can see of an event. `data` is JSON as sent, b"" when absent."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def time_us(self) -> int: ...
    @property
    def data(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that may be run.

    `members`: the members of data it can touch, when the expression proves that it touches no others; None: any.
    `memorable`: beside them it touches nothing of an event but `type`, which one meter's events share, so that its
    result is a function of them and may be remembered. Otherwise it is asked for every event.
    """

    text: str
    members: tuple[str, ...] | None
    memorable: bool
    comprehension: bool
    variables: frozenset[str]
    tokens: tuple[Token, ...] = field(repr=False)
    program: Any = field(repr=False)

    def values(
        self, *, event_id: str, source: str, event_type: str, subject: str, time_us: int, data: bytes
    ) -> dict[str, Any] | None:
        """What the expression is given of the event with these attributes; None: too much to run it on."""
        if self.comprehension and len(data) > COMPREHENSION_DATA_BYTES_MAX:
            return None
        # Only what it mentions: every value is copied into the evaluation, which costs more than the evaluation.
        given: dict[str, Any] = {"id": event_id, "source": source, "type": event_type, "subject": subject}
        values = {name: value for name, value in given.items() if name in self.variables}
        if "time" in self.variables:
            values["time"] = _EPOCH + timedelta(microseconds=time_us)
        if "data" in self.variables:
            seen = _as_seen(data)
            if self.members is not None:
                seen = {name: seen[name] for name in self.members if name in seen}
            values["data"] = seen
        return values

    def values_of(self, event: ExpressionEvent) -> dict[str, Any] | None:
        """The same of a whole event."""
        return self.values(
            event_id=event.id,
            source=event.source,
            event_type=event.type,
            subject=event.subject,
            time_us=event.time_us,
            data=event.data,
        )


def values_of_members(event_type: str, members: Mapping[str, object]) -> dict[str, Any]:
    """What a memorable expression is given of an event whose data has, of `Expression.members`, these (parsed; numbers
    int, float or their text as JsonNumber)."""
    return {"type": event_type, "data": {name: _seen(value) for name, value in members.items()}}


class JsonNumber(str):
    """The literal text of a JSON number, told apart from a JSON string of the same characters."""

    __slots__ = ()


def _seen(value: object) -> object:
    """A parsed value as an expression sees it."""
    if isinstance(value, JsonNumber):
        return _number_seen(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return (
            value
            if -(1 << 63) <= value < 1 << 63
            else float(value)
            if abs(value) < 1 << 1000
            else _infinity(value)
        )
    if isinstance(value, dict):
        return {name: _seen(member) for name, member in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_seen(element) for element in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _infinity(value: int) -> float:
    return float("inf") if value > 0 else float("-inf")


def _number_seen(literal: str) -> int | float:
    if len(literal) <= 20 and literal.lstrip("-").isdigit():
        value = int(literal)
        if -(1 << 63) <= value < 1 << 63:
            return value
    return float(literal)  # beyond the range of a double: an infinity


_DECODER = json.JSONDecoder(parse_int=_number_seen, parse_float=_number_seen)


def _as_seen(data: bytes) -> dict[str, Any]:
    """Data as an expression sees it. What cannot be read has no members, as everywhere (see reading.py)."""
    if not data:
        return {}
    try:
        seen = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return seen if isinstance(seen, dict) else {}


def compile_cel(expression: str) -> Any:
    """The library's program. Raises whatever it does."""
    import cel  # it loads a library for terminals, and most processes never meet an expression

    return cel.compile(expression)


def compile_expression(expression: str, *, noun: str, functions: frozenset[str] = FUNCTIONS) -> Expression:
    """Compile an expression that may call these functions; `noun` is what to call it in what is said to users.

    Raises ExpressionError with the reason in words.
    """
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise ExpressionError(
            "expression_too_long", f"{noun} has at most {EXPRESSION_CHARACTERS_MAX} characters."
        )
    try:
        program = compile_cel(expression)
        variables = frozenset[str](program.variables())
        called = frozenset[str](program.functions())
    except Exception as error:  # the compiler says what is wrong with whatever exception it has
        reason = " ".join(str(error).split())[:400]
        raise ExpressionError(
            "invalid_expression", f"{noun} must be a valid CEL expression: {reason}"
        ) from error
    tokens = _tokens(expression, noun)
    bound = _bound_names(tokens)
    unknown = sorted(variables - VARIABLES - bound)
    if unknown:
        raise ExpressionError(
            "unknown_variable",
            f"{noun} knows no variable {unknown[0]!r}, only id, source, type, subject, time and data"
            f" (write data.{unknown[0].lstrip('.')} for a member of data).",
        )
    absent = sorted(name for name in called - functions if name[0].isalpha())
    if absent:
        raise ExpressionError(
            "unknown_function",
            f"{noun} knows no function {absent[0]!r}; there are {', '.join(sorted(functions))}"
            f" and the macros has, {', '.join(sorted(MACROS))}.",
        )
    comprehension = _check_cost(expression, tokens, noun)
    members = _members(tokens)
    if bound & VARIABLES:
        members = None
    memorable = members is not None and not comprehension and variables <= {"data", "type"}
    return Expression(
        text=expression,
        members=members,
        memorable=memorable,
        comprehension=comprehension,
        variables=variables,
        tokens=tokens,
        program=program,
    )


def _tokens(expression: str, noun: str) -> tuple[Token, ...]:
    """The expression in pieces. Only called for what the compiler accepts; what this does not know is refused."""
    tokens: list[Token] = []
    at = 0
    while at < len(expression):
        if blank := _WHITESPACE.match(expression, at):
            at = blank.end()
            continue
        match = _TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise ExpressionError("invalid_expression", f"{noun} cannot be read from character {at + 1} on.")
        tokens.append(Token(match.lastgroup, match.group()))
        at = match.end()
    return tuple(tokens)


def _macro_calls(tokens: tuple[Token, ...]) -> list[int]:
    """Where `.all(` and its like stand: the index of the name."""
    return [
        index
        for index in range(1, len(tokens) - 1)
        if tokens[index].text in MACROS
        and tokens[index].kind == "name"
        and tokens[index - 1].text == "."
        and tokens[index + 1].text == "("
    ]


def _bound_names(tokens: tuple[Token, ...]) -> frozenset[str]:
    names: set[str] = set()
    for index in _macro_calls(tokens):
        # Macros have one variable, or two in newer dialects: name , name , …
        for position in (index + 2, index + 4):
            if (
                position + 1 < len(tokens)
                and tokens[position].kind == "name"
                and tokens[position + 1].text == ","
            ):
                names.add(tokens[position].text)
            else:
                break
    return frozenset(names)


def _check_cost(expression: str, tokens: tuple[Token, ...], noun: str) -> bool:
    """Refuse what can cost far more than the size of an event. Answers whether there is a comprehension."""
    additions = sum(token.text == "+" and token.kind == "sign" for token in tokens)
    if additions > ADDITIONS_MAX:
        raise ExpressionError("expression_too_complex", f"{noun} has at most {ADDITIONS_MAX} additions.")
    calls = set(_macro_calls(tokens))
    if not calls:
        return False
    if len(expression) > COMPREHENSION_CHARACTERS_MAX:
        raise ExpressionError(
            "expression_too_complex",
            f"{noun} with all, exists, map or filter has at most {COMPREHENSION_CHARACTERS_MAX} characters.",
        )
    if additions:
        raise ExpressionError(
            "expression_too_complex", f"{noun} with all, exists, map or filter cannot add at the same time."
        )
    depth = 0
    inside: list[int] = []
    for index, token in enumerate(tokens):
        if token.kind != "sign":
            continue
        if token.text in "([{":
            depth += 1
            if index - 1 in calls:
                if inside:
                    raise ExpressionError(
                        "expression_too_complex",
                        f"{noun} cannot have one of all, exists, map and filter inside another.",
                    )
                inside.append(depth)
        elif token.text in ")]}":
            if inside and inside[-1] == depth:
                inside.pop()
            depth -= 1
    return True


def _members(tokens: tuple[Token, ...]) -> tuple[str, ...] | None:
    """The members of data that are named, when every mention of data names one."""
    names: list[str] = []
    for index, token in enumerate(tokens):
        if token.kind != "name" or token.text != "data" or (index and tokens[index - 1].text == "."):
            continue
        following = tokens[index + 1 : index + 4]
        texts = [candidate.text for candidate in following]
        if len(following) >= 2 and texts[0] == "." and following[1].kind == "name" and texts[2:3] != ["("]:
            names.append(texts[1])
        elif (
            len(following) == 3
            and texts[0] == "["
            and texts[2] == "]"
            and (match := _PLAIN_STRING.fullmatch(texts[1]))
        ):
            names.append(match[1] if match[1] is not None else match[2])
        else:
            return None
    return tuple(dict.fromkeys(names))
