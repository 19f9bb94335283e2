"""A proxy between an SDK and the server that does to requests what networks and other people's proxies do."""

import asyncio
import contextlib
import gzip
import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

from tests.faults.server import free_port

Fault = Literal[
    "",
    "429",
    "503",
    "413",
    "cut_before",
    "cut_after",
    "half",
    "slow",
    "lost",
    "page",
]
"""What happens to one request. Not forwarded: `429` (Retry-After: 1), `503`, `413`, `cut_before` (closed without an answer).
Forwarded, so that the server has it: `cut_after` (closed instead of the answer), `half` (cut off within the answer), `slow`
(answered after `slow_s`), `lost` (500 instead of the answer), `page` (200 with HTML instead of the answer)."""

_PAGE = b"<html><body>Welcome to the network of the hotel.</body></html>"
_STATUS = {"429": "429 Too Many Requests", "503": "503 Service Unavailable", "413": "413 Content Too Large"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came, and what was done to it."""

    at: float
    path: str
    fault: str
    events: int


class Proxy:
    """Listens in a thread of its own. `script`: the faults of the next requests whose path begins with `on`."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.seen: list[Seen] = []
        self.lines: dict[str, set[str]] = {}
        """Every event that came, by id: as JSON with sorted names, once for each form it came in."""
        self.slow_s = 1.5
        self.delay_s = 0.0
        self._script: list[Fault] = []
        self._on = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="fault-proxy")
        self._thread.start()
        self.mend()

    def script(self, faults: list[Fault], *, on: str = "/v1/events") -> None:
        self._script, self._on = list(faults), on

    @property
    def scripted(self) -> int:
        """How many faults are still to come."""
        return len(self._script)

    def cut(self) -> None:
        """The network is away: connections are closed, new ones refused."""
        self._call(self._cut())

    def mend(self) -> None:
        if self._server is None:
            self._call(self._listen())

    def requests(self, path: str = "/v1/events") -> list[Seen]:
        return [seen for seen in self.seen if seen.path.startswith(path)]

    def close(self) -> None:
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._serve(reader, writer):
                pass
        self._tasks.discard(task)
        self._writers.discard(writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection lives on."""
        head = await reader.readuntil(b"\r\n\r\n")
        line, *headers = head[:-4].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in headers)}
        body = await self._body(reader, fields)
        path = line.split(" ")[1]
        fault: Fault = ""
        if self._script and path.partition("?")[0] == self._on:
            fault = self._script.pop(0)
        self.seen.append(Seen(time.monotonic(), path, fault, self._events(path, fields, body)))
        if fault == "cut_before":
            return False
        if fault in _STATUS:
            retry = "retry-after: 1\r\n" if fault == "429" else ""
            await self._say(writer, f"HTTP/1.1 {_STATUS[fault]}\r\n{retry}", b'{"code":"proxy","title":"no"}')
            return True
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        answer = await self._forward(line, headers, fields, body)
        if fault == "cut_after":
            return False
        if fault == "half":
            writer.write(answer[: len(answer) - 20])
            await writer.drain()
            return False
        if fault == "lost":
            await self._say(writer, "HTTP/1.1 500 Internal Server Error\r\n", _PAGE)
            return True
        if fault == "page":
            await self._say(writer, "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n", _PAGE)
            return True
        if fault == "slow":
            await asyncio.sleep(self.slow_s)
        if not answer:
            return False
        writer.write(answer)
        await writer.drain()
        return False

    def _events(self, path: str, fields: dict[str, str], body: bytes) -> int:
        """How many events a request has."""
        if path != "/v1/events" or not body:
            return 0
        text = gzip.decompress(body) if fields.get("content-encoding") == "gzip" else body
        if "ndjson" in fields.get("content-type", ""):
            found = [json.loads(line) for line in text.splitlines()]
        else:
            read = json.loads(text)
            found = read if isinstance(read, list) else [read]
        for event in found:
            self.lines.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
        return len(found)

    @staticmethod
    async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
        if "chunked" in fields.get("transfer-encoding", ""):
            found = b""
            while size := int((await reader.readline()).split(b";")[0], 16):
                found += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
            return found
        return await reader.readexactly(int(fields.get("content-length", "0")))

    async def _forward(self, line: str, headers: list[str], fields: dict[str, str], body: bytes) -> bytes:
        """The server's whole answer, as it came; empty when it is away."""
        kept = [
            each
            for each in headers
            if each.partition(":")[0].lower()
            not in {
                "connection",
                "upgrade",
                "http2-settings",
                "transfer-encoding",
                "content-length",
                "expect",
            }
        ]
        request = "\r\n".join([line, *kept, f"content-length: {len(body)}", "connection: close", "", ""])
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            return b""
        try:
            writer.write(request.encode("latin-1") + body)
            return await reader.read(-1)
        except OSError:
            return b""
        finally:
            writer.close()

    @staticmethod
    async def _say(writer: asyncio.StreamWriter, head: str, body: bytes) -> None:
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
