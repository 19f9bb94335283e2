"""Formulas over several meters' figures: `(input + 2 * output) / requests`. Exact, bounded, pure.

    formula   = term { ("+" | "-") term }
    term      = factor { ("*" | "/") factor }
    factor    = "-" factor | "+" factor | number | alias | function "(" formula { "," formula } ")" | "(" formula ")"
    number    = digits [ "." digits ]
    functions = min, max, abs, round, coalesce

Figures are decimals. Sums, differences and products keep 36 digits after the point, so that a product of two quantities
is exact; what is longer is rounded half-even. A quotient is rounded half-even to 18 digits after the point; divided by
zero there is none (null). A figure that is missing makes every result it enters missing, except that of `coalesce`, which
is the first of its arguments that is not. `round(x)` and `round(x, 2)` round half-even to whole numbers, or to so many
digits after the point.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal

from tallystick.metering.number import NumberOutOfRange, parse_number

FORMULA_CHARACTERS_MAX = 1000
FORMULA_NODES_MAX = 200
FORMULA_DEPTH_MAX = 32
ARGUMENTS_MAX = 20
ALIAS_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
WHOLE_DIGITS_MAX = 38
FRACTION_DIGITS_MAX = 36
QUOTIENT_DIGITS = 18

FUNCTIONS: Mapping[str, tuple[int, int]] = {
    "min": (1, ARGUMENTS_MAX),
    "max": (1, ARGUMENTS_MAX),
    "abs": (1, 1),
    "round": (1, 2),
    "coalesce": (1, ARGUMENTS_MAX),
}
"""Name → how many arguments at least and at most."""

# Twice the digits a figure may have: a product is exact before it is rounded.
_CONTEXT = Context(prec=2 * (WHOLE_DIGITS_MAX + FRACTION_DIGITS_MAX) + 2, rounding=ROUND_HALF_EVEN)
_LIMIT = Decimal(10) ** WHOLE_DIGITS_MAX
_TOKEN = re.compile(r"[ \t\r\n]*(?:([0-9]+(?:\.[0-9]+)?)|([A-Za-z_][A-Za-z0-9_]*)|([-+*/(),]))", re.ASCII)
_ALIAS = re.compile(ALIAS_PATTERN.rstrip("$"), re.ASCII)

Figure = Decimal | None


class FormulaError(ValueError):
    """The formula cannot be read. `column` counts characters from 1."""

    def __init__(self, detail: str, column: int) -> None:
        super().__init__(f"column {column}: {detail}")
        self.detail = f"column {column}: {detail}"
        self.column = column


class FormulaRangeError(ArithmeticError):
    """A figure on the way has more than 38 digits before the point."""


@dataclass(frozen=True, slots=True)
class Number:
    value: Decimal


@dataclass(frozen=True, slots=True)
class Alias:
    name: str


@dataclass(frozen=True, slots=True)
class Negative:
    of: "Node"


@dataclass(frozen=True, slots=True)
class Operation:
    operator: str  # one of + - * /
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    function: str  # one of FUNCTIONS
    arguments: tuple["Node", ...]
    digits: int = 0  # of round


Node = Number | Alias | Negative | Operation | Call


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was read. `aliases` are the names it uses, in the order of their first use."""

    text: str
    root: Node
    aliases: tuple[str, ...]

    def figure(self, figures: Mapping[str, Figure]) -> Figure:
        """Its figure, given those of its aliases. Raises FormulaRangeError."""
        return _figure(self.root, figures)


def is_alias(name: str) -> bool:
    """Whether a meter can go by this name in a formula."""
    return _ALIAS.fullmatch(name) is not None and name not in FUNCTIONS


