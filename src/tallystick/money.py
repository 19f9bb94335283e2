"""Exact decimals for prices and money: one context, one way to round, one way to split.

Inside `exactly` nothing is ever rounded by the way: sums, differences and products are exact or raise. What has to be
rounded says so: `exact` (more than 36 digits after the point, half-even), `quotient` (a division, the same),
`round_money` (half-up to the minor units of a currency: the one rounding point of a bill). Amounts are given in major
units: 12.50 USD is Decimal("12.50").
"""

from collections.abc import Callable, Sequence
from decimal import (
    ROUND_CEILING,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    getcontext,
    localcontext,
    setcontext,
)
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

from iso4217 import Currency

from tallystick.errors import Fault, Invalid

EXACT_FRACTION_DIGITS = 36
"""A quantity and a price have 18 digits after the point each, so their product has no more than these."""
CURRENCY_PATTERN = r"^[A-Z]{3}$"

ZERO = Decimal(0)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_TRAPS = (InvalidOperation, DivisionByZero, Overflow)
# Four factors of 38 digits (quantity, price, markup, rate) and a sum of a million of them fit.
_EXACT = Context(prec=200, traps=[*_TRAPS, Inexact])
_ROUNDING = Context(prec=240, rounding=ROUND_HALF_EVEN, traps=list(_TRAPS))
_QUANTUM = Decimal(1).scaleb(-EXACT_FRACTION_DIGITS)


def exactly(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorator: the function's plain `+`, `-`, `*` on decimals are exact. (By default Python keeps 28 digits.)"""

    @wraps(function)
    def run(*arguments: _P.args, **named: _P.kwargs) -> _T:
        # Not a copy of the context each time, and nothing within another: the gate comes here ten times a decision.
        before = getcontext()
        if before is _EXACT:
            return function(*arguments, **named)
        setcontext(_EXACT)
        try:
            return function(*arguments, **named)
        finally:
            setcontext(before)

    return run


def exact(value: Decimal) -> Decimal:
    """The value with at most 36 digits after the point, half-even; no trailing zeros, no negative zero."""
    # To 36 digits whatever it has: looking at its digits first would take longer.
    return _ROUNDING.normalize(value.quantize(_QUANTUM, context=_ROUNDING)) if value else ZERO


def product(*factors: Decimal) -> Decimal:
    """The product, as `exact` keeps it."""
    made = Decimal(1)
    for factor in factors:
        made = _EXACT.multiply(made, factor)
    return exact(made)


def quotient(numerator: Decimal, denominator: Decimal) -> Decimal:
    """numerator / denominator, as `exact` keeps it. Rounded once. Raises ZeroDivisionError."""
    # 240 digits first, then 36 after the point: a tie cannot be made by the first rounding, because a quotient with
    # that many digits of nines or zeros would need operands longer than any we read.
    return exact(_ROUNDING.divide(numerator, denominator))


def ceiling(value: Decimal) -> Decimal:
    """The least whole number that is not below the value."""
    return value.to_integral_value(rounding=ROUND_CEILING)


# -- currencies -----------------------------------------------------------------------------------------------------
@lru_cache(maxsize=512)
def exponent_of(currency: str) -> int:
    """Digits after the point of the currency's minor unit (ISO 4217 list one): USD 2, JPY 0, BHD 3.

    Raises Invalid (unknown_currency) for a code that the list does not have, or has without minor units (XAU, XXX).
    """
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        detail = f"currency: {currency[:16]!r} is no ISO 4217 code that money is paid in, such as EUR."
        raise Invalid(
            detail, code="unknown_currency", faults=[Fault("/currency", "unknown_currency", detail)]
        )
    return exponent


@lru_cache(maxsize=512)
def minor_unit(currency: str) -> Decimal:
    """The least amount of the currency: 0.01 for USD, 1 for JPY."""
    return Decimal(1).scaleb(-exponent_of(currency))


def round_money(amount: Decimal, currency: str) -> Decimal:
    """Half-up (a tie goes away from zero) to the currency's minor units, which the answer always shows: 12.50.

    A tie goes away from zero below zero as well, so that a credit for a line is that line's exact opposite."""
    rounded = amount.quantize(minor_unit(currency), rounding=ROUND_HALF_UP, context=_ROUNDING)
    return rounded if rounded else abs(rounded)


def money_text(rounded: Decimal) -> str:
    """Money as `round_money` made it, as text: "12.50", "-3", "0.00"."""
    return format(rounded, "f")


def split_money(total: Decimal, weights: Sequence[Decimal], currency: str) -> tuple[Decimal, ...]:
    """Parts of a rounded total in proportion to weights (not negative), each in whole minor units, that sum to it.

    By largest remainder: everyone gets the whole minor units of his share, what is left goes one by one to the largest
    fractions, of equal ones to the first. All weights 0: as if they were equal.
    """
    return tuple(round_money(part, currency) for part in split(total, weights, minor_unit(currency)))


def split(total: Decimal, weights: Sequence[Decimal], quantum: Decimal) -> tuple[Decimal, ...]:
    """`split_money` in whole multiples of `quantum`. Raises ValueError for no weights, a negative one, or a total that
    is no multiple."""
    if not weights or any(weight < 0 for weight in weights):
        raise ValueError("A split needs weights, and none below zero.")
    with localcontext(_ROUNDING):
        units, left_over = divmod(abs(total), quantum)
    if left_over:
        raise ValueError(f"{total} is no multiple of {quantum}.")
    # Whole numbers from here on: no division that would have to be rounded.
    places = max(0, *(-_exponent(weight) for weight in weights))
    scaled = [int(weight.scaleb(places, context=_ROUNDING)) for weight in weights]
    if not any(scaled):
        scaled = [1] * len(scaled)
    whole = sum(scaled)
    parts: list[int] = []
    remainders: list[tuple[int, int]] = []
    for index, weight in enumerate(scaled):
        part, remainder = divmod(int(units) * weight, whole)
        parts.append(part)
        remainders.append((-remainder, index))
    for _, index in sorted(remainders)[: int(units) - sum(parts)]:
        parts[index] += 1
    sign = -1 if total < 0 else 1
    return tuple(_EXACT.multiply(Decimal(sign * part), quantum) if part else ZERO for part in parts)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{value} is no number.")  # noqa: TRY004  (a value, not a type)
    return exponent


# -- text -----------------------------------------------------------------------------------------------------------
def plain(value: Decimal) -> str:
    """Canonical text: no exponent, no trailing zeros, no negative zero: "123.5", "0", "-1.5", "100"."""
    text = str(value)
    if "E" in text:
        text = format(value, "f")  # takes three times as long
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
