"""What decoding a request says of each event, and of the whole: the words `decode` and its readers share.

A rejected event carries one of `EVENT_CODES`: the code is that of its first fault in the order of this table, the
detail names the others. A request that cannot be read at all raises an error with one of `BODY_CODES`, and nothing of
it is accepted. docs/reference/errors.md is made from both tables.
"""

from dataclasses import dataclass
from typing import NamedTuple

from tallystick.metering.event import EventColumns

ID_CHARACTERS_MAX = 512
TYPE_CHARACTERS_MAX = 256
SUBJECT_CHARACTERS_MAX = 256
SOURCE_CHARACTERS_MAX = 1024

EVENT_CODES: dict[str, str] = {
    "invalid_json": "The line is not JSON (NDJSON), or a string of the event holds half of a surrogate pair.",
    "invalid_event": "The line or array element is JSON, but not an object.",
    "invalid_row": "The CSV row has more or fewer cells than the header.",
    "nesting_too_deep": "Objects and arrays are nested deeper than `event_depth_max`.",
    "duplicate_key": "An object of the event, at any depth, has the same key twice.",
    "missing_id": "`id` is absent, null or empty.",
    "missing_type": "`type` is absent, null or empty.",
    "missing_subject": "`subject` is absent, null or empty.",
    "invalid_field": "An attribute is not a string, is too long (id 512, type and subject 256 characters), or contains "
    "a NUL character; or `data` and `data_base64` are both there.",
    "invalid_source": "`source` is empty, not a string, longer than 1,024 characters, or contains a NUL character.",
    "unknown_subject": "The subject belongs to no customer, and the setting `unknown_subject` is `reject`.",
    "unsupported_specversion": '`specversion` is there and is not "1.0".',
    "invalid_time": "`time` is not an RFC 3339 time with seconds and an offset, or lies before 1970.",
    "time_in_future": "`time` is further ahead of the server's clock than `future_tolerance_s`.",
    "data_not_object": "`data` is not a JSON object (null and absent are fine), or `data_base64` does not hold one.",
    "event_too_large": "`data`, or all other attributes together, are larger than `event_bytes_max`.",
}
"""Code of a rejected event → what it means."""

BODY_CODES: dict[str, str] = {
    "invalid_json": "400. The body is not UTF-8 or not JSON; the detail names the byte and the line.",
    "invalid_csv": "400. The header row is absent or names a column twice or not at all, or quoting is broken.",
    "invalid_body": "400. The body is JSON, but of another shape than its content type promises.",
    "nesting_too_deep": "400. The body is nested so deeply that its events cannot be told apart.",
    "no_events": "422. The body holds no event.",
    "too_many_events": "413. The body holds more events than `events_per_request_max`.",
    "unsupported_media_type": "415. The content type, or its character set, is not supported.",
    "body_too_large": "413. The decoded body is larger than `body_bytes_max`.",
    "invalid_encoding": "400. The compressed body is damaged, cut off, or followed by something else.",
    "unsupported_encoding": "415. The content encoding is neither gzip nor zstd.",
}
"""Code of a request that is refused as a whole → status and meaning."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. `depth_max` counts nested containers, `data` itself being the first."""

    events_max: int
    event_bytes_max: int
    depth_max: int
    future_tolerance_us: int


class Fault(NamedTuple):
    """One thing wrong with one event."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that was not accepted: its place in the request (0 and up; blank NDJSON lines and CSV rows are not
    counted), its id where that can be read, a code of EVENT_CODES, and a sentence."""

    index: int
    id: str | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The verdicts on one request.

    `indices[i]` is the place in the request of accepted event i; None when nothing was rejected, that is, i itself.
    """

    events: EventColumns
    rejected: list[Rejection]
    indices: list[int] | None
