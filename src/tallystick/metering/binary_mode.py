"""CloudEvents in binary mode: attributes in `ce-*` headers, the body is data.

Source: CloudEvents HTTP Protocol Binding 1.0.2, section 3.1. A header's value is read as the binding says (3.1.3.2):
double quotes are undone, then one round of percent-decoding, then UTF-8. Senders older than that put Latin-1 on the
wire without percent-encoding; where the bytes are not UTF-8 and nothing was encoded, they are taken as Latin-1.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from tallystick.metering.envelope import Attribute, Envelope, NotText, Receipt, Verdicts
from tallystick.metering.json_text import object_fault, refuse
from tallystick.metering.verdict import Decoded, Fault

PREFIX = "ce-"
_BLANKS = b" \t\r\n"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_raw = msgspec.json.Decoder(msgspec.Raw)


def read_binary(
    body: bytes, receipt: Receipt, headers: Mapping[str, str], *, content_type: str, is_json: bool
) -> Decoded:
    """The one event of a request in binary mode.

    `headers`: those that begin with `ce-`, any case, each value as text of the bytes on the wire (Latin-1, as servers
    hand it over). `is_json`: the content type says JSON, so that a body that is none is a broken request (BadRequest)
    and not an event without an object.
    """
    verdicts = Verdicts(receipt)
    envelope = Envelope()
    values: dict[str, Attribute] = {
        header.lower().removeprefix(PREFIX): _decode(value) for header, value in headers.items()
    }
    envelope.id = values.pop("id", None)
    envelope.source = values.pop("source", None)
    envelope.type = values.pop("type", None)
    envelope.subject = values.pop("subject", None)
    envelope.time = values.pop("time", None)
    envelope.specversion = values.pop("specversion", None)
    envelope.faults = [
        Fault("invalid_field", f"The header {PREFIX}{name} must be a string, not {value.kind}.")
        for name, value in values.items()
        if isinstance(value, NotText)
    ]
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    data = body.strip(_BLANKS)
    if data and data != b"null":
        fault = object_fault(data, receipt.limits.depth_max)
        if fault is not None:
            if is_json and fault.code == "data_not_object":
                _refuse_unless_json(body)
            envelope.faults.append(fault)
        envelope.data = data
    if content_type:
        texts = {"datacontenttype": content_type, **texts}
    envelope.attributes = msgspec.json.encode(texts) if texts else b""
    verdicts.judge(envelope)
    return verdicts.finish()


def _refuse_unless_json(body: bytes) -> None:
    try:
        body.decode()
        _raw.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse(body, error)


def _decode(value: str) -> str | NotText:
    value = value.strip(" \t")
    if _QUOTED.fullmatch(value):
        value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    try:
        encoded = value.encode("latin-1")
    except UnicodeEncodeError:
        encoded = value.encode(errors="surrogatepass")
    decoded = unquote_to_bytes(encoded)
    try:
        return decoded.decode()
    except UnicodeDecodeError:
        if decoded == encoded:
            return decoded.decode("latin-1")
        return NotText("percent-encoded bytes that are not UTF-8")
