"""Prometheus remote write 1.0: a snappy block with a WriteRequest (prometheus/prompb/remote.proto).

Series are told apart by name, where the request has no metadata: `…_total`, `…_count` and `…_sum` are counters. Buckets are
left out; levels are taken where the mapping names them.
"""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from tallystick.errors import BadRequest, TooLarge
from tallystick.telemetry.mapping import TelemetryMapping
from tallystick.telemetry.point import TIME_NS_MAX, Kind, Point, check_count

SOURCE = "prometheus"
_COUNTERS = ("_total", "_count", "_sum")
_TARGET = ("job", "instance")
_COUNTER_TYPES = frozenset({1, 3, 5})  # COUNTER, HISTOGRAM, SUMMARY
_GAUGE_TYPE = 2


def _write_request() -> Any:
    """The message, by its published field numbers; what is not needed is left out and skipped."""
    fields = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tallystick/remote.proto", package="tallystick.prometheus", syntax="proto3"
    )

    def message(name: str, *members: tuple[str, int, int, str, bool]) -> None:
        made = file.message_type.add(name=name)
        for member, number, form, type_name, many in members:
            label = fields.LABEL_REPEATED if many else fields.LABEL_OPTIONAL
            field = made.field.add(name=member, number=number, type=form, label=label)  # pyright: ignore[reportArgumentType]
            if type_name:
                field.type_name = f".tallystick.prometheus.{type_name}"

    text, nested = fields.TYPE_STRING, fields.TYPE_MESSAGE
    message("Label", ("name", 1, text, "", False), ("value", 2, text, "", False))
    message(
        "Sample", ("value", 1, fields.TYPE_DOUBLE, "", False), ("timestamp", 2, fields.TYPE_INT64, "", False)
    )
    message("TimeSeries", ("labels", 1, nested, "Label", True), ("samples", 2, nested, "Sample", True))
    message(
        "MetricMetadata",
        ("type", 1, fields.TYPE_INT32, "", False),
        ("metric_family_name", 2, text, "", False),
        ("unit", 5, text, "", False),
    )
    message(
        "WriteRequest",
        ("timeseries", 1, nested, "TimeSeries", True),
        ("metadata", 3, nested, "MetricMetadata", True),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tallystick.prometheus.WriteRequest"))


_WriteRequest = _write_request()


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


def read_write(body: bytes, mapping: TelemetryMapping) -> Iterator[Point]:
    """Every sample of a request that is wanted. Raises BadRequest for a body that cannot be read, or has too many."""
    request = _WriteRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise BadRequest("The body is no Prometheus WriteRequest.", code="invalid_telemetry") from error
    types = {one.metric_family_name: one.type for one in request.metadata}
    seen = 0
    for series in request.timeseries:
        labels = {label.name: label.value for label in series.labels}
        name = labels.pop("__name__", "")
        kind = _kind(name, types, mapping)
        if kind is None or not mapping.wants(name):
            continue
        target = "\0".join(labels.get(each, "") for each in _TARGET)
        for sample in series.samples:
            seen += 1
            check_count(seen)
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
            )


def _kind(name: str, types: dict[str, int], mapping: TelemetryMapping) -> Kind | None:
    if not name or name.endswith("_bucket"):
        return None
    if mapping.is_gauge(name):
        return Kind.GAUGE
    family = name
    for ending in _COUNTERS:
        family = family.removesuffix(ending)
    said = types.get(name, types.get(family))
    if said in _COUNTER_TYPES:
        return Kind.CUMULATIVE if said == 1 or name != family else None
    if said == _GAUGE_TYPE:
        return None
    return Kind.CUMULATIVE if name.endswith(_COUNTERS) else None
