"""`/otlp/v1/metrics`, `/otlp/v1/logs` and `/prometheus/api/v1/write`: what OpenTelemetry and Prometheus send, as events.

Counters are kept in the catalog (catalog/counters.py); an answer means that every event is durable. A tenant's requests
are taken one after the other by each process: a series has an order.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import structlog
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.ingest import ClientGoneError
from tallystick.api.openapi import Refused, objects, operation
from tallystick.api.problem import PROBLEM_TYPE, problem_body
from tallystick.errors import BadRequest, UnsupportedMediaType
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.telemetry import otlp, prometheus
from tallystick.telemetry.event import Record, lines_of, record_lines
from tallystick.telemetry.increment import Reached, count, keys_of
from tallystick.telemetry.mapping import TelemetryMapping
from tallystick.telemetry.point import Point

Connection = Request[Any, Any, Any]

OTLP = "/otlp/"
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
NO_SUBJECT = "no attribute says whose it is (setting telemetry_mapping)"
IN_FUTURE = "its time lies ahead of the server's clock"
_NDJSON = "application/x-ndjson"
_REASONS_MAX = 3
_BODY_BYTES = 8 * 1024 * 1024

_logger = structlog.get_logger("telemetry")
_turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()


def _media_types(name: str) -> dict[str, dict[str, Any]]:
    binary = {"type": "string", "format": "binary", "description": f"{name} (opentelemetry-proto)"}
    return {PROTOBUF: {"schema": binary}, JSON: {"schema": {"type": "object"}}}


def otlp_refusal(status: int, detail: str, content_type: bytes) -> tuple[int, str, bytes]:
    """An error below `/otlp/`, however it came about: status, media type and body."""
    is_json = content_type.partition(b";")[0].strip().lower() == JSON.encode()
    made, body = otlp.error_answer(status, detail, is_json=is_json)
    return made, JSON if is_json else PROTOBUF, body


def _otlp_operation(**said: Any) -> dict[str, Any]:
    """`openapi.operation` with the errors of OTLP/HTTP."""
    made = operation(tag="Events", errors=(400, 408, 413, 415, 429), **said)
    status = objects({"code": {"type": "integer"}, "message": {"type": "string"}})
    binary = {"type": "string", "format": "binary", "description": "google.rpc.Status"}
    made["x-refused"] = Refused(
        name="OtlpRefused",
        response={
            "description": "A google.rpc.Status in the request's content type.",
            "content": {PROTOBUF: {"schema": binary}, JSON: {"schema": status}},
        },
        statuses=(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504),
    )
    return made


@post(
    "/otlp/v1/metrics",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": _otlp_operation(
            summary="Send metrics (OTLP/HTTP)",
            description="Delta and cumulative sums, histograms and summaries become events that carry what came in between; "
            "gauges become readings. Sent again, nothing counts twice. docs/howto/otlp.md",
            body_types=_media_types("ExportMetricsServiceRequest"),
            answer_types=_media_types("ExportMetricsServiceResponse"),
        )
    },
)
async def otlp_metrics(request: Connection) -> Response[bytes]:
    """Protobuf or JSON, plain or gzip."""
    is_json = _is_json(request)
    body = await taking.body_of(request)
    system = wire.system_of(request)
    mapping = system.telemetry

    def read() -> tuple[list[Point], list[str]]:
        points: list[Point] = []
        refused: list[str] = []
        for one in otlp.read_metrics(body, is_json=is_json):
            if isinstance(one, otlp.Refused):
                refused.append(one.detail)
            elif mapping.wants(one.name):
                points.append(one)
        return points, refused

    points, refused = await in_questions(system, read)
    refused += await _take_points(request, system, points)
    return _answered(otlp.metrics_answer(len(refused), _words(refused), is_json=is_json), is_json=is_json)


@post(
    "/otlp/v1/logs",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": _otlp_operation(
            summary="Send logs (OTLP/HTTP)",
            description="Each record is an event of its event name (otherwise `log`), with `$.attributes`, `$.resource` and "
            "`$.body`. docs/howto/otlp.md",
            body_types=_media_types("ExportLogsServiceRequest"),
            answer_types=_media_types("ExportLogsServiceResponse"),
        )
    },
)
async def otlp_logs(request: Connection) -> Response[bytes]:
    """Protobuf or JSON, plain or gzip."""
    is_json = _is_json(request)
    body = await taking.body_of(request)
    system = wire.system_of(request)
    mapping = system.telemetry
    refused: list[str] = []

    def read() -> list[bytes]:
        kept: list[Record] = []
        for one in otlp.read_logs(body, is_json=is_json):
            if not mapping.wants(one.name):
                continue
            if mapping.subject_of(one.attributes, one.resource) is None:
                system.metrics.events_rejected.labels("missing_subject").inc()
                refused.append(f"{one.name}: {NO_SUBJECT}")
            else:
                kept.append(one)
        return record_lines(kept, mapping)

    lines = await in_questions(system, read)
    for piece in _pieces(lines, system.settings.events_per_request_max):
        refused += await _store(request, piece)
    return _answered(otlp.logs_answer(len(refused), _words(refused), is_json=is_json), is_json=is_json)


@post(
    "/prometheus/api/v1/write",
    guards=[require("events:write")],
    status_code=200,  # answered 204, always
    opt={
        "operation": operation(
            summary="Prometheus remote write",
            tag="Events",
            description="Version 1.0 (`prometheus.WriteRequest`) and 2.0 (`io.prometheus.write.v2.Request`), as the content type says, "
            "snappy. Counters become events that carry what came in between, through restarts. Version 2.0 is answered how many "
            "samples were taken, and 400 where some were not. docs/howto/otlp.md",
            body_types={PROTOBUF: {"schema": {"type": "string", "format": "binary"}}},
            status=204,
            errors=(400, 408, 413, 415, 429, 507),
        )
    },
)
async def prometheus_write(request: Connection) -> Response[bytes | None]:
    """Of version 1.0, samples nobody can be charged for are dropped: refusing them would make Prometheus drop the whole request."""
    headers = dict(request.scope["headers"])
    version_2 = _is_version_2(headers.get(b"content-type", b""))
    if headers.pop(b"content-encoding", b"snappy").strip().lower() != b"snappy":
        raise UnsupportedMediaType("Remote write is sent with Content-Encoding: snappy.")
    try:
        packed = await taking.ingest_of(request).body(headers, request.receive)
    except ClientGoneError:
        raise BadRequest("The body ended before it was complete; nothing was stored.") from None
    system = wire.system_of(request)

    def read() -> prometheus.Written:
        body = prometheus.unpacked(packed, bytes_max=system.settings.body_bytes_max)
        reader = prometheus.read_write_2 if version_2 else prometheus.read_write
        return reader(body, system.telemetry)

    written = await in_questions(system, read)
    refused = await _take_points(request, system, written.points)
    if refused:
        _logger.warning(
            "samples_refused", tenant=caller(request).tenant, count=len(refused), why=_words(refused)
        )
    if not version_2:
        return Response(None, status_code=204)
    # What is left out on purpose counts as taken: a sender takes the difference for lost.
    said = {
        "X-Prometheus-Remote-Write-Samples-Written": str(max(0, written.samples - len(refused))),
        "X-Prometheus-Remote-Write-Histograms-Written": "0",
        "X-Prometheus-Remote-Write-Exemplars-Written": "0",
    }
    if not refused:
        return Response(None, status_code=204, headers=said)
    error = BadRequest(f"Not taken: {_words(refused)}", code="samples_refused")
    return Response(problem_body(error), status_code=400, media_type=PROBLEM_TYPE, headers=said)


def _is_version_2(content_type: bytes) -> bool:
    """Raises UnsupportedMediaType for a message that is neither. One that is not named is of 1.0."""
    parameters = [part.strip().lower() for part in content_type.decode("latin-1").split(";")[1:]]
    named = [part.partition("=")[2].strip('"') for part in parameters if part.startswith("proto=")]
    proto = named[0] if named else prometheus.MESSAGE_1.lower()
    if proto not in (prometheus.MESSAGE_1.lower(), prometheus.MESSAGE_2.lower()):
        raise UnsupportedMediaType(
            f"Remote write is sent as {PROTOBUF} of {prometheus.MESSAGE_1} or {prometheus.MESSAGE_2}."
        )
    return proto == prometheus.MESSAGE_2.lower()


async def _take_points(request: Connection, system: System, points: Sequence[Point]) -> list[str]:
    """Make what the points add durable; why some were refused."""
    tenant, mapping = caller(request).tenant, system.telemetry
    ahead_ns = (system.clock.now_us() + system.settings.future_tolerance_s * 1_000_000) * 1000
    kept: list[Point] = []
    refused: list[str] = []
    count_refused = system.metrics.events_rejected.labels
    for point in points:
        # Before the series moves: what is refused later would be lost to it.
        if point.time_ns > ahead_ns:
            refused.append(f"{point.name}: {IN_FUTURE}")
            count_refused("time_in_future").inc()
        elif mapping.subject_of(point.attributes, point.resource) is None:
            refused.append(f"{point.name}: {NO_SUBJECT}")
            count_refused("missing_subject").inc()
        else:
            kept.append(point)
    key = (id(asyncio.get_running_loop()), tenant)
    turn = _turns.get(key) or _turns.setdefault(key, asyncio.Lock())
    async with turn:
        # First what an earlier request could not bring into the log, so that it cannot grow.
        refused += await _bring(request, system, tenant)
        if kept:
            advance = _advance(kept, mapping, system.settings.events_per_request_max)
            made = await in_questions(
                system, lambda: system.catalog.advance_counters(tenant, keys_of(kept), advance)
            )
            if made:
                refused += await _bring(request, system, tenant)
    return refused


def _advance(
    points: Sequence[Point], mapping: TelemetryMapping, events_max: int
) -> Callable[[Mapping[str, Reached]], tuple[Mapping[str, Reached], Iterable[bytes]]]:
    def advance(reached: Mapping[str, Reached]) -> tuple[Mapping[str, Reached], Iterable[bytes]]:
        counted, moved = count(points, reached)
        return moved, list(_pieces(lines_of(counted, mapping), events_max))

    return advance


async def _bring(request: Connection, system: System, tenant: str) -> list[str]:
    """Everything in the tenant's outbox into the log. Twice does no harm: the events have their identity."""
    waiting = await in_questions(system, lambda: system.catalog.counter_outbox(tenant))
    refused: list[str] = []
    for number, body in waiting:
        refused += await _store(request, body)
        done = (number,)
        await in_questions(system, lambda done=done: system.catalog.clear_counter_outbox(tenant, done))
    return refused


