"""A message of a queue as a record. Pure.

| message | record |
|---|---|
| CloudEvents in binary mode: attributes in headers or properties | one event, whose `data` is the body |
| anything else | the body: CloudEvents in structured mode, OpenMeter's form, ours, or what the mapping reads |
| nothing (a tombstone) | none |

An event that says its own `id` keeps it, and its `source`: the same record by API, file or queue is one event. One that does
not is named by its place in the queue (interface.py). One without a `time` has that of its message, so that it is the same
whenever it is read.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLANKS = b" \t\r\n"
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_objects = msgspec.json.Decoder(list[msgspec.Raw])
_raw = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.encode
_null = msgspec.Raw(b"null")
CONTENT_TYPE = "content-type"


class UnreadableError(Exception):
    """A message of which nothing can be made. `code` is one of metering.verdict's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def attributes_of(
    headers: Iterable[tuple[str, str | bytes | None]], prefix: str | tuple[str, ...], *, percent: bool = False
) -> dict[str, str]:
    """The CloudEvents attributes among headers: those that begin with `prefix`, and the content type.

    Nothing when there is no `specversion` and no `id` among them: the content type alone makes no event. `percent`: the
    values are percent-encoded, as in the bindings of HTTP and NATS. Raises UnreadableError (invalid_field).
    """
    found: dict[str, str] = {}
    content_type = ""
    for name, value in headers:
        lower = name.lower()
        if lower != CONTENT_TYPE and not lower.startswith(prefix):
            continue
        try:
            text = value.decode() if isinstance(value, bytes) else value or ""
        except UnicodeDecodeError:
            raise UnreadableError("invalid_field", f"The header {name!r} is not UTF-8.") from None
        if lower == CONTENT_TYPE:
            content_type = text
        else:
            used = prefix if isinstance(prefix, str) else next(one for one in prefix if lower.startswith(one))
            found[lower.removeprefix(used)] = unquote(text) if percent else text
    if "specversion" not in found and "id" not in found:
        return {}
    if content_type:
        found["datacontenttype"] = content_type
    return found


def record_of(body: bytes, attributes: Mapping[str, str], time_us: int | None) -> bytes:
    """What is to be read of a message; b"" for nothing. `attributes`: of CloudEvents, that came beside the body.
    `time_us`: when the message was made; None where the queue does not say.

    Raises UnreadableError for binary mode with a body that is not JSON.
    """
    body = body.strip(_BLANKS)
    if attributes:
        return _binary(body, attributes, time_us)
    if time_us is None:
        return body
    try:
        if body.startswith(b"{"):
            return _timed(body, time_us)
        if body.startswith(b"["):
            return b"[" + b",".join(_timed(bytes(one), time_us) for one in _objects.decode(body)) + b"]"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # said of it where it is read
    return body


def names_ids(record: bytes) -> bool:
    """Whether every event in a record says its id. Also of what cannot be read: that is said of it elsewhere."""
    try:
        events = _objects.decode(record) if record.startswith(b"[") else [record]
        return all(bytes(_object.decode(one).get("id", _null)) not in (b"null", b'""') for one in events)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def _binary(body: bytes, attributes: Mapping[str, str], time_us: int | None) -> bytes:
    event: dict[str, str | msgspec.Raw] = {name: value for name, value in attributes.items() if value}
    if "time" not in event and time_us is not None:
        event["time"] = time_of(time_us)
    if body:
        try:
            _raw.decode(body)
            body.decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise UnreadableError(
                "invalid_json", f"The message's body is not JSON in UTF-8: {said}."
            ) from error
        event["data"] = msgspec.Raw(body)
    return _encode(event)


def _timed(text: bytes, time_us: int) -> bytes:
    members = _object.decode(text)
    if "time" in members:
        return text
    # Spliced in, so that numbers keep their digits, and a key that is there twice is still found to be.
    return b'{"time":"' + time_of(time_us).encode() + (b'",' if members else b'"') + text[1:]


def time_of(us: int) -> str:
    """RFC 3339, UTC."""
    return (_EPOCH + timedelta(microseconds=us)).replace(tzinfo=None).isoformat() + "Z"
