"""The client: events in, in the background; questions and limits at once."""

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tallystick_client.answers import Check, Reservation, Usage
from tallystick_client.errors import SpoolFull, TallystickError
from tallystick_client.event import EVENT_BYTES_MAX, EventMaker
from tallystick_client.options import Options, Stats
from tallystick_client.questions import Amount, Questions
from tallystick_client.sender import Sender
from tallystick_client.spool import Spool
from tallystick_client.transport import Transport

# Until they are closed: a client that nobody holds any more may still have events to send.
_clients: "set[Core]" = set()


class Core:
    """What both clients are made of: a spool, a thread that empties it, and a way to ask."""

    def __init__(self, url: str, key: str | None, options: Options) -> None:
        self.options = options
        self.transport = Transport(url, key, timeout_s=options.timeout_s, ssl_context=options.ssl_context)
        self.questions = Questions(self.transport, options)
        self.dropped = 0
        self.closed = False
        self._build()
        _clients.add(self)

    def _build(self) -> None:
        options = self.options
        self.maker = EventMaker(options.source)
        self.spool = Spool(
            None if options.spool is None else Path(options.spool),
            bytes_max=options.spool_bytes_max,
            segment_bytes=options.segment_bytes,
            line_bytes_max=min(EVENT_BYTES_MAX, options.segment_bytes),
        )
        self.sender = Sender(self.spool, self.transport, options)
        self._started = False
        self._start_lock = threading.Lock()
        if self.spool.waiting:
            self.start()

    def start(self) -> None:
        """The thread begins with the first event: who only asks has none."""
        with self._start_lock:
            if not self._started and not self.closed:
                self._started = True
                self.sender.start()

    def put(self, line: bytes) -> None:
        """Into the spool. Raises SpoolFull."""
        unsent = self.spool.append(line)
        if not self._started:
            self.start()
        if unsent >= self.options.batch_bytes_max:
            self.sender.wake()

    def close(self, timeout_s: float) -> bool:
        """Whether everything was answered for. What was not stays in the spool (with a directory)."""
        if self.closed:
            return True
        complete = not self.spool.waiting
        if self._started:
            complete = self.sender.flush(timeout_s)
            self.sender.stop(0.5 if not complete else timeout_s)
        self.closed = True
        _clients.discard(self)
        self.questions.stopping.set()
        self.spool.close()
        self.transport.close()
        return complete

    def forked(self) -> None:
        """In the child: the parent sends what is in its spool. Here begins a new one."""
        if self.closed:
            return
        self.spool.abandon()
        self.transport.forget()
        self._build()


@atexit.register
def _close_all() -> None:
    for core in list(_clients):
        core.close(core.options.close_s_max)


