"""The usual calls to the gate (check, reserve, both in batches, settle, release), answered without the framework: a check or
a reservation five times as many a second.

It answers what is plain and can be decided at once. Everything else (another spelling, a fault, a caller or a customer that
is not known yet, a gate in another process) goes on to the framework's routes (api/gate.py), which say the same.
"""

import asyncio
import contextlib
import re
from collections import Counter as Counts
from collections.abc import Coroutine, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, cast

import msgspec
from litestar.types import Receive, Scope, Send
from prometheus_client import Counter

from tallystick.api import wire
from tallystick.api.auth import Authenticator
from tallystick.api.gate import (
    DIMENSION_CHARACTERS_MAX,
    DIMENSIONS_MAX,
    document_of,
    problem_of,
    read_asks,
    read_reservations,
    read_settlement,
)
from tallystick.api.problem import PROBLEM_TYPE, problem_body, problem_headers, translated
from tallystick.document import NotDecimal, decimal_of
from tallystick.errors import TallystickError, Unavailable
from tallystick.flows.limits.gate import LimitGate
from tallystick.flows.limits.process import GateProcess
from tallystick.flows.limits.receipt import LimitExceeded, LimitUnknown
from tallystick.flows.limits.rules import Ask
from tallystick.flows.limits.writer import Written
from tallystick.flows.system import System
from tallystick.limits.reservation import TTL_S_DEFAULT, TTL_S_MAX
from tallystick.observe import logger

CHECK_PATH = "/v1/check"
CHECK_BATCH_PATH = "/v1/check/batch"
RESERVE_PATH = "/v1/reservations"
RESERVE_BATCH_PATH = "/v1/reservations/batch"
PATHS = frozenset({CHECK_PATH, CHECK_BATCH_PATH, RESERVE_PATH, RESERVE_BATCH_PATH})
READING = frozenset({CHECK_PATH, CHECK_BATCH_PATH})
"""They change nothing."""
SCOPE = "limits:check"
BODY_BYTES_MAX = 8192
BODY_WAIT_S_MAX = 1.0
"""A body that takes longer is the framework's to wait for."""

_ELSEWHERE = frozenset({b"idempotency-key", b"content-encoding", b"transfer-encoding", b"expect"})
_JSON = (b"application/json", b"application/json; charset=utf-8")
_OF_ONE = re.compile(r"/v1/reservations/(rsv_[0-9a-f]{24})/(settle|release)")
_NOTHING = (b"", b"{}")
_encode = msgspec.json.Encoder().encode
_log = logger(__name__)


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    customer: str
    meter: str
    amount: str | int
    dimensions: dict[str, str | None] | msgspec.UnsetType = msgspec.UNSET
    ttl_seconds: int | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Asked)


class Answer(NamedTuple):
    """What goes back. `more`: headers of its own."""

    status: int
    body: bytes
    media_type: bytes = _JSON[0]
    more: tuple[tuple[bytes, bytes], ...] = ()


class Waiting:
    """A call that is decided, or being decided: answer it (`Quick.reserved`) when `written` is over."""

    __slots__ = ("answer", "written")

    def __init__(self, written: Written, answer: Answer | None = None) -> None:
        """`answer`: unless it cannot be written."""
        self.written = written
        self.answer = answer


