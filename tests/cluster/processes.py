"""A whole cluster of real processes on loopback: NATS, PostgreSQL, the ClickHouse front, and Tallystick in its roles.

Every part can be killed (SIGKILL), frozen (SIGSTOP) and started again on its own. Whatever is written lies in the
directory given, but for PostgreSQL's, which must belong to a user of its own.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from tests.catalog.postgres_server import PostgresServer
from tests.cluster.clickhouse_front import Front
from tests.cluster.cut import Cable
from tests.cluster.namespace import Link, Namespace
from tests.cluster.nats import NatsNode, NatsServers
from tests.faults.server import KEY, free_port
from tests.loopback import PLAIN
from tests.warm import WARM, Forked

START_S_MAX = 180.0
_PR_SET_PDEATHSIG = 1
_NAMESPACE_PORT = 8080
_ROLES = {"api": "api", "recorder": "recorder", "worker": "worker"}


@dataclass(slots=True)
class Member:
    """One process `tallystick serve --role …`. `name` is its role and a number."""

    name: str
    role: str
    directory: Path
    settings: Mapping[str, Any]
    namespace: Namespace | None = None
    """Where it runs; `door` is the port of this machine that leads to it then."""
    door: Cable | None = None
    port: int = field(init=False)
    is_frozen: bool = False
    process: "subprocess.Popen[bytes] | Forked | None" = None
    warm: bool = False
    """Forked from a process that has imported everything (tests/warm.py); not in a namespace."""

    def __post_init__(self) -> None:
        self.port = free_port() if self.door is None else self.door.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.directory.parent / f"{self.name}.log"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        environment = {name: v for name, v in os.environ.items() if not name.startswith("TALLYSTICK_")}
        given = {
            "data_dir": self.directory,
            "listen": f"127.0.0.1:{self.port}" if self.namespace is None else f":{_NAMESPACE_PORT}",
            "role": self.role,
            "admin_key": KEY,
            "log_format": "json",
            **self.settings,
        }
        environment |= {f"TALLYSTICK_{name.upper()}": str(value) for name, value in given.items()}
        if self.warm and self.namespace is None:
            self.process = WARM.start(["serve"], environment=environment, log=self.log_path)
            self.is_frozen = False
            return
        command = [sys.executable, "-m", "tallystick.cli.main", "serve"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command if self.namespace is None else self.namespace.command(command),
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        self.is_frozen = False

    def wait_live(self, timeout_s: float = START_S_MAX) -> None:
        """Until it answers. A process that ends instead is an error with the end of its log."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if not self.is_running:
                break
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/live", verify=PLAIN, timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{self.name} does not answer:\n{self.log_text()[-3000:]}")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        if self.is_frozen:
            self.process.send_signal(signal.SIGCONT)
        code = self.process.wait(60)
        self.process, self.is_frozen = None, False
        return code

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.is_frozen = False

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def cpu_s(self) -> float:
        """Processor time so far, of the process and all its threads."""
        assert self.process is not None
        return cpu_s(self.process.pid)


