"""The real server as a process: `python -m tallystick.cli.main serve` on a directory, watched from outside."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

KEY = "bench-key-not-a-secret"
_START_S_MAX = 120.0
_STOP_S_MAX = 60.0

METERS: tuple[dict[str, Any], ...] = (
    {
        "key": "bench_tokens",
        "name": "Tokens",
        "event_type": "llm.completion",
        "aggregation": "sum",
        "value": "$.tokens",
        "dimensions": {"model": "$.model", "region": "$.region"},
    },
    {"key": "bench_probes", "name": "Probes", "event_type": "bench.probe", "aggregation": "count"},
)
"""In force during every measurement: each loaded event also makes one reading with two dimensions."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What /metrics says. Accepted: by this process. The others: since the installation began."""

    accepted: int
    recorded: int
    duplicates: int
    conflicts: int
    lag: int

    @property
    def decided(self) -> int:
        return self.recorded + self.duplicates + self.conflicts


class Server:
    """One server process, from its start until `stop` or `kill`. Use `serving`."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: by the names of their environment variables, beside those every benchmark has."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log_path = directory.with_name(directory.name + ".server.log")
        directory.mkdir(parents=True, exist_ok=True)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")
        }
        environment |= {
            "TALLYSTICK_DATA_DIR": str(directory),
            "TALLYSTICK_LISTEN": f"127.0.0.1:{self.port}",
            "TALLYSTICK_ADMIN_KEY": KEY,
            "TALLYSTICK_LOG_LEVEL": "warning",
            "TALLYSTICK_LOG_FORMAT": "json",
            **(settings or {}),
        }
        self.started = time.perf_counter()
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tallystick.cli.main", "serve"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._watched = psutil.Process(self._process.pid)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=httpx.Timeout(120.0, connect=5.0),
        )

    def wait_until_ready(self) -> float:
        """Seconds from the start of the process until /health/ready answers 200."""
        until = self.started + _START_S_MAX
        while time.perf_counter() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode}: {self._last_words()}")
            try:
                if self.http.get("/health/ready", timeout=5.0).status_code == 200:
                    return time.perf_counter() - self.started
            except httpx.HTTPError:
                pass
            time.sleep(0.01)
        raise RuntimeError(f"the server was not ready within {_START_S_MAX:.0f} s: {self._last_words()}")

    def make_meters(self) -> None:
        for meter in METERS:
            self.http.post("/v1/meters", json=meter).raise_for_status()

    def counted(self) -> Counted:
        values: dict[str, float] = {}
        for line in self.http.get("/metrics").raise_for_status().text.splitlines():
            name, _, value = line.partition(" ")
            if line[:1] != "#" and "{" not in name:
                values[name] = float(value)
        return Counted(
            accepted=int(values["tallystick_events_accepted_total"]),
            recorded=int(values["tallystick_events_recorded_total"]),
            duplicates=int(values["tallystick_duplicates_total"]),
            conflicts=int(values["tallystick_conflicts_total"]),
            lag=int(values["tallystick_recorder_lag_events"]),
        )

    def wait_until_recorded(self, decided: int, *, seconds_max: float) -> Counted:
        """Wait until so many events are decided (recorded, duplicates, conflicts) and none is waiting."""
        until = time.perf_counter() + seconds_max
        while True:
            counted = self.counted()
            if counted.lag == 0 and counted.decided >= decided:
                return counted
            if time.perf_counter() > until:
                raise RuntimeError(
                    f"after {seconds_max:.0f} s {counted.decided} of {decided} events were decided, lag {counted.lag}: "
                    f"{self._last_words()}"
                )
            time.sleep(0.01)

    def wait_until_rolled_up(self, *, idle_s: float, seconds_max: float) -> float:
        """Wait until nothing is left to do and the roll-ups have got no further for so long. The seconds that took until the
        last change."""
        begun = last_change = time.perf_counter()
        before: object = None
        while True:
            now = time.perf_counter()
            status = self.http.get("/v1/admin/rebuild").raise_for_status().json()["rollups"]
            if status != before:
                before, last_change = status, now
            idle = all(one["pending"] == 0 and (one["upto"] or not one["meters"]) for one in status)
            if idle and now - last_change > idle_s:
                return last_change - begun
            if now - begun > seconds_max:
                raise RuntimeError(f"after {seconds_max:.0f} s not everything is rolled up: {status}")
            time.sleep(0.1)

    def cpu_s(self) -> float:
        """Of the server and of what it has started."""
        total = 0.0
        for process in (self._watched, *self._watched.children()):
            times = process.cpu_times()
            total += times.user + times.system
        return total

    def resident_bytes(self) -> tuple[int, int]:
        """Resident memory, and of it what is not backed by files (the system can drop the rest at any time)."""
        memory = self._watched.memory_info()
        return memory.rss, memory.rss - memory.shared

    @contextlib.contextmanager
    def memory_watched(self) -> Generator[list[tuple[int, int]]]:
        """Yields a list that gets `resident_bytes` ten times a second."""
        seen: list[tuple[int, int]] = [self.resident_bytes()]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.1):
                try:
                    seen.append(self.resident_bytes())
                except psutil.Error:
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()

    def kill(self) -> None:
        """kill -9."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.http.close()

    def stop(self) -> int | None:
        """End it in order, by force when it takes too long; the code it ended with (0: it closed everything)."""
        self.http.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S_MAX)
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
        return self._process.returncode

    def _last_words(self) -> str:
        return " | ".join(self._log_path.read_text(errors="replace").splitlines()[-5:])[-1500:]


@contextlib.contextmanager
def serving(directory: Path, settings: Mapping[str, str] | None = None) -> Generator[Server]:
    """A server that is ready, and is stopped at the end whatever happens."""
    server = Server(directory, settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