class Quick:
    """In front of the framework, for two routes."""

    def __init__(self, system: System, authenticator: Authenticator) -> None:
        self._system = system
        self._authenticator = authenticator
        self._tasks: set[asyncio.Task[None]] = set()
        self._counters: dict[tuple[str, int], Counter] = {}
        self._noted: Counts[tuple[str, int]] = Counts()

    @property
    def process(self) -> GateProcess | None:
        """The gate's own, where this one has started one."""
        limiting = self._system.limits
        return None if limiting is None else limiting.process

    # -- deciding, without an await -------------------------------------------------------------------------------
    def tenant_of(self, authorization: bytes) -> str | None:
        """Of a caller who is known and may ask; None: the framework looks who it is."""
        if self._authenticator.rates.limits_requests:
            return None
        caller = self._authenticator.kept(authorization) if authorization else None
        if caller is None or caller.suspended or caller.customer is not None or not caller.allows(SCOPE):
            return None
        return caller.tenant

    def decided(self, path: str, tenant: str, body: bytes, request_id: bytes) -> Answer | Waiting | None:
        """None: it is not plain, nothing has been done, and the framework is to be asked."""
        limiting = self._system.limits
        gate = None if limiting is None else limiting.here
        if gate is None:
            return None
        if path not in (CHECK_PATH, RESERVE_PATH):
            return self._other(gate, path, tenant, body, request_id)
        read = _read(body, tenant)
        if read is None or (path == CHECK_PATH and read[1] is not None):
            return None
        ask, ttl_s = read
        try:
            if path == CHECK_PATH:
                receipt = gate.check_text(ask)
                return None if receipt is None else Answer(200, receipt)
            found = gate.reserve_text(ask, TTL_S_DEFAULT if ttl_s is None else ttl_s)
        except Exception as error:
            return self.refused(error, request_id)
        if found is None:
            return None
        name, text, written = found
        return Waiting(written, Answer(201, text, more=((b"location", f"{RESERVE_PATH}/{name}".encode()),)))

    def _other(
        self, gate: LimitGate, path: str, tenant: str, body: bytes, request_id: bytes
    ) -> Answer | Waiting | None:
        """Of several, or of one that is held."""
        of_one = _OF_ONE.fullmatch(path)
        if of_one is not None and of_one[2] == "release":
            if body not in _NOTHING:
                return None
            return self._begun(_released(gate, tenant, of_one[1]), request_id)
        if b"\\u" in body:
            return None
        try:
            raw = wire.parse_json(body)
            if not isinstance(raw, dict):
                return None
            content = cast("dict[str, Any]", raw)
            if of_one is not None:
                return self._begun(_settled(gate, tenant, of_one[1], *read_settlement(content)), request_id)
            if path == RESERVE_BATCH_PATH:
                return self._begun(_reserved_each(gate, read_reservations(content, tenant)), request_id)
            asks = read_asks(content, tenant)
        except TallystickError:
            return None  # the framework's to say
        return _checked_each(gate, asks)

    def _begun(self, work: Coroutine[Any, Any, Answer], request_id: bytes) -> Waiting:
        """By a task of its own."""
        waiting = Waiting(Written())

        async def run() -> None:
            try:
                waiting.answer = await work
            except Exception as error:
                waiting.answer = self.refused(error, request_id)
            except BaseException:
                waiting.written.over(Unavailable("This process stops.", retry_after_s=1))
                raise
            waiting.written.over()

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return waiting

    async def prepare(self, tenant: str, body: bytes) -> None:
        """Have asked for what a decision needs and is not known yet. What cannot be had is the framework's to say."""
        limiting = self._system.limits
        gate = None if limiting is None else limiting.here
        read = None if gate is None else _read(body, tenant)
        if gate is not None and read is not None:
            with contextlib.suppress(TallystickError):
                await gate.check(read[0])

    def reserved(self, waiting: Waiting, request_id: bytes) -> Answer:
        """Once it is written, or could not be."""
        error = waiting.written.error
        if error is not None:
            return self.refused(error, request_id)
        assert waiting.answer is not None
        return waiting.answer

    def refused(self, error: BaseException, request_id: bytes) -> Answer:
        shown = translated(error)
        if shown.status == 500:
            _log.error("request failed", request_id=request_id.decode(), exc_info=error)
        receipt = shown.receipt if isinstance(shown, LimitExceeded | LimitUnknown) else None
        headers = [(name.encode(), value.encode("latin-1")) for name, value in problem_headers(shown)]
        return Answer(shown.status, problem_body(shown, extra=receipt), PROBLEM_TYPE.encode(), tuple(headers))

    def note(self, path: str, status: int, request_id: bytes) -> None:
        """Count an answer, and log one that refuses."""
        path = route_of(path) or path
        counter = self._counters.get((path, status))
        if counter is None:
            counter = self._system.metrics.http_requests.labels(path, "POST", status)
            self._counters[path, status] = counter
        counter.inc()
        self._noted[path, status] += 1
        if status >= 400:
            _log.info("request", method="POST", route=path, status=status, request_id=request_id.decode())

    def noted(self) -> Counts[tuple[str, int]]:
        """How many requests were answered since this was last asked, by route and status."""
        noted, self._noted = self._noted, Counts()
        return noted

    # -- over ASGI ------------------------------------------------------------------------------------------------
    async def handled(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        request_id: bytes,
        more: list[tuple[bytes, bytes]],
    ) -> Receive | None:
        """None: it is answered. Otherwise what the framework is to receive."""
        path: str = scope["path"]
        known = self._known_caller(scope)
        if known is None:
            return receive
        tenant, length = known
        try:
            async with asyncio.timeout(BODY_WAIT_S_MAX):
                message = await receive()
        except TimeoutError:
            return receive
        again = _Again(message, receive)
        if message["type"] != "http.request" or len(message.get("body", b"")) != length:
            return again
        found = self.decided(path, tenant, message["body"], request_id)
        if found is None:
            return again
        if isinstance(found, Waiting):
            with contextlib.suppress(TallystickError):  # it is answered
                await found.written
            found = self.reserved(found, request_id)
        self.note(path, found.status, request_id)
        await send(
            {
                "type": "http.response.start",
                "status": found.status,
                "headers": [
                    (b"content-type", found.media_type),
                    (b"content-length", b"%d" % len(found.body)),
                    (b"x-request-id", request_id),
                    *found.more,
                    *more,
                ],
            }
        )
        await send({"type": "http.response.body", "body": found.body, "more_body": False})
        return None

    def _known_caller(self, scope: Scope) -> tuple[str, int] | None:
        """The tenant of a caller who may, and the length of the body; None: it is not plain."""
        if scope["query_string"]:
            return None
        authorization = length = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length":
                length = value
            elif is_special(name, value):
                return None
        if not length.isdigit() or len(length) > 6 or int(length) > BODY_BYTES_MAX:
            return None
        tenant = self.tenant_of(authorization)
        return None if tenant is None else (tenant, int(length))


