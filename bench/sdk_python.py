"""The Python client: microseconds at the caller, and events a second into a server that takes everything at once.

`PYTHONPATH=sdk/python/src python -m bench.sdk_python [events]`; with TALLYSTICK_URL and TALLYSTICK_KEY, a real server.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tallystick_client import Client, Options

_SINK = """
import gzip, socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            if not self.rfile.readline():
                return
            size, packed = 0, False
            while (line := self.rfile.readline().strip().lower()):
                if line.startswith(b"content-length:"):
                    size = int(line[15:])
                packed = packed or line == b"content-encoding: gzip"
            body = self.rfile.read(size)
            body = gzip.decompress(body) if packed else body
            answer = b'{"accepted":%d,"rejected":0,"position":"0","results":[]}' % body.count(b"\\n")
            self.wfile.write(b"HTTP/1.1 202 Accepted\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(answer) + answer)
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    url, sink = os.environ.get("TALLYSTICK_URL"), None
    if not url:
        sink = subprocess.Popen([sys.executable, "-c", _SINK], stdout=subprocess.PIPE, text=True)
        assert sink.stdout is not None
        url = f"http://127.0.0.1:{int(sink.stdout.readline())}"
    try:
        for kind in ("memory", "disk"):
            for compress in (False, True):
                with tempfile.TemporaryDirectory() as directory:
                    spool = Path(directory) if kind == "disk" else None
                    options = Options(spool=spool, compress=compress, spool_bytes_max=1 << 30)
                    _measure(url, options, count, f"{kind}, {'gzip' if compress else 'plain'}")
    finally:
        if sink is not None:
            sink.kill()
            sink.wait()


def _measure(url: str, options: Options, count: int, what: str) -> None:
    data = {"tokens": 1234, "model": "gpt-4", "region": "eu"}
    with Client(url, options=options) as client:
        track = client.track
        times: list[int] = []
        now = time.perf_counter_ns
        begun = now()
        for _ in range(count):
            start = now()
            track("llm.completion", "acme", data)
            times.append(now() - start)
        tracked = now()
        assert client.flush(120), client.stats()
        done = now()
        assert client.stats().accepted == count
    times.sort()
    print(
        f"{what}: track median {times[count // 2] / 1000:.1f} µs, p99 {times[count * 99 // 100] / 1000:.1f} µs, "
        f"mean {(tracked - begun) / count / 1000:.1f} µs; {count / (done - begun) * 1e9:,.0f} events/s to the answer"
    )


if __name__ == "__main__":
    main()
