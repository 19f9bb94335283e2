"""A real Apache Kafka broker on loopback: one node that is its own controller (KRaft), killed and started again at will.

Its jars come from Maven Central (`tools/kafka`); everything it writes lies in the directory given.
"""

import ctypes
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.cluster.nats import free_ports

JARS = Path(__file__).parents[2] / ".cache" / "kafka" / "jars"
_FETCH = Path(__file__).parents[2] / "tools" / "kafka"
_JAVA = "java"
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_START_S = 180.0
_PR_SET_PDEATHSIG = 1

_SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={directory}/data
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
auto.create.topics.enable=true
num.network.threads=2
num.io.threads=2
log.cleaner.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


class KafkaBroker:
    """One broker. `kill` is SIGKILL; `start` after it finds what was there."""

    def __init__(self, directory: Path) -> None:
        subprocess.run([str(_FETCH)], check=True, stdin=subprocess.DEVNULL)
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port, controller = free_ports(2)
        self._file = directory / "server.properties"
        self._file.write_text(
            _SETTINGS.format(port=self.port, controller=controller, directory=directory), encoding="utf-8"
        )
        self._process: subprocess.Popen[bytes] | None = None
        format_arguments = ["format", "--config", str(self._file), "--cluster-id", _CLUSTER_ID]
        subprocess.run(
            [*self._java("-Xmx64m"), "kafka.tools.StorageTool", *format_arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_START_S,
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java("-Xmx256m"), "kafka.Kafka", str(self._file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        until = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None, f"Kafka did not start; see {self._directory}/server.log."
            assert time.monotonic() < until, f"Kafka does not answer; see {self._directory}/server.log."
            time.sleep(0.1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """In good order where it can be had in time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    @staticmethod
    def _java(heap: str) -> list[str]:
        small = [
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        ]
        return [_JAVA, heap, *small, "-cp", f"{JARS}/*"]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
