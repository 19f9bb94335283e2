"""A really running server in a process of its own, and the real command against it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.loopback import PLAIN

KEY = "dev"
START_S_MAX = 180


def command_path() -> Path:
    """The installed command, beside the interpreter that runs the tests."""
    return Path(sys.executable).parent / "tallystick"


@dataclass
class Server:
    """`tallystick serve` on a data directory."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    url: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        log = (self.directory.parent / f"{self.directory.name}.log").open("ab+")
        begin = log.tell()
        self.process = subprocess.Popen(
            [command_path(), "serve", "--data-dir", str(self.directory), "--listen", "127.0.0.1:0"],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "TALLYSTICK_ADMIN_KEY": KEY, "COLUMNS": "200", **self.environment},
        )
        give_up = time.monotonic() + START_S_MAX
        while time.monotonic() < give_up:
            log.seek(begin)
            text = log.read().decode()
            found = re.search(r"http://127\.0\.0\.1:\d+", text)
            if found:
                self.url = found[0]
                try:
                    httpx.get(f"{self.url}/health/live", verify=PLAIN, trust_env=False)
                except httpx.TransportError:
                    pass
                else:
                    log.close()
                    return self
            assert self.process.poll() is None, text
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(90)

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {KEY}"},
            verify=PLAIN,
            timeout=90,
            trust_env=False,
        )

    def get(self, path: str, **options: Any) -> Any:
        with self.client() as client:
            response = client.get(path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def usage(self, meter: str, **parameters: Any) -> dict[tuple[Any, ...], str]:
        """All usage there ever was, by group."""
        answer = self.get(
            f"/v1/meters/{meter}/usage",
            params={"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", **parameters},
        )
        return {tuple(row["group"].values()): row["value"] for row in answer["rows"]}


Run = Callable[..., subprocess.CompletedProcess[str]]


def run_command(
    server_url: str, state: Path, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")},
        "TALLYSTICK_URL": server_url,
        "TALLYSTICK_KEY": KEY,
        "XDG_STATE_HOME": str(state),
    }
    return subprocess.run(
        [command_path(), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
        **options,
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("cli") / "data").start()
    yield running
    running.stop()


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    """`run("usage", "tokens")`: the real command against the real server."""
    return lambda *arguments, **options: run_command(server.url, tmp_path / "state", *arguments, **options)
