"""OpenTelemetry's own SDK and Prometheus' wire form as senders: usage equals what the processes counted."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest
import requests
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from requests.adapters import BaseAdapter
from tests.api.questions.live import Live, Tenant, opened

from tallystick.api.compat import taking
from tallystick.telemetry.prometheus import _Request, _WriteRequest

DELTA = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
EVER = {"from": "2026-01-01T00:00:00Z", "to": "2040-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("telemetry")) as made:
        made.clock.move_to(time.time_ns() // 1000 + 60_000_000)
        yield made


@pytest.fixture
def tenant(live: Live) -> Tenant:
    made = live.tenant()
    made.meter(key="requests", event_type="requests", aggregation="sum", value="$.value",
               dimensions={"route": "$.attributes.route"})  # fmt: skip
    return made


class Wire(BaseAdapter):
    """Carries the SDK's requests into the system in this process. `lose`: answers that do not get back."""

    def __init__(self, tenant: Tenant) -> None:
        super().__init__()
        self.tenant = tenant
        self.lose = 0
        self.bodies: list[tuple[str, bytes, dict[str, str]]] = []

    def send(self, request: Any, **_: Any) -> requests.Response:  # type: ignore[override]
        headers = dict(request.headers)
        self.bodies.append((request.path_url, request.body, headers))
        answer = self.tenant.send("POST", request.path_url, content=request.body, headers=headers)
        assert answer.status_code == 200, answer.text
        made = requests.Response()
        made.status_code = answer.status_code
        if self.lose:
            self.lose -= 1
            made.status_code = 503
        made._content = answer.content
        made.headers.update(answer.headers)
        made.request = request
        made.url = request.url
        return made

    def close(self) -> None:
        pass


class Process:
    """A process that counts, with the official SDK."""

    def __init__(self, tenant: Tenant, **options: Any) -> None:
        self.wire = Wire(tenant)
        session = requests.Session()
        session.mount("http://", self.wire)
        exporter = OTLPMetricExporter("http://test/otlp/v1/metrics", session=session, **options)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        resource = Resource({"service.name": "shop"})
        self.provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self.provider.get_meter("test")
        self.requests = meter.create_counter("requests", unit="1")
        self.tokens = meter.create_histogram("tokens")

    def push(self) -> None:
        self.provider.force_flush()

    def end(self) -> None:
        self.provider.shutdown()


def total(tenant: Tenant, meter: str = "requests", **more: Any) -> dict[str | None, str]:
    tenant.record({"id": str(time.time_ns()), "type": "tick", "subject": "x"})
    response = tenant.post(f"/v1/meters/{meter}/usage", {**EVER, **more})
    assert response.status_code == 200, response.text
    return {next(iter(row["group"].values()), None): row["value"] for row in response.json()["rows"]}


@pytest.mark.parametrize(
    "options", [{}, {"preferred_temporality": DELTA}, {"compression": Compression.Gzip}], ids=str
)
def test_the_sdk_through_restarts_lost_answers_and_repeats(tenant: Tenant, options: Any) -> None:
    tenant.meter(key="tokens", event_type="tokens", aggregation="sum", value="$.value")
    first = Process(tenant, **options)
    first.requests.add(5, {"customer": "acme", "route": "/a"})
    first.push()
    first.requests.add(3, {"customer": "acme", "route": "/a"})
    first.requests.add(2, {"customer": "beta", "route": "/b"})
    first.tokens.record(10, {"customer": "acme"})
    first.wire.lose = 1
    first.push()
    first.push()
    first.end()
    second = Process(tenant, **options)
    second.requests.add(4, {"customer": "acme", "route": "/a"})
    second.tokens.record(7, {"customer": "acme"})
    second.push()
    second.requests.add(1, {"customer": "acme", "route": "/a"})
    second.end()
    for path, body, headers in [*second.wire.bodies, *first.wire.bodies]:  # again, and late
        assert tenant.send("POST", path, content=body, headers=headers).status_code == 200
    assert total(tenant, group_by=["route"]) == {"/a": "13", "/b": "2"}
    assert total(tenant, group_by=["customer"]) == {"acme": "13", "beta": "2"}
    assert total(tenant, "tokens") == {None: "17"}


