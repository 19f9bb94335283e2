"""An SDK's driver: a process that is asked in lines of JSON (sdk/CONFORMANCE.md)."""

import contextlib
import json
import os
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.sdk.conformance.languages import Language

ANSWER_S_MAX = 120.0


class Refused(Exception):
    """The SDK failed, and said how."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.kind: str = answer["kind"]
        self.status: int = answer.get("status") or 0
        self.code: str = answer.get("code") or ""
        super().__init__(json.dumps(answer))


class Driver:
    """One process. `kill` is SIGKILL; `start` begins another with nothing but the disk in common."""

    def __init__(self, language: Language, command: list[str], directory: Path) -> None:
        self.language = language
        self._command = command
        self.directory = directory
        self._log_path = directory / "driver.log"
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def start(self) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")
        }
        self._answers = queue.Queue()
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**environment, **self.language.environment},
            )
        threading.Thread(target=self._read, args=(self._process, self._answers), daemon=True).start()

    @staticmethod
    def _read(process: subprocess.Popen[str], answers: "queue.Queue[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")

    def ask(self, op: str, **members: Any) -> dict[str, Any]:
        """The answer. Raises Refused."""
        return self.ask_text(json.dumps({"op": op, **members}))

    def ask_text(self, command: str) -> dict[str, Any]:
        """As `ask`, with the command as it goes out: for numbers that no float holds."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=ANSWER_S_MAX)
        except queue.Empty:
            raise AssertionError(f"No answer to {command[:500]}\n{self.log()}") from None
        assert line, f"The driver ended at {command[:500]}\n{self.log()}"
        answer = json.loads(line)
        if not answer["ok"]:
            raise Refused(answer)
        return answer

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._close()

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._close()

    def _close(self) -> None:
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")[-4000:]
