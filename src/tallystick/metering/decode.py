"""From the body of a request to events in columns, with a verdict for each. Pure: what it needs to know it is given.

| content type | body | read by |
|---|---|---|
| application/cloudevents+json | one event | json_events |
| application/cloudevents-batch+json | an array | json_events |
| application/json, or none named | one event or an array | json_events |
| application/x-ndjson (application/ndjson, application/jsonl) | one event a line | json_events |
| text/csv | a header row, one event a row | csv_events |
| any but the first two, with ce-* headers | data of the one event the headers describe | binary_mode |

The verdicts are listed in `verdict`, the rules for attributes stand in `envelope`. `data` keeps its bytes as they were
sent; its numbers are not judged here. Null means absent for every attribute and for data. `specversion` may be left out
everywhere. Attributes without a column (datacontenttype, dataschema, extensions) are kept as one JSON object.
"""

import re
from collections.abc import Mapping

from tallystick.errors import Fault, Invalid, UnsupportedMediaType
from tallystick.metering.binary_mode import read_binary
from tallystick.metering.content import same_content
from tallystick.metering.csv_events import read_csv
from tallystick.metering.envelope import Receipt
from tallystick.metering.json_events import read_json, read_lines
from tallystick.metering.json_text import BYTE_ORDER_MARK
from tallystick.metering.verdict import BODY_CODES, EVENT_CODES, Decoded, Limits, Rejection

__all__ = ["BODY_CODES", "EVENT_CODES", "Decoded", "Limits", "Rejection", "decode", "same_content"]

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
CSV = "text/csv"
_PARAMETER = re.compile(r'([^=;\s]+)\s*=\s*("[^"]*"|[^;]*)')
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")


def decode(
    body: bytes,
    *,
    content_type: str,
    ce_headers: Mapping[str, str],
    tenant: str,
    received_at_us: int,
    limits: Limits,
    fast: bool = True,
) -> Decoded:
    """Read the events of one request and judge each.

    `content_type` as sent, "" when there was none; `ce_headers` are the headers that begin with `ce-`, values as text of
    the bytes on the wire. `fast=False` takes the slow exact way only, with the same result: for tests.

    Raises BadRequest (invalid_json, invalid_csv, invalid_body, nesting_too_deep), Invalid (no_events), TooLarge
    (too_many_events) and UnsupportedMediaType; nothing of the request counts then.
    """
    receipt = Receipt(tenant, received_at_us, limits)
    media_type, parameters = _media_type(content_type)
    if body.startswith(BYTE_ORDER_MARK):
        body = body[len(BYTE_ORDER_MARK) :]
    if ce_headers and media_type not in (SINGLE, BATCH):
        is_json = media_type in (JSON, "") or media_type.endswith("+json")
        return read_binary(body, receipt, ce_headers, content_type=content_type.strip(), is_json=is_json)
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in _CHARSETS:
        raise UnsupportedMediaType(f"The character set {charset[:40]!r} is not supported. Send UTF-8.")
    if media_type in (JSON, ""):
        decoded = read_json(body, receipt, one=True, many=True, fast=fast)
    elif media_type == BATCH:
        decoded = read_json(body, receipt, one=False, many=True, fast=fast)
    elif media_type == SINGLE:
        decoded = read_json(body, receipt, one=True, many=False, fast=fast)
    elif media_type in NDJSON:
        decoded = read_lines(body, receipt, fast=fast)
    elif media_type == CSV:
        if parameters.get("header", "present").lower() == "absent":
            raise UnsupportedMediaType("CSV without a header row is not supported: the columns need names.")
        decoded = read_csv(body, receipt, fast=fast)
    else:
        raise UnsupportedMediaType(
            f"The content type {media_type[:80]!r} is not supported. Send {JSON}, {NDJSON[0]}, {CSV}, {SINGLE} or "
            f"{BATCH}, or CloudEvents in binary mode with ce-* headers."
        )
    if not decoded.rejected and not len(decoded.events):
        detail = "The request holds no event."
        raise Invalid(detail, code="no_events", faults=[Fault("", "no_events", detail)])
    return decoded


def _media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """`application/json; charset="UTF-8"` → ("application/json", {"charset": "UTF-8"})."""
    if ";" not in content_type:
        return content_type.strip().lower(), {}
    media_type, _, rest = content_type.partition(";")
    parameters = {name.lower(): value.strip().strip('"') for name, value in _PARAMETER.findall(rest)}
    return media_type.strip().lower(), parameters
