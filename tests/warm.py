"""Server processes that begin with everything imported.

Importing is two thirds of what a start of `tallystick serve` costs, and has no effect (STYLE: settings are read in
wiring.py alone). Tests that start a server again and again have it forked from a process that has imported all of it and
has done nothing else: the same code in a process of its own, which can be killed, frozen and waited for. At least one test
of each kind starts the command as people do.

Run as `python -m tests.warm` this is that process: requests are lines of JSON on its standard input, answers on its output.
"""

import atexit
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.005


class Forked:
    """A process, as far as subprocess.Popen has the same."""

    def __init__(self, warm: "Warm", pid: int) -> None:
        self._warm = warm
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._warm.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("tallystick serve", timeout or 0.0)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Warm:
    """The process that all are forked from. It ends with its input, and they with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: list[str], *, environment: Mapping[str, str], log: Path) -> Forked:
        """`tallystick ARGUMENTS` in a process of its own, whose output is appended to `log`."""
        log.touch()
        pid = self.ask(
            start=arguments, environment=dict(environment), log=str(log), directory=str(Path.cwd())
        )
        return Forked(self, pid)

    def ask(self, **request: Any) -> Any:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.warm"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=Path(__file__).parents[1],
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                )
                atexit.register(self.end)
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, "The process that servers are forked from has ended."
            return json.loads(answer)

    def end(self) -> None:
        if self._process is not None:
            self._process.communicate()


WARM = Warm()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _import_everything() -> None:
    from importlib import import_module

    for name in ("tallystick.cli.main", "tallystick.cli.serve", "tallystick.wiring", "tallystick.api.app"):
        import_module(name)
    for name in ("tallystick.api.watched", "uvicorn", "uvloop"):
        import_module(name)


def _next_start() -> dict[str, Any] | None:
    """Answers requests. Returns in each process that is forked, with what it was asked for; and None at the end."""
    for line in sys.stdin.buffer:
        request: dict[str, Any] = json.loads(line)
        if "poll" in request:
            answer: int | None = None
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            if pid:
                answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                return request
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return None


def _become(request: dict[str, Any]) -> None:
    _die_with_parent()
    os.chdir(request["directory"])
    with Path(request["log"]).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["tallystick", *request["start"]]


def _main() -> None:
    _import_everything()
    # A thread is not forked. That of the allocator knows about it.
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert len([name for name in names if name != "jemalloc_bg_thd"]) == 1, names
    request = _next_start()
    if request is not None:
        _become(request)
        from tallystick.cli.main import main

        main()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _main()
