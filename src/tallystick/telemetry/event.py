"""Readings and log records as events, one line of JSON each.

Identity is the series with its start, and the time of the reading: whatever is sent again is the same event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tallystick.telemetry.increment import Counted
from tallystick.telemetry.mapping import TelemetryMapping
from tallystick.telemetry.point import Attributes, Point, digest_of

_encode = msgspec.json.Encoder(decimal_format="string").encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """One log record (or span event) of OpenTelemetry. `time_ns` 0: it names none. `id`: where it names its own."""

    name: str
    resource: Attributes
    attributes: Attributes
    scope: str
    body: Any
    severity: str
    time_ns: int
    trace: str
    id: str = ""


def lines_of(counted: Sequence[Counted], mapping: TelemetryMapping) -> list[bytes]:
    """The events of what was counted. Every point has a subject (`subject_of`)."""
    found: list[bytes] = []
    for one in counted:
        point = one.point
        data: dict[str, Any] = {"value": format(one.values[0], "f")}
        if len(one.values) > 1:
            data["count"] = format(one.values[1], "f")
        if point.unit:
            data["unit"] = point.unit
        data["attributes"] = point.attributes
        if point.resource:
            data["resource"] = point.resource
        event = {
            "id": _point_id(point),
            "source": point.source,
            "type": mapping.type_of(point.name),
            "subject": mapping.subject_of(point.attributes, point.resource),
            "time": time_text(point.time_ns),
            "data": data,
        }
        found.append(_encode(event))
    return found


def record_lines(records: Sequence[Record], mapping: TelemetryMapping) -> list[bytes]:
    """The events of log records."""
    found: list[bytes] = []
    for one in records:
        data: dict[str, Any] = {"attributes": one.attributes}
        if one.resource:
            data["resource"] = one.resource
        if one.body is not None:
            data["body"] = one.body
        if one.severity:
            data["severity"] = one.severity
        content = (
            one.name,
            one.resource,
            one.attributes,
            one.scope,
            one.body,
            one.severity,
            one.time_ns,
            one.trace,
        )
        event = {
            "id": one.id or f"log-{digest_of(content)}",
            "source": "otlp",
            "type": mapping.type_of(one.name),
            "subject": mapping.subject_of(one.attributes, one.resource),
            "data": data,
        }
        if one.time_ns:
            event["time"] = time_text(one.time_ns)
        found.append(_encode(event))
    return found


def _point_id(point: Point) -> str:
    return f"{point.series}-{point.start_ns:x}-{point.time_ns:x}"


def time_text(time_ns: int) -> str:
    """RFC 3339, to the microsecond."""
    return (_EPOCH + timedelta(microseconds=time_ns // 1000)).isoformat()
