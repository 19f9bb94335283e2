"""A connection to one of several NATS servers, kept for as long as it is open: made anew for ever when it is lost.

nats-py can reconnect by itself, but it leaks the socket of every attempt that fails halfway (a frozen server accepts
connections and says nothing), gives up for good on some errors, and can wait for ever for a server that reads nothing.
So each of its clients lives for one connection here, and what is left of it is torn down, not closed politely.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client

from tallystick.errors import Invalid
from tallystick.log.nats_url import NatsUrl

SERVER_VERSION_MIN = (2, 11)
"""The first that reads many messages by one request."""

ATTEMPT_S = 2.0

_RETRY_S = 0.1
_RETRY_S_MAX = 1.0
_WATCH_S = 0.25
_PING_S = 2
_PINGS_LOST_MAX = 2
_PENDING_BYTES_MAX = 64 * 1024**2

_logger = structlog.get_logger("tallystick.log")


class RetryError(Exception):
    """This attempt failed; the next may succeed. The message says why."""


class NatsConnection:
    """Used from one event loop."""

    def __init__(self, url: NatsUrl, name: str, *, on_connected: Callable[[Client], Awaitable[None]]) -> None:
        """on_connected: subscribes, with each new client. name: as the servers show it."""
        self._url = url
        self._name = name
        self._on_connected = on_connected
        self._client: Client | None = None
        self._max_payload = 0
        self._turn = random.randrange(len(url.servers))  # noqa: S311 -- spreads clients over servers
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def client(self) -> Client:
        """Raises RetryError while there is none."""
        if self._client is None or not self._client.is_connected:
            raise RetryError("no NATS server is connected")
        return self._client

    @property
    def max_payload(self) -> int:
        """Bytes one message may have, headers included, as the last server said."""
        return self._max_payload

    @property
    def server(self) -> str:
        """host:port we are connected to; "" for none."""
        url = self._client.connected_url if self._client is not None else None
        return f"{url.hostname}:{url.port}" if url is not None else ""

    async def connect(self) -> None:
        """Once, to the server whose turn it is; from then on the connection is kept.

        Raises RetryError when it does not answer; Invalid for what trying again will not change.
        """
        server = self._url.servers[self._turn % len(self._url.servers)]
        self._turn += 1
        client = Client()
        try:
            async with asyncio.timeout(2 * ATTEMPT_S):
                await client.connect(
                    servers=[server],
                    name=self._name,
                    user=self._url.user,
                    password=self._url.password,
                    token=self._url.token,
                    user_credentials=self._url.credentials,
                    tls=self._url.tls_context(),
                    connect_timeout=int(ATTEMPT_S),
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING_S,
                    max_outstanding_pings=_PINGS_LOST_MAX,
                    pending_size=_PENDING_BYTES_MAX,
                    error_cb=self._on_error,
                    closed_cb=self._on_closed,
                )
                _refuse_old(client)
                await self._on_connected(client)
                await client.flush(timeout=int(ATTEMPT_S))
        except BaseException as error:
            _tear_down(client)
            if "authorization" in str(error).lower():
                raise Invalid(
                    f"The NATS server {server} does not let us in: {error}.", code="invalid_setting"
                ) from error
            if isinstance(error, nats.errors.Error | OSError | TimeoutError):
                raise RetryError(f"no NATS server answers at {server}") from error
            raise
        self._client = client
        self._max_payload = client.max_payload
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="log-connection")

    async def move(self) -> None:
        """Go to the next server: ours answers, but is cut off from the others, say."""
        if self._client is not None and len(self._url.servers) > 1:
            _logger.warning("log_moves_to_another_server", connection=self._name, server=self.server)
            _tear_down(self._client)

    async def close(self) -> None:
        self._closing = True
        self._lost.set()
        if self._keeper is not None:
            await asyncio.gather(self._keeper, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(ATTEMPT_S):
                    await client.close()
            _tear_down(client)

    async def _keep(self) -> None:
        """Look whether the connection is there rather than wait to be told: being told may hang with it."""
        pause_s = _RETRY_S
        while not self._closing:
            if self._client is not None and self._client.is_connected:
                pause_s = _RETRY_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH_S):
                        await self._lost.wait()
                self._lost.clear()
                continue
            if self._client is not None:
                _logger.warning("log_disconnected", connection=self._name, server=self.server)
                _tear_down(self._client)
                self._client = None
            try:
                await self.connect()
                _logger.info("log_reconnected", connection=self._name, server=self.server)
            except Exception as error:
                _logger.debug("log_not_connected", connection=self._name, error=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_S_MAX)

    async def _on_error(self, error: Exception) -> None:
        _logger.debug("log_connection_error", connection=self._name, error=str(error) or type(error).__name__)

    async def _on_closed(self) -> None:
        self._lost.set()


def _tear_down(client: Client) -> None:
    """Close the socket at once, whatever still waits to be sent; nats-py's tasks then end by themselves."""
    # pyright: ignore -- nats-py offers no way to abort
    inside: Any = client
    writer = getattr(inside._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
    inside._pending = []
    inside._pending_data_size = 0
    inside._status = Client.CLOSED
    for name in ("_reading_task", "_ping_interval_task", "_flusher_task"):
        task = getattr(inside, name)
        if task is not None:
            task.cancel()
    for subscription in inside._subs.values():
        if subscription._wait_for_msgs_task is not None:
            subscription._wait_for_msgs_task.cancel()
    inside._subs.clear()


def _refuse_old(client: Client) -> None:
    version = client.connected_server_version
    if (version.major, version.minor) < SERVER_VERSION_MIN:
        raise Invalid(
            f"The NATS server has version {version.major}.{version.minor}; "
            f"{'.'.join(map(str, SERVER_VERSION_MIN))} is the least that can be used.",
            code="invalid_setting",
        )
