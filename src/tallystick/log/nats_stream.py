"""One stream of a NATS cluster: connected for as long as it is open, created as we need it, asked and written to.

Owns: the connection (kept, or made anew for ever), the words of the JetStream API, and what its errors mean to us.
The stream keeps every message until we purge it (no limits of age or count), refuses instead of discarding, and tells
whoever listens on `<stream>.stored.<partition>` the sequence of each message it has stored, once a quorum has it.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from tallystick.errors import Invalid, StorageFull, TallystickError, Unavailable
from tallystick.log.nats_config import check_config, stored_subject, stream_config, subject
from tallystick.log.nats_connection import NatsConnection, RetryError
from tallystick.log.nats_url import NatsUrl

ROWS_HEADER = "Tallystick-Rows"

_ANSWER_S = 2.0
_RETRY_S = 0.1

_NOT_FOUND = 404
_STREAM_NOT_FOUND = 10059
_DUPLICATE_UNDER_WAY = 10158
_STREAM_EXISTS_OTHERWISE = 10058
_FULL = frozenset({10002, 10023, 10028, 10047})
"""JetStream's codes for: account, server, memory or storage resources are used up."""
_STORE_FAILED = 10077
_FULL_WORDS = ("no space left", "maximum bytes", "resource")
_MESSAGE_TOO_LARGE = frozenset({10054, 10097})

