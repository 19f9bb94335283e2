"""Topics of Kafka as a source.

An offset is committed only once the events up to it are durable (or their message is a dead letter). So a crash, a broker
that is away or a rebalance makes messages come again, never go missing; identity makes one event of what comes again.

librdkafka is not asynchronous: one thread has the consumer, and calls for rebalances happen in it. While what was taken
waits for acceptance, that thread goes on asking (with all partitions paused), so that the group does not give us up.
Partitions that are taken away are held until what is under way of them is accepted, for `REVOKED_S_MAX` at most.
"""

import asyncio
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from xxhash import xxh3_64_hexdigest

from tallystick.sources.interface import Feed, Record, Reject, SourceFaultError
from tallystick.sources.message import UnreadableError, attributes_of, record_of
from tallystick.sources.source import Source

FETCH_S = 0.25
"""How long is waited for messages."""
PAUSE_AFTER_S = 1.0
"""Acceptance that takes longer pauses the partitions."""
COMMIT_EVERY_S = 1.0
REVOKED_S_MAX = 20.0
TROUBLE_S_MAX = 15.0
"""How long the client may complain before it is asked whether anybody answers."""
_ASK_S = 5.0
_COMMIT_AGAIN_S = 0.5
CLOSE_S_MAX = 4.0
"""How long the last commit, and then leaving, may take when the source ends."""
_QUEUED_KIBIBYTES = 32 * 1024
_PREFIX = "ce_"
_TIMESTAMP_UNKNOWN = 0
_FATAL = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._FATAL,
    }
)
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`instance`: the name of this member, the same after a restart, so that the group knows it again at once;
    "": it is a new one every time."""

    brokers: str
    topics: tuple[str, ...]
    group: str
    instance: str
    start: str = "earliest"
    batch_events_max: int = 2000
    security: str = "plaintext"
    more: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def to_librdkafka(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.brokers,
            "group.id": self.group,
            "client.id": "tallystick",
            "auto.offset.reset": self.start,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "queued.max.messages.kbytes": _QUEUED_KIBIBYTES,
            "topic.metadata.refresh.interval.ms": 60_000,
            "topic.metadata.propagation.max.ms": 5000,
            "log_level": 0,  # what it would log again and again while brokers are away, `error_cb` says too
            "reconnect.backoff.max.ms": 2000,
            "security.protocol": self.security,
            **({"group.instance.id": instance_of(self.instance)} if self.instance else {}),
            **self.more,
        }


def instance_of(name: str) -> str:
    """A name as Kafka allows it: letters, digits, dots, dashes and underscores."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:200]
    return plain if plain == name else f"{plain}-{xxh3_64_hexdigest(name.encode())}"


def settings_of(source: Source, tenant: str) -> KafkaSettings:
    """What a source of this kind sets."""
    given = source.settings
    names = {
        "sasl_mechanism": "sasl.mechanism",
        "username": "sasl.username",
        "password": "sasl.password",
        "ca_certificate": "ssl.ca.pem",
        "certificate": "ssl.certificate.pem",
        "private_key": "ssl.key.pem",
    }
    name = f"tallystick-{tenant}-{source.key}"
    return KafkaSettings(
        given["brokers"],
        tuple(given["topics"]),
        group=given.get("group") or name,
        instance=name,
        start=given["start"],
        batch_events_max=given["batch_events_max"],
        security=given["security"],
        more={theirs: given[ours] for ours, theirs in names.items() if given.get(ours)},
    )


