"""`POST /v1/events`: raw ASGI, in front of the framework.

Nothing happens before the 202 but: who is it, decode and judge, append. The usual answer (everything accepted) is
formatted by hand. Large bodies are decoded in threads of their own, so that the loop goes on answering the small ones.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar.types import Receive, Scope, Send
from prometheus_client import Counter

from tallystick.api.auth import Authenticator, address_of, check_scope
from tallystick.api.problem import (
    PROBLEM_TYPE,
    RequestTimeout,
    problem_body,
    problem_headers,
    translated,
)
from tallystick.api.shares import Shares, weight_of
from tallystick.errors import BadRequest, Fault, Forbidden, Invalid, TallystickError, TooLarge, Unavailable
from tallystick.flows.known_subjects import KnownSubjects
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.metering.compression import decompress
from tallystick.metering.decode import Decoded, Limits, decode
from tallystick.metering.position import Positions, Vector, vector_of
from tallystick.observe import logger

SCOPE = "events:write"
INGEST_PATH = "/v1/events"
BODY_TIME_S_MAX = 60
SWEEP_S = 1.0
IN_THREAD_BYTES_MIN = 128 * 1024
"""From this size on a body is decoded in a thread (a millisecond or more of work)."""
DECODE_THREADS = 2
HELD_BODIES_MAX = 16
"""How many bodies of the greatest size may be held at once, all requests together."""

_log = logger(__name__)
_JSON = b"application/json"
_PROBLEM = PROBLEM_TYPE.encode()


class ClientGoneError(Exception):
    """The client hung up before its body was complete. Nothing was stored, and nobody is there to be told."""


class Ingest:
    """The ASGI application of one route."""

    def __init__(self, system: System, authenticator: Authenticator) -> None:
        settings = system.settings
        self._system = system
        self._authenticator = authenticator
        self._rates = authenticator.rates
        self._shares = Shares()
        self._log_events = system.log
        self._now_us = system.clock.now_us
        self._body_bytes_max = settings.body_bytes_max
        self._limits = Limits(
            events_max=settings.events_per_request_max,
            event_bytes_max=settings.event_bytes_max,
            depth_max=settings.event_depth_max,
            future_tolerance_us=settings.future_tolerance_s * 1_000_000,
        )
        # Kept out of the way of everybody who has not asked for it.
        self._known_subjects = KnownSubjects(system.catalog) if settings.unknown_subject == "reject" else None
        self._wait_s_max = settings.wait_s_max
        self._accepted = system.metrics.events_accepted
        self._threads = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode")
        self._held_bytes = 0
        self._arrivals = _Arrivals()
        self._counters: dict[int, Counter] = {}
        self.append_failure: TallystickError | None = None
        """Why the last append failed; None when it did not. `GET /health/ready` shows it."""
        self.append_failed_at_us = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id: str = scope["tallystick_request_id"]  # type: ignore[typeddict-item]  # the shell put it there
        media_type = _JSON
        more: list[tuple[bytes, bytes]] = []
        try:
            status, body = await self._answer(scope, receive)
            if status >= 400:
                media_type = _PROBLEM
        except ClientGoneError:
            return
        except Exception as error:
            found = translated(error)
            if found.status == 500:
                _log.exception("request failed", request_id=request_id)
            status, media_type, body = found.status, _PROBLEM, problem_body(found)
            more = [(name.encode(), value.encode("latin-1")) for name, value in problem_headers(found)]
        self._count(status)
        if status >= 400:
            _log.info("request", method="POST", route=INGEST_PATH, status=status, request_id=request_id)
        # Made here and not in the shell's wrapper around `send`: this is the path where microseconds count.
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", media_type),
                    (b"content-length", b"%d" % len(body)),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                    *more,
                ],
            }
        )
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _count(self, status: int) -> None:
        counter = self._counters.get(status)
        if counter is None:
            counter = self._system.metrics.http_requests.labels(INGEST_PATH, "POST", status)
            self._counters[status] = counter
        counter.inc()

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        authorization = headers.get(b"authorization")
        caller = self._authenticator.kept(authorization) if authorization else None
        if caller is None:
            caller = await self._authenticator.authenticate(authorization, address=address_of(scope))
        if self._rates.limits_requests:
            self._rates.check_request(caller)
        check_scope(caller, SCOPE)
        if caller.customer is not None:
            raise Forbidden("A customer's token may not send events.", code="customer_token")
        query = scope["query_string"]
        wait = _waits(query) if query else False

        tenant = caller.tenant
        if self._rates.limits_events:
            self._rates.check_events(tenant)
        weight = weight_of(headers.get(b"content-length"), compressed=b"content-encoding" in headers)
        if not self._shares.enter(tenant, weight):
            await self._shares.wait(tenant, weight)
        try:
            decoded = await self.decoded(headers, receive, tenant=tenant)
            if not decoded.events:
                return 422, nothing_accepted(decoded)
            if self._rates.limits_events:
                self._rates.took_events(tenant, len(decoded.events))
            positions = await self._append(decoded)
        finally:
            self._shares.leave(tenant, weight)
        if wait:
            return await self._recorded(decoded, positions)
        position = vector_of(positions)
        if not decoded.rejected:
            return 202, b'{"accepted":%d,"rejected":0,"position":"%s","results":[]}' % (
                len(decoded.events),
                token_of(position).encode(),
            )
        return 202, accepted(decoded, position)

    async def decoded(self, headers: Mapping[bytes, bytes], receive: Receive, *, tenant: str) -> Decoded:
        """The events in the body of a request that takes them, each judged. Counts the rejected ones.

        Raises ClientGoneError, and what `decompress` and `decode` raise."""
        body = await self._body(headers, receive)
        return await self.judged(
            body,
            encoding=headers.get(b"content-encoding", b"").decode("latin-1").strip().lower(),
            content_type=headers.get(b"content-type", b"").decode("latin-1"),
            ce_headers=ce_headers_of(headers),
            tenant=tenant,
        )

    async def body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The body of a request that takes events, unpacked. Raises ClientGoneError, and what `decompress` raises."""
        body = await self._body(headers, receive)
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        if not encoding or encoding == "identity":
            return body
        work = partial(decompress, body, encoding=encoding, bytes_max=self._body_bytes_max)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def stored(self, decoded: Decoded, *, tenant: str) -> Positions:
        """Append the accepted events, in the tenant's share of the way in. They are durable then."""
        weight = weight_of(b"%d" % sum(map(len, decoded.events.data)), compressed=False)
        if not self._shares.enter(tenant, weight):
            await self._shares.wait(tenant, weight)
        try:
            return await self._append(decoded)
        finally:
            self._shares.leave(tenant, weight)

    async def judged(
        self,
        body: bytes,
        *,
        encoding: str = "",
        content_type: str,
        ce_headers: Mapping[str, str],
        tenant: str,
    ) -> Decoded:
        """The events in a body, each judged. Counts the rejected ones. Raises what `decompress` and `decode` raise."""
        held = len(body)
        self._held_bytes += held
        try:
            work = partial(
                self._decode,
                body,
                encoding=encoding,
                content_type=content_type,
                ce_headers=ce_headers,
                tenant=tenant,
                received_at_us=self._now_us(),
            )
            if held >= IN_THREAD_BYTES_MIN or (encoding and encoding != "identity"):
                decoded = await asyncio.get_running_loop().run_in_executor(self._threads, work)
            else:
                decoded = work()
        finally:
            self._held_bytes -= held
        if self._known_subjects is not None:
            decoded = await self._known_subjects.judged(decoded, tenant)
        for rejection in decoded.rejected:
            self._system.metrics.events_rejected.labels(rejection.code).inc()
        return decoded

    def _decode(
        self,
        body: bytes,
        *,
        encoding: str,
        content_type: str,
        ce_headers: Mapping[str, str],
        tenant: str,
        received_at_us: int,
    ) -> Decoded:
        if encoding and encoding != "identity":
            body = decompress(body, encoding=encoding, bytes_max=self._body_bytes_max)
        return decode(
            body,
            content_type=content_type,
            ce_headers=ce_headers,
            tenant=tenant,
            received_at_us=received_at_us,
            limits=self._limits,
        )

    async def _append(self, decoded: Decoded) -> Positions:
        """The position of each of the events, now durable."""
        try:
            positions = await self._log_events.append(decoded.events)
        except TallystickError as error:
            self.append_failure, self.append_failed_at_us = error, self._now_us()
            raise
        self.append_failure = None
        self._accepted.inc(len(decoded.events))
        return positions

    async def _recorded(self, decoded: Decoded, positions: Positions) -> tuple[int, bytes]:
        """What became of the events; where the recorder is not that far in time, that they are accepted."""
        count = len(decoded.events)
        position = vector_of(positions)
        outcome = await self._system.recorder.outcome(positions, self._wait_s_max)
        if outcome is None:
            return 202, accepted(decoded, position, waited=True)
        results = _rejected(decoded)
        for status, rows in (
            ("duplicate", outcome.duplicates),
            ("conflict", outcome.conflicts),
            ("quarantined", outcome.quarantined),
        ):
            for row in rows:
                index = row if decoded.indices is None else decoded.indices[row]
                results.append({"index": index, "id": decoded.events.id[row], "status": status})
        results.sort(key=_index_of)
        answer: dict[str, Any] = {
            "recorded": count - len(results) + len(decoded.rejected),
            "duplicates": len(outcome.duplicates),
            "conflicts": len(outcome.conflicts),
            "rejected": len(decoded.rejected),
            "position": token_of(position),
            "results": results,
        }
        if outcome.quarantined:
            answer["quarantined"] = len(outcome.quarantined)
        return 200, msgspec.json.encode(answer)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18:
            raise BadRequest("Content-Length is not a number.")
        if int(length) > self._body_bytes_max:
            raise self._too_large()
        arrivals = self._arrivals
        task = arrivals.begin()
        try:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            body = message.get("body", b"")
            if message.get("more_body", False):
                body = await self._rest_of_body(body, receive)
        except asyncio.CancelledError:
            arrivals.raise_if_expired(task)
            raise
        finally:
            arrivals.end(task)
        if len(body) > self._body_bytes_max:
            raise self._too_large()
        return body

    async def _rest_of_body(self, start: bytes, receive: Receive) -> bytes:
        pieces = [start]
        total = held = len(start)
        self._held_bytes += held
        try:
            more = True
            while more:
                message: Any = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                piece = message.get("body", b"")
                more = message.get("more_body", False)
                total += len(piece)
                if total > self._body_bytes_max:
                    raise self._too_large()
                held += len(piece)
                self._held_bytes += len(piece)
                if self._held_bytes > HELD_BODIES_MAX * self._body_bytes_max:
                    raise Unavailable(
                        "Too many large bodies are arriving at once.", code="overloaded", retry_after_s=1
                    )
                pieces.append(piece)
        finally:
            self._held_bytes -= held
        return b"".join(pieces)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._body_bytes_max} bytes. Send it in several requests.")


