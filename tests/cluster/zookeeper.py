"""A real ZooKeeper for tests: Debian's package, one server, alone."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_JAVA = Path("/usr/bin/java")
_JAR = Path("/usr/share/java/zookeeper.jar")
_START_S = 180.0


def is_installed() -> bool:
    return _JAVA.exists() and _JAR.exists()


@contextlib.contextmanager
def zookeeper(directory: Path) -> Iterator[int]:
    """Run it as long as the context is open; the port it listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = {
        "tickTime": 500,
        "dataDir": directory / "data",
        "clientPort": port,
        "clientPortAddress": "127.0.0.1",
        "admin.enableServer": "false",
        "4lw.commands.whitelist": "ruok",
    }
    file = directory / "zoo.cfg"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [str(_JAVA), "-Xmx96m", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/*"]
    command += ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(file)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + _START_S
        while not _answers(port):
            assert process.poll() is None, "ZooKeeper did not start."
            assert time.monotonic() < until, "ZooKeeper does not answer."
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"ruok")
            return connection.recv(4) == b"imok"
    except OSError:
        return False