def route_of(path: str) -> str | None:
    """How the framework calls the route of a path; None: it is none that is answered here."""
    if path in PATHS:
        return path
    of_one = _OF_ONE.fullmatch(path)
    return None if of_one is None else f"/v1/reservations/{{id}}/{of_one[2]}"


def is_special(name: bytes, value: bytes) -> bool:
    """Whether a header asks for what the framework alone does."""
    return name in _ELSEWHERE or (name == b"content-type" and value not in _JSON)


class _Again:
    """Receives a message once more, and then what follows it."""

    def __init__(self, message: Any, receive: Receive) -> None:
        self._message: Any = message
        self._receive = receive

    async def __call__(self) -> Any:
        message, self._message = self._message, None
        return await self._receive() if message is None else message


def _read(body: bytes, tenant: str) -> tuple[Ask, int | None] | None:
    """The use that is asked for, and its `ttl_seconds`; None for what must be looked at more closely."""
    if b"\\" in body:
        return None
    try:
        asked = _decoder.decode(body)
        amount = decimal_of(asked.amount)
    except (msgspec.DecodeError, NotDecimal, UnicodeDecodeError):
        return None
    # Two for each name and each text: any more, and a member is there twice.
    quotes = 10 + (2 if isinstance(asked.amount, str) else 0)
    dimensions: tuple[tuple[str, str | None], ...] = ()
    if asked.dimensions is not msgspec.UNSET:
        dimensions = tuple(sorted(asked.dimensions.items()))
        quotes += 2
        for _, value in dimensions:
            quotes += 2 if value is None else 4
            if value is not None and len(value) > DIMENSION_CHARACTERS_MAX:
                return None
    ttl_s = None
    if asked.ttl_seconds is not msgspec.UNSET:
        ttl_s = asked.ttl_seconds
        quotes += 2
        if not 1 <= ttl_s <= TTL_S_MAX:
            return None
    if body.count(b'"') != quotes or len(dimensions) > DIMENSIONS_MAX or amount <= Decimal(0):
        return None
    return Ask(tenant, asked.customer, asked.meter, amount, dimensions), ttl_s


def _checked_each(gate: LimitGate, asks: Sequence[Ask]) -> Answer | None:
    made: list[bytes] = []
    for ask in asks:
        try:
            receipt = gate.check_text(ask)
        except TallystickError as error:
            receipt = _encode(problem_of(error))
        if receipt is None:
            return None
        made.append(receipt)
    return Answer(200, _items_text(made))


async def _reserved_each(gate: LimitGate, asks: Sequence[tuple[Ask, int]]) -> Answer:
    made = await gate.reserve_each_text(asks)
    return Answer(
        200, _items_text([one if isinstance(one, bytes) else _encode(problem_of(one)) for one in made])
    )


def _items_text(items: Sequence[bytes]) -> bytes:
    return b'{"items":[%b]}' % b",".join(items)


async def _settled(
    gate: LimitGate, tenant: str, name: str, amount: Decimal | None, event: dict[str, Any] | None
) -> Answer:
    return Answer(200, _encode(document_of(await gate.settle(tenant, name, amount, event))))


async def _released(gate: LimitGate, tenant: str, name: str) -> Answer:
    return Answer(200, _encode(document_of(await gate.release(tenant, name))))
