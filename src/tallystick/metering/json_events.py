"""Events as JSON: one, an array of them, or one a line.

Two ways lead to the same result. The fast one decodes a whole body into structs and proves in bulk that nothing about
it is unusual; where it cannot prove that, everything is read again event by event, exactly, with verdicts.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from tallystick.errors import BadRequest, TooLarge
from tallystick.metering.envelope import (
    SOURCE_DEFAULT,
    SPECVERSION,
    Attribute,
    Envelope,
    NotText,
    Receipt,
    Verdicts,
    judge_all,
)
from tallystick.metering.json_text import (
    deeper_than,
    duplicate_key,
    duplicate_key_fault,
    elements_of,
    members_at_most,
    object_fault,
    refuse,
    refuse_depth,
    why,
)
from tallystick.metering.verdict import Decoded, Fault

_NO_DATA = Raw(b"")
_BLANKS = b" \t\r\n"
_COMMAS_AN_EVENT = 40
"""A body with more commas than this for each event allowed is counted before it is decoded, to bound memory."""


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A usual event: no attribute unknown, none of another type than a string."""

    id: str
    type: str
    subject: str
    source: str | UnsetType = UNSET
    time: str | UnsetType = UNSET
    data: Raw = _NO_DATA
    specversion: str | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    dataschema: str | UnsetType = UNSET


_event = msgspec.json.Decoder(_Event)
_events = msgspec.json.Decoder(list[_Event])
_raw = msgspec.json.Decoder(Raw)
_elements = msgspec.json.Decoder(list[Raw])
_members = msgspec.json.Decoder(dict[str, Raw])
_flat_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_objects = msgspec.json.Decoder(list[dict[str, Any]])
_text_or_null = msgspec.json.Decoder(str | None)


# -- bodies ------------------------------------------------------------------------------------------------------