class KafkaSource:
    """One member of a consumer group. `run` once."""

    def __init__(self, settings: KafkaSettings, feed: Feed) -> None:
        self._settings, self._feed = settings, feed
        self._consumer: Consumer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-source")
        self._stopping = asyncio.Event()
        self._owned: set[Place] = set()
        self._waiting: deque[KafkaMessage] = deque()  # came while something was under way
        self._accepted: dict[Place, int] = {}  # the offset to go on from
        self._committed: dict[Place, int] = {}  # the same, as the group knows it
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._is_paused = False
        self._is_closing = False
        self._committed_at = 0.0
        self.trouble = ""
        """What the client last complained of, "" once it is known to be over."""
        self._troubled_at = 0.0

    def stop(self) -> None:
        """`run` ends soon, with everything committed that was accepted."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Raises SourceFaultError, and what the feed raises."""
        try:
            await self._in_thread(self._open)
            while not self._stopping.is_set():
                batch = await self._in_thread(self._fetch)
                self._feed.observe(lag=self.lag())
                if batch is not None:
                    await self._take(batch)
        except KafkaException as error:
            raise _translated(error) from error
        finally:
            await self._in_thread(self._close)
            self._thread.shutdown(wait=False)

    def lag(self) -> int | None:
        """Messages that are there and not accepted, as far as is known without asking; None: nothing is known."""
        consumer, owned = self._consumer, tuple(self._owned)
        if consumer is None or not owned:
            return None
        total = 0
        try:
            for at in consumer.position([TopicPartition(*place) for place in owned]):
                found = consumer.get_watermark_offsets(at, cached=True)
                if found and found[1] > 0 and at.offset >= 0:
                    total += max(0, found[1] - at.offset)
        except (KafkaException, RuntimeError):  # being closed
            return None
        return total

    # -- in the event loop ----------------------------------------------------------------------------------------
    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _take(self, batch: "_Fetched") -> None:
        self._idle.clear()
        work = asyncio.ensure_future(self._deliver(batch))
        try:
            while True:
                done, _ = await asyncio.wait({work}, timeout=PAUSE_AFTER_S)
                if done:
                    break
                await self._in_thread(self._keep_place)
            work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def _deliver(self, batch: "_Fetched") -> None:
        try:
            if batch.rejects:
                await self._feed.reject(batch.rejects)
            if batch.records:
                await self._feed.take(batch.records)
            with self._lock:
                self._accepted.update(batch.offsets)
        finally:
            self._idle.set()

    # -- in the thread --------------------------------------------------------------------------------------------
    def _open(self) -> None:
        settings = self._settings.to_librdkafka() | {
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
        }
        self._consumer = Consumer(settings, logger=_logger)
        self._consumer.subscribe(
            list(self._settings.topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _fetch(self) -> "_Fetched | None":
        """What came, read; commits what was accepted before."""
        consumer = self._asked()
        if self._is_paused:
            consumer.resume([TopicPartition(*place) for place in self._owned])
            self._is_paused = False
        self._commit_if_due()
        self._check_trouble()
        if self._waiting:
            messages = list(self._waiting)
            self._waiting.clear()
        else:
            messages = consumer.consume(self._settings.batch_events_max, FETCH_S)
        fetched = _Fetched()
        for message in messages:
            error = message.error()
            if error is not None:
                self._judge(error)
            else:
                self._read(message, fetched)
        if fetched.offsets:
            self.trouble = ""
            return fetched
        return None

    def _read(self, message: KafkaMessage, into: "_Fetched") -> None:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        place = f"{topic}/{partition}/{offset}"
        into.offsets[topic, partition] = offset + 1
        body = message.value() or b""
        kind, time_ms = message.timestamp()
        time_us = time_ms * 1000 if kind != _TIMESTAMP_UNKNOWN and time_ms > 0 else None
        try:
            attributes = attributes_of(_headers(message), _PREFIX) if message.headers() else {}
            raw = record_of(body, attributes, time_us)
        except UnreadableError as error:
            into.rejects.append(Reject(body, place, error.code, error.detail))
            return
        if raw:
            into.records.append(Record(raw, place))

    def _keep_place(self) -> None:
        """Be there for the group, and take no more than is on its way already."""
        consumer = self._asked()
        consumer.pause([TopicPartition(*place) for place in self._owned])
        self._is_paused = True
        self._commit_if_due()
        self._waiting.extend(consumer.consume(self._settings.batch_events_max, FETCH_S))

    def _commit_if_due(self) -> None:
        if time.monotonic() - self._committed_at >= COMMIT_EVERY_S:
            self._commit(wait=False)

    def _commit(self, *, wait: bool) -> None:
        self._committed_at = time.monotonic()
        with self._lock:
            due = self._accepted.items() - self._committed.items()
        offsets = [TopicPartition(*place, offset) for place, offset in due if place in self._owned]
        if not offsets:
            return
        consumer = self._asked()
        try:
            if wait:
                self._on_commit(None, consumer.commit(offsets=offsets, asynchronous=False) or [])
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            # What is not committed comes again, and is known.
            _logger.info("offsets were not committed: %s", error)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            _logger.info("offsets were not committed: %s", error)
            return
        for one in partitions:
            if one.error is None:
                self._committed[one.topic, one.partition] = one.offset

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned |= _places(partitions)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if self._is_closing:
            return
        if not self._idle.wait(REVOKED_S_MAX):
            _logger.warning("partitions go while events of them wait; they come again elsewhere")
        self._commit(wait=True)
        self._give_up(_places(partitions))

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(_places(partitions))

    def _give_up(self, places: set[Place]) -> None:
        self._owned -= places
        for place in places:
            self._committed.pop(place, None)
            with self._lock:
                self._accepted.pop(place, None)
        kept = [one for one in self._waiting if (one.topic(), one.partition()) not in places]
        self._waiting = deque(kept)

    def _judge(self, error: KafkaError) -> None:
        is_missing = error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and not self._owned
        if error.fatal() or error.code() in _FATAL or is_missing:
            raise KafkaException(error)
        self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        if not self.trouble:
            self._troubled_at = time.monotonic()
        self.trouble = error.str()

    def _check_trouble(self) -> None:
        """The client goes on for ever by itself, and a topic may be quiet: whoever looks at the source is to know."""
        if not self.trouble or time.monotonic() - self._troubled_at < TROUBLE_S_MAX:
            return
        said = self.trouble
        try:
            self._asked().list_topics(timeout=_ASK_S)
        except KafkaException as error:
            raise SourceFaultError(f"Kafka: {said}.") from error
        self.trouble = ""

    def _asked(self) -> Consumer:
        assert self._consumer is not None
        return self._consumer

    def _close(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        self._is_closing = True
        # Not waited for as in a rebalance: without brokers that would take as long as a session.
        self._commit(wait=False)
        consumer.pause([TopicPartition(*place) for place in self._owned])
        deadline = time.monotonic() + CLOSE_S_MAX
        while time.monotonic() < deadline and self._is_commit_open():
            consumer.poll(0.05)
            if time.monotonic() - self._committed_at >= _COMMIT_AGAIN_S:
                self._commit(wait=False)
        # Without brokers it takes as long as a session, and nobody waits for it then, not even the process.
        closing = threading.Thread(target=consumer.close, name="kafka-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S_MAX)
        self._consumer = None

    def _is_commit_open(self) -> bool:
        with self._lock:
            return any(
                place in self._owned and self._committed.get(place) != offset
                for place, offset in self._accepted.items()
            )


class _Fetched:
    """Messages of one look, and the offsets to go on from once they are accepted."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.rejects: list[Reject] = []
        self.offsets: dict[Place, int] = {}


def _headers(message: KafkaMessage) -> Iterable[tuple[str, str | bytes | None]]:
    headers = message.headers() or []
    return headers.items() if isinstance(headers, dict) else headers


def _places(partitions: Iterable[TopicPartition]) -> set[Place]:
    return {(one.topic, one.partition) for one in partitions}


def _translated(error: KafkaException) -> SourceFaultError:
    inner = error.args[0] if error.args else None
    said = inner.str() if isinstance(inner, KafkaError) else str(error)
    return SourceFaultError(f"Kafka: {said}.")


def make(source: Source, feed: Feed) -> KafkaSource:
    """A factory (interface.py)."""
    return KafkaSource(settings_of(source, feed.tenant), feed)
