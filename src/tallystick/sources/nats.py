"""A stream of NATS JetStream as a source.

One durable pull consumer, so that the servers know what is behind us. A message is acknowledged once its events are
durable; while they wait, the servers are told that work is in progress, and do not send it again. Whatever was not
acknowledged comes again, under the same identity.
"""

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from xxhash import xxh3_64_hexdigest

from tallystick.sources.interface import Feed, Record, Reject, SourceFaultError
from tallystick.sources.message import UnreadableError, attributes_of, record_of
from tallystick.sources.source import Source

FETCH_S = 1.0
ACK_WAIT_S = 60
"""After this time without a word the servers send a message again."""
WORKING_EVERY_S = 15
_CONNECT_S = 10
_PREFIX = "ce-"
_MESSAGE_ID = "Nats-Msg-Id"
_PORT = 4222


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """`subject`: which of the stream's; "": all. `durable`: the consumer's name, the same for ever."""

    url: str = field(repr=False)
    stream: str
    durable: str
    subject: str = ""
    batch_events_max: int = 1000
    ack_wait_s: float = ACK_WAIT_S


def settings_of(source: Source, tenant: str) -> NatsSettings:
    """What a source of this kind sets."""
    given = source.settings
    return NatsSettings(
        given["url"],
        given["stream"],
        durable_of(given.get("durable") or f"tallystick-{tenant}-{source.key}"),
        given.get("subject") or "",
        given["batch_events_max"],
    )


def durable_of(name: str) -> str:
    """A name as NATS allows it: no dots, blanks, wildcards or slashes."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:200]
    return plain if plain == name else f"{plain}-{xxh3_64_hexdigest(name.encode())}"


class NatsSource:
    """Who reads the stream. `run` once."""

    def __init__(self, settings: NatsSettings, feed: Feed) -> None:
        self._settings, self._feed = settings, feed
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """`run` ends soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Raises SourceFaultError, and what the feed raises."""
        client = Client()
        try:
            await self._connect(client)
            subscription = await self._subscribe(client.jetstream())
            while not self._stopping.is_set():
                messages = await self._fetch(client, subscription)
                if messages:
                    await self._let_go(client, messages)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise SourceFaultError(f"NATS: {error or type(error).__name__}.") from error
        finally:
            await _close(client)

    async def _let_go(self, client: Client, messages: list[Msg]) -> None:
        try:
            await self._take(messages)
        except BaseException:
            with contextlib.suppress(nats.errors.Error):
                for message in messages:
                    await message.nak()  # to come again at once, not when their time is over
            raise
        for message in messages:
            await message.ack()
        await client.flush(_CONNECT_S)

    async def _connect(self, client: Client) -> None:
        servers, options = connection_of(self._settings.url)
        async with asyncio.timeout(2 * _CONNECT_S):
            await client.connect(
                servers=servers,
                name="tallystick-source",
                connect_timeout=_CONNECT_S,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                ping_interval=5,
                max_outstanding_pings=2,
                error_cb=_ignored,
                **options,
            )

    async def _subscribe(self, stream: JetStreamContext) -> JetStreamContext.PullSubscription:
        settings = self._settings
        config = ConsumerConfig(
            durable_name=settings.durable,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=settings.ack_wait_s,
            max_ack_pending=2 * settings.batch_events_max,
        )
        try:
            return await stream.pull_subscribe(
                settings.subject,
                durable=settings.durable,
                stream=settings.stream,
                config=config,
                pending_msgs_limit=-1,
            )
        except nats.js.errors.NotFoundError as error:
            raise SourceFaultError(f"NATS: there is no stream {settings.stream!r}.") from error

    async def _fetch(self, client: Client, subscription: JetStreamContext.PullSubscription) -> list[Msg]:
        try:
            messages = await subscription.fetch(self._settings.batch_events_max, timeout=FETCH_S)
        except TimeoutError:
            if not client.is_connected:
                raise SourceFaultError("NATS: the connection is lost.") from None
            self._feed.observe(lag=0)
            return []
        # What is put in the place of a message when the server ends a request early has no reply.
        found = [message for message in messages if message.reply]
        if found:
            self._feed.observe(lag=found[-1].metadata.num_pending + len(found))
        return found

    async def _take(self, messages: list[Msg]) -> None:
        records: list[Record] = []
        rejects: list[Reject] = []
        for message in messages:
            where = self._where(message)
            try:
                attributes = attributes_of((message.headers or {}).items(), _PREFIX, percent=True)
                raw = record_of(
                    message.data, attributes, int(message.metadata.timestamp.timestamp() * 1_000_000)
                )
            except UnreadableError as error:
                rejects.append(Reject(message.data, where, error.code, error.detail))
                continue
            if raw:
                records.append(Record(raw, where))
        if rejects:
            await self._feed.reject(rejects)
        if not records:
            return
        work = asyncio.ensure_future(self._feed.take(records))
        try:
            while not (
                await asyncio.wait({work}, timeout=min(WORKING_EVERY_S, self._settings.ack_wait_s / 3))
            )[0]:
                for message in messages:
                    await message.in_progress()
            work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    def _where(self, message: Msg) -> str:
        """By what the sender calls the message, so that what is sent again long after is known too; otherwise by its
        place."""
        named = (message.headers or {}).get(_MESSAGE_ID)
        stream = self._settings.stream
        return f"{stream}:{named}" if named else f"{stream}/{message.metadata.sequence.stream}"


def connection_of(url: str) -> tuple[list[str], dict[str, Any]]:
    """`nats://user:password@host:4222,host:4222`: the servers, and how to log in. A user without a password is a token."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("nats", "tls"):
        raise SourceFaultError("NATS: the URL begins with nats:// or tls://.")
    login, _, hosts = rest.rstrip("/").rpartition("@")
    servers: list[str] = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"nats://{host.strip()}")
            servers.append(f"nats://{parts.hostname}:{parts.port or _PORT}")
        except ValueError:
            raise SourceFaultError(f"NATS: {host!r} is no host:port.") from None
    options: dict[str, Any] = {}
    user, colon, password = login.partition(":")
    if colon:
        options = {"user": unquote(user), "password": unquote(password)}
    elif user:
        options = {"token": unquote(user)}
    if scheme == "tls":
        options["tls"] = ssl.create_default_context()
    return servers, options


async def _ignored(_: Exception) -> None:
    """What matters is raised where it is waited for."""


async def _close(client: Client) -> None:
    try:
        async with asyncio.timeout(5):
            await client.close()
    except (nats.errors.Error, OSError, TimeoutError):
        pass


def make(source: Source, feed: Feed) -> NatsSource:
    """A factory (interface.py)."""
    return NatsSource(settings_of(source, feed.tenant), feed)
