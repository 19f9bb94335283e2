"""Who owns the gate: this process when it is alone, or the one it starts for it (process.py), and in a cluster the one that
holds the lease `job/gate`.

The owner writes its address down with the lease; whoever else is asked hands the request on to it (api/forward.py). A gate
whose ledger could not be written is thrown away and opened anew: it then knows what is durable, and nothing else.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from tallystick.catalog.leases import LeaseLostError, Leases
from tallystick.catalog.limiting import Ledger, LimitCatalog
from tallystick.errors import Invalid, NotFound, Unavailable
from tallystick.flows.lease import Held
from tallystick.flows.limits.asked import AskedGate
from tallystick.flows.limits.gate import LimitGate
from tallystick.flows.limits.process import GateProcess
from tallystick.flows.limits.questions import OwnQuestions, Questions
from tallystick.flows.limits.receipt import receipt_of
from tallystick.flows.limits.rules import Ask, RuleBook
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.limits.limit import accepts
from tallystick.limits.standing import Standing, decide
from tallystick.metering.verdict import Limits
from tallystick.money import ZERO

JOB = "job/gate"
"""The lease of the owner in a cluster."""
READY_S_MAX = 2.0
_REOPEN_S = 0.5
_ADDRESS_S = 0.5

_logger = structlog.get_logger("limits")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The gate is another process's, at this address."""

    url: str


