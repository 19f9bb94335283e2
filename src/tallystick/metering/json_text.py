"""What must be known of JSON text and no decoder tells: how deep it is, how many elements it has, whether keys repeat.

Structure is read with NumPy from the bytes outside of strings, so that no input, however deep, needs recursion.
"""

import json
import re
from typing import Any, NoReturn

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from tallystick.errors import BadRequest
from tallystick.metering.verdict import Fault

_STEP = np.zeros(256, np.int8)
_STEP[list(b"{[")] = 1
_STEP[list(b"}]")] = -1
_QUOTE, _COLON, _COMMA, _BLANK = b'":, '
_NUMPY_FROM_BYTES = 2048
"""Shorter text is searched faster by bytes.count."""

_object = msgspec.json.Decoder(dict[str, Raw])
_BYTE = re.compile(r" \(byte (\d+)\)")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _DuplicateKeyError(Exception):
    """Carries the key."""


def _outside_strings(text: bytes) -> NDArray[np.uint8]:
    """The bytes of `text` that stand outside of strings (and the opening quotes)."""
    # Backslashes stand only inside strings, so after these two cuts every quote left begins or ends one.
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text
    characters = np.frombuffer(bare, np.uint8)
    inside = np.cumsum(characters == _QUOTE, dtype=np.uint8) & 1  # wraps at 256, which keeps parity
    return characters[inside == 0]


def depth_of(text: bytes) -> int:
    """Greatest number of objects and arrays open at one place. Of text that is not JSON: some number."""
    steps = _STEP[_outside_strings(text)]
    return int(np.cumsum(steps[steps != 0], dtype=np.int32).max(initial=0))


def deeper_than(text: bytes, depth_max: int) -> bool:
    """Whether `depth_of` exceeds a bound; usually decided by counting alone."""
    return text.count(b"{") + text.count(b"[") > depth_max and depth_of(text) > depth_max


def elements_of(array: bytes) -> int:
    """Number of commas between the elements of the outermost array, plus one."""
    characters = _outside_strings(array)
    characters = characters[(_STEP[characters] != 0) | (characters == _COMMA)]
    depth = np.cumsum(_STEP[characters], dtype=np.int32)
    return int(np.count_nonzero((depth == 1) & (characters == _COMMA))) + 1


def members_at_most(text: bytes) -> int:
    """An upper bound for the number of members of all objects in valid JSON text.

    Counts colons behind a quote or white space. Every member's colon is one; a string that begins with a colon, or
    that has an escaped quote or a blank before one, adds to the count. So when as many distinct keys are known as
    this says, no key can be there twice.
    """
    if len(text) < _NUMPY_FROM_BYTES:
        count = text.count(b'":')
        for blank in (b" :", b"\n:", b"\t:", b"\r:"):
            if blank in text:
                count += text.count(blank)
        return count
    characters = np.frombuffer(text, np.uint8)
    before = characters[np.flatnonzero(characters == _COLON) - 1]
    return int(np.count_nonzero((before == _QUOTE) | (before <= _BLANK)))


def duplicate_key(text: str) -> str | None:
    """The first key found twice in one object of valid JSON text, at any depth. Exact. May raise RecursionError."""
    try:
        _duplicates.decode(text)
    except _DuplicateKeyError as error:
        return str(error)
    return None


def _refuse_duplicates(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) == len(members):
        return
    seen: set[str] = set()
    for key, _ in members:
        if key in seen:
            raise _DuplicateKeyError(key)
        seen.add(key)


# Numbers stay text: their size is not judged here, and Python refuses to convert very long ones.
_duplicates = json.JSONDecoder(object_pairs_hook=_refuse_duplicates, parse_int=str, parse_float=str)


def duplicate_key_fault(key: str) -> Fault:
    return Fault("duplicate_key", f"The key {key[:100]!r} is there twice in one object.")


def object_fault(data: bytes, depth_max: int) -> Fault | None:
    """What keeps `data` from being an event's data: not one JSON object, too deep, or a key twice."""
    if deeper_than(data, depth_max):
        return Fault("nesting_too_deep", f"data is nested deeper than {depth_max} levels.")
    try:
        text = data.decode()
        _object.decode(data)
        key = duplicate_key(text)
    except RecursionError:
        return Fault("nesting_too_deep", "data is nested too deeply.")
    except msgspec.ValidationError:
        return Fault("data_not_object", "data is JSON, but not an object.")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fault("data_not_object", "data is not JSON.")
    return None if key is None else duplicate_key_fault(key)


def why(error: msgspec.DecodeError | UnicodeDecodeError) -> tuple[str, int | None]:
    """A decoder's complaint in words, and the byte it stopped at."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8", error.start
    sentence = str(error).removeprefix("JSON is malformed: ")
    place = _BYTE.search(sentence)
    return ("it ends too early" if "truncated" in sentence else _BYTE.sub("", sentence)), (
        int(place[1]) if place else None
    )


def refuse(body: bytes, error: msgspec.DecodeError | UnicodeDecodeError) -> NoReturn:
    """Raise BadRequest (invalid_json) that names the byte and the line."""
    reason, at = why(error)
    place = len(body) if at is None else at
    line = body.count(b"\n", 0, place) + 1
    raise BadRequest(
        f"The body is not valid JSON: {reason} (byte {place}, line {line}).", code="invalid_json"
    ) from error


def refuse_depth(body: bytes) -> NoReturn:
    """Raise BadRequest (nesting_too_deep) for a body whose events cannot be told apart."""
    raise BadRequest(
        f"The body is nested {depth_of(body):,} levels deep, too deep to be read.", code="nesting_too_deep"
    )
