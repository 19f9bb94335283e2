"""A server that takes events in every bad way, and remembers each by its identity."""

import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = tuple[str, dict[str, str]]


class Sink:
    """`script`: what happens to the next requests, in order; after it everything is taken. `refuse`, `lose` (taken, and
    500), `cut` (taken, and no answer), `429`, `413`, `403`."""

    def __init__(self) -> None:
        self.script: list[Step] = []
        self.taken: Counter[str] = Counter()
        self.events: dict[str, dict[str, Any]] = {}
        self.requests = 0
        self.url = ""
        self.events_max = 1_000_000
        self.rejected_subject = ""

    def take(self, body: bytes) -> bytes:
        results: list[dict[str, Any]] = []
        accepted = 0
        for index, line in enumerate(body.splitlines()):
            event = json.loads(line)
            if self.rejected_subject and event["subject"] == self.rejected_subject:
                results.append(
                    {"index": index, "id": event["id"], "status": "rejected", "code": "no", "detail": "never"}
                )
                continue
            accepted += 1
            self.taken[event["id"]] += 1
            assert self.events.setdefault(event["id"], event) == event, "the same id with another content"
        return json.dumps(
            {"accepted": accepted, "rejected": len(results), "position": "p", "results": results}
        ).encode()


@contextmanager
def running(port: int = 0) -> Iterator[Sink]:
    """A sink at an address of its own, or at `port`."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sink.requests += 1
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.headers["authorization"] == "Bearer key"
            step, headers = sink.script.pop(0) if sink.script else ("", {})
            status, answer = 202, b""
            if step == "refuse":
                status = 503
            elif step.isdigit():
                status = int(step)
            elif len(body.splitlines()) > sink.events_max:
                status = 413
            else:
                answer = sink.take(body)
                if json.loads(answer)["accepted"] == 0:
                    status = 422
                if step == "lose":
                    status, answer = 500, b"<html>oops</html>"
                elif step == "cut":
                    self.close_connection = True
                    return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    sink.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