def test_a_process_that_dies_between_the_catalog_and_the_log_counts_all(
    live: Live, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = {"startTimeUnixNano": "1767225600000000000", "asInt": "5",
             "attributes": [{"key": "customer", "value": {"stringValue": "acme"}}]}  # fmt: skip

    def send(time_ns: int, value: int) -> httpx.Response:
        one = {**point, "timeUnixNano": str(time_ns), "asInt": str(value)}
        sum_ = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [one]}
        metric = {"name": "requests", "sum": sum_}
        return tenant.post(
            "/otlp/v1/metrics", {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
        )

    assert send(1767225601000000000, 5).json() == {}

    async def failing(request: Any, decoded: Any) -> Any:
        raise OSError("the end")

    good = taking.stored
    monkeypatch.setattr(taking, "stored", failing)
    assert send(1767225602000000000, 9).status_code == 500
    assert len(live.system.catalog.counter_outbox(tenant.key)) == 1
    monkeypatch.setattr(taking, "stored", good)
    assert send(1767225603000000000, 11).status_code == 200
    assert total(tenant) == {None: "11"}
    assert live.system.catalog.counter_outbox(tenant.key) == []


def test_what_cannot_count_is_said_and_moves_no_series(live: Live, tenant: Tenant) -> None:
    process = Process(tenant)
    process.requests.add(5, {"route": "/a"})
    process.push()
    path, body, headers = process.wire.bodies[0]
    now_us = live.clock.now_us()
    live.clock.move_to(now_us - 7200 * 1_000_000)
    other = live.tenant()
    answer = other.send("POST", path, content=body, headers=headers)
    live.clock.move_to(now_us)
    said = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert said.rejected_data_points == 1
    assert "ahead" in said.error_message
    other.meter(key="requests", event_type="requests", aggregation="sum", value="$.value")
    other.send("POST", path, content=body, headers=headers)
    assert total(other, group_by=["customer"]) == {"shop": "5"}
    process.end()


def test_logs_become_events_once(tenant: Tenant) -> None:
    tenant.meter(key="used", event_type="gen_ai.usage", aggregation="sum",
                 value="$.attributes['gen_ai.usage.input_tokens']")  # fmt: skip
    attributes = [
        {"key": "customer", "value": {"stringValue": "acme"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
    ]
    record = {"timeUnixNano": "1767225601000000000", "eventName": "gen_ai.usage", "attributes": attributes,
              "body": {"stringValue": "done"}}  # fmt: skip
    nobody = {"timeUnixNano": "1767225601000000000", "body": {"stringValue": "hello"}}
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, nobody]}]}]}
    for _ in range(2):
        answer = tenant.post("/otlp/v1/logs", body)
        assert answer.status_code == 200
        assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    assert total(tenant, "used") == {None: "12"}