_logger = structlog.get_logger("tallystick.log")


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the leader says of its stream. `first` is last + 1 when there is no message."""

    created: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Ack:
    """The quorum has the message, under this sequence. `is_duplicate`: it had it before, from an earlier attempt."""

    sequence: int
    is_duplicate: bool


@dataclass(frozen=True, slots=True)
class Message:
    sequence: int
    payload: bytes


OnStored = Callable[[int, int], None]
OnAck = Callable[[str, "Ack | Exception"], None]


class NatsStream:
    """Everything is called from one event loop."""

    def __init__(self, url: NatsUrl, partition: int, *, on_stored: OnStored, on_ack: OnAck) -> None:
        """on_stored: (sequence, rows) of each message stored, by whomever; some may be missed.
        on_ack: (token, what became of the attempt to publish)."""
        self.name = f"{url.stream}-{partition}"
        self._url = url
        self._partition = partition
        self._subject = subject(url, partition)
        self._stored_subject = stored_subject(url, partition)
        self._on_stored = on_stored
        self._on_ack = on_ack
        self._inbox = ""
        self.connection = NatsConnection(url, f"tallystick {self.name}", on_connected=self._subscribe)

    async def _subscribe(self, client: Client) -> None:
        self._inbox = self._inbox or client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._ack_arrived)
        await client.subscribe(self._stored_subject, cb=self._stored_arrived)

    # The stream as a whole.

    async def ensure(self, *, first_sequence: int) -> StreamState:
        """The stream as it is; made, beginning at this sequence, when there is none.

        Raises RetryError while nobody leads; Invalid when a stream of this name cannot be ours; LogDamagedError when it
        belongs to another partition.
        """
        try:
            answer = await self._ask(f"STREAM.INFO.{self.name}", b"")
        except _NotFoundError:
            answer = await self._create(first_sequence)
        check_config(answer["config"], self._url, self._partition)
        return _state(answer)

    async def state(self) -> StreamState | None:
        """None when there is no such stream. Raises RetryError while nobody leads it."""
        try:
            return _state(await self._ask(f"STREAM.INFO.{self.name}", b""))
        except _NotFoundError:
            return None

    async def purge(self, *, before: int) -> None:
        """Forget the messages before this sequence; where it lies behind the end, the stream goes on from there."""
        await self._ask(f"STREAM.PURGE.{self.name}", json.dumps({"seq": before}).encode())

    async def _create(self, first_sequence: int) -> dict[str, Any]:
        _logger.info("log_stream_created", stream=self.name, first_sequence=first_sequence)
        config = stream_config(self.name, self._url, self._partition, first_sequence)
        try:
            return await self._ask(f"STREAM.CREATE.{self.name}", json.dumps(config).encode())
        except _ApiError as error:
            if error.code == _STREAM_EXISTS_OTHERWISE:  # another node was first
                raise RetryError("another node has just made the stream") from error
            if "replicas" in str(error) or "peers" in str(error):
                raise Invalid(
                    f"log_url: replicas={self._url.replicas} needs as many NATS servers with JetStream: {error}.",
                    code="invalid_setting",
                ) from error
            raise

    # Messages.

    async def send(self, payload: bytes, *, message_id: str, rows: int, token: str) -> None:
        """Hand a message to the connection; `on_ack` says what became of it, if anything is heard. Raises RetryError."""
        client = self.connection.client
        try:
            await client.publish(
                self._subject,
                payload,
                reply=f"{self._inbox}.{token}",
                headers={
                    "Nats-Msg-Id": message_id,
                    "Nats-Expected-Stream": self.name,
                    ROWS_HEADER: str(rows),
                },
            )
        except (nats.errors.Error, OSError) as error:
            raise RetryError(str(error)) from error

    async def fetch(
        self, sequence: int, *, messages_max: int, bytes_max: int, timeout_s: float
    ) -> list[Message]:
        """Messages from this sequence on, in order, from whichever server is asked: it may lag behind the leader.

        [] when it has none. Stops early at `bytes_max` (at least one comes) or when the time is up. Raises RetryError
        when nothing came.
        """
        client = self.connection.client
        found: list[Message] = []
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def arrived(message: Msg) -> None:
            headers = message.headers or {}
            if "Nats-Sequence" in headers and "Status" not in headers:
                found.append(Message(int(headers["Nats-Sequence"]), message.data))
            elif not done.done():
                if headers.get("Status") in ("204", "404"):
                    done.set_result(True)
                else:
                    done.set_exception(RetryError(f"the server says {headers}"))

        inbox = client.new_inbox()
        request = {"seq": sequence, "batch": messages_max, "max_bytes": bytes_max}
        subscription = None
        try:
            subscription = await client.subscribe(inbox, cb=arrived)
            await client.publish(f"$JS.API.DIRECT.GET.{self.name}", json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError as error:
            if not found:
                raise RetryError("no server answers in time") from error
        except (nats.errors.Error, OSError) as error:
            if not found:
                raise RetryError(str(error)) from error
        finally:
            if subscription is not None:
                with contextlib.suppress(nats.errors.Error, OSError):
                    await subscription.unsubscribe()
        return found

    # The connection's callbacks.

    async def _ack_arrived(self, message: Msg) -> None:
        self._on_ack(message.subject.rpartition(".")[2], self._read_ack(message))

    def _read_ack(self, message: Msg) -> Ack | Exception:
        headers = message.headers or {}
        if headers.get("Status") == "503":
            return RetryError(f"nobody leads the stream {self.name}")
        try:
            answer = json.loads(message.data)
            if "error" not in answer:
                return Ack(int(answer["seq"]), bool(answer.get("duplicate")))
        except (ValueError, KeyError, TypeError):
            return RetryError("an acknowledgement that cannot be read")
        return self._publish_error(answer["error"])

    def _publish_error(self, error: dict[str, Any]) -> Exception:
        code, text = error.get("err_code", 0), str(error.get("description", ""))
        if code in _FULL or (code == _STORE_FAILED and any(word in text for word in _FULL_WORDS)):
            return StorageFull(
                f"The NATS servers have no room for the event log ({text}). Nothing of this request was stored; make "
                "room and send it again."
            )
        if code in _MESSAGE_TOO_LARGE:
            return Invalid(f"The events are too large for one message of NATS: {text}.")
        if code == _DUPLICATE_UNDER_WAY:
            return RetryError("an earlier attempt is still under way")
        return RetryError(f"the stream {self.name} refused: {text} ({code})")

    async def _stored_arrived(self, message: Msg) -> None:
        headers = message.headers or {}
        try:
            self._on_stored(int(headers["Nats-Sequence"]), int(headers.get(ROWS_HEADER, "1")))
        except (KeyError, ValueError):
            _logger.warning("log_notice_unreadable", stream=self.name)

    async def _ask(self, what: str, body: bytes) -> dict[str, Any]:
        """One request to JetStream's API. Raises RetryError, or _ApiError."""
        client = self.connection.client
        try:
            message = await client.request(f"$JS.API.{what}", body, timeout=_ANSWER_S)
            answer = json.loads(message.data)
        except (nats.errors.Error, OSError, ValueError) as error:
            raise RetryError(f"JetStream does not answer: {error}") from error
        error = answer.get("error")
        if error is None:
            return answer
        if error.get("code") == _NOT_FOUND and error.get("err_code") == _STREAM_NOT_FOUND:
            raise _NotFoundError(error)
        if error.get("code") == 503:
            raise RetryError(str(error.get("description")))
        raise _ApiError(error)


class _ApiError(RetryError):
    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("description", error)))
        self.code = error.get("err_code", 0)


class _NotFoundError(_ApiError):
    pass


def _state(answer: dict[str, Any]) -> StreamState:
    state = answer["state"]
    last = int(state["last_seq"])
    return StreamState(
        created=str(answer["created"]),
        first=max(1, int(state["first_seq"])) if state["messages"] else last + 1,
        last=last,
    )


async def until(deadline_s: float, attempt: Callable[[], Awaitable[Any]], *, what: str) -> Any:
    """Repeat while RetryError is raised, until the loop's time reaches `deadline_s`; then Unavailable."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return await attempt()
        except RetryError as error:
            if loop.time() >= deadline_s:
                raise unavailable(f"{what}: {error}") from error
            await asyncio.sleep(_RETRY_S)


def unavailable(detail: str) -> TallystickError:
    return Unavailable(
        f"The event log cannot be used at the moment: {detail}.", code="log_unavailable", retry_after_s=5
    )