def cpu_s(pid: int) -> float:
    """Processor time of a process, in seconds. Its children's is not in it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    """All parts. `members` has the Tallystick processes by name (`api-1`, `recorder-2`, `worker-1`)."""

    def __init__(
        self,
        directory: Path,
        *,
        partitions: int = 4,
        apis: int = 2,
        recorders: int = 2,
        workers: int = 1,
        nats: int = 3,
        cables: bool = False,
        namespace: bool = False,
        warm: bool = False,
        sync_interval: str = "always",
        **settings: Any,
    ) -> None:
        """`cables`: api-1 reaches the log through ports that can be cut. `namespace`: api-2 runs in a network namespace of its
        own, whose links can be cut (tests/cluster/namespace.py). Nothing is started yet."""
        self.directory = directory
        self.partitions = partitions
        self.database = "default"
        """Of the store."""
        self.postgres = PostgresServer(durable=True)
        store = directory / "store"
        store.mkdir(parents=True)
        self.front = Front(store, user="tallystick", password="front-word")
        self.nats: NatsServers | None = None
        self.cables: list[Cable] = []
        self.members: dict[str, Member] = {}
        self._counts = {"api": apis, "recorder": recorders, "worker": workers}
        self._nats = nats
        self._wants_cables = cables
        self._wants_namespace = namespace
        self.namespace: Namespace | None = None
        self._doors: list[Cable] = []
        self._warm = warm
        self._sync_interval = sync_interval
        self._settings = settings

    # -- starting and stopping --------------------------------------------------------------------------------------
    def start(self) -> "Cluster":
        """Start what is needed and wait until every process answers and somebody records each partition."""
        self.start_backends()
        self.start_members()
        return self

    def start_backends(self) -> None:
        self.postgres.start()
        self.front.start()
        self.nats = NatsServers.start(self.directory, count=self._nats, sync_interval=self._sync_interval)
        if self._wants_cables:
            self.cables = [Cable(node.port) for node in self.nats.nodes]

    def start_members(self) -> None:
        for role, count in self._counts.items():
            for number in range(1, count + 1):
                name = f"{role}-{number}"
                if self._wants_namespace and name == "api-2":
                    self.members[name] = self._apart(name, role)
                    continue
                has_cables = bool(self.cables) and name == "api-1"
                self.members[name] = Member(
                    name,
                    _ROLES[role],
                    self.directory / name,
                    self.urls(cut=has_cables) | self._settings,
                    warm=self._warm,
                )
        for member in self.members.values():
            member.start()
        for member in self.members.values():
            member.wait_live()
        self.wait_recording()

    def _apart(self, name: str, role: str) -> Member:
        """A member in a namespace: it reaches the others, and is reached, through its two links alone."""
        namespace = self.namespace = Namespace()

        def outside(port: int, link: Link) -> int:
            self._doors.append(Cable(port, host=link.outside))
            return self._doors[-1].port

        def through(url: str, port: int) -> str:
            return url.replace(
                f"127.0.0.1:{port}", f"{namespace.rest.outside}:{outside(port, namespace.rest)}"
            )

        log_ports = [outside(node.port, namespace.log) for node in self.servers.nodes]
        urls = self.urls() | {
            "log_url": self.servers.url(ports=log_ports, host=namespace.log.outside),
            "store_url": through(self.front.url(), self.front.port),
            "catalog_url": through(self.catalog_url, urlsplit(self.catalog_url).port or 0),
        }
        door = Cable(_NAMESPACE_PORT, target=namespace.rest.inside)
        self._doors.append(door)
        settings = urls | self._settings
        return Member(name, _ROLES[role], self.directory / name, settings, namespace, door)

    def urls(self, *, cut: bool = False) -> dict[str, Any]:
        """The settings by which a process becomes one of this cluster."""
        return {
            "log_url": self.servers.url(ports=[cable.port for cable in self.cables] if cut else None),
            "store_url": self.front.url(),
            "catalog_url": self.catalog_url,
            "partitions": self.partitions,
        }

    @property
    def servers(self) -> NatsServers:
        assert self.nats is not None
        return self.nats

    @property
    def catalog_url(self) -> str:
        return f"postgresql://{self.postgres.address}postgres"

    def of_role(self, role: str) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith(f"{role}-")]

    def wait_recording(self, timeout_s: float = START_S_MAX) -> None:
        """Until an API node knows that every partition is recorded."""
        until = time.monotonic() + timeout_s
        found: Any = None
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                found = httpx.get(
                    f"{self.of_role('api')[0].url}/health/ready", verify=PLAIN, timeout=10
                ).json()
                if found["components"]["recorder"]["status"] == "ok":
                    return
            time.sleep(0.1)
        logs = "\n".join(f"--- {member.name}\n{unusual(member)}" for member in self.members.values())
        raise AssertionError(f"Not everything is recorded: {found}\n{logs}")

    def mend(self) -> None:
        """Start and thaw whatever is down or stands still."""
        for cable in self.cables:
            cable.mend()
        if self.namespace is not None:
            self.namespace.mend()
        self.postgres.thaw()
        for node in self.servers.nodes:
            if node.frozen:
                node.thaw()
            elif node.process is None:
                node.start()
        for member in self.members.values():
            if member.is_frozen:
                member.thaw()
            elif not member.is_running:
                member.start()
        for member in self.members.values():
            member.wait_live()

    def stop(self) -> None:
        """Whatever state it is in."""
        for member in self.members.values():
            if member.is_running:
                member.kill()
        for cable in (*self.cables, *self._doors):
            cable.close()
        if self.namespace is not None:
            self.namespace.close()
        if self.nats is not None:
            self.nats.stop()
        self.front.kill()
        self.postgres.remove()

    def __enter__(self) -> "Cluster":
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- asking -----------------------------------------------------------------------------------------------------
    def request(self, method: str, path: str, *, node: int = 0, **options: Any) -> httpx.Response:
        """Of an API node. Asked again for a while when it is away or says it is busy (502 to 504)."""
        headers = {"authorization": f"Bearer {KEY}", **options.pop("headers", {})}
        url = self.of_role("api")[node].url + path
        until = time.monotonic() + 180
        while True:
            try:
                answer = httpx.request(method, url, headers=headers, verify=PLAIN, timeout=30, **options)
                if answer.status_code not in (502, 503, 504) or time.monotonic() > until:
                    return answer
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.2)

    def meter(self, key: str, **members: Any) -> None:
        answer = self.request("POST", "/v1/meters", json={"key": key, **members})
        assert answer.status_code == 201, answer.text

    def usage(self, meter: str, *, node: int = 0, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a question since for ever."""
        document = {"from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z", **parameters}
        answer = self.request("POST", f"/v1/meters/{meter}/usage", node=node, json=document)
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]

    def facts(self) -> dict[str, list[tuple[int, str, int]]]:
        """(position, id, n) of all events, duplicates and conflicts, straight from the store."""
        found: dict[str, list[tuple[int, str, int]]] = {}
        for table, value in (("events", "data"), ("duplicates", "''"), ("conflicts", "data")):
            statement = (
                f"SELECT position, id, JSONExtractInt({value}, 'n') FROM {table} "
                "ORDER BY position FORMAT JSONCompactEachRow"
            )
            rows = self.ask_store(statement)
            found[table] = [(int(position), one, int(n)) for position, one, n in rows]
        return found

    def ask_store(self, statement: str) -> list[Any]:
        """Rows of a statement with FORMAT JSONCompactEachRow."""
        answer = httpx.post(
            f"http://127.0.0.1:{self.front.port}/",
            content=statement,
            headers={"X-ClickHouse-User": "tallystick", "X-ClickHouse-Key": "front-word"},
            params={"database": self.database},
            verify=PLAIN,
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def owners(self) -> dict[int, str]:
        """Which member records each partition: by what they have logged last."""
        found: dict[int, tuple[int, str]] = {}
        for member in self.of_role("recorder"):
            for line in member.log_text().splitlines():
                if '"event": "recording"' in line:
                    entry = json.loads(line)
                    partition, epoch = int(entry["partition"]), int(entry["epoch"])
                    found[partition] = max(found.get(partition, (0, "")), (epoch, member.name))
        return {partition: name for partition, (_, name) in found.items()}


def unusual(member: Member) -> str:
    """What it logged as warnings and errors, the end of it."""
    lines = [line[:1500] for line in member.log_text().splitlines() if '"level": "info"' not in line]
    return "\n".join(lines)[-4000:]


def leader(servers: NatsServers, partition: int, timeout_s: float = 60.0) -> NatsNode:
    """The server that leads a partition's stream."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            return servers.leader(f"tallystick-{partition}")
        except LookupError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