def test_a_log_record_is_the_same_event_from_protobuf_and_json(tenant: Tenant) -> None:
    request = ExportLogsServiceRequest()
    one = request.resource_logs.add().scope_logs.add().log_records.add(event_name="job.done")
    one.time_unix_nano = 1767225601000000000
    one.trace_id, one.span_id = (
        bytes.fromhex("5b8efff798038103d269b633813fc60c"),
        bytes.fromhex("eee19b7ec3c1b174"),
    )
    one.attributes.add(key="customer").value.string_value = "acme"
    headers = {"content-type": "application/x-protobuf"}
    assert (
        tenant.send("POST", "/otlp/v1/logs", content=request.SerializeToString(), headers=headers).status_code
        == 200
    )
    record = {"timeUnixNano": "1767225601000000000", "eventName": "job.done", "traceId": one.trace_id.hex().upper(),
              "spanId": one.span_id.hex(), "attributes": [{"key": "customer", "value": {"stringValue": "acme"}}]}  # fmt: skip
    answer = tenant.post("/otlp/v1/logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    assert answer.json() == {}
    tenant.meter(key="jobs", event_type="job.done", aggregation="count")
    assert total(tenant, "jobs") == {None: "1"}


def write(tenant: Tenant, at_ms: int, also: dict[str, str] | None = None, **series: float) -> httpx.Response:
    request = _WriteRequest()
    for name, value in series.items():
        metric, _, route = name.partition("__")
        one = request.timeseries.add()
        labels = {"__name__": metric, "job": "shop", "instance": "i", "customer": "acme"} | (
            {"route": route} if route else {}
        )
        labels |= also or {}
        for label, text in sorted(labels.items()):
            one.labels.add(name=label, value=text)
        one.samples.add(value=value, timestamp=at_ms)
    packed = pa.Codec("snappy").compress(request.SerializeToString(), asbytes=True)
    return tenant.send(
        "POST",
        "/prometheus/api/v1/write",
        content=packed,
        headers={"content-encoding": "snappy", "content-type": "application/x-protobuf"},
    )


def test_prometheus_counters_through_restarts(tenant: Tenant) -> None:
    tenant.meter(key="hits", event_type="hits_total", aggregation="sum", value="$.value")
    base = 1_767_225_600_000
    assert write(tenant, base, hits_total=0, up=1, go_seconds_bucket=5).status_code == 204
    for at, values in [
        (15, {"hits_total": 5}),
        (15, {"hits_total": 5}),  # sent again
        (30, {"hits_total": 9, "hits_total__new": 4}),  # a series that began meanwhile
        (15, {"hits_total": 5}),  # late
        (45, {"hits_total": 2, "hits_total__new": float("nan")}),  # restarted; ended
        (60, {"hits_total": 2.5}),
    ]:
        assert write(tenant, base + at * 1000, **values).status_code == 204
    assert total(tenant, "hits") == {None: "15.5"}
    types = {event["type"] for event in tenant.answer("/v1/events?limit=100")["items"]}
    assert types == {"hits_total", "tick"}


@pytest.mark.parametrize("label", ["__replica__", "prometheus_replica"])
def test_two_replicas_of_one_prometheus_count_once(tenant: Tenant, label: str) -> None:
    tenant.meter(key="hits", event_type="hits_total", aggregation="sum", value="$.value")
    base = 1_767_225_600_000
    for step in range(9):
        for replica, late_ms, lag in (("a", 0, 0), ("b", 700, 1)):
            if not (replica == "a" and 3 <= step < 7):  # the first one is away for a minute
                also = {label: replica, "cluster": "eu"}
                at = base + step * 15_000 + late_ms
                assert write(tenant, at, also, hits_total=100 + step * 10 - lag).status_code == 204
    assert total(tenant, "hits") == {None: "79"}  # the second one, which is heard at the end, has read 179
    sample = next(one for one in tenant.answer("/v1/events?type=hits_total")["items"])
    assert label not in sample["data"]["attributes"]


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("/otlp/v1/metrics", b"\xff\xff", {"content-type": "application/x-protobuf"}, 400),
        ("/otlp/v1/metrics", b"{", {"content-type": "application/json"}, 400),
        ("/otlp/v1/logs", b'{"resourceLogs":7}', {"content-type": "application/json"}, 400),
        ("/otlp/v1/logs", b"", {"content-type": "text/plain"}, 415),
        ("/prometheus/api/v1/write", b"abc", {"content-encoding": "snappy"}, 400),
        ("/prometheus/api/v1/write", b"\xff\xff\xff\xff\x7f", {"content-encoding": "snappy"}, 413),
        ("/prometheus/api/v1/write", b"abc", {"content-encoding": "gzip"}, 415),
    ],
)
def test_what_is_no_request(tenant: Tenant, path: str, content: bytes, headers: Any, status: int) -> None:
    answer = tenant.send("POST", path, content=content, headers=headers)
    assert answer.status_code == status
    if path.startswith("/otlp/"):
        is_json = headers["content-type"] == "application/json"
        assert answer.headers["content-type"] == ("application/json" if is_json else "application/x-protobuf")
        said = answer.json() if is_json else MessageToDict(Status.FromString(answer.content))
        assert said["code"] == 3
        assert said["message"]


