"""A real RabbitMQ on loopback: Debian's package, one node, with a name and a port mapper of its own."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from tests.cluster.nats import free_ports

_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_START_S = 180.0
_PR_SET_PDEATHSIG = 1


class RabbitMq:
    """One node. `kill` is SIGKILL; `start` after it finds what was there."""

    def __init__(self, directory: Path) -> None:
        if not _PROGRAM.exists():
            pytest.fail("No RabbitMQ is installed (Debian: apt-get install rabbitmq-server).")
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port, distribution, mapper = free_ports(3)
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\nlog.console = false\n",
            encoding="utf-8",
        )
        (directory / "enabled_plugins").write_text("[].\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = os.environ | {
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tallystick{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_PROGRAM)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        until = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None, f"RabbitMQ did not start; see {self._directory}."
            assert time.monotonic() < until, f"RabbitMQ does not answer; see {self._directory}."
            time.sleep(0.1)

    def kill(self) -> None:
        if self._process is not None:
            # With the port mapper, which is its child.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                connection.settimeout(2)
                return bool(connection.recv(8))
        except OSError:
            return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