class _Arrivals:
    """Puts an end to bodies that do not arrive, with one timer for all of them.

    A timer for each costs a tenth of a small request; nearly all bodies are there already when they are asked for."""

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._sweeping = False

    def begin(self) -> "asyncio.Task[Any]":
        """This task waits for a body from now on. It is cancelled after BODY_TIME_S_MAX, within SWEEP_S."""
        task = asyncio.current_task()
        assert task is not None
        self._until[task] = monotonic() + BODY_TIME_S_MAX
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return task

    def raise_if_expired(self, task: "asyncio.Task[Any]") -> None:
        """Turn a cancellation that came from here into RequestTimeout; one that did not is left alone."""
        if task in self._expired and task.uncancel() == 0:
            raise RequestTimeout(f"The body did not arrive within {BODY_TIME_S_MAX} s.") from None

    def end(self, task: "asyncio.Task[Any]") -> None:
        """It waits no more."""
        del self._until[task]
        self._expired.discard(task)

    def _sweep(self) -> None:
        now_s = monotonic()
        for task, until in self._until.items():
            if until <= now_s and task not in self._expired:
                self._expired.add(task)
                task.cancel()
        self._sweeping = bool(self._until)
        if self._sweeping:
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


def ce_headers_of(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """The headers of CloudEvents binary mode, as text of the bytes on the wire."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name[:3] == b"ce-"
    }


def _waits(query: bytes) -> bool:
    """Whether the answer is to wait. Raises Invalid for anything that is not `wait=recorded`."""
    faults: list[Fault] = []
    waits = False
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100):
        if name != "wait":
            detail = f"There is no parameter {name[:60]!r} here; known: wait."
            faults.append(Fault(name[:60], "unknown_parameter", detail))
        elif value != "recorded":
            detail = f"wait: {value[:40]!r} is not `recorded`."
            faults.append(Fault("wait", "invalid_value", detail))
        else:
            waits = True
    if faults:
        raise Invalid(" ".join(f.detail for f in faults[:5]), code=faults[0].code, faults=faults)
    return waits


def _index_of(result: dict[str, Any]) -> int:
    return result["index"]


def _rejected(decoded: Decoded) -> list[dict[str, Any]]:
    return [
        {
            "index": rejection.index,
            "id": rejection.id,
            "status": "rejected",
            "code": rejection.code,
            "detail": rejection.detail,
        }
        for rejection in decoded.rejected
    ]


def accepted(decoded: Decoded, position: Vector, *, waited: bool = False) -> bytes:
    """The answer that says which events were taken."""
    answer: dict[str, Any] = {
        "accepted": len(decoded.events),
        "rejected": len(decoded.rejected),
        "position": token_of(position),
        "results": _rejected(decoded),
    }
    if waited:
        answer["waited"] = True
    return msgspec.json.encode(answer)


def nothing_accepted(decoded: Decoded) -> bytes:
    """The problem document (422) of a request none of whose events was accepted."""
    if not decoded.rejected:
        error = Invalid("The request has no events.", code="no_events")
    else:
        error = Invalid(
            f"None of the {len(decoded.rejected)} events was accepted; `results` says why.",
            code="nothing_accepted",
            faults=[Fault(f"/{r.index}", r.code, r.detail) for r in decoded.rejected],
        )
    return problem_body(
        error, extra={"accepted": 0, "rejected": len(decoded.rejected), "results": _rejected(decoded)}
    )