def test_a_wrong_key_is_refused_in_the_words_of_otlp(live: Live) -> None:
    for media, read in (
        ("application/json", lambda answer: answer.json()["code"]),
        ("application/x-protobuf", lambda answer: Status.FromString(answer.content).code),
    ):
        headers = {"authorization": "Bearer tsk_wrong", "content-type": media}
        answer = live.send("POST", "/otlp/v1/metrics", content=b"", headers=headers)
        assert (answer.status_code, read(answer)) == (401, 16)
        assert answer.headers["content-type"] == media


def write_2(
    tenant: Tenant, at_ms: int, labels: dict[str, str], value: float, kind: int = 1
) -> httpx.Response:
    symbols = ["", *sorted({*labels, *labels.values()})]
    request = _Request(symbols=symbols)
    one = request.timeseries.add()
    for pair in sorted(labels.items()):
        one.labels_refs.extend(symbols.index(text) for text in pair)
    one.samples.add(value=value, timestamp=at_ms)
    one.metadata.type = kind
    return tenant.send(
        "POST",
        "/prometheus/api/v1/write",
        content=pa.Codec("snappy").compress(request.SerializeToString(), asbytes=True),
        headers={
            "content-encoding": "snappy",
            "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "x-prometheus-remote-write-version": "2.0.0",
        },
    )


def test_remote_write_2_tells_what_was_taken_and_is_one_series_with_1(tenant: Tenant) -> None:
    tenant.meter(key="hits", event_type="hits_total", aggregation="sum", value="$.value")
    base = 1_767_225_600_000
    labels = {"__name__": "hits_total", "job": "shop", "instance": "i", "customer": "acme"}
    assert write(tenant, base, hits_total=10).status_code == 204
    for at, value in ((15, 12), (15, 12), (30, 3)):
        answer = write_2(tenant, base + at * 1000, labels, value)
        assert answer.status_code == 204, answer.text
        assert answer.headers["x-prometheus-remote-write-samples-written"] == "1"
        assert answer.headers["x-prometheus-remote-write-histograms-written"] == "0"
        assert answer.headers["x-prometheus-remote-write-exemplars-written"] == "0"
    assert write(tenant, base + 30_000, hits_total=3).status_code == 204
    assert total(tenant, "hits") == {None: "5"}
    assert write_2(tenant, base, {**labels, "__name__": "level"}, 7, kind=2).status_code == 204
    nobody = write_2(tenant, base, {"__name__": "hits_total"}, 7)
    assert (nobody.status_code, nobody.json()["code"]) == (400, "samples_refused")
    assert nobody.headers["x-prometheus-remote-write-samples-written"] == "0"


def test_samples_that_version_1_drops_are_counted(live: Live, tenant: Tenant) -> None:
    def refused(code: str) -> float:
        for line in live.send("GET", "/metrics").text.splitlines():
            if line.startswith(f'tallystick_events_rejected_total{{reason="{code}"}}'):
                return float(line.split()[-1])
        return 0

    nobody, ahead = refused("missing_subject"), refused("time_in_future")
    assert write(tenant, 1_767_225_600_000, {"customer": "", "job": ""}, hits_total=1).status_code == 204
    assert write(tenant, 4_000_000_000_000, hits_total=1).status_code == 204
    assert (refused("missing_subject"), refused("time_in_future")) == (nobody + 1, ahead + 1)


def test_remote_write_2_that_cannot_be_read(tenant: Tenant) -> None:
    headers = {
        "content-encoding": "snappy",
        "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    }
    for request in (_Request(symbols=["a"]), _Request(symbols=[""])):
        request.timeseries.add().labels_refs.extend([0, 7])
        packed = pa.Codec("snappy").compress(request.SerializeToString(), asbytes=True)
        answer = tenant.send("POST", "/prometheus/api/v1/write", content=packed, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_telemetry")
    headers["content-type"] = "application/x-protobuf;proto=io.prometheus.write.v3.Request"
    assert tenant.send("POST", "/prometheus/api/v1/write", content=b"", headers=headers).status_code == 415