async def _store(request: Connection, body: bytes) -> list[str]:
    decoded = await taking.judged(request, body, content_type=_NDJSON)
    if decoded.events:
        await taking.stored(request, decoded)
    return [f"{one.code}: {one.detail}" for one in decoded.rejected]


def _pieces(lines: Sequence[bytes], events_max: int) -> Iterable[bytes]:
    """NDJSON bodies within the bounds of a request."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and (len(piece) >= events_max or size + len(line) > _BODY_BYTES):
            yield b"\n".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"\n".join(piece)


def _is_json(request: Connection) -> bool:
    given = request.headers.get("content-type", PROTOBUF).partition(";")[0].strip().lower()
    if given not in (PROTOBUF, JSON):
        raise UnsupportedMediaType(f"{given[:80]!r} is not supported. Send {PROTOBUF} or {JSON}.")
    return given == JSON


def _words(refused: Sequence[str]) -> str:
    if not refused:
        return ""
    shown = list(dict.fromkeys(refused))
    return "; ".join(shown[:_REASONS_MAX]) + ("; …" if len(shown) > _REASONS_MAX else "")


def _answered(body: bytes, *, is_json: bool) -> Response[bytes]:
    return Response(body, status_code=200, media_type=JSON if is_json else PROTOBUF)


ROUTES: Sequence[ControllerRouterHandler] = (otlp_metrics, otlp_logs, prometheus_write)
