"""The thread that takes events from the spool to the server, in order, until each was answered for."""

import gzip
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tallystick_client.errors import Unreachable
from tallystick_client.event import event_of
from tallystick_client.options import Options, Rejection
from tallystick_client.segment import Segment
from tallystick_client.spool import Spool
from tallystick_client.transport import RETRIED, Answer, Delays, Transport

_ADOPT_EVERY_S = 30.0
_COMPRESSED_BYTES_MIN = 2_048
_log = logging.getLogger("tallystick_client")


@dataclass(slots=True)
class Counts:
    """What became of events. Written by the sending thread alone."""

    accepted: int = 0
    rejected: int = 0
    failures: int = 0
    last_failure: str = field(default="")


class Sender:
    """Starts with the first event. `stop` ends it; what was not sent stays in the spool."""

    def __init__(self, spool: Spool, transport: Transport, options: Options) -> None:
        self._spool, self._transport, self._options = spool, transport, options
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._idle = threading.Condition()
        self._delays = Delays(options.retry_s_min, options.retry_s_max)
        self._threads: list[threading.Thread] = []
        self._flushing = 0
        self.counts = Counts()

    def start(self) -> None:
        """Begin, once."""
        work: list[tuple[str, Callable[[], None]]] = [("tallystick-send", self._run)]
        if self._options.spool is not None:
            work.append(("tallystick-sync", self._sync))
        self._threads = [threading.Thread(target=each, name=name, daemon=True) for name, each in work]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is a full batch."""
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Send what waits now; whether all of it was answered for in time."""
        until = time.monotonic() + timeout_s
        with self._idle:
            self._flushing += 1
            self._wake.set()
            try:
                while self._spool.waiting:
                    left = until - time.monotonic()
                    if left <= 0 or self._stopping.is_set():
                        return False
                    self._idle.wait(min(left, 0.5))
                return True
            finally:
                self._flushing -= 1

    def stop(self, timeout_s: float) -> None:
        """End the threads; a request under way is waited for so long."""
        self._stopping.set()
        self._wake.set()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))

    def _sync(self) -> None:
        while not self._stopping.wait(self._options.sync_s):
            try:
                self._spool.sync()
            except OSError as error:
                _log.error("The spool cannot be synced: %s", error)

    def _run(self) -> None:
        adopted_at = time.monotonic()
        while not self._stopping.is_set():
            if not self._flushing:
                self._wake.wait(self._options.flush_s)
            self._wake.clear()
            try:
                if time.monotonic() - adopted_at > _ADOPT_EVERY_S:
                    adopted_at = time.monotonic()
                    self._spool.adopt()
                self._send_all()
            except Exception:
                if self._stopping.is_set():
                    return
                _log.exception("Sending events failed; it is tried again.")
                self._stopping.wait(self._delays.next_s())
            with self._idle:
                self._idle.notify_all()
                if self._flushing and not self._spool.waiting:
                    self._idle.wait(0.001)  # lets who waits see it

    def _send_all(self) -> None:
        while not self._stopping.is_set():
            taken = self._spool.batch(self._options.batch_events_max, self._options.batch_bytes_max)
            if taken is None:
                return
            segment, body = taken
            self._send(segment, body)

    def _send(self, segment: Segment, body: bytes) -> None:
        """Try until there is an answer for every event of the batch, or the end."""
        while not self._stopping.is_set():
            retry_after_s: float | None = None
            try:
                answer = self._post(body)
            except Unreachable as error:
                self._failed(str(error))
            else:
                if answer.status < 300:
                    self._settle(segment, body, answer.json())
                    self._delays.reset()
                    return
                results = self._results(answer)
                if results is not None:
                    self._settle(segment, body, results)
                    return
                if answer.status in {400, 413, 422}:
                    # Something in it cannot be taken, or all of it is too much: find out which.
                    if body.count(b"\n") > 1:
                        body = _half(body)
                        continue
                    self._settle(segment, body, _refused(answer))
                    return
                retry_after_s = answer.retry_after_s
                self._failed(f"HTTP {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}")
                if answer.status not in RETRIED:
                    # No key, no scope, no such path: only people mend that, and the events wait for them.
                    retry_after_s = max(retry_after_s or 0.0, self._options.retry_s_max / 2)
            self._stopping.wait(self._delays.next_s(retry_after_s))

    def _post(self, body: bytes) -> Answer:
        headers = {"content-type": "application/x-ndjson"}
        if self._options.compress and len(body) >= _COMPRESSED_BYTES_MIN:
            body = gzip.compress(body, 1, mtime=0)
            headers["content-encoding"] = "gzip"
        return self._transport.request("POST", "/v1/events", body=body, headers=headers)

    def _failed(self, why: str) -> None:
        self.counts.failures += 1
        self.counts.last_failure = why
        _log.warning("Events wait in the spool. %s", why)

    @staticmethod
    def _results(answer: Answer) -> dict[str, Any] | None:
        """What a refusal says of each event; None where it says nothing of them."""
        if answer.status != 422:
            return None
        try:
            document: Any = answer.json()
        except Unreachable:
            return None
        except Exception as error:  # a Problem
            document = getattr(error, "document", None)
        found = _rejected_in(document)
        return {"results": found} if found else None

    def _settle(self, segment: Segment, body: bytes, document: Any) -> None:
        """Tell of rejected events, then let go of all."""
        lines = body.count(b"\n")
        rejected = _rejected_in(document)
        if rejected:
            events: list[bytes] = body.split(b"\n")
            for each in rejected:
                self._tell(
                    Rejection(event_of(events[int(each["index"])]), str(each["code"]), str(each["detail"]))
                )
        self.counts.rejected += len(rejected)
        self.counts.accepted += lines - len(rejected)
        self._spool.acknowledge(segment, len(body), lines)

    def _tell(self, rejection: Rejection) -> None:
        if self._options.on_rejected is None:
            _log.error(
                "Event %s was rejected: %s: %s",
                rejection.event.get("id"),
                rejection.code,
                rejection.detail,
            )
            return
        try:
            self._options.on_rejected(rejection)
        except Exception:
            _log.exception("on_rejected failed for event %s.", rejection.event.get("id"))


def _rejected_in(document: Any) -> list[dict[str, Any]]:
    """The results of events that were not taken."""
    if not isinstance(document, dict):
        return []
    results: Any = cast("dict[str, Any]", document).get("results")
    if not isinstance(results, list):
        return []
    found = [cast("dict[str, Any]", each) for each in cast("list[Any]", results) if isinstance(each, dict)]
    return [each for each in found if each.get("status") == "rejected"]


def _half(body: bytes) -> bytes:
    """The first half of the lines."""
    at = body.rfind(b"\n", 0, len(body) // 2)
    if at < 0:
        at = body.index(b"\n")
    return body[: at + 1]


def _refused(answer: Answer) -> dict[str, Any]:
    """A single event that made the whole request fail."""
    code, detail = f"http_{answer.status}", answer.body[:500].decode("utf-8", "replace")
    try:
        answer.json()
    except Exception as error:
        code, detail = getattr(error, "code", code), getattr(error, "detail", detail)
    return {"results": [{"index": 0, "status": "rejected", "code": code, "detail": detail}]}
