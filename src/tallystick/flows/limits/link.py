"""Questions and news between two processes of one installation, over a socket that nobody else has.

Both sides run the same program and trust each other, so what goes over is pickled as it is. Frames arrive in the order in
which they were sent, answers and news alike: whoever sends an answer and then news can rely on it.
"""

import asyncio
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from tallystick.errors import TallystickError, Unavailable

FRAME_BYTES_MAX = 256 * 1024 * 1024
_LENGTH = struct.Struct(">I")
_logger = structlog.get_logger("limits")


class Link:
    """One end. One event loop uses it."""

    def __init__(
        self,
        *,
        answers: Mapping[str, Callable[..., Awaitable[Any]]],
        hear: Mapping[str, Callable[..., None]],
    ) -> None:
        """`answers`: what the other side may ask here. `hear`: what it may tell, without waiting for an answer."""
        self._answers = answers
        self._hear = hear
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._answering: set[asyncio.Task[None]] = set()

    async def open(self, own: socket.socket) -> None:
        """Takes the socket over. Nothing is heard before `run`."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=own)

    async def run(self) -> None:
        """Until the other side is gone, or this is cancelled."""
        reader = self._reader
        assert reader is not None
        try:
            while True:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                if length > FRAME_BYTES_MAX:
                    raise ValueError(f"a frame of {length} bytes")
                self._take(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            self._end()

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for task in self._answering:
            task.cancel()
        asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(_gone())

    def tell(self, name: str, *given: Any) -> None:
        """Nothing happens where the other side is gone."""
        self._send(("tell", name, given))

    async def ask(self, name: str, *given: Any) -> Any:
        """What the other side answers, or raises. Raises Unavailable (gate_not_ready) where it is gone."""
        if self._writer is None:
            raise _gone()
        self._number += 1
        number = self._number
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._send(("ask", number, name, given))
        try:
            return await future
        finally:
            self._asked.pop(number, None)

    def _send(self, frame: tuple[Any, ...]) -> None:
        if self._writer is not None:
            raw = pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)
            self._writer.write(_LENGTH.pack(len(raw)) + raw)

    def _take(self, raw: bytes) -> None:
        frame: tuple[Any, ...] = pickle.loads(raw)  # noqa: S301 -- of a process that this one started, or was started by
        match frame:
            case ("tell", name, given):
                self._hear[name](*given)
            case ("ask", number, name, given):
                task = asyncio.create_task(self._answer(number, name, given))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case ("answer", number, value):
                future = self._asked.get(number)
                if future is not None and not future.done():
                    future.set_result(value)
            case ("error", number, error):
                future = self._asked.get(number)
                if future is not None and not future.done():
                    future.set_exception(error)
            case _:
                raise ValueError("an unknown frame")

    async def _answer(self, number: int, name: str, given: tuple[Any, ...]) -> None:
        try:
            value = await self._answers[name](*given)
        except TallystickError as error:
            self._send(("error", number, error))
        except Exception:
            _logger.exception("question_failed", question=name)
            self._send(("error", number, RuntimeError(f"the other process could not answer: {name}")))
        else:
            self._send(("answer", number, value))


def _gone() -> Unavailable:
    return Unavailable(
        "The gate's process is not there; it is started again within seconds. Try again.",
        code="gate_not_ready",
        retry_after_s=1,
    )
