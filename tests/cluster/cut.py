"""A network that can be cut: connections through a port of ours to somebody else's, until nothing gets through."""

import asyncio
import contextlib
import threading
from typing import Any

_CHUNK_BYTES = 64 * 1024
_PASS_S = 0.02


class Cable:
    """Forwards one loopback port to another, in a thread of its own.

    `cut`: nothing gets through, in either direction, and nobody is told, as when a switch fails: what is sent waits, and
    arrives after `mend` if the connection still exists. `drop`: connections are closed, new ones refused.
    """

    def __init__(self, target_port: int, *, target: str = "127.0.0.1", host: str = "127.0.0.1") -> None:
        """`host`: the address it listens on."""
        self._target_port = target_port
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._whole = threading.Event()
        self._whole.set()
        self._is_dropped = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="cable")
        self._thread.start()
        self._server: asyncio.Server = self._call(
            asyncio.start_server(self._accept, host, 0, limit=_CHUNK_BYTES)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._whole.clear()

    def drop(self) -> None:
        self._is_dropped = True
        self._call(self._close_all())

    def mend(self) -> None:
        self._is_dropped = False
        self._whole.set()

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        other: asyncio.StreamWriter | None = None
        try:
            if self._is_dropped:
                return
            self._writers.add(writer)
            other_reader, other = await asyncio.open_connection(self._target, self._target_port)
            self._writers.add(other)
            directions = [
                asyncio.ensure_future(self._forward(reader, other)),
                asyncio.ensure_future(self._forward(other_reader, writer)),
            ]
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for each in directions:
                each.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, other):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()  # `close` would wait until all has been sent

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                while not self._whole.is_set():
                    await asyncio.sleep(_PASS_S)
                writer.write(chunk)
                await writer.drain()

    async def _close_all(self) -> None:
        for each in list(self._writers):
            each.close()

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(_PASS_S)  # the transports close their sockets in the loop's next rounds
