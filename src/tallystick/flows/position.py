"""Positions as clients see them: opaque tokens that only grow.

A client may compare nothing about them; it hands one back to demand an answer that includes it (`min_position`).
"""

import re

from tallystick.errors import Fault, Invalid

_TOKEN = re.compile(r"p1-([0-9a-z]{1,13})\Z")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def token_of(position: int) -> str:
    """The token of a log position: `p1-` and the number in base 36."""
    digits = ""
    while position:
        position, digit = divmod(position, 36)
        digits = _DIGITS[digit] + digits
    return f"p1-{digits or '0'}"


def position_of(token: str, *, pointer: str) -> int:
    """The log position of a token. Raises Invalid naming `pointer` when it is none of ours."""
    match = _TOKEN.match(token)
    if match is None:
        detail = f"{token[:40]!r} is not a position. Send one back as an answer gave it."
        raise Invalid(detail, code="invalid_position", faults=[Fault(pointer, "invalid_position", detail)])
    return int(match[1], 36)
