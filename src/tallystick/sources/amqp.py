"""A queue of RabbitMQ, or of what else speaks AMQP 0-9-1, as a source.

A message is acknowledged once its events are durable; whatever was not comes again. A queue gives its messages no lasting
place, so an event has to say its id, or its message (the property `message_id`): one with neither could not be told from
the one before when it comes again, and is a dead letter.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractIncomingMessage

from tallystick.sources.interface import Feed, Record, Reject, SourceFaultError
from tallystick.sources.message import UnreadableError, attributes_of, names_ids, record_of
from tallystick.sources.source import Source

_CONNECT_S = 15
_CLOSE_S = 5
_GATHER_S = 0.05
_PREFIXES = ("cloudevents:", "cloudevents_", "ce-", "ce_")
_ERRORS = (
    aiormq.exceptions.AMQPError,
    aiormq.exceptions.ChannelInvalidStateError,
    OSError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """`needs_ids`: whether nothing but the event or its message can say the id, because no mapping does."""

    url: str = field(repr=False)
    queue: str
    batch_events_max: int = 500
    needs_ids: bool = True


def settings_of(source: Source) -> AmqpSettings:
    """What a source of this kind sets."""
    given, mapping = source.settings, source.mapping
    makes_ids = mapping.id is not None or any(name == "id" for name, _ in mapping.compute or ())
    return AmqpSettings(given["url"], given["queue"], given["batch_events_max"], not makes_ids)


class AmqpSource:
    """A consumer of the queue. `run` once."""

    def __init__(self, settings: AmqpSettings, feed: Feed) -> None:
        self._settings, self._feed = settings, feed
        self._stopping = asyncio.Event()
        self._came: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    def stop(self) -> None:
        """`run` ends soon."""
        self._stopping.set()
        self._came.put_nowait(None)

    async def run(self) -> None:
        """Until `stop`. Raises SourceFaultError, and what the feed raises."""
        settings = self._settings
        try:
            async with asyncio.timeout(_CONNECT_S):
                connection = await aio_pika.connect(settings.url, timeout=_CONNECT_S)
        except (*_ERRORS, ValueError) as error:
            raise _fault(error) from error
        try:
            connection.close_callbacks.add(self._on_closed)
            channel = await connection.channel()
            channel.close_callbacks.add(self._on_closed)
            await channel.set_qos(prefetch_count=2 * settings.batch_events_max)
            queue = await channel.get_queue(settings.queue)
            await queue.consume(self._on_message)
            self._feed.observe(lag=queue.declaration_result.message_count)
            while messages := await self._next():
                await self._take(messages)
                # One word for all of them: they came through one channel, in this order.
                await messages[-1].ack(multiple=True)
                if self._came.empty():
                    self._feed.observe(lag=0)
            if not self._stopping.is_set():
                raise SourceFaultError("AMQP: the connection is lost.")
        except _ERRORS as error:
            raise _fault(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The library cancels what waits for an answer when the connection breaks.
            raise SourceFaultError("AMQP: the connection is lost.") from None
        finally:
            # What is not acknowledged goes back to the queue with the channel.
            with suppress(*_ERRORS):
                async with asyncio.timeout(_CLOSE_S):
                    await connection.close()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._came.put_nowait(message)

    def _on_closed(self, *_: object) -> None:
        self._came.put_nowait(None)

    async def _next(self) -> list[AbstractIncomingMessage]:
        """What came, in order; nothing when it is over."""
        found: list[AbstractIncomingMessage] = []
        with suppress(TimeoutError):
            while len(found) < self._settings.batch_events_max:
                async with asyncio.timeout(_GATHER_S if found else None):
                    message = await self._came.get()
                if message is None:
                    self._came.put_nowait(None)  # and next time at once
                    break
                found.append(message)
        return found

    async def _take(self, messages: list[AbstractIncomingMessage]) -> None:
        records: list[Record] = []
        rejects: list[Reject] = []
        for message in messages:
            where = f"{self._settings.queue}/{message.message_id or '-'}"
            try:
                raw = self._read(message)
            except UnreadableError as error:
                rejects.append(Reject(message.body, where, error.code, error.detail))
                continue
            if raw:
                records.append(Record(raw, where))
        if rejects:
            await self._feed.reject(rejects)
        if records:
            await self._feed.take(records)

    def _read(self, message: AbstractIncomingMessage) -> bytes:
        attributes = attributes_of(_texts(message), _PREFIXES)
        time_us = None if message.timestamp is None else int(message.timestamp.timestamp() * 1_000_000)
        raw = record_of(message.body, attributes, time_us)
        if raw and self._settings.needs_ids and not message.message_id and not names_ids(raw):
            raise UnreadableError(
                "missing_id",
                "Neither the event nor its message (property message_id) says an id, by which it would be known when it "
                "comes again.",
            )
        return raw


def _texts(message: AbstractIncomingMessage) -> list[tuple[str, str | bytes | None]]:
    headers: Mapping[str, object] = message.headers
    found: list[tuple[str, str | bytes | None]] = [
        (name, value if isinstance(value, bytes) else str(value)) for name, value in headers.items()
    ]
    if message.content_type:
        found.append(("content-type", message.content_type))
    return found


def _fault(error: Exception) -> SourceFaultError:
    # Never the URL: it has the password.
    said = (
        "the address cannot be read" if isinstance(error, ValueError) else str(error) or type(error).__name__
    )
    return SourceFaultError(f"AMQP: {said}.")


def make(source: Source, feed: Feed) -> AmqpSource:
    """A factory (interface.py)."""
    return AmqpSource(settings_of(source), feed)
