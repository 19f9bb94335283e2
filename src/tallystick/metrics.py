"""Every figure `GET /metrics` shows, on a registry of its own (no globals: several systems may live in one process).

Whoever does the work counts it here: api/ the requests and the events accepted, flows/ the questions. What the recorder
knows itself (lag, totals) is read from it when somebody asks; see `watch_recorder`. No label ever names a customer, a tenant
or a key: their number has no bound.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_QUERY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class SourceFigures(Protocol):
    """Of one source. It is named by its number, which says nothing of whose it is."""

    @property
    def number(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def taken(self) -> int: ...
    @property
    def lag(self) -> int | None: ...


class Metrics:
    """The figures of one system."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._watching: _RecorderCollector | None = None
        self._watching_alerts: _AlertCollector | None = None
        self._deriving: _DerivedCollector | None = None
        self._watching_sources: _SourceCollector | None = None
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.events_accepted = Counter(
            "tallystick_events_accepted_total",
            "Events acknowledged: durable in the log.",
            registry=self.registry,
        )
        self.events_rejected = Counter(
            "tallystick_events_rejected_total",
            "Events refused, by the code of their verdict.",
            ["reason"],
            registry=self.registry,
        )
        self.log_commit_seconds = Histogram(
            "tallystick_log_commit_seconds",
            "One synced commit of the log.",
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )
        self.query_seconds = Histogram(
            "tallystick_query_seconds",
            "Time to answer a usage question.",
            ["served_from"],
            buckets=_QUERY_BUCKETS,
            registry=self.registry,
        )
        self.http_requests = Counter(
            "tallystick_http_requests_total",
            "HTTP requests answered; `route` is the route's template.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._deliveries = Counter(
            "tallystick_delivery_attempts_total",
            "Attempts to deliver, by type of channel and outcome: delivered, retry or dead.",
            ["channel_type", "outcome"],
            registry=self.registry,
        )
        self._delivery_seconds = Histogram(
            "tallystick_delivery_seconds",
            "Time of one attempt to deliver.",
            ["channel_type"],
            buckets=_QUERY_BUCKETS,
            registry=self.registry,
        )
        self.deliveries_waiting = Gauge(
            "tallystick_deliveries_waiting", "Deliveries that are pending.", registry=self.registry
        )

        self._export_rows = Counter(
            "tallystick_export_rows_total",
            "Rows of continuous exports that a manifest names.",
            ["what"],
            registry=self.registry,
        )
        self._exports_failing = Gauge(
            "tallystick_exports_failing",
            "Continuous exports whose last attempt failed.",
            registry=self.registry,
        )
        self._exports_lag = Gauge(
            "tallystick_exports_lag_seconds",
            "How long ago the continuous export that is furthest behind had everything.",
            registry=self.registry,
        )

        self._crm_accounts = Counter(
            "tallystick_crm_accounts_total",
            "Accounts a CRM was told of, by outcome: told or refused.",
            ["outcome"],
            registry=self.registry,
        )
        self.crm_failing = Gauge(
            "tallystick_crm_failing",
            "Whether the CRM could not be told the last time; it is tried again.",
            registry=self.registry,
        )

    def observe_crm(self, told: int, refused: int) -> None:
        """One batch."""
        self._crm_accounts.labels("told").inc(told)
        self._crm_accounts.labels("refused").inc(refused)

    def observe_export(self, what: str, rows: int) -> None:
        """One manifest."""
        self._export_rows.labels(what).inc(rows)

    def show_exports(self, failing: int, *, lag: Callable[[], float]) -> None:
        """How continuous exports are, as the process that works at them sees it."""
        self._exports_failing.set(failing)
        self._exports_lag.set_function(lag)

    def observe_delivery(self, channel_type: str, outcome: str, seconds: float) -> None:
        """One attempt to deliver."""
        self._deliveries.labels(channel_type, outcome).inc()
        self._delivery_seconds.labels(channel_type).observe(seconds)

    def observe_commit(self, requests: int, events: int, seconds: float) -> None:
        """One commit of the log (SqliteLog's `observe_commit`). From any thread."""
        self.log_commit_seconds.observe(seconds)

    @contextmanager
    def query_timed(self) -> Generator[Callable[[str], None]]:
        """Times a question; call what it yields with where the answer came from (rollups, readings, events)."""
        started = perf_counter()
        yield lambda served_from: self.query_seconds.labels(served_from).observe(perf_counter() - started)

    def watch_recorder(
        self,
        *,
        totals: Callable[[], tuple[int, int, int]],
        lag: Callable[[], tuple[int, float]],
    ) -> None:
        """Show what the recorder knows. `totals`: recorded, duplicates, conflicts. `lag`: events, seconds. There is one
        recorder to watch: another call replaces the one before."""
        if self._watching is not None:
            self.registry.unregister(self._watching)
        self._watching = _RecorderCollector(totals, lag)
        self.registry.register(self._watching)

    def watch_sources(self, figures: Callable[[], Iterable[SourceFigures]]) -> None:
        """Show how the sources stand that this process runs."""
        if self._watching_sources is not None:
            self.registry.unregister(self._watching_sources)
        self._watching_sources = _SourceCollector(figures)
        self.registry.register(self._watching_sources)

    def watch_alerts(self, figures: Callable[[], Mapping[str, float]]) -> None:
        """Show how the keeper of alerts is: `figures` by the names in _ALERT_FIGURES."""
        if self._watching_alerts is not None:
            self.registry.unregister(self._watching_alerts)
        self._watching_alerts = _AlertCollector(figures)
        self.registry.register(self._watching_alerts)

    def watch_derived(
        self,
        *,
        meters_left: Callable[[], int],
        rollups: Callable[[], Mapping[str, tuple[int, int]]],
    ) -> None:
        """Show how far derived data is. `rollups`, by view: readings rolled up, and those of the step under way that are
        not. There is one to watch: another call replaces the one before."""
        if self._deriving is not None:
            self.registry.unregister(self._deriving)
        self._deriving = _DerivedCollector(meters_left, rollups)
        self.registry.register(self._deriving)

    def exposition(self) -> bytes:
        """The Prometheus text format. Blocks for a millisecond or so (reads /proc)."""
        return generate_latest(self.registry)


