"""A private PostgreSQL server on loopback, in a directory of its own: to be stopped, killed, frozen and started again."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

USER = "tallystick"


class PostgresServer:
    """`address` is the beginning of a URL, ending before the database's name."""

    def __init__(self, *, durable: bool = False, wal_level: str = "replica") -> None:
        self._binaries = _binaries()
        self._directory = Path(tempfile.mkdtemp(prefix="tallystick-postgres-"))
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._directory, owner.pw_uid, owner.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._data = self.data = self._directory / "data"
        self._fsync = "on" if durable else "off"
        self._wal_level = wal_level
        self._frozen: list[int] = []
        self.address = f"{USER}@127.0.0.1:{self._port}/"

    def start(self) -> None:
        if not self._data.exists():
            self._run(
                "initdb",
                *("-D", self._data, "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-N"),
            )
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync={self._fsync}"
        options += f" -c wal_level={self._wal_level} -c max_prepared_transactions=5"
        log = self._directory / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-t", "30", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """`fast`: clients are cut off; `immediate`: like a power failure."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def freeze(self) -> None:
        """All its processes stand still: it accepts connections (the kernel does) and answers nothing."""
        head = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        tasks = Path(f"/proc/{head}/task/{head}/children").read_text().split()
        self._frozen = [head, *map(int, tasks)]
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._frozen:
            os.kill(pid, signal.SIGCONT)
        self._frozen = []

    def remove(self) -> None:
        """Whatever state it is in."""
        self.thaw()
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, command: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [*_unprivileged(), str(self._binaries / command), *map(str, arguments)],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command} failed with {done.returncode}"


def _binaries() -> Path:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    if found:
        candidates.append(Path(found).resolve().parent)
    for directory in reversed(candidates):
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    pytest.fail("No PostgreSQL server is installed (Debian: apt-get install postgresql).")


def _unprivileged() -> list[str]:
    """What comes before a command to run it as a user that PostgreSQL accepts: it refuses root."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
