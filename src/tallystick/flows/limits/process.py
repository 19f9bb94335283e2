"""The gate in a process of its own, as the process that starts it sees it (setting `gate_process`).

Beside many events the gate waits for the interpreter more than for anything else. In a process of its own it has one to
itself. It owns the ledger, decides, and is told of every published moment (far.py); this process answers its questions,
takes what is settled into the log, hands connections over to it, and starts it again should it end.
"""

import asyncio
import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import structlog

from tallystick.catalog.interface import Page
from tallystick.errors import TallystickError, Unavailable
from tallystick.flows.fresh import Followed
from tallystick.flows.limits.asked import Reserved
from tallystick.flows.limits.board import Board
from tallystick.flows.limits.far import Moment
from tallystick.flows.limits.link import Link
from tallystick.flows.limits.questions import OwnQuestions
from tallystick.flows.limits.rules import Ask
from tallystick.flows.record import Recorder
from tallystick.flows.recording import Lag
from tallystick.flows.system import System
from tallystick.limits.reservation import Reservation
from tallystick.limits.standing import Standing
from tallystick.metering.event import EventColumns
from tallystick.metering.position import Vector

MODULE = "tallystick.cli.gate_process"
NICE = 10
"""So much lower is the priority of everything else. It matters only when the processors are full: then a call to the gate
waits for milliseconds of a batch, and not the other way round."""
SIGN_S = 0.5
"""News goes at least this often."""
CONNECTION_BYTES_MAX = 320 * 1024
_SEND_BUFFER_BYTES = 2 * CONNECTION_BYTES_MAX
_AGAIN_S = 0.5
_STOP_S_MAX = 15.0
_FLUSH_S_MAX = 30.0
_COUNT_S_MAX = 1.0
_ANSWER_S_MAX = 15.0
_LOADING_S = 60
_SILENCES_MAX = 10
"""It gives a sign every second. After so many seconds without one it is taken for frozen, killed and started again."""

_logger = structlog.get_logger("limits")

Returned = Callable[[socket.socket, bytes, int], None]
"""Takes a connection back, with what has been read of it, and how often it has come back."""


