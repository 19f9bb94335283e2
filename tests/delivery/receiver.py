"""A receiver of webhooks on a free port of this machine, which misbehaves as it is told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    after_s: float = 0
    slow_s: float = 0
    """Between the bytes of the body."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # who sends opens many connections at once


class Receiver:
    """`answers` says what a path is answered (`/` where it is not named): an Answer, or a call that makes one."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: dict[str, Answer | Callable[[Received], Answer]] = {}
        self._arrived = threading.Condition()
        self._ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                got = Received(self.path, headers, self.rfile.read(length))
                with outer._arrived:
                    outer.received.append(got)
                    outer._arrived.notify_all()
                found = outer.answers.get(self.path, outer.answers.get("/", Answer()))
                answer = found(got) if callable(found) else found
                if answer.after_s:
                    outer._ended.wait(answer.after_s)
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(answer.body)))
                    self.end_headers()
                    if not answer.slow_s:
                        self.wfile.write(answer.body)
                    for byte in answer.body if answer.slow_s else b"":
                        self.wfile.write(bytes([byte]))
                        if outer._ended.wait(answer.slow_s):
                            return
                except OSError:
                    return  # it has not waited

            do_GET = do_POST  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [one for one in self.received if one.path == path]

    def wait_for(self, count: int, path: str | None = None, *, timeout_s: float = 60) -> list[Received]:
        """As many messages (to this path), or as many as have come in time."""

        def found() -> list[Received]:
            return self.received if path is None else self.at(path)

        with self._arrived:
            self._arrived.wait_for(lambda: len(found()) >= count, timeout_s)
            return list(found())

    def stop(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.stop()


def wait_until(true: Callable[[], Any], *, timeout_s: float = 60) -> Any:
    """What `true` answers once it answers something that counts as true."""
    until_s = time.monotonic() + timeout_s
    while not (found := true()) and time.monotonic() < until_s:
        time.sleep(0.01)
    return found
