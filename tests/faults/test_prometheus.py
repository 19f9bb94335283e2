"""A real Prometheus scrapes a process that counts, and sends what it read here; all of them restart, and usage is what was counted.

It is Debian's: tools/system-packages keeps its program in .cache/prometheus. Where there is none, nor one on the path or named
by TALLYSTICK_TEST_PROMETHEUS, this test says so.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import start_http_server
from tests.faults.server import KEY, Server, free_port
from tests.loopback import PLAIN

KEPT = Path(__file__).parents[2] / ".cache/prometheus/usr/bin/prometheus"
PROGRAM = (
    os.environ.get("TALLYSTICK_TEST_PROMETHEUS") or shutil.which("prometheus") or shutil.which(str(KEPT))
)
WAIT_S = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PROGRAM is None, reason="There is no Prometheus here (tools/system-packages brings it)."
    ),
]

Make = Callable[..., Server]


class Exporter:
    """A process' counters at one address, through restarts of it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.counted = Decimal(0)
        self._running: Any = None

    def start(self) -> None:
        registry = CollectorRegistry()
        self._counter = Counter("hits", "What is charged for.", ["customer"], registry=registry)
        self._counter.labels("acme")
        self._running = start_http_server(self.port, addr="127.0.0.1", registry=registry)

    def stop(self) -> None:
        if self._running is not None:
            server, thread = self._running
            server.shutdown()
            server.server_close()
            thread.join()
            self._running = None

    def count(self, amount: int) -> None:
        self._counter.labels("acme").inc(amount)
        self.counted += amount


class Prometheus:
    """Scrapes the exporter each half second, and sends."""

    def __init__(self, directory: Path, exporter: Exporter, server: Server) -> None:
        self.port = free_port()
        self._directory = directory
        self._config = directory / "prometheus.yaml"
        self._process: subprocess.Popen[bytes] | None = None
        self._config.write_text(
            f"""
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: ["127.0.0.1:{exporter.port}"]}}]
remote_write:
  - url: {server.url}/prometheus/api/v1/write
    authorization: {{credentials: {KEY}}}
    queue_config: {{batch_send_deadline: 200ms, min_backoff: 50ms, max_backoff: 500ms}}
    write_relabel_configs: [{{source_labels: [__name__], regex: hits_total, action: keep}}]
"""
        )

    def start(self) -> None:
        assert PROGRAM is not None
        with (self._directory / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={self._directory / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """In good order: what it has read is sent first."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def has_read(self, value: Decimal) -> bool:
        """Whether its last reading of the counter is this."""
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{self.port}/api/v1/query?query=hits_total", verify=PLAIN, timeout=5
            )
            results = answer.json()["data"]["result"]
        except (httpx.TransportError, KeyError, ValueError):
            return False
        return bool(results) and Decimal(results[0]["value"][1]) == value


def until(true: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.2)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter()
    yield made
    made.stop()


@pytest.fixture
def prometheus(tmp_path: Path, exporter: Exporter, make_server: Make) -> Iterator[tuple[Prometheus, Server]]:
    server = make_server()
    made = Prometheus(tmp_path, exporter, server)
    yield made, server
    made.stop()


def used(server: Server) -> Decimal:
    rows = server.usage("hits")["rows"]
    return Decimal(rows[0]["value"]) if rows else Decimal(0)


def test_usage_is_what_was_counted(exporter: Exporter, prometheus: tuple[Prometheus, Server]) -> None:
    sender, server = prometheus
    server.start()
    server.meter("hits", event_type="hits_total", aggregation="sum", value="$.value")
    exporter.start()
    sender.start()
    until(lambda: sender.has_read(Decimal(0)))  # the baseline
    for since_start in ([3, 4], [5], [2, 6]):
        own = Decimal(0)
        for amount in since_start:
            exporter.count(amount)
            own += amount
            until(lambda own=own: sender.has_read(own))
        until(lambda: used(server) == exporter.counted)
        exporter.stop()
        exporter.start()  # counts from 0 again
        until(lambda: sender.has_read(Decimal(0)))
    server.kill()
    exporter.count(7)
    until(lambda: sender.has_read(Decimal(7)))
    server.start()  # what was read meanwhile is sent again until it is taken
    until(lambda: used(server) == exporter.counted)
    sender.stop()
    exporter.count(1)
    sender.start()
    until(lambda: sender.has_read(Decimal(8)))
    until(lambda: used(server) == exporter.counted)
    time.sleep(1)  # nothing comes on top
    assert used(server) == exporter.counted == 28
