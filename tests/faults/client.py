"""A client that keeps books: what it sent, under which ids, and what was acknowledged.

A batch that got no answer is sent again under the same ids, as every client of ours must; some batches go out again
though they were acknowledged (duplicates, with other times), and now and then with another content (conflicts).
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.server import KEY

EVENTS_EACH = 100
TYPES = ("call", "other")


@dataclass(slots=True)
class Books:
    """Everything by identity (all events have one tenant and source, so: by id)."""

    value: dict[str, int] = field(default_factory=dict[str, int])
    """What an identity contributes: n of the content it was first sent with."""
    acknowledged: Counter[str] = field(default_factory=Counter[str])
    unanswered: Counter[str] = field(default_factory=Counter[str])
    conflicts_acknowledged: int = 0
    conflicts_unanswered: int = 0
    to_repeat: list[int] = field(default_factory=list[int])
    """Batches without an answer."""
    batches: int = 0
    statuses: Counter[int] = field(default_factory=Counter[int])

    @property
    def total(self) -> int:
        return sum(self.value.values())


@dataclass(slots=True)
class Client:
    """Sends to 127.0.0.1:`port`. `run` tells the ids of several clients apart."""

    port: int
    seed: int
    padding: int = 0
    books: Books = field(default_factory=Books)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def _body(self, batch: int, *, conflicting: bool) -> tuple[bytes, list[str]]:
        """The batch of this number: always the same ids and contents; times are those of this sending."""
        ids = [f"{self.seed:x}-{batch:x}-{row:x}" for row in range(EVENTS_EACH)]
        day = self.chance.randrange(1, 28)
        events = []
        for row, event_id in enumerate(ids):
            value = (batch * 7919 + row * 31) % 1000 + 1
            self.books.value.setdefault(event_id, value)
            events.append(
                {
                    "id": event_id,
                    "source": "/faults",
                    "type": "call",
                    "subject": f"s{(batch * 31 + row) % 50}",
                    "time": f"2025-03-{day:02d}T{row % 24:02d}:00:00Z",
                    "data": {"n": value + 1_000_000 if conflicting else value, "pad": "x" * self.padding},
                }
            )
        return json.dumps(events).encode(), ids

    async def load(self, seconds: float, *, connections: int = 4, fresh: bool = True) -> None:
        """Send for so long, or until the server is gone. With `fresh` unset only what had no answer goes out, until
        everything has one."""
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(self._one(until, fresh) for _ in range(connections)))

    async def _one(self, until: float, fresh: bool) -> None:
        books = self.books
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return
        try:
            while asyncio.get_running_loop().time() < until:
                conflicting = False
                draw = self.chance.random()
                if books.to_repeat and (not fresh or draw < 0.5):
                    batch = books.to_repeat.pop()
                elif not fresh:
                    return
                elif books.batches and draw > 0.8:
                    batch = self.chance.randrange(books.batches)
                    # Only of what is acknowledged: otherwise nobody could say which content comes first.
                    conflicting = draw > 0.97 and books.acknowledged[f"{self.seed:x}-{batch:x}-0"] > 0
                else:
                    batch = books.batches
                    books.batches += 1
                await self._send(reader, writer, batch, conflicting)
        except (OSError, asyncio.IncompleteReadError):
            return  # killed; the books say what had no answer
        finally:
            writer.close()

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, batch: int, conflicting: bool
    ) -> None:
        books = self.books
        body, ids = self._body(batch, conflicting=conflicting)
        status = 0
        try:
            writer.write(
                b"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (KEY.encode(), len(body))
            )
            writer.write(body)
            await writer.drain()
            line = await reader.readline()
            if not line:
                raise ConnectionResetError
            length = 0
            while (header := await reader.readline()) != b"\r\n":
                if not header:
                    raise ConnectionResetError
                if header.lower().startswith(b"content-length:"):
                    length = int(header[15:])
            await reader.readexactly(length)
            status = int(line.split()[1])
        finally:
            books.statuses[status] += 1
            if status == 202:
                books.acknowledged.update(ids)
                books.conflicts_acknowledged += EVENTS_EACH * conflicting
            else:
                # Nobody knows; of a refusal (503, 507) we do: nothing was stored, and counting it as unknown is laxer
                # only in that.
                books.unanswered.update(ids)
                books.conflicts_unanswered += EVENTS_EACH * conflicting
                if not conflicting:
                    books.to_repeat.append(batch)
        if status != 202:
            await asyncio.sleep(0.02)
