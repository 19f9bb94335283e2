"""JSON numbers as exact decimals within stated limits, and decimals as plain text. Never through a binary float.

At most 20 digits before the point; what is longer than 18 digits after it is rounded half-even once (DESIGN.md,
promise 4). Text of any length and exponent is safe to give: the size of a number is judged from its text first.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

INTEGER_DIGITS_MAX = 20
FRACTION_DIGITS = 18

_JSON_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_QUANTUM = Decimal(1).scaleb(-FRACTION_DIGITS)
_CONTEXT = Context(prec=INTEGER_DIGITS_MAX + FRACTION_DIGITS + 2, rounding=ROUND_HALF_EVEN)
_LIMIT = Decimal(10) ** INTEGER_DIGITS_MAX
_ZERO = Decimal(0)


class NotNumeric(ValueError):
    """The text is no number in the syntax of JSON (RFC 8259, section 6)."""


class NumberOutOfRange(ValueError):
    """The number has more than 20 digits before the point."""


def parse_number(text: str) -> Decimal:
    """The number in `text`, rounded half-even to 18 digits after the point. Never answers a negative zero.

    Raises NotNumeric for anything but the syntax of JSON (so not " 1", "+1", ".5", "1_000", "NaN", "0x10"), and
    NumberOutOfRange for 20 digits and more before the point, after rounding.
    """
    match = _JSON_NUMBER.fullmatch(text)
    if match is None:
        raise NotNumeric(text[:64])
    sign, whole, fraction, exponent_text = match.groups()
    fraction = fraction or ""
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return _ZERO
    exponent = _exponent_of(exponent_text)
    # The digits before the point of 0.00123e5 = 123 are 3: those of all digits, less the fraction, plus the exponent.
    digits_before_point = len(digits) - len(fraction) + exponent
    if digits_before_point > INTEGER_DIGITS_MAX:
        raise NumberOutOfRange(text[:64])
    if digits_before_point < -FRACTION_DIGITS:
        return _ZERO
    rounded = _CONTEXT.quantize(Decimal(f"{sign}{digits}e{exponent - len(fraction)}"), _QUANTUM)
    if not -_LIMIT < rounded < _LIMIT:
        raise NumberOutOfRange(text[:64])
    return rounded or _ZERO


def _exponent_of(text: str | None) -> int:
    """The exponent, cut to what no text within memory can outweigh with its digits."""
    if not text:
        return 0
    negative = text.startswith("-")
    digits = text.lstrip("+-").lstrip("0")
    size = int(digits or "0") if len(digits) <= 12 else 10**12
    return -size if negative else size


def plain(value: Decimal) -> str:
    """Canonical text: no exponent, no trailing zeros, no negative zero. "123.5", "0", "-1.5", "100"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def number_text(literal: str) -> str:
    """The text of a JSON number where it stands for a name (a dimension, a distinct value): 1, 1.0 and 1e0 are "1".

    A number that 20 digits before and 18 after the point cannot hold exactly keeps its literal text, so that two
    different long numbers never become the same name.
    """
    try:
        value = parse_number(literal)
    except NumberOutOfRange:
        return literal
    if value == _exact(literal):
        return plain(value)
    return literal


def _exact(literal: str) -> Decimal | None:
    match = _JSON_NUMBER.fullmatch(literal)
    if match is None:
        return None
    exponent = _exponent_of(match[4])
    if not -(10**6) < exponent < 10**6:  # only a zero gets here with a larger one
        return _ZERO if not (match[2] + (match[3] or "")).strip("0") else None
    return Decimal(literal)
