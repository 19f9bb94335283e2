"""Load on several API nodes that keeps books, in a thread, while the parts of the cluster come and go."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.client import EVENTS_EACH, Client

REQUEST_S_MAX = 4.0
_PAUSE_S = 0.02


@dataclass(slots=True)
class ClusterClient(Client):
    """Sends to any of `ports`; what is not answered in time goes out again, to another node. Some batches go to two nodes
    at once (duplicate delivery)."""

    ports: Sequence[int] = ()
    stopping: threading.Event = field(default_factory=threading.Event)
    acknowledged_at: list[float] = field(default_factory=list[float])
    latencies_s: list[float] = field(default_factory=list[float])
    _until: float = float("inf")

    async def run(
        self,
        *,
        connections: int,
        fresh: bool = True,
        events_per_s: float = 0,
        seconds_max: float = float("inf"),
    ) -> None:
        """Until `stopping`; with `fresh` unset only what had no answer is sent, until everything has one."""
        self._until = time.monotonic() + seconds_max
        turn = itertools.count()
        pace_s = connections * EVENTS_EACH / events_per_s if events_per_s else 0.0
        await asyncio.gather(*(self._keep_on(turn, fresh, pace_s) for _ in range(connections)))

    async def _keep_on(self, turn: "itertools.count[int]", fresh: bool, pace_s: float) -> None:
        while not self.stopping.is_set() and time.monotonic() < self._until:
            if not fresh and not self.books.to_repeat:
                return
            await self._with_node(self.ports[next(turn) % len(self.ports)], fresh, pace_s)
            await asyncio.sleep(_PAUSE_S)

    async def _with_node(self, port: int, fresh: bool, pace_s: float) -> None:
        """Batches over one connection until something goes wrong with it."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while not self.stopping.is_set() and time.monotonic() < self._until:
                chosen = self._choose(fresh)
                if chosen is None:
                    return
                batch, conflicting = chosen
                began = time.monotonic()
                async with asyncio.timeout(REQUEST_S_MAX):
                    if fresh and self.chance.random() < 0.05:
                        other = self._once(self.ports[self.chance.randrange(len(self.ports))], batch)
                        await asyncio.gather(self._send(reader, writer, batch, conflicting), other)
                    else:
                        await self._send(reader, writer, batch, conflicting)
                if pace_s:
                    await asyncio.sleep(max(0.0, pace_s - (time.monotonic() - began)))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return  # the books say what had no answer
        finally:
            if writer is not None:
                writer.close()

    async def _once(self, port: int, batch: int) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await self._send(reader, writer, batch, False)
            finally:
                writer.close()

    def _choose(self, fresh: bool) -> tuple[int, bool] | None:
        books, draw = self.books, self.chance.random()
        if books.to_repeat and (not fresh or draw < 0.5):
            return books.to_repeat.pop(), False
        if not fresh:
            return None
        if books.batches and draw > 0.85:
            batch = self.chance.randrange(books.batches)
            # Only of what is acknowledged: otherwise nobody could say which content comes first.
            return batch, draw > 0.97 and books.acknowledged[f"{self.seed:x}-{batch:x}-0"] > 0
        books.batches += 1
        return books.batches - 1, False

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, batch: int, conflicting: bool
    ) -> None:
        before, began = self.books.statuses[202], time.monotonic()
        await Client._send(self, reader, writer, batch, conflicting)
        if self.books.statuses[202] > before:
            now = time.monotonic()
            self.acknowledged_at.append(now)
            self.latencies_s.append(now - began)

    def longest_pause_s(self, since: float, until: float) -> float:
        """The longest time between these moments in which no request was acknowledged."""
        moments = [since, *(moment for moment in self.acknowledged_at if since < moment < until), until]
        return max(after - before for before, after in itertools.pairwise(sorted(moments)))


class Load:
    """`with Load(client):` the client sends all the while."""

    def __init__(self, client: ClusterClient, *, connections: int = 4, events_per_s: float = 0) -> None:
        self._client = client
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(connections, events_per_s), name="load")

    def _run(self, connections: int, events_per_s: float) -> None:
        try:
            asyncio.run(self._client.run(connections=connections, events_per_s=events_per_s))
        except BaseException as fault:
            self._fault = fault

    def __enter__(self) -> "Load":
        self._client.stopping.clear()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stopping.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault
