"""An event as one line of JSON, made once: every attempt to send it sends the same bytes, and so the same id."""

import itertools
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from json.encoder import JSONEncoder, encode_basestring_ascii
from typing import Any, cast
from uuid import UUID

from tallystick_client.errors import InvalidEvent

EVENT_BYTES_MAX = 1024 * 1024
_NAME_CHARACTERS_MAX = 256


def _otherwise(value: object) -> object:
    """What JSON has no word for. A Decimal goes as text, which every meter reads exactly."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise InvalidEvent(f"data: {value} is not a number.")
        return format(value, "f")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    raise InvalidEvent(f"data: a {type(value).__name__} is no JSON.")


_encode = JSONEncoder(separators=(",", ":"), allow_nan=False, default=_otherwise).encode


class EventMaker:
    """Writes events. Ids are 96 random bits of this process and a counter: unique, and cheap to make."""

    def __init__(self, source: str) -> None:
        self._source = encode_basestring_ascii(source)
        self._prefix = os.urandom(12).hex()
        self._numbers = itertools.count()
        self._kept = (-1, "")

    def new_id(self) -> str:
        """An id that no other event has."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def line(
        self,
        event_type: str,
        subject: str,
        data: Mapping[str, Any] | None,
        *,
        id: str,  # noqa: A002 -- the contract's word
        time_: datetime | str | None,
        source: str | None,
    ) -> bytes:
        """The event as NDJSON, newline included. Without a time it is now. Raises InvalidEvent."""
        if not (event_type and subject and id) or source == "":
            missing = [
                name
                for name, value in (("event_type", event_type), ("subject", subject), ("id", id))
                if not value
            ]
            raise InvalidEvent(f"Empty: {', '.join(missing) or 'source'}.")
        if len(subject) > _NAME_CHARACTERS_MAX:
            raise InvalidEvent(f"subject is longer than {_NAME_CHARACTERS_MAX} characters.")
        if time_ is None:
            when = self._now()
        elif isinstance(time_, datetime):
            if time_.tzinfo is None:
                raise InvalidEvent("time has no zone: is it UTC? datetime.now(UTC) says so.")
            when = time_.isoformat()
        else:
            when = str(time_)
        try:
            head = (
                f'{{"id":{encode_basestring_ascii(id)},'
                f'"source":{self._source if source is None else encode_basestring_ascii(source)},'
                f'"type":{encode_basestring_ascii(event_type)},"subject":{encode_basestring_ascii(subject)},'
                f'"time":{encode_basestring_ascii(when)}'
            )
            line = (f'{head},"data":{_encode(data)}}}\n' if data else f"{head}}}\n").encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            if isinstance(error, InvalidEvent):
                raise
            raise InvalidEvent(f"data is no JSON: {error}.") from error
        if len(line) > EVENT_BYTES_MAX:
            raise InvalidEvent(f"The event has {len(line)} bytes; at most {EVENT_BYTES_MAX} may be.")
        return line

    def _now(self) -> str:
        second, nanosecond = divmod(time.time_ns(), 1_000_000_000)
        # Two threads may race for the text; each reads and writes a pair that belongs together.
        kept, text = self._kept
        if kept != second:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._kept = (second, text)
        return f"{text}{nanosecond // 1000:06d}Z"


def event_of(line: bytes) -> dict[str, Any]:
    """The event a line holds."""
    return json.loads(line)
