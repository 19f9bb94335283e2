"""Positions as clients see them: opaque tokens that only grow.

A client may compare nothing about them; it hands one back to demand an answer that includes it (`min_position`).
"""

import re

from tallystick.errors import Fault, Invalid
from tallystick.metering.position import PARTITIONS_MAX, Vector, partition_of

TOKEN_CHARACTERS_MAX = 3 + 13 * PARTITIONS_MAX
_TOKEN = re.compile(r"p1-([0-9a-z]{1,12})\Z|p2-([0-9a-z]{1,12}(?:\.[0-9a-z]{1,12})*)\Z")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_RESTORED_MIN = PARTITIONS_MAX << 52


def token_of(vector: Vector) -> str:
    """The token of a vector: `p1-` and the position in base 36 where it concerns one partition, `p2-` and the positions
    with points between them where several."""
    if len(vector) > 1:
        return "p2-" + ".".join(map(_base_36, vector))
    return f"p1-{_base_36(vector[0] if vector else 0)}"


def _base_36(position: int) -> str:
    digits = ""
    while position:
        position, digit = divmod(position, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def position_of(token: str, *, pointer: str) -> Vector:
    """The vector of a token. Raises Invalid naming `pointer` when it is none of ours."""
    match = _TOKEN.match(token) if len(token) <= TOKEN_CHARACTERS_MAX else None
    positions = [int(digits, 36) for digits in (match[1] or match[2]).split(".")] if match else []
    partitions = [partition_of(position) for position in positions]
    if not positions or partitions != sorted(set(partitions)) or positions[-1] >= _RESTORED_MIN:
        detail = f"{token[:40]!r} is not a position. Send one back as an answer gave it."
        raise Invalid(detail, code="invalid_position", faults=[Fault(pointer, "invalid_position", detail)])
    return tuple(position for position in positions if position)
