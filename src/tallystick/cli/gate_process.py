"""The gate's own process: `python -m tallystick.cli.gate_process LINK CONNECTIONS MOMENTS BOARD`, four descriptors of the process
that starts it (flows/limits/process.py). Nobody types this."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections import Counter
from email.utils import formatdate
from typing import Any

from tallystick import observe
from tallystick.config import Settings
from tallystick.flows.limits.board import Board
from tallystick.flows.limits.link import Link

ASKED = frozenset(
    {"check", "reserve", "reserve_each", "settle", "release", "get", "page", "standings"}
)  # of flows/limits/asked.AskedGate
_TELL_S = 1.0
_ENDING_S_MAX = 10.0


def main() -> None:
    """Until the process that started it says so, or is gone."""
    link, connections, moments, board = map(int, sys.argv[1:5])
    # Ctrl-C reaches both processes; the other one says when it is over.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(0.001)
    import uvloop

    own, passing, told = (socket.socket(fileno=one) for one in (link, connections, moments))
    uvloop.run(_run(own, passing, told, board))


async def _run(
    own: socket.socket, connections: socket.socket, moments: socket.socket, board_descriptor: int
) -> None:
    board = Board(board_descriptor)
    os.close(board_descriptor)
    process = _Process(board, connections, moments)
    link = Link(
        answers={"gate": process.asked, "flush": process.flush, "quiet": process.quiet, "tell": process.tell},
        hear={
            "stop": process.stopping.set,
            "end_connections": process.end_connections,
        },
    )
    await link.open(own)
    running = asyncio.create_task(link.run(), name="link")
    working = asyncio.create_task(process.work(link), name="gate")
    await asyncio.wait((running, working), return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
        return
    # The other process is gone, perhaps killed: what was answered is in the journal, and the next one finds it there.
    os._exit(0)


class _Process:
    """What the other process asks and tells. Before `work` has come so far, nothing is open."""

    def __init__(self, board: Board, connections: socket.socket, moments: socket.socket) -> None:
        self.stopping = asyncio.Event()
        self._board = board
        self._connections = connections
        self._moments = moments
        moments.setblocking(False)
        self._system: Any = None
        self._recording: Any = None
        self._handed: Any = None
        self._link: Link | None = None
        self._changes = -1

    async def work(self, link: Link) -> None:
        """Own the gate until `stopping`."""
        gc.disable()
        with contextlib.suppress(OSError):
            # Of one that is started again: the process that starts it has a lower priority by now (wiring.py).
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        settings: Settings = await link.ask("settings")
        observe.configure(level=settings.log_level, form=settings.log_format)
        from tallystick.wiring import start_gate

        self._system, self._recording = system, recording = await start_gate(settings, link, self._board)
        asyncio.get_running_loop().add_reader(self._moments, self._hear)
        self._hand()
        self._link = link
        gc.freeze()
        gc.set_threshold(100_000, 20, 100)
        gc.enable()
        await recording.began.wait()
        limits = system.limits
        assert limits is not None
        owning = asyncio.create_task(limits.run(), name="limits")
        telling = asyncio.create_task(self._tell(link), name="telling")
        await self.stopping.wait()
        asyncio.get_running_loop().remove_reader(self._connections)
        self._handed.end()
        await self._quiet(_ENDING_S_MAX)
        limits.stop()
        await owning
        telling.cancel()
        self._tell_answered(link)
        await self._handed.authenticator.note_used()
        system.questions.shutdown(cancel_futures=True)
        system.catalog.close()

    def _hand(self) -> None:
        from tallystick.api.auth import Authenticator
        from tallystick.api.handed import Handed
        from tallystick.api.quick import Quick
        from tallystick.api.rates import Rates
        from tallystick.api.shell import gate_direct
        from tallystick.flows.limits.process import sent

        system = self._system
        authenticator = Authenticator(
            system.catalog, now_us=system.clock.now_us, rates=Rates(system.settings)
        )
        self._handed = Handed(
            gate_direct(Quick(system, authenticator), system.gate),
            authenticator,
            self._recording,
            is_current=self._is_current,
            give_back=lambda descriptor, data, returns: sent(self._connections, descriptor, data, returns),
        )
        asyncio.get_running_loop().add_reader(self._connections, self._take)

    def _is_current(self) -> bool:
        """Everything that was said before this call is known here."""
        changes = self._board.changes
        if changes != self._changes:
            self._changes = changes
            self._system.limits.changed()
            self._handed.authenticator.forget()
        if not self._recording.is_current:
            self._hear()
        return self._recording.is_current and not self._board.closed

    def _hear(self) -> None:
        """What has been told of moments by now. It was told before the moment stood on the board."""
        from tallystick.flows.limits.process import heard

        for moment in heard(self._moments):
            self._recording.came(moment)

    def _take(self) -> None:
        from tallystick.flows.limits.process import received

        for connection, data, returns in received(self._connections):
            self._handed.keep(asyncio.create_task(self._handed.take(connection, data, returns)))

    # -- asked ----------------------------------------------------------------------------------------------------
    async def asked(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """See flows/limits/asked.AskedGate."""
        if name not in ASKED:
            raise ValueError(name)
        self._is_current()
        gate = await self._system.limits.gate()
        return await getattr(gate, name)(*given, **named)

    async def flush(self) -> None:
        """See catalog.limiting.Ledger.flush."""
        await asyncio.to_thread(self._system.limits.flush_ledger)

    async def quiet(self) -> None:
        """See flows/gate.Outside."""
        await self._quiet(_ENDING_S_MAX)

    async def _quiet(self, seconds_max: float) -> None:
        until_s = asyncio.get_running_loop().time() + seconds_max
        while self._handed is not None and self._handed.deciding:
            if asyncio.get_running_loop().time() > until_s:
                return
            await asyncio.sleep(0.005)

    # -- told -----------------------------------------------------------------------------------------------------
    def end_connections(self) -> None:
        if self._handed is not None:
            self._handed.end()

    # -- telling --------------------------------------------------------------------------------------------------
    async def tell(self) -> None:
        """What was answered by now."""
        if self._link is not None:
            self._tell_answered(self._link)

    async def _tell(self, link: Link) -> None:
        was_open, told_s = False, 0.0
        while True:
            is_open = self._system.limits.here is not None
            if is_open != was_open:
                link.tell("open", is_open)
                was_open = is_open
            now_s = asyncio.get_running_loop().time()
            if now_s - told_s > _TELL_S:
                told_s = now_s
                link.tell("alive")
                self._tell_answered(link)
                self._handed.headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(0.05)

    def _tell_answered(self, link: Link) -> None:
        answered: Counter[tuple[str, int]] = self._handed.direct.quick.noted()
        if answered:
            link.tell("answered", dict(answered))


if __name__ == "__main__":
    main()