class GateProcess:
    """One event loop uses it."""

    def __init__(self) -> None:
        self.board, self._board_descriptor = Board.make()
        self.on_returned: Returned | None = None
        self._link: Link | None = None
        self._own: socket.socket | None = None
        self._passing: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._system: System | None = None
        self._followed = Followed()
        self._news = threading.Lock()
        """Over what follows: moments are told by the recorder's thread, and by the event loop now and then."""
        self._telling: socket.socket | None = None
        self._told_us = 0
        self._lag = Lag(0, 0.0)
        self._silences = 0
        self._open = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.gate = GateAcross(self)

    # -- its life -------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Start it. It takes a second to load what it needs, and then waits until `run` answers it."""
        own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        passing, its_passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (passing, its_passing):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        telling, its_telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        telling.setblocking(False)
        telling.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        descriptors = (its.fileno(), its_passing.fileno(), its_telling.fileno(), self._board_descriptor)
        command = [sys.executable, "-m", MODULE, *map(str, descriptors)]
        try:
            self._process = subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL)  # noqa: S603
        except OSError:
            for one in (own, passing, telling):
                one.close()
            raise
        finally:
            for one in (its, its_passing, its_telling):
                one.close()
        self._own, self._passing = own, passing
        with self._news:
            self._telling, self._told_us = telling, 0

    async def run(self, system: System, stopping: asyncio.Event) -> None:
        """Keep it going until `stopping`."""
        self._system = system
        recorder = system.recorder
        assert isinstance(recorder, Recorder)
        recorder.before_publishing = self._publishing
        with self._news:
            self.board.published_us = max(self.board.published_us, recorder.recorded_at_us)
        self.board.closed = system.gate.reason is not None
        system.gate.outside = self
        try:
            while not stopping.is_set():
                try:
                    if self._own is None:
                        self.begin()
                    await self._serve(system, stopping)
                except Exception as error:
                    _logger.warning("gate_process_not_started", error=repr(error))
                if not stopping.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), _AGAIN_S)
        finally:
            os.close(self._board_descriptor)

    async def _serve(self, system: System, stopping: asyncio.Event) -> None:
        own, passing, process = self._own, self._passing, self._process
        assert own is not None
        assert passing is not None
        assert process is not None
        questions = OwnQuestions(system)
        link = Link(
            answers={
                "settings": self._settings,
                "usage": questions.usage,
                "price": questions.price,
                "recorded_between": questions.recorded_between,
                "moments_of": questions.moments_of,
                "wait_for": system.recorder.wait_for,
                "append": self._append,
            },
            hear={
                "follow": self._follow,
                "open": self._opened,
                "answered": self._answered,
                "alive": self._lives,
            },
        )
        self._own = None
        await link.open(own)
        self._link = link
        self._loop.add_reader(passing, self._take_back, passing)
        running = asyncio.create_task(link.run(), name="gate process")
        pushing = asyncio.create_task(self._sign(system), name="gate news")
        watching = asyncio.create_task(self._watch(process), name="gate watch")
        ending = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((running, ending, pushing), return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                link.tell("stop")
                await asyncio.wait((running,), timeout=_STOP_S_MAX)
        finally:
            self._open.clear()
            self._link = self._passing = None
            self._loop.remove_reader(passing)
            for task in (running, pushing, ending, watching):
                task.cancel()
            await asyncio.gather(running, pushing, ending, watching, return_exceptions=True)
            self._take_back(passing)
            passing.close()
            with self._news:
                if self._telling is not None:
                    self._telling.close()
                self._telling = None
            self._follow(Followed())
            code = await asyncio.to_thread(_ended, process)
            if not stopping.is_set():
                _logger.warning("gate_process_ended", code=code)

    def kill(self) -> None:
        """Where this process could not be started itself."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _lives(self) -> None:
        self._silences = 0

    async def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        """Counted and not by a clock: where all processes were frozen together, nobody was silent."""
        self._silences = -_LOADING_S
        while True:
            await asyncio.sleep(1.0)
            self._silences += 1
            if self._silences > _SILENCES_MAX:
                _logger.warning("gate_process_frozen")
                process.kill()
                return

    # -- what it asks and tells ------------------------------------------------------------------------------------
    async def _settings(self) -> object:
        assert self._system is not None
        return self._system.settings

    def _follow(self, followed: Followed) -> None:
        self._followed = followed
        fresh = None if self._system is None else self._system.recorder.fresh
        if fresh is not None:
            fresh.follow("limits", followed)

    def _opened(self, is_open: bool) -> None:
        if is_open:
            self._open.set()
        else:
            self._open.clear()

    def _answered(self, requests: dict[tuple[str, int], int]) -> None:
        """So many requests of these routes with these statuses, since the last time."""
        assert self._system is not None
        for (route, status), number in requests.items():
            self._system.metrics.http_requests.labels(route, "POST", status).inc(number)

    async def _append(self, events: EventColumns) -> list[int]:
        assert self._system is not None
        return [int(position) for position in await self._system.log.append(events)]

    def _log_end(self) -> int:
        assert self._system is not None
        end = self._system.log.end
        return end if isinstance(end, int) else max(end, default=0)

    # -- news -----------------------------------------------------------------------------------------------------
    def _publishing(self, moment_us: int, exact: Vector) -> None:
        """The recorder's thread is about to publish this moment: the gate's process is told of it before anybody else."""
        with self._news:
            try:
                self._tell(moment_us, exact)
            except Exception:
                # Recording goes on, whatever is wrong here; the gate is told again within half a second.
                _logger.exception("moment_not_told")
            self.board.published_us = moment_us

    async def _sign(self, system: System) -> None:
        """Of life, with how far recording is behind; and the first moment."""
        recorder = system.recorder
        while True:
            self._lag = recorder.lag()
            with self._news:
                moment_us, exact = recorder.published
                self._tell(max(moment_us, self._told_us), exact)
            await asyncio.sleep(SIGN_S)

    def _tell(self, until_us: int, exact: Vector | None) -> None:
        """A moment with what the followed meters got since the last one that was told. Never waits: what does not go now is
        asked for."""
        telling, system = self._telling, self._system
        if telling is None or system is None:
            return
        # Before the moment can be known: an append that begins now goes behind it.
        self.board.log_end = self._log_end()
        after_us, followed, fresh, news = self._told_us, self._followed, system.recorder.fresh, None
        if after_us and until_us > after_us and followed and fresh is not None:
            news = fresh.between(after_us, until_us, followed)
        moment = Moment(after_us, until_us, exact, followed, news, self._lag)
        if _told(telling, moment) or (news is not None and _told(telling, replace(moment, news=None))):
            self._told_us = until_us

    # -- asking it ------------------------------------------------------------------------------------------------
    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    async def wait_until_open(self, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self._open.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def ask(self, name: str, *given: Any, timeout_s: float = _ANSWER_S_MAX) -> Any:
        """Raises what is raised there, and Unavailable (gate_not_ready) where it is not there, or does not answer."""
        if self._link is None:
            raise Unavailable(
                "The gate's process is being started. Try again.", code="gate_not_ready", retry_after_s=1
            )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._link.ask(name, *given)
        except TimeoutError:
            raise Unavailable(
                "The gate's process does not answer. Try again.", code="gate_not_ready", retry_after_s=2
            ) from None

    def flush(self) -> None:
        """What is in the journals goes into the ledger's table. From a thread. Raises StorageFull, Unavailable."""
        asyncio.run_coroutine_threadsafe(self.ask("flush", timeout_s=_FLUSH_S_MAX), self._loop).result()

    def changed(self) -> None:
        """A key or a limit has been changed by this process: the gate sees it before it decides again."""
        self.board.changes += 1

    async def count(self) -> None:
        """Have the metrics of this process count what the gate's has answered by now."""
        with contextlib.suppress(TallystickError, TimeoutError):
            async with asyncio.timeout(_COUNT_S_MAX):
                await self.ask("tell")

    def end_connections(self) -> None:
        """This process is about to stop."""
        if self._link is not None:
            self._link.tell("end_connections")

    # -- whether it takes anything in (flows/gate.Outside) ----------------------------------------------------------
    def close(self) -> None:
        self.board.closed = True

    def open(self) -> None:
        self.board.closed = False

    async def quiet(self) -> None:
        with contextlib.suppress(Unavailable):
            await self.ask("quiet")

    # -- connections ----------------------------------------------------------------------------------------------
    def pass_on(self, descriptor: int, data: bytes, returns: int) -> bool:
        """Hand a connection over, with what has been read of it. False: it cannot be taken now."""
        passing = self._passing
        return passing is not None and self._open.is_set() and sent(passing, descriptor, data, returns)

    def _take_back(self, passing: socket.socket) -> None:
        for connection, data, returns in received(passing):
            if self.on_returned is None:
                connection.close()
            else:
                self.on_returned(connection, data, returns)


def _told(telling: socket.socket, moment: Moment) -> bool:
    try:
        telling.send(pickle.dumps(moment, pickle.HIGHEST_PROTOCOL))
    except OSError:
        return False
    return True


def heard(telling: socket.socket) -> list[Moment]:
    """What has been told by now."""
    found: list[Moment] = []
    while True:
        try:
            raw = telling.recv(CONNECTION_BYTES_MAX * 2)
        except OSError:
            return found
        if not raw:
            return found
        found.append(pickle.loads(raw))  # noqa: S301 -- of the process that started this one


def sent(passing: socket.socket, descriptor: int, data: bytes, returns: int) -> bool:
    """Send a connection with what has been read of it. False: there is no room for it at the moment."""
    try:
        socket.send_fds(passing, [pickle.dumps((data, returns))], [descriptor])
    except OSError:
        return False
    return True


def received(passing: socket.socket) -> list[tuple[socket.socket, bytes, int]]:
    """What has come by now."""
    found: list[tuple[socket.socket, bytes, int]] = []
    while True:
        try:
            raw, descriptors, _, _ = socket.recv_fds(passing, CONNECTION_BYTES_MAX, 1)
        except (BlockingIOError, InterruptedError):
            return found
        except OSError:
            return found
        if not raw or not descriptors:
            return found
        data, returns = pickle.loads(raw)  # noqa: S301 -- of a process that this one started, or was started by
        found.append((socket.socket(fileno=descriptors[0]), data, returns))


def _ended(process: subprocess.Popen[bytes]) -> int:
    """Its code, once it is gone; by force where it does not go."""
    until_s = time.monotonic() + 2.0
    while process.poll() is None:
        if time.monotonic() > until_s:
            process.kill()
            process.wait()
            break
        time.sleep(0.01)
    return process.returncode


class GateAcross:
    """See flows/limits/asked.AskedGate: each is asked of the gate's process."""

    def __init__(self, process: GateProcess) -> None:
        self._process = process

    async def _ask(self, name: str, *given: Any, **named: Any) -> Any:
        return await self._process.ask("gate", name, given, named)

    async def check(self, ask: Ask) -> dict[str, Any]:
        return await self._ask("check", ask)

    async def reserve(self, ask: Ask, ttl_s: int) -> Reserved:
        return await self._ask("reserve", ask, ttl_s)

    async def reserve_each(self, asks: Sequence[tuple[Ask, int]]) -> list[Reserved | TallystickError]:
        return await self._ask("reserve_each", list(asks))

    async def settle(
        self, tenant: str, name: str, amount: Decimal | None, event: dict[str, Any] | None
    ) -> Reserved:
        return await self._ask("settle", tenant, name, amount, event)

    async def release(self, tenant: str, name: str) -> Reserved:
        return await self._ask("release", tenant, name)

    async def get(self, tenant: str, name: str) -> Reservation:
        return await self._ask("get", tenant, name)

    async def page(
        self,
        tenant: str,
        *,
        customers: Sequence[str] | None,
        state: str | None,
        cursor: str | None,
        limit: int,
    ) -> Page[Reservation]:
        return await self._ask("page", tenant, customers=customers, state=state, cursor=cursor, limit=limit)

    async def standings(self, tenant: str, customer: str) -> list[Standing]:
        return await self._ask("standings", tenant, customer)