def read_json(body: bytes, receipt: Receipt, *, one: bool, many: bool, fast: bool = True) -> Decoded:
    """An event (when `one`) or an array of events (when `many`). `fast=False` reads everything event by event.

    Raises BadRequest (invalid_json, invalid_body, nesting_too_deep) and TooLarge (too_many_events).
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            refuse(body, error)
    first = (body[:64].lstrip(_BLANKS) or body.lstrip(_BLANKS))[:1]
    if first == b"{" and one:
        return _read_one(body, receipt, fast=fast)
    if first == b"[" and many:
        return _read_array(body, receipt, fast=fast)
    try:
        _raw.decode(body)
    except msgspec.DecodeError as error:
        refuse(body, error)
    except RecursionError:
        refuse_depth(body)
    expected = (
        "an event or an array of events" if one and many else "one event" if one else "an array of events"
    )
    raise BadRequest(f"The body must be {expected}, not {_kind(first)}.", code="invalid_body")


def read_lines(body: bytes, receipt: Receipt, *, fast: bool = True) -> Decoded:
    """One event a line (NDJSON); blank lines are skipped. A line that cannot be read is a rejected event.

    Raises TooLarge (too_many_events).
    """
    decoded = _read_lines_fast(body, receipt) if fast else None
    if decoded is not None:
        return decoded
    verdicts = Verdicts(receipt)
    for number, line in _lines(body):
        if len(verdicts) == receipt.limits.events_max:
            raise too_many(receipt)
        try:
            line.decode()
        except UnicodeDecodeError as error:
            verdicts.reject([Fault("invalid_json", f"Line {number} is not UTF-8 (byte {error.start}).")])
            continue
        _judge(line, verdicts, receipt, f"Line {number}")
    return verdicts.finish()


def too_many(receipt: Receipt) -> TooLarge:
    return TooLarge(
        f"One request may hold {receipt.limits.events_max:,} events. Split it.", code="too_many_events"
    )


def _read_one(body: bytes, receipt: Receipt, *, fast: bool) -> Decoded:
    try:
        decoded = _prove([_event.decode(body)], body, receipt) if fast else None
    except (msgspec.DecodeError, RecursionError):
        decoded = None
    if decoded is not None:
        return decoded
    mended = _mended(body)
    try:
        _raw.decode(mended)
    except msgspec.DecodeError as error:
        refuse(body, error)
    except RecursionError:
        refuse_depth(body)
    verdicts = Verdicts(receipt)
    _judge(body, verdicts, receipt, "The event")
    return verdicts.finish()


def _read_array(body: bytes, receipt: Receipt, *, fast: bool) -> Decoded:
    events_max = receipt.limits.events_max
    if body.count(b",") > events_max * _COMMAS_AN_EVENT and elements_of(body) > events_max:
        raise too_many(receipt)
    try:
        events = _events.decode(body) if fast else []
    except (msgspec.DecodeError, RecursionError):
        events = []
    if len(events) > events_max:
        raise too_many(receipt)
    decoded = _prove(events, body, receipt) if events else None
    if decoded is not None:
        return decoded
    verdicts = Verdicts(receipt)
    elements = _split(body)
    if len(elements) > events_max:
        raise too_many(receipt)
    for index, element in enumerate(elements):
        _judge(element, verdicts, receipt, f"Element {index} of the array")
    return verdicts.finish()


def _read_lines_fast(body: bytes, receipt: Receipt) -> Decoded | None:
    text = body.strip(_BLANKS)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    count = text.count(b"\n") + 1
    # When every line begins with { and ends with }, no value reaches over a line's end: "}" and "{" never follow one
    # another within a value. Then as many values as lines are one value a line.
    if (
        count > receipt.limits.events_max
        or not (text.startswith(b"{") and text.endswith(b"}"))
        or text.count(b"}\n{") != count - 1
    ):
        return None
    try:
        if not text.isascii():
            text.decode()
        events = _event.decode_lines(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _prove(events, text, receipt) if len(events) == count else None


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    number = start = 0
    while start < len(body):
        number += 1
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end].strip(_BLANKS)
        if line:
            yield number, line
        start = end + 1


# -- all at once -------------------------------------------------------------------------------------------------


def _prove(events: list[_Event], text: bytes, receipt: Receipt) -> Decoded | None:
    """The verdict on decoded events when all of them are clean; None when that is not certain.

    `text` is the valid JSON (or JSON lines) the events were decoded from, nothing else being in it.
    """
    n = len(events)
    ids = [event.id for event in events]
    types = [event.type for event in events]
    subjects = [event.subject for event in events]
    sources = [event.source for event in events]
    times = [event.time for event in events]
    versions = [event.specversion for event in events]
    content_types = [event.datacontenttype for event in events]
    schemas = [event.dataschema for event in events]
    data = [bytes(event.data) for event in events]

    known = 4 * n - data.count(
        b""
    )  # members of the envelopes: the required ones, data, and the optional ones
    for optional in (sources, times, versions, content_types, schemas):
        known += n - optional.count(UNSET)
    if versions.count(SPECVERSION) + versions.count(UNSET) != n:
        return None
    if not _data_is_clean(data, text, known, receipt.limits.depth_max):
        return None
    if content_types.count(UNSET) == n and schemas.count(UNSET) == n:
        attributes = [b""] * n
    else:
        pairs = list(zip(content_types, schemas, strict=True))
        encoded = {pair: _encode_attributes(*pair, {}) for pair in set(pairs)}
        attributes = [encoded[pair] for pair in pairs]
    return judge_all(
        receipt,
        ids=ids,
        types=types,
        subjects=subjects,
        sources=[SOURCE_DEFAULT if source is UNSET else source for source in sources],
        times=[None if time is UNSET else time for time in times],
        data=data,
        attributes=attributes,
        nul_possible=b"\\u0000" in text,
    )


def _data_is_clean(data: list[bytes], text: bytes, known: int, depth_max: int) -> bool:
    """Whether it is proved that all data are objects (or absent), shallow enough, and that no key is there twice.

    `known` is the number of members of the envelopes. Distinct keys can be counted after decoding; when they are as
    many as `members_at_most` of the text, none was dropped as a repetition.
    """
    given = [one for one in data if one]
    joined = b"[" + b",".join(given) + b"]"
    containers = text.count(b"{") + text.count(b"[")
    flat = containers <= len(data) + len(given) + 1
    if not flat and containers > depth_max and max(map(_containers, data)) > depth_max:
        return False
    if depth_max < 1:
        return False
    members = members_at_most(text)
    try:
        if flat:
            return known + sum(map(len, _flat_objects.decode(joined))) == members
        if b"\\" in text:
            return False
        # Encoded again, compactly, strings are as they were: what makes `members_at_most` count too much does so here
        # at most as often as in `text`, so equal counts mean an equal number of members.
        return known + members_at_most(msgspec.json.encode(_objects.decode(joined))) == members
    except msgspec.DecodeError:
        return False  # data that is no object, or a number Python's float cannot hold


def _containers(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


# -- one by one --------------------------------------------------------------------------------------------------


def _judge(text: bytes, verdicts: Verdicts, receipt: Receipt, place: str) -> None:
    """The verdict on one event's text, which is UTF-8."""
    depth_max = receipt.limits.depth_max
    too_deep = Fault("nesting_too_deep", f"{place} is nested deeper than {depth_max} levels within data.")
    try:
        members = _members.decode(text)
    except RecursionError:
        verdicts.reject([too_deep])
        return
    except msgspec.ValidationError:
        kind = _kind(text.lstrip(_BLANKS)[:1])
        verdicts.reject([Fault("invalid_event", f"{place} must be an object, not {kind}.")])
        return
    except msgspec.DecodeError as error:
        reason, at = why(error)
        where = "" if at is None else f" (byte {at} of it)"
        verdicts.reject([Fault("invalid_json", f"{place} is not valid JSON: {reason}{where}.")])
        return
    envelope = Envelope()
    if deeper_than(text, depth_max + 1):
        envelope.faults.append(too_deep)
    else:
        try:
            key = duplicate_key(text.decode())
        except RecursionError:
            envelope.faults.append(too_deep)
        else:
            if key is not None:
                envelope.faults.append(duplicate_key_fault(key))
    envelope.id = _attribute(members, "id")
    envelope.source = _attribute(members, "source")
    envelope.type = _attribute(members, "type")
    envelope.subject = _attribute(members, "subject")
    envelope.time = _attribute(members, "time")
    envelope.specversion = _attribute(members, "specversion")
    envelope.data = _data(members, depth_max, envelope.faults)
    known: list[str | UnsetType] = []
    for name in ("datacontenttype", "dataschema"):
        value = _attribute(members, name)
        if isinstance(value, NotText):
            envelope.faults.append(Fault("invalid_field", f"{name} must be a string, not {value.kind}."))
        known.append(value if isinstance(value, str) else UNSET)
    others = {name: raw for name, raw in members.items() if bytes(raw) != b"null"}
    envelope.attributes = _encode_attributes(known[0], known[1], others)
    verdicts.judge(envelope)