def parse_formula(text: str, aliases: Sequence[str]) -> Formula:
    """Read a formula over meters of these names. Raises FormulaError."""
    if len(text) > FORMULA_CHARACTERS_MAX:
        raise FormulaError(
            f"the formula is longer than {FORMULA_CHARACTERS_MAX} characters.", FORMULA_CHARACTERS_MAX + 1
        )
    return _Parser(text, aliases).read()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "number", "name", one of -+*/(), or "end"
    text: str
    column: int

    @property
    def shown(self) -> str:
        return "the end of the formula" if self.kind == "end" else repr(self.text)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at, end = 0, len(text.rstrip(" \t\r\n"))
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            column = at + len(text[at:]) - len(text[at:].lstrip(" \t\r\n")) + 1
            raise FormulaError(f"{text[column - 1]!r} has no meaning in a formula.", column)
        number, name, mark = match.groups()
        if number is not None:
            found.append(_Token("number", number, match.start(1) + 1))
        elif name is not None:
            found.append(_Token("name", name, match.start(2) + 1))
        else:
            found.append(_Token(mark, mark, match.start(3) + 1))
        at = match.end()
    found.append(_Token("end", "", end + 1))
    return found


class _Parser:
    """Recursive descent; its depth and the number of nodes are bounded."""

    def __init__(self, text: str, aliases: Sequence[str]) -> None:
        self._text = text
        self._known = aliases
        self._tokens = _tokens(text)
        self._at = 0
        self._nodes = 0
        self._depth = 0
        self._used: dict[str, None] = {}

    def read(self) -> Formula:
        root = self._sum()
        rest = self._next
        if rest.kind == ")":
            raise FormulaError("this ) closes nothing.", rest.column)
        if rest.kind != "end":
            raise FormulaError(f"an operator is needed before {rest.shown}.", rest.column)
        return Formula(self._text, root, tuple(self._used))

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _counted(self, token: _Token) -> None:
        self._nodes += 1
        if self._nodes > FORMULA_NODES_MAX:
            raise FormulaError(f"the formula has more than {FORMULA_NODES_MAX} parts.", token.column)

    def _sum(self) -> Node:
        left = self._product()
        while self._next.kind in ("+", "-"):
            operator = self._take()
            self._counted(operator)
            left = Operation(operator.kind, left, self._product())
        return left

    def _product(self) -> Node:
        left = self._factor()
        while self._next.kind in ("*", "/"):
            operator = self._take()
            self._counted(operator)
            left = Operation(operator.kind, left, self._factor())
        return left

    def _factor(self) -> Node:
        token = self._take()
        self._counted(token)
        self._depth += 1
        if self._depth > FORMULA_DEPTH_MAX:
            raise FormulaError(f"it is nested deeper than {FORMULA_DEPTH_MAX}.", token.column)
        node = self._factor_of(token)
        self._depth -= 1
        return node

    def _factor_of(self, token: _Token) -> Node:
        if token.kind == "-":
            return Negative(self._factor())
        if token.kind == "+":
            return self._factor()
        if token.kind == "number":
            return Number(_number(token))
        if token.kind == "(":
            inner = self._sum()
            self._close(token)
            return inner
        if token.kind == "name":
            return self._call(token) if self._next.kind == "(" else self._alias(token)
        raise FormulaError(f"a number, a meter or ( is needed, not {token.shown}.", token.column)

    def _close(self, opening: _Token) -> None:
        token = self._take()
        if token.kind != ")":
            raise FormulaError(
                f"a ) is needed for the ( in column {opening.column}, not {token.shown}.", token.column
            )

    def _alias(self, token: _Token) -> Node:
        if token.text in FUNCTIONS:
            raise FormulaError(
                f"{token.text} is a function and needs arguments: {token.text}(…).", token.column
            )
        if token.text not in self._known:
            known = ", ".join(self._known) or "none"
            raise FormulaError(f"there is no meter {token.text[:64]!r}; known: {known}.", token.column)
        self._used[token.text] = None
        return Alias(token.text)

    def _call(self, name: _Token) -> Node:
        if name.text not in FUNCTIONS:
            raise FormulaError(
                f"there is no function {name.text[:64]!r}; known: {', '.join(FUNCTIONS)}.", name.column
            )
        opening = self._take()
        starts = [self._next]
        arguments = [] if self._next.kind == ")" else [self._sum()]
        while arguments and self._next.kind == ",":
            self._take()
            starts.append(self._next)
            arguments.append(self._sum())
        self._close(opening)
        least, most = FUNCTIONS[name.text]
        if not least <= len(arguments) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise FormulaError(f"{name.text} takes {wanted} arguments, not {len(arguments)}.", name.column)
        if name.text == "round" and len(arguments) == 2:
            digits = arguments.pop()
            if not isinstance(digits, Number) or digits.value not in range(QUOTIENT_DIGITS + 1):
                raise FormulaError(
                    f"round needs a whole number from 0 to {QUOTIENT_DIGITS} here.", starts[1].column
                )
            return Call(name.text, tuple(arguments), int(digits.value))
        return Call(name.text, tuple(arguments))


