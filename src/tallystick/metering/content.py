"""When two events say the same: the exact comparison behind "duplicate or conflict".

Slow and only used where the fingerprints of two events with one identity differ (`event.content_of`).
"""

import json
import re
from typing import Any

_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?", re.ASCII)
_EXPONENT_DIGITS_MAX = 1000


def same_content(  # noqa: PLR0917 (two events, each as type, subject, data)
    a_type: str, a_subject: str, a_data: bytes, b_type: str, b_subject: str, b_data: bytes
) -> bool:
    """Whether type and subject are equal and data is the same JSON value.

    Key order and white space do not matter, nor how a character is escaped; numbers are equal as decimals
    (1 = 1.0 = 1e0 = 10e-1, 0 = -0); a string is never equal to a number. Absent data (b"") and {} are the same content.
    The order of an array matters. Data is valid JSON, as `decode` leaves it.
    """
    if (a_type, a_subject) != (b_type, b_subject):
        return False
    return a_data == b_data or _value(a_data) == _value(b_data)


def _value(data: bytes) -> Any:
    return json.loads(data, parse_int=_number, parse_float=_number) if data else {}


def _number(literal: str) -> tuple[str, str, int | str]:
    """(sign, significant digits, power of ten), the same for every spelling of one number.

    Not a Decimal: its exponent is bounded and its precision a setting; a literal may be any size. A tuple, because
    True == 1 in Python while JSON arrays become lists: nothing else in a parsed document equals it.
    """
    match = _NUMBER.fullmatch(literal)
    if match is None:
        raise ValueError(f"{literal[:40]!r} is not a JSON number.")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", match[4] or "0"
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return "", "", 0
    if len(exponent) > _EXPONENT_DIGITS_MAX:
        # Beyond any number that can be written out: equal only when spelled the same.
        return sign, whole + "." + fraction, exponent
    return sign, significant, int(exponent) - len(fraction) + len(digits) - len(significant)