class Limiting:
    """What requests ask. One event loop uses it."""

    def __init__(
        self,
        catalog: LimitCatalog,
        *,
        make_ledger: Callable[[Held[str] | None], Ledger],
        leases: Leases | None = None,
        address: str = "",
        process: GateProcess | None = None,
        questions: Questions | None = None,
    ) -> None:
        """`leases` None: nobody else could own the gate. `address`: where the other processes reach this one. `process`: it
        has a process of its own, which this one starts. `questions`: who answers the gate's; None: this process."""
        self.catalog = catalog
        self.process = process
        self._questions = questions
        self._make_ledger = make_ledger
        self._leases = leases
        self._address = address
        self._gate: LimitGate | None = None
        self._held: Held[str] | None = None
        self._opened = asyncio.Event()
        self._stopping = asyncio.Event()
        self._rules: RuleBook | None = None
        self._known: tuple[float, str | None] = (float("-inf"), None)
        self._system: System | None = None
        self._events: Limits | None = None

    def serve(self, system: System) -> None:
        """The parts it asks; before anything else is called."""
        self._system = system
        settings = system.settings
        self._events = Limits(
            events_max=1000,
            event_bytes_max=settings.event_bytes_max,
            depth_max=settings.event_depth_max,
            future_tolerance_us=settings.future_tolerance_s * 1_000_000,
        )
        self._rules = RuleBook(system, self.catalog)
        self._questions = self._questions or OwnQuestions(system)

    # -- owning ---------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Own it, or keep the process going that does, until `stop`: this process is alone."""
        if self.process is None:
            await self._own(None, self._stopping)
        else:
            assert self._system is not None
            await self.process.run(self._system, self._stopping)

    def stop(self) -> None:
        self._stopping.set()

    async def work(self, held: Held[str]) -> None:
        """Own it until `held.leaving` (flows/lease.JobKeeper)."""
        leases = self._leases
        assert leases is not None
        await asyncio.to_thread(leases.save, held.key, held.epoch, self._address.encode())
        await self._own(held, held.leaving)

    async def _own(self, held: Held[str] | None, leaving: asyncio.Event) -> None:
        assert self._system is not None
        assert self._events is not None
        assert self._rules is not None
        assert self._questions is not None
        while not leaving.is_set():
            ledger: Ledger | None = None
            gate: LimitGate | None = None
            try:
                ledger = await asyncio.to_thread(self._make_ledger, held)
                gate = LimitGate(self._system, self._questions, self._rules, ledger, self._events)
                await gate.open()
                self._gate, self._held = gate, held
                self._opened.set()
                ends = [asyncio.ensure_future(leaving.wait()), asyncio.ensure_future(gate.failed.wait())]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()
            except LeaseLostError:
                raise
            except Exception as error:
                _logger.warning("gate_not_open", error=repr(error))
            finally:
                self._gate = self._held = None
                self._opened.clear()
                if gate is not None:
                    await gate.close()
                if ledger is not None:
                    await asyncio.to_thread(ledger.close)
            if held is not None and held.is_lost:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leaving.wait(), _REOPEN_S)

    # -- asking ---------------------------------------------------------------------------------------------------
    @property
    def here(self) -> LimitGate | None:
        """The gate, where it is this process's and open. A process that was frozen, or cut off, may own it no longer: while
        its lease is not in force it answers nothing, not even a check."""
        if self._held is not None and not self._held.is_in_force:
            return None
        return self._gate

    async def gate(self) -> AskedGate | Elsewhere:
        """The gate, or where it is. Raises Unavailable (gate_not_ready) while nobody has it open."""
        if self.process is not None:
            if await self.process.wait_until_open(READY_S_MAX):
                return self.process.gate
            raise _not_open()
        deadline_s = time.monotonic() + READY_S_MAX
        while True:
            here = self.here
            if here is not None:
                return here
            url = await self._elsewhere()
            if url is not None:
                return Elsewhere(url)
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise _not_open()
            if self._gate is not None:
                await asyncio.sleep(min(left_s, 0.1))  # open, and not in force
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), min(left_s, 0.1))

    async def _elsewhere(self) -> str | None:
        leases = self._leases
        if leases is None:
            return None
        asked_s, url = self._known
        if time.monotonic() - asked_s < _ADDRESS_S:
            return url

        def ask() -> str | None:
            holder = leases.holders().get(JOB)
            if holder is None or holder.is_free:
                return None
            with contextlib.suppress(LeaseLostError):
                state = leases.load(JOB, holder.epoch)
                return state.decode() if state else None
            return None

        url = await asyncio.to_thread(ask)
        url = None if url in (None, "", self._address) else url
        self._known = (time.monotonic(), url)
        return url

    def flush_ledger(self) -> None:
        """Before its file is copied, from a thread. Raises StorageFull, Unavailable."""
        gate = self._gate
        if self.process is not None:
            self.process.flush()
        elif gate is not None:
            gate.flush_ledger()

    def lost_sight(self) -> None:
        """The owner did not answer where it was known to be."""
        self._known = (float("-inf"), None)

    def changed(self) -> None:
        """A limit has been changed by this process."""
        if self._rules is not None:
            self._rules.forget()
        if self.process is not None:
            self.process.changed()

    async def unknown(self, ask: Ask) -> dict[str, Any]:
        """The receipt while nobody has the gate open: each limit's `fail` decides. Raises NotFound."""
        assert self._system is not None
        assert self._rules is not None
        system, now_us = self._system, self._system.clock.now_us()
        await self._rules.look()
        meter = await self._rules.meter(ask.tenant, ask.meter)
        standings: list[Standing] = []
        for rule in await self._rules.rules(ask.tenant, ask.customer):
            own = rule.meter is None or (
                rule.meter.key == meter.key and accepts(rule.conditions, ask.customer, dict(ask.dimensions))
            )
            if own and rule.holds(now_us):
                window = rule.window(now_us)
                standings.append(
                    Standing(rule.limit, window, ZERO, ZERO, ZERO, ZERO, window.to_us, known=False)
                )
        return receipt_of(
            ask,
            decide(standings),
            before=None,
            after=None,
            as_of_us=system.recorder.recorded_at_us,
            now_us=now_us,
        )

    async def check_limit(self, tenant: str, key: str | None, names: frozenset[str]) -> None:
        """Whether a limit can be of this meter, with a filter of these names. Raises NotFound, Invalid."""
        if key is None:
            return
        system = self._system
        assert system is not None
        meter = await in_questions(system, lambda: system.catalog.meter(tenant, key))
        if meter.archived_at_us is not None:
            raise NotFound(f"The meter {key!r} is archived.", code="meter_not_found")
        declared = {"customer", *(dimension.name for dimension in meter.dimensions)}
        unknown = sorted(names - declared)
        if unknown:
            raise Invalid(
                f"The meter {key!r} has no dimension {unknown[0]!r}; it has {', '.join(sorted(declared))}.",
                code="unknown_dimension",
            )


def _not_open() -> Unavailable:
    return Unavailable(
        "The gate is not open yet: its ledger is being read. Try again shortly.",
        code="gate_not_ready",
        retry_after_s=1,
    )