def _attribute(members: dict[str, Raw], name: str) -> Attribute:
    raw = members.pop(name, None)
    if raw is None:
        return None
    try:
        return _text_or_null.decode(raw)
    except msgspec.ValidationError:
        return NotText(_kind(bytes(raw)[:1]))


def _data(members: dict[str, Raw], depth_max: int, faults: list[Fault]) -> bytes:
    data = bytes(members.pop("data", _NO_DATA))
    if data == b"null":
        data = b""
    if data and not data.startswith(b"{"):
        faults.append(Fault("data_not_object", f"data must be an object, not {_kind(data[:1])}."))
        data = b""
    encoded = _attribute(members, "data_base64")
    if encoded is None:
        return data
    if data:
        faults.append(Fault("invalid_field", "data and data_base64 are both there; send one of them."))
        return data
    try:
        data = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
    except ValueError:
        data = b""
    if not data:
        faults.append(Fault("data_not_object", "data_base64 is not Base64 text."))
        return b""
    data = data.strip(_BLANKS)
    fault = object_fault(data, depth_max)
    if fault is not None:
        faults.append(fault)
    return data


def _encode_attributes(
    content_type: str | UnsetType, schema: str | UnsetType, others: dict[str, Raw]
) -> bytes:
    if content_type is UNSET and schema is UNSET and not others:
        return b""
    attributes: dict[str, object] = {}
    if content_type is not UNSET:
        attributes["datacontenttype"] = content_type
    if schema is not UNSET:
        attributes["dataschema"] = schema
    return msgspec.json.encode({**attributes, **others})


_KINDS = {b"{": "an object", b"[": "an array", b'"': "a string", b"t": "true", b"f": "false", b"n": "null"}


def _kind(first: bytes) -> str:
    return _KINDS.get(first, "a number")


# -- framing, when something is wrong -----------------------------------------------------------------------------

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # half of one
    rb"|\\.",
    re.DOTALL,
)


def _mended(text: bytes) -> bytes:
    """The text with every half of a surrogate pair replaced, at equal length, so that one such string (cut off in the
    middle of an emoji, say) spoils its own event and not the request."""
    if _SURROGATE.search(text) is None:
        return text
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], text)


_BETWEEN = re.compile(rb"[\s,]*")


def _split(body: bytes) -> list[bytes]:
    """The elements of an array as they were sent. Raises BadRequest when it cannot be taken apart."""
    mended = _mended(body)
    try:
        elements = [bytes(element) for element in _elements.decode(mended)]
    except msgspec.DecodeError as error:
        refuse(body, error)
    except RecursionError:
        refuse_depth(body)
    if mended is body:
        return elements
    at = body.index(b"[") + 1
    original: list[bytes] = []
    for element in elements:
        between = _BETWEEN.match(body, at)
        at = between.end() if between else at
        original.append(body[at : at + len(element)])
        at += len(element)
    return original
