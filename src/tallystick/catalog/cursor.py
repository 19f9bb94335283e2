"""Cursors as clients see them: opaque, and good only for the list they came from."""

import base64
import binascii

import msgspec

from tallystick.catalog.interface import LIMIT_MAX
from tallystick.errors import Fault, Invalid

_NUMBER_MAX = 2**63 - 1


def cursor_of(listing: str, place: int | str) -> str:
    """The cursor that goes on behind `place`, the last item's place in the order of `listing`."""
    return base64.urlsafe_b64encode(msgspec.json.encode([listing, place])).rstrip(b"=").decode()


def number_of(cursor: str | None, listing: str) -> int | None:
    """The number a cursor of `listing` stands for; None without one. Raises Invalid (code invalid_cursor)."""
    place = _place(cursor, listing)
    if place is None or (isinstance(place, int) and 0 <= place <= _NUMBER_MAX):
        return place
    raise _foreign()


def key_of(cursor: str | None, listing: str) -> str | None:
    """The key a cursor of `listing` stands for; None without one. Raises Invalid (code invalid_cursor)."""
    place = _place(cursor, listing)
    if place is None or isinstance(place, str):
        return place
    raise _foreign()


def checked_limit(limit: int) -> int:
    """Raises Invalid (code invalid_limit) outside of 1 to LIMIT_MAX."""
    if 1 <= limit <= LIMIT_MAX:
        return limit
    detail = f"limit must be 1 to {LIMIT_MAX}, not {limit}."
    raise Invalid(detail, code="invalid_limit", faults=[Fault("limit", "invalid_limit", detail)])


def _place(cursor: str | None, listing: str) -> int | str | None:
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(
            cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        )
        found, place = msgspec.json.decode(raw, type=tuple[str, int | str])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise _foreign() from error
    if found != listing:
        raise _foreign()
    return place


def _foreign() -> Invalid:
    detail = "This is no cursor of this list. Send one back as next_cursor gave it, or none to begin again."
    return Invalid(detail, code="invalid_cursor", faults=[Fault("cursor", "invalid_cursor", detail)])
