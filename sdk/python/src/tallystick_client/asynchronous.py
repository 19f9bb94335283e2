"""The client for asyncio: the same core. Tracking does not block; questions run on the loop's threads."""

import asyncio
import contextlib
import time as clock
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from tallystick_client.answers import Check, Reservation, Usage
from tallystick_client.client import Client
from tallystick_client.errors import SpoolFull, TallystickError
from tallystick_client.options import Options, Stats
from tallystick_client.questions import Amount

_ROOM_POLL_S = 0.02


class AsyncClient:
    """As Client, awaited."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, options: Options | None = None
    ) -> None:
        """Raises TallystickError for an address that is none, OSError when the spool cannot be made."""
        self._client = Client(url, key, options=options)

    async def track(
        self,
        event_type: str,
        subject: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the contract's word
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> str:
        """Take one event, and answer its id. Waits only while the spool is full (`on_full="wait"`), without blocking
        the loop. Raises InvalidEvent and SpoolFull."""
        core = self._client._core  # pyright: ignore[reportPrivateUsage]
        event_id = core.maker.new_id() if id is None else id
        line = core.maker.line(event_type, subject, data, id=event_id, time_=time, source=source)
        until: float | None = None
        while True:
            try:
                core.put(line)
            except SpoolFull:
                if core.options.on_full == "drop":
                    core.dropped += 1
                    return event_id
                now = clock.monotonic()
                until = until or now + core.options.full_wait_s_max
                if core.closed or core.options.on_full == "raise" or now >= until:
                    raise
                core.sender.wake()
                await asyncio.sleep(_ROOM_POLL_S)
            else:
                return event_id

    async def send(
        self, events: Iterable[Mapping[str, Any]], *, wait_recorded: bool = False
    ) -> dict[str, Any]:
        """See Client.send."""
        return await asyncio.to_thread(self._client.send, list(events), wait_recorded=wait_recorded)

    async def flush(self, timeout_s: float = 30.0) -> bool:
        """See Client.flush."""
        return await asyncio.to_thread(self._client.flush, timeout_s)

    async def sync(self) -> None:
        """See Client.sync."""
        await asyncio.to_thread(self._client.sync)

    def stats(self) -> Stats:
        """Where events are."""
        return self._client.stats()

    async def usage(self, meter: str, **parameters: Any) -> Usage:
        """See Client.usage."""
        return await asyncio.to_thread(self._client.usage, meter, **parameters)

    async def check(self, customer: str, meter: str, amount: Amount = 1) -> Check:
        """See Client.check."""
        return await asyncio.to_thread(self._client.check, customer, meter, amount)

    async def reserve(
        self, customer: str, meter: str, amount: Amount, *, ttl_seconds: int = 60
    ) -> Reservation:
        """See Client.reserve."""
        return await asyncio.to_thread(self._client.reserve, customer, meter, amount, ttl_seconds=ttl_seconds)

    async def settle(
        self, reservation: Reservation | str, amount: Amount, event: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """See Client.settle."""
        return await asyncio.to_thread(self._client.settle, reservation, amount, event)

    async def release(self, reservation: Reservation | str) -> dict[str, Any]:
        """See Client.release."""
        return await asyncio.to_thread(self._client.release, reservation)

    @contextlib.asynccontextmanager
    async def reserved(
        self, customer: str, meter: str, amount: Amount, *, ttl_seconds: int = 60
    ) -> AsyncGenerator[Reservation]:
        """See Client.reserved."""
        held = await self.reserve(customer, meter, amount, ttl_seconds=ttl_seconds)
        try:
            yield held
        except BaseException:
            with contextlib.suppress(TallystickError):
                await self.release(held)
            raise

    async def request(
        self, method: str, path: str, *, json: Any = None, parameters: Mapping[str, Any] | None = None
    ) -> Any:
        """See Client.request."""
        return await asyncio.to_thread(self._client.request, method, path, json=json, parameters=parameters)

    async def close(self, timeout_s: float | None = None) -> bool:
        """See Client.close."""
        return await asyncio.to_thread(self._client.close, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
