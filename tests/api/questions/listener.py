"""Listens to `/v1/stream` in process, message by message, and goes when it is told."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.api.questions.live import Tenant


@dataclass(frozen=True)
class Message:
    id: str
    document: Any


class Listener:
    """`messages(n)` answers the next n; `status` and `headers` are known once it is open."""

    def __init__(
        self,
        tenant: Tenant,
        *,
        last_event_id: str | None = None,
        parameters: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self._live = tenant.live
        self._gone = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._text = ""
        self.status = 0
        self.place: str | None = last_event_id
        headers = [(b"authorization", f"Bearer {tenant.secret}".encode())]
        if last_event_id is not None:
            headers.append((b"last-event-id", last_event_id.encode()))
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/v1/stream",
            "raw_path": b"/v1/stream",
            "root_path": "",
            "query_string": urlencode({**(parameters or {}), **more}, doseq=True).encode(),
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }
        self._task = self._live.run(self._start())
        self.headers = self._live.run(self._opened())

    async def _start(self) -> "asyncio.Task[None]":
        self._started = asyncio.Event()
        self._first = True

        async def receive() -> Any:
            if self._first:
                self._first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self._headers = {name.decode(): value.decode() for name, value in message["headers"]}
                self._started.set()
            elif message.get("body"):
                await self._pieces.put(message["body"])
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await self._pieces.put(None)
                self._gone.set()  # as a server tells of an answer that is whole

        return asyncio.create_task(self._live.app(dict(self._scope), receive, send))

    async def _opened(self) -> dict[str, str]:
        await asyncio.wait_for(self._started.wait(), 60)
        return self._headers

    def messages(self, count: int, *, timeout_s: float = 60) -> list[Message]:
        """The next ones; fewer when no more come in time, or it has ended."""
        return self._live.run(self._take(count, timeout_s))

    async def _take(self, count: int, timeout_s: float) -> list[Message]:
        found: list[Message] = []
        until_s = asyncio.get_running_loop().time() + timeout_s
        while len(found) < count:
            block, mark, rest = self._text.partition("\n\n")
            if mark:
                self._text = rest
                fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
                self.place = fields.get("id", self.place)
                if "data" in fields:
                    found.append(Message(fields["id"], json.loads(fields["data"])))
                continue
            try:
                piece = await asyncio.wait_for(
                    self._pieces.get(), max(0.01, until_s - asyncio.get_running_loop().time())
                )
            except TimeoutError:
                return found
            if piece is None:
                return found
            self._text += piece.decode()
        return found

    def ended(self, *, timeout_s: float = 60) -> bool:
        """Whether the server ends it by itself in time."""

        async def wait() -> bool:
            done, _ = await asyncio.wait((self._task,), timeout=timeout_s)
            return bool(done)

        return self._live.run(wait())

    def go(self) -> None:
        """Hang up."""

        async def hang_up() -> None:
            self._gone.set()
            await asyncio.wait((self._task,), timeout=10)

        self._live.run(hang_up())