def _forked() -> None:
    for core in list(_clients):
        core.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Client:
    """Send usage events and ask about usage. Safe for many threads; one for a process is enough.

    `key` and `url` default to the environment's TALLYSTICK_KEY and TALLYSTICK_URL.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, options: Options | None = None
    ) -> None:
        """Raises TallystickError for an address that is none, OSError when the spool cannot be made."""
        self._core = core_of(url, key, options)

    def track(
        self,
        event_type: str,
        subject: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the contract's word
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> str:
        """Take one event, and answer its id at once. It is sent in the background, under this id in every attempt, and
        is safe from the death of this process when the spool is a directory.

        Raises InvalidEvent; SpoolFull after `full_wait_s_max` (`on_full="wait"`) or at once (`"raise"`).
        """
        core = self._core
        maker = core.maker
        event_id = maker.new_id() if id is None else id
        line = maker.line(event_type, subject, data, id=event_id, time_=time, source=source)
        try:
            core.put(line)
        except SpoolFull:
            self._wait_for_room(line)
        return event_id

    def _wait_for_room(self, line: bytes) -> None:
        core = self._core
        options = core.options
        if core.closed or options.on_full == "raise":
            raise SpoolFull("Events wait for the server, and there is no room for another.")
        if options.on_full == "drop":
            core.dropped += 1
            return
        core.sender.wake()
        until = time.monotonic() + options.full_wait_s_max
        while True:
            with core.spool.room:
                core.spool.room.wait(max(min(until - time.monotonic(), 1.0), 0.0))
            try:
                core.put(line)
            except SpoolFull:
                if time.monotonic() >= until or core.closed:
                    raise
            else:
                return

    def send(self, events: Iterable[Mapping[str, Any]], *, wait_recorded: bool = False) -> dict[str, Any]:
        """Send whole events now, past the spool, and answer what became of each (`results`). An event without an id
        gets one. `wait_recorded`: until they count."""
        maker = self._core.maker
        whole = [event if event.get("id") else {**event, "id": maker.new_id()} for event in events]
        return self._core.questions.send(whole, wait_recorded=wait_recorded)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Send what waits; whether the server has answered for all of it in time."""
        return not self._core.spool.waiting or self._core.sender.flush(timeout_s)

    def sync(self) -> None:
        """Have everything tracked so far on the disk, or with the server. Raises OSError."""
        self._core.spool.sync()

    def stats(self) -> Stats:
        """Where events are."""
        return stats_of(self._core)

    def usage(self, meter: str, **parameters: Any) -> Usage:
        """Usage of a meter, by the contract's names: from_, to, window, timezone, customer, group_by, filter, fill, …"""
        return self._core.questions.usage(meter, parameters)

    def check(self, customer: str, meter: str, amount: Amount = 1) -> Check:
        """May this be used? Nothing is held."""
        return self._core.questions.check(customer, meter, amount)

    def reserve(self, customer: str, meter: str, amount: Amount, *, ttl_seconds: int = 60) -> Reservation:
        """Hold an amount. Raises Problem `limit_exceeded`."""
        return self._core.questions.reserve(customer, meter, amount, ttl_seconds)

    def settle(
        self, reservation: Reservation | str, amount: Amount, event: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What was really used; its event is recorded in the same step."""
        return self._core.questions.settle(_id_of(reservation), amount, event)

    def release(self, reservation: Reservation | str) -> dict[str, Any]:
        """Give all of it back."""
        return self._core.questions.release(_id_of(reservation))

    @contextlib.contextmanager
    def reserved(
        self, customer: str, meter: str, amount: Amount, *, ttl_seconds: int = 60
    ) -> Generator[Reservation]:
        """A reservation that is released when the block fails; settle it within."""
        held = self.reserve(customer, meter, amount, ttl_seconds=ttl_seconds)
        try:
            yield held
        except BaseException:
            with contextlib.suppress(TallystickError):
                self.release(held)
            raise

    def request(
        self, method: str, path: str, *, json: Any = None, parameters: Mapping[str, Any] | None = None
    ) -> Any:
        """Any other route of the contract; the answer's document. A POST carries one Idempotency-Key through all
        attempts. Raises Problem and Unreachable."""
        key = uuid4().hex if method == "POST" else None
        return self._core.questions.request(
            method, path, json_body=json, parameters=parameters, idempotency_key=key
        )

    def close(self, timeout_s: float | None = None) -> bool:
        """Send what waits, then end. Whether everything was answered for; what was not waits in the spool's directory
        for the next process. Happens at the end of the process by itself."""
        return self._core.close(self._core.options.close_s_max if timeout_s is None else timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def core_of(url: str | None, key: str | None, options: Options | None) -> Core:
    """What a client is made of, with what the environment says where nothing else does."""
    chosen = url or os.environ.get("TALLYSTICK_URL")
    if not chosen:
        raise TallystickError("No server: give a url, or set TALLYSTICK_URL.")
    return Core(chosen, key or os.environ.get("TALLYSTICK_KEY"), options or Options())


def stats_of(core: Core) -> Stats:
    """Where events are."""
    counts = core.sender.counts
    return Stats(
        core.spool.appended,
        counts.accepted,
        counts.rejected,
        core.dropped,
        core.spool.waiting,
        core.spool.damaged,
    )


def _id_of(reservation: Reservation | str) -> str:
    return reservation if isinstance(reservation, str) else reservation.id
