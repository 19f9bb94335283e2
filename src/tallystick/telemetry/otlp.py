"""OTLP 1.x (opentelemetry-proto): requests of metrics and of logs, as protobuf or as JSON, and the answers to them."""

import base64
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, Metric

from tallystick.errors import BadRequest
from tallystick.telemetry.event import Record
from tallystick.telemetry.messages import INT32, TEXT, message_class
from tallystick.telemetry.point import ATTRIBUTES_MAX, TIME_NS_MAX, Kind, Point, check_count

SOURCE = "otlp"
_DEPTH_MAX = 16
_EVENT_NAMES = ("event.name", "event_name")
_EVENT_IDS = ("event.id", "log.record.uid")
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Refused:
    """A reading that is none, in words."""

    detail: str


def read_metrics(body: bytes, *, is_json: bool) -> Iterator[Point | Refused]:
    """Every reading of a request. Raises BadRequest for a body that cannot be read, or has too many."""
    request = _parsed(ExportMetricsServiceRequest(), body, is_json=is_json)
    seen = 0
    for group in request.resource_metrics:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                for each in _points(metric, resource, scoped.scope.name):
                    seen += 1
                    check_count(seen)
                    yield each


def _points(metric: Metric, resource: dict[str, Any], scope: str) -> Iterator[Point | Refused]:
    form = metric.WhichOneof("data")
    if form is None or not metric.name:
        yield Refused("A metric without a name, or without data.")
        return
    data: Any = getattr(metric, form)
    if form == "gauge":
        kind = Kind.GAUGE
    elif form == "summary":
        kind = Kind.CUMULATIVE
    elif data.aggregation_temporality == _DELTA:
        kind = Kind.DELTA
    elif data.aggregation_temporality == _CUMULATIVE:
        kind = Kind.GAUGE if form == "sum" and not data.is_monotonic else Kind.CUMULATIVE
    else:
        yield Refused(f"{metric.name}: whether it is a delta or cumulative is not said.")
        return
    for one in data.data_points:
        if one.flags & _NO_VALUE:
            continue
        if not 0 < one.time_unix_nano <= TIME_NS_MAX or one.start_time_unix_nano > one.time_unix_nano:
            yield Refused(f"{metric.name}: a reading has no time, or begins after it.")
            continue
        values = _values(one, form)
        if values is None:
            yield Refused(f"{metric.name}: a reading has no finite value.")
            continue
        yield Point(
            source=SOURCE,
            name=metric.name,
            unit=metric.unit,
            kind=kind,
            resource=resource,
            attributes=_attributes(one.attributes),
            start_ns=one.start_time_unix_nano,
            time_ns=one.time_unix_nano,
            values=values,
            scope=scope,
        )


def _values(point: Any, form: str) -> tuple[Decimal, ...] | None:
    if form in ("gauge", "sum"):
        value = point.WhichOneof("value")
        if value == "as_int":
            return (Decimal(point.as_int),)
        return (Decimal(repr(point.as_double)),) if value and math.isfinite(point.as_double) else None
    if not math.isfinite(point.sum):
        return None
    return (Decimal(repr(point.sum)), Decimal(point.count))


def read_logs(body: bytes, *, is_json: bool) -> list[Record]:
    """Every log record of a request. Raises BadRequest."""
    request = _parsed(ExportLogsServiceRequest(), body, is_json=is_json)
    found: list[Record] = []
    for group in request.resource_logs:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_logs:
            for one in scoped.log_records:
                check_count(len(found) + 1)
                attributes = _attributes(one.attributes)
                name = one.event_name or _first(attributes, _EVENT_NAMES) or "log"
                found.append(
                    Record(
                        name=name,
                        resource=resource,
                        attributes=attributes,
                        scope=scoped.scope.name,
                        body=_value(one.body, 0) if one.HasField("body") else None,
                        severity=one.severity_text,
                        time_ns=min(one.time_unix_nano or one.observed_time_unix_nano, TIME_NS_MAX),
                        trace=_identifier(one.trace_id, is_json) + _identifier(one.span_id, is_json),
                        id=_first(attributes, _EVENT_IDS),
                    )
                )
    return found


def _identifier(read: bytes, is_json: bool) -> str:
    """In hexadecimal digits. OTLP's JSON has these as such, where JSON of protobuf has base64: so they were read."""
    return base64.b64encode(read).decode().lower() if is_json else read.hex()


def _first(attributes: dict[str, Any], names: Iterable[str]) -> str:
    return next((str(attributes[name]) for name in names if attributes.get(name)), "")


def metrics_answer(rejected: int, why: str, *, is_json: bool) -> bytes:
    """What a sender of metrics is answered."""
    answer = ExportMetricsServiceResponse()
    if rejected:
        answer.partial_success.rejected_data_points = rejected
        answer.partial_success.error_message = why
    return _written(answer, is_json=is_json)


def logs_answer(rejected: int, why: str, *, is_json: bool) -> bytes:
    """What a sender of logs is answered."""
    answer = ExportLogsServiceResponse()
    if rejected:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = why
    return _written(answer, is_json=is_json)


_Status = message_class("tallystick.rpc", "Status", {"Status": [("code", 1, INT32), ("message", 2, TEXT)]})
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 11, 429: 8, 500: 13, 503: 14, 504: 4}
_INVALID_ARGUMENT = 3


def error_answer(status: int, detail: str, *, is_json: bool) -> tuple[int, bytes]:
    """An error as OTLP/HTTP words it: a google.rpc.Status in the content type of the request, and its HTTP status. A sender drops
    what is refused with any status but 429, 502, 503 and 504: a full disk is one that passes."""
    status = 503 if status == 507 else status
    said = _Status(code=_CODES.get(status, _INVALID_ARGUMENT), message=detail)
    return status, _written(said, is_json=is_json)


def _written(answer: Message, *, is_json: bool) -> bytes:
    return MessageToJson(answer, indent=None).encode() if is_json else answer.SerializeToString()


def _parsed(into: M, body: bytes, *, is_json: bool) -> M:
    try:
        if is_json:
            Parse(body, into, ignore_unknown_fields=True, max_recursion_depth=64)
        else:
            into.ParseFromString(body)
    except (ParseError, DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"The body is no OTLP request: {str(error)[:200]}.", code="invalid_telemetry"
        ) from error
    return into


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        if len(found) >= ATTRIBUTES_MAX:
            break
        found[pair.key] = _value(pair.value, 0)
    return found


def _value(value: AnyValue, depth: int) -> Any:
    form = value.WhichOneof("value")
    if form is None or depth >= _DEPTH_MAX:
        return None
    if form == "array_value":
        return [_value(each, depth + 1) for each in value.array_value.values]
    if form == "kvlist_value":
        return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if form == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    found = getattr(value, form)
    if isinstance(found, float) and not math.isfinite(found):
        return str(found)
    return found
