"""A real server in a process of its own, to be killed; and the reading of what it left."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from tests.loopback import PLAIN
from tests.warm import WARM, Forked

KEY = "faults-admin-key-0123456789"
START_S_MAX = 180.0

_READ_BACK = """
import json, sys
import pyarrow as pa
from tallystick.store.connection import Connection
from tallystick.store.engine import engine_of
door = Connection(engine_of("chdb:///" + sys.argv[1]), query_time_s_max=300, query_memory_bytes_max=8 * 1024**3)
found = {}
for table, value in (("events", "data"), ("duplicates", "''"), ("conflicts", "data")):
    found[table] = door.rows(f"SELECT position, id, JSONExtractInt({value}, 'n') FROM {table} ORDER BY position")
door.close()
json.dump(found, sys.stdout)
"""


def free_port() -> int:
    """Below the ports the system gives to clients: one that tries to reach a server that is down could otherwise be
    connected with itself, and keep the server from binding."""
    for _ in range(200):
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("There is no free port.")


class Server:
    """`tallystick serve` over one data directory. Start and end it as often as wanted."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = Path(f"{directory}.{os.getpid()}.{self.port}.log")
        self._settings = settings
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.ready_s: list[float] = []
        """Seconds from the start of each process until it acknowledges events."""
        self.recovered_s: list[float] = []
        """The same until the recorder gets on."""

    def start(self, *, kill_at_step: str = "", wait: bool = True, warm: bool = True) -> None:
        """`warm`: forked from a process that has imported everything (tests/warm.py); otherwise the command."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")
        } | {
            "TALLYSTICK_DATA_DIR": str(self.directory),
            "TALLYSTICK_LISTEN": f"127.0.0.1:{self.port}",
            "TALLYSTICK_ADMIN_KEY": KEY,
            "TALLYSTICK_LOG_FORMAT": "json",
            "TALLYSTICK_TEST_KILL_AT_STEP": kill_at_step,
            "TALLYSTICK_PARTITIONS": os.environ.get("TALLYSTICK_TEST_PARTITIONS", "1"),
        }
        environment |= {f"TALLYSTICK_{name.upper()}": str(value) for name, value in self._settings.items()}
        if warm:
            self._process = WARM.start(["serve"], environment=environment, log=self.log_path)
        else:
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tallystick.cli.main", "serve"],
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
        if wait:
            self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        began, began_at = time.monotonic(), time.time()
        read_from = self.log_path.stat().st_size
        is_ready = False
        while time.monotonic() - began < START_S_MAX:
            assert self.exit_code is None, f"It ended with {self.exit_code}:\n{self.log_text()[-3000:]}"
            if not is_ready:
                try:
                    is_ready = (
                        httpx.get(f"{self.url}/health/ready", verify=PLAIN, timeout=5).status_code == 200
                    )
                except httpx.TransportError:
                    time.sleep(0.02)
                    continue
                self.ready_s.append(time.monotonic() - began)
            for line in self.log_text()[read_from:].splitlines():
                if '"event": "recovered"' in line:
                    at = datetime.fromisoformat(json.loads(line)["at"]).timestamp()
                    self.recovered_s.append(at - began_at)
                    return
            time.sleep(0.05)
        raise AssertionError(f"Not ready after {START_S_MAX} s:\n{self.log_text()[-3000:]}")

    @property
    def exit_code(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def terminate(self, timeout_s: float = 90.0) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def wait_for_end(self, timeout_s: float) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace")

    def unusual(self) -> str:
        """What it logged as warnings and errors, shortened."""
        lines = [line for line in self.log_text().splitlines() if '"level": "info"' not in line]
        return "\n".join(line if len(line) < 2000 else f"{line[:1000]} … {line[-1000:]}" for line in lines)[
            -12000:
        ]

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", verify=PLAIN, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    # -- asking ------------------------------------------------------------------------------------------------------
    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {KEY}", **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, verify=PLAIN, timeout=60, **options)

    def get(self, path: str, **options: Any) -> Any:
        answer = self.request("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def meter(self, key: str, **members: Any) -> None:
        answer = self.request("POST", "/v1/meters", json={"key": key, **members})
        assert answer.status_code == 201, answer.text

    def usage(self, meter: str, **parameters: Any) -> dict[str, Any]:
        """Total since for ever. Tried again while the store is busy recovering (503)."""
        document = {"from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z", **parameters}
        for _ in range(50):
            answer = self.request("POST", f"/v1/meters/{meter}/usage", json=document)
            if answer.status_code not in (503, 504):
                break
            time.sleep(0.2)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def totals(self) -> dict[str, int]:
        """events, duplicates, conflicts: recorded since the beginning, by the server's own count in its journal."""
        import sqlite3

        with sqlite3.connect(f"file:{self.directory / 'recorder.sqlite'}?mode=ro", uri=True) as connection:
            ((state,),) = connection.execute("SELECT state FROM checkpoint").fetchall()
        connection.close()
        return json.loads(state)

    # -- reading back ------------------------------------------------------------------------------------------------
    def facts(self) -> dict[str, list[tuple[int, str, int]]]:
        """(position, id, n) of all events, duplicates and conflicts, straight from the store. The server must be down."""
        assert self.exit_code is not None
        ended = subprocess.run(
            [sys.executable, "-c", _READ_BACK, str(self.directory / "store")],
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stderr.decode()[-3000:]
        return {table: [tuple(row) for row in rows] for table, rows in json.loads(ended.stdout).items()}