def _number(token: _Token) -> Decimal:
    whole, _, fraction = token.text.partition(".")
    if len(fraction) > QUOTIENT_DIGITS:
        raise FormulaError(f"at most {QUOTIENT_DIGITS} digits after the point.", token.column)
    try:
        return parse_number(f"{whole.lstrip('0') or '0'}.{fraction or '0'}")
    except NumberOutOfRange:
        raise FormulaError("at most 20 digits before the point.", token.column) from None


# -- figures ---------------------------------------------------------------------------------------------------------
def quotient(numerator: Decimal, divisor: Decimal) -> Figure:
    """Rounded half-even to 18 digits after the point; None for a divisor of zero."""
    if not divisor:
        return None
    # One digit behind the last exact one decides a tie: whether anything follows it is in the remainder.
    scaled = _WIDE.scaleb(numerator, QUOTIENT_DIGITS)
    whole, rest = _WIDE.divmod(scaled, divisor)
    twice = _WIDE.compare(_WIDE.abs(_WIDE.multiply(rest, Decimal(2))), _WIDE.abs(divisor))
    if twice > 0 or (twice == 0 and int(whole) % 2):
        negative = (numerator < 0) != (divisor < 0)
        whole = _WIDE.add(whole, Decimal(-1 if negative else 1))
    return _WIDE.scaleb(whole, -QUOTIENT_DIGITS)


_WIDE = Context(prec=400, rounding=ROUND_HALF_EVEN)


def _bounded(value: Decimal) -> Decimal:
    if not -_LIMIT < value < _LIMIT:
        raise FormulaRangeError(f"a figure has more than {WHOLE_DIGITS_MAX} digits before the point")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -FRACTION_DIGITS_MAX:
        return _CONTEXT.quantize(value, Decimal(1).scaleb(-FRACTION_DIGITS_MAX))
    return value


def _figure(node: Node, figures: Mapping[str, Figure]) -> Figure:
    match node:
        case Number():
            return node.value
        case Alias():
            found = figures[node.name]
            return None if found is None else _bounded(found)
        case Negative():
            of = _figure(node.of, figures)
            return None if of is None else of.copy_negate()
        case Operation():
            left, right = _figure(node.left, figures), _figure(node.right, figures)
            if left is None or right is None:
                return None
            result = _OPERATIONS[node.operator](left, right)
            return None if result is None else _bounded(result)
        case Call():
            return _called(node, [_figure(argument, figures) for argument in node.arguments])


def _called(node: Call, arguments: Sequence[Figure]) -> Figure:
    known = [argument for argument in arguments if argument is not None]
    if node.function == "coalesce":
        return known[0] if known else None
    if len(known) < len(arguments):
        return None
    match node.function:
        case "min":
            return min(known)
        case "max":
            return max(known)
        case "abs":
            return known[0].copy_abs()
        case _:
            return _bounded(_CONTEXT.quantize(known[0], Decimal(1).scaleb(-node.digits)))


_OPERATIONS: Mapping[str, Callable[[Decimal, Decimal], Figure]] = {
    "+": _CONTEXT.add,
    "-": _CONTEXT.subtract,
    "*": _CONTEXT.multiply,
    "/": quotient,
}