class _DerivedCollector(Collector):
    def __init__(
        self, meters_left: Callable[[], int], rollups: Callable[[], Mapping[str, tuple[int, int]]]
    ) -> None:
        self._meters_left = meters_left
        self._rollups = rollups

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "tallystick_readings_meters_left",
            "Meters whose readings are being built; questions about them are answered from events.",
            value=self._meters_left(),
        )
        rolled = GaugeMetricFamily(
            "tallystick_rollup_readings", "Readings that are rolled up.", labels=["view"]
        )
        pending = GaugeMetricFamily(
            "tallystick_rollup_pending", "Readings of the step under way, not rolled up yet.", labels=["view"]
        )
        for view, (readings, left) in self._rollups().items():
            rolled.add_metric([view], readings)
            pending.add_metric([view], left)
        yield rolled
        yield pending


class _SourceCollector(Collector):
    def __init__(self, figures: Callable[[], Iterable[SourceFigures]]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        labels = ["source", "kind"]
        up = GaugeMetricFamily("tallystick_source_up", "Whether the source is at work.", labels=labels)
        taken = CounterMetricFamily(
            "tallystick_source_events", "Events that the source has put into the log.", labels=labels
        )
        lag = GaugeMetricFamily(
            "tallystick_source_lag", "Records it knows of and has not taken.", labels=labels
        )
        for one in self._figures():
            named = [str(one.number), one.kind]
            up.add_metric(named, float(one.status in ("running", "waiting")))
            taken.add_metric(named, one.taken)
            if one.lag is not None:
                lag.add_metric(named, one.lag)
        yield up
        yield taken
        yield lag


class _RecorderCollector(Collector):
    def __init__(
        self, totals: Callable[[], tuple[int, int, int]], lag: Callable[[], tuple[int, float]]
    ) -> None:
        self._totals = totals
        self._lag = lag

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        recorded, duplicates, conflicts = self._totals()
        lag_events, lag_seconds = self._lag()
        yield CounterMetricFamily("tallystick_events_recorded", "Events recorded: countable.", value=recorded)
        yield CounterMetricFamily(
            "tallystick_duplicates",
            "Events that were already recorded with the same content.",
            value=duplicates,
        )
        yield CounterMetricFamily(
            "tallystick_conflicts", "Events that were already recorded with other content.", value=conflicts
        )
        yield GaugeMetricFamily(
            "tallystick_recorder_lag_events", "Events acknowledged and not yet recorded.", value=lag_events
        )
        yield GaugeMetricFamily(
            "tallystick_recorder_lag_seconds", "Age of the oldest of them.", value=lag_seconds
        )


_ALERT_FIGURES = {
    "working": (GaugeMetricFamily, "Whether this process decides alerts."),
    "armed": (GaugeMetricFamily, "Alerts that are watched."),
    "failing": (GaugeMetricFamily, "Whether the last look at alerts failed; it is tried again."),
    "undecidable": (GaugeMetricFamily, "Alerts that cannot be decided as they are."),
    "lag_seconds": (GaugeMetricFamily, "How far decisions are behind what is recorded."),
    "looks": (CounterMetricFamily, "Looks at what was recorded."),
    "look_seconds": (CounterMetricFamily, "Time taken by them."),
    "failures": (CounterMetricFamily, "Looks that failed."),
    "transitions": (CounterMetricFamily, "Transitions of alerts made by this process."),
}


class _AlertCollector(Collector):
    def __init__(self, figures: Callable[[], Mapping[str, float]]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        figures = self._figures()
        for name, (family, help_text) in _ALERT_FIGURES.items():
            yield family(f"tallystick_alerts_{name}", help_text, value=figures[name])
