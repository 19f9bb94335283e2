"""Prometheus remote write: a snappy block with a WriteRequest (1.0, prometheus/prompb/remote.proto) or a Request (2.0,
io/prometheus/write/v2/types.proto), where every text is a number in a table of symbols.

Series are told apart by name, where the request has no metadata: `…_total`, `…_count` and `…_sum` are counters. Buckets are
left out; levels are taken where the mapping names them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from tallystick.errors import BadRequest, TooLarge
from tallystick.telemetry.mapping import TelemetryMapping
from tallystick.telemetry.messages import DOUBLE, INT32, INT64, TEXT, UINT32, message_class
from tallystick.telemetry.point import TIME_NS_MAX, Kind, Point, check_count

SOURCE = "prometheus"
_COUNTERS = ("_total", "_count", "_sum")
_TARGET = ("job", "instance")
_CLUSTER = ("cluster", "prometheus")
_COUNTER_TYPES = frozenset({1, 3, 5})  # COUNTER, HISTOGRAM, SUMMARY
_GAUGE_TYPE = 2


_WriteRequest = message_class(
    "tallystick.prometheus",
    "WriteRequest",
    {
        "Label": [("name", 1, TEXT), ("value", 2, TEXT)],
        "Sample": [("value", 1, DOUBLE), ("timestamp", 2, INT64)],
        "TimeSeries": [("labels", 1, ["Label"]), ("samples", 2, ["Sample"])],
        "MetricMetadata": [("type", 1, INT32), ("metric_family_name", 2, TEXT), ("unit", 5, TEXT)],
        "WriteRequest": [("timeseries", 1, ["TimeSeries"]), ("metadata", 3, ["MetricMetadata"])],
    },
)
_Request = message_class(
    "tallystick.prometheus.v2",
    "Request",
    {
        "Sample": [("value", 1, DOUBLE), ("timestamp", 2, INT64)],
        "Metadata": [("type", 1, INT32), ("help_ref", 3, UINT32), ("unit_ref", 4, UINT32)],
        "TimeSeries": [("labels_refs", 1, [UINT32]), ("samples", 2, ["Sample"]), ("metadata", 5, "Metadata")],
        "Request": [("symbols", 4, [TEXT]), ("timeseries", 5, ["TimeSeries"])],
    },
)
MESSAGE_1 = "prometheus.WriteRequest"
MESSAGE_2 = "io.prometheus.write.v2.Request"


@dataclass(frozen=True, slots=True)
class Written:
    """What a request holds: the readings that are wanted, and how many samples there are in all."""

    points: list[Point]
    samples: int


def unpacked(body: bytes, *, bytes_max: int) -> bytes:
    """A snappy block's content. Raises BadRequest, and TooLarge by what the block says of its size."""
    size = shift = 0
    for byte in body[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    else:
        raise BadRequest("The body is no snappy block.", code="invalid_telemetry")
    if size > bytes_max:
        raise TooLarge(f"The body is larger than {bytes_max} bytes. Send it in several requests.")
    try:
        return pa.Codec("snappy").decompress(body, decompressed_size=size, asbytes=True)
    except (OSError, pa.ArrowException) as error:
        raise BadRequest("The body is no snappy block.", code="invalid_telemetry") from error


def read_write(body: bytes, mapping: TelemetryMapping) -> Written:
    """Every sample of a request of version 1.0 that is wanted. Raises BadRequest for a body that cannot be read, or has too many."""
    request = _parsed(_WriteRequest(), body, MESSAGE_1)
    types = {one.metric_family_name: one.type for one in request.metadata}
    points: list[Point] = []
    seen = 0
    for series in request.timeseries:
        seen += len(series.samples)
        check_count(seen)
        labels = {label.name: label.value for label in series.labels}
        name = labels.pop("__name__", "")
        points += _points(name, labels, series.samples, _kind(name, types, mapping), mapping)
    return Written(points, seen)


def read_write_2(body: bytes, mapping: TelemetryMapping) -> Written:
    """As `read_write`, of version 2.0. Whatever it says of when a series was created does not count: the same reading by
    either version is the same event."""
    request = _parsed(_Request(), body, MESSAGE_2)
    symbols = request.symbols
    if symbols and symbols[0]:
        raise BadRequest("The first symbol must be the empty string.", code="invalid_telemetry")
    points: list[Point] = []
    seen = 0
    for series in request.timeseries:
        seen += len(series.samples)
        check_count(seen)
        refs = series.labels_refs
        if len(refs) % 2 or (refs and max(refs) >= len(symbols)):
            raise BadRequest("A series names a symbol that is not there.", code="invalid_telemetry")
        texts = [symbols[ref] for ref in refs]
        labels = dict(zip(texts[::2], texts[1::2], strict=True))
        name = labels.pop("__name__", "")
        family = _family(name)
        # Its numbers of the types are those of 1.0.
        types = {family: series.metadata.type} if series.HasField("metadata") else {}
        points += _points(name, labels, series.samples, _kind(name, types, mapping), mapping)
    return Written(points, seen)


def _parsed(into: Any, body: bytes, name: str) -> Any:
    try:
        into.ParseFromString(body)
    except DecodeError as error:
        raise BadRequest(f"The body is no {name}.", code="invalid_telemetry") from error
    return into


def _points(
    name: str, labels: dict[str, str], samples: Any, kind: Kind | None, mapping: TelemetryMapping
) -> Iterator[Point]:
    if kind is None or not mapping.wants(name):
        return
    target = "\0".join(labels.get(each, "") for each in _TARGET)
    named = [label for label in mapping.replica if label in labels]
    replica = "\0".join(labels.pop(label) for label in named)
    if replica:
        # Replicas of one another have these in common; others may read the same addresses in another place.
        target = "\0".join((target, *(labels.get(each, "") for each in _CLUSTER)))
    for sample in samples:
        time_ns = sample.timestamp * 1_000_000
        # A stale marker is a NaN: the series has ended.
        if not math.isfinite(sample.value) or not 0 < time_ns <= TIME_NS_MAX:
            continue
        yield Point(
            source=SOURCE,
            name=name,
            unit="",
            kind=kind,
            resource={},
            attributes=labels,
            start_ns=0,
            time_ns=time_ns,
            values=(Decimal(repr(sample.value)),),
            target=target,
            replica=replica,
        )


def _family(name: str) -> str:
    for ending in _COUNTERS:
        name = name.removesuffix(ending)
    return name


def _kind(name: str, types: dict[str, int], mapping: TelemetryMapping) -> Kind | None:
    if not name or name.endswith("_bucket"):
        return None
    if mapping.is_gauge(name):
        return Kind.GAUGE
    family = _family(name)
    said = types.get(name, types.get(family))
    if said in _COUNTER_TYPES:
        return Kind.CUMULATIVE if said == 1 or name != family else None
    if said == _GAUGE_TYPE:
        return None
    return Kind.CUMULATIVE if name.endswith(_COUNTERS) else None
