"""Who works at what in a cluster: partitions shared out fairly among the recorders, jobs that run once wherever they run.

A keeper renews what it holds twice a second, by a round trip of its own. Two rules keep a lease from having two owners at
work:

- by the database: what an owner writes down is fenced by the epoch of its lease (catalog/leases.py);
- by the owner itself: half a lease after the last renewal that succeeded was *sent*, it stops writing (`Held.check`), long
  before another can have taken the lease. It goes on where a renewal succeeds again: then nobody has taken it.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import structlog

from tallystick.catalog.leases import Holder, LeaseLostError, Leases, LeaseTable
from tallystick.catalog.partitions import Partitions
from tallystick.errors import Unavailable

TTL_S = 4.0
RENEW_S = 0.5
_SETTLE_STEPS = 1
"""Rounds a node waits after it has made itself known: nodes that start together share out at once what they would have
to hand over a second later."""
_REFUSED_S = 5.0
_NODE_FORGOTTEN_US = 3600 * 1_000_000

K = TypeVar("K", int, str)
T = TypeVar("T")

_logger = structlog.get_logger("lease")


def elapsed_s() -> float:
    """A clock that also runs while the process, or the machine, is frozen."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def new_owner() -> str:
    """A name for this process that no other one ever has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"


class Held(Generic[K]):
    """One lease while it is held. `check` may be called from any thread, the rest from the event loop."""

    def __init__(self, key: K, epoch: int, *, valid_until_s: float, elapsed_s: Callable[[], float]) -> None:
        self.key = key
        self.epoch = epoch
        self.leaving = asyncio.Event()
        """Set when the work is to end: finish what is under way, then return. Set too when the lease is lost; then every
        write is refused."""
        self._valid_until_s = valid_until_s
        self._elapsed_s = elapsed_s
        self._is_lost = False

    def check(self) -> None:
        """To be called before every write. Raises LeaseLostError when another has the lease, Unavailable while it is not
        known, because the shared database has not answered for too long."""
        if self._is_lost:
            raise LeaseLostError(f"The lease {self.key!r} of epoch {self.epoch} belongs to another.")
        if self._elapsed_s() >= self._valid_until_s:
            raise Unavailable(
                f"The lease {self.key!r} could not be renewed in time: recording waits for the shared database.",
                retry_after_s=2,
            )

    @property
    def is_in_force(self) -> bool:
        """Whether `check` would let a write pass."""
        return not self._is_lost and self._elapsed_s() < self._valid_until_s

    @property
    def is_lost(self) -> bool:
        return self._is_lost

    def extend(self, valid_until_s: float) -> None:
        self._valid_until_s = max(self._valid_until_s, valid_until_s)

    def lose(self) -> None:
        self._is_lost = True
        self.leaving.set()


class Keeper(ABC, Generic[K]):
    """Holds leases and lets work be done under each. `run` is its life; `step` is one round of it."""

    def __init__(
        self,
        table: LeaseTable[K],
        *,
        owner: str,
        work: Callable[[Held[K]], Awaitable[None]],
        ttl_s: float = TTL_S,
        renew_s: float = RENEW_S,
        elapsed_s: Callable[[], float] = elapsed_s,
    ) -> None:
        """`work` is called once for every lease that is got, and returns when its `leaving` is set. When it raises, the
        lease is given back and not taken again for a while."""
        self.owner = owner
        self.fault: str | None = None
        """Why leases cannot be kept at the moment; None while they can."""
        self._table = table
        self._work = work
        self._ttl_us = round(ttl_s * 1e6)
        self._renew_s = renew_s
        self._elapsed_s = elapsed_s
        self._held: dict[K, Held[K]] = {}
        self._tasks: dict[K, asyncio.Task[None]] = {}
        self._refused_until_s: dict[K, float] = {}
        self._stopping = asyncio.Event()
        # Of its own: a renewal must not queue behind whatever else threads are busy with.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lease")

    @property
    def held(self) -> Mapping[K, Held[K]]:
        """What is held now, also while its work is ending."""
        return dict(self._held)

    async def run(self) -> None:
        """Keep until `stop`; then end all work in good order, give everything back, and return."""
        while not self._stopping.is_set() or self._tasks:
            try:
                await self.step()
                self.fault = None
            except Exception as error:
                if self.fault is None:
                    _logger.warning("lease_round_failed", owner=self.owner, error=repr(error))
                self.fault = type(error).__name__
            await self._until_next_round()
        try:
            await self._in_thread(self._leave)
        except Exception as error:
            # What is not given back ends by its time.
            _logger.warning("lease_not_given_back", owner=self.owner, error=repr(error))
        self._thread.shutdown()

    def stop(self) -> None:
        self._stopping.set()

    async def step(self) -> None:
        """Renew, notice what is lost, give up what others should have, take what is ours to take."""
        sent_s = self._elapsed_s()
        renewed, holders, nodes = await self._in_thread(self._renew_and_look)
        half_s = self._ttl_us / 2e6
        for key, held in self._held.items():
            if renewed.get(key) == held.epoch:
                held.extend(sent_s + half_s)
            elif not held.is_lost:
                _logger.warning("lease_lost", key=key, epoch=held.epoch, owner=self.owner)
                held.lose()
        for key, epoch in renewed.items():
            # Taken by an answer that got lost on its way, or given back by a request that did.
            if key not in self._held:
                await self._in_thread(lambda key=key, epoch=epoch: self._table.release(key, epoch))
        now_s = self._elapsed_s()
        refused = {key for key, until_s in self._refused_until_s.items() if now_s < until_s}
        free = [
            key
            for key, holder in sorted(holders.items())
            if holder.is_free and key not in self._held and key not in refused
        ]
        kept = sorted(key for key, held in self._held.items() if not held.leaving.is_set())
        if self._stopping.is_set():
            give_up, take = kept, list[K]()
        else:
            give_up, take = self._share(kept, free, holders, nodes)
        for key in give_up:
            self._held[key].leaving.set()
        for key in take:
            await self._take(key)

    async def _take(self, key: K) -> None:
        sent_s = self._elapsed_s()
        epoch = await self._in_thread(lambda: self._table.acquire(key, self.owner, ttl_us=self._ttl_us))
        if epoch is None:
            return
        until_s = sent_s + self._ttl_us / 2e6
        held = Held(key, epoch, valid_until_s=until_s, elapsed_s=self._elapsed_s)
        self._held[key] = held
        self._tasks[key] = asyncio.create_task(self._hold(held), name=f"lease-{key}")
        _logger.info("lease_taken", key=key, epoch=epoch, owner=self.owner)

    async def _hold(self, held: Held[K]) -> None:
        try:
            await self._work(held)
            if not held.leaving.is_set():
                self._refuse(held.key)
        except LeaseLostError:
            held.lose()
        except Exception as error:
            _logger.error("leased_work_failed", key=held.key, error=repr(error), exc_info=True)
            self._refuse(held.key)
        try:
            if not held.is_lost:
                await self._in_thread(lambda: self._table.release(held.key, held.epoch))
        except Exception as error:
            # The next round finds it among what is renewed, and gives it back.
            _logger.warning("lease_not_given_back", key=held.key, error=repr(error))
        finally:
            del self._held[held.key], self._tasks[held.key]

    def _refuse(self, key: K) -> None:
        self._refused_until_s[key] = self._elapsed_s() + _REFUSED_S

    async def _until_next_round(self) -> None:
        """A second; less when stopping, or when the work that a stop waits for has ended."""
        if not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._renew_s)
        elif self._tasks:
            await asyncio.wait(
                self._tasks.values(), timeout=self._renew_s, return_when=asyncio.FIRST_COMPLETED
            )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _renew_and_look(self) -> tuple[dict[K, int], Mapping[K, Holder], Sequence[str]]:
        renewed = self._table.renew(self.owner, ttl_us=self._ttl_us)
        return renewed, self._table.holders(), self._nodes()

    def _nodes(self) -> Sequence[str]:
        """Owners that are there, sorted; where nobody shares, only this one."""
        return [self.owner]

    def _leave(self) -> None:
        """Everything has been given back: say that the node goes."""

    @abstractmethod
    def _share(
        self, kept: Sequence[K], free: Sequence[K], holders: Mapping[K, Holder], nodes: Sequence[str]
    ) -> tuple[Sequence[K], Sequence[K]]:
        """What to give up, and what to take."""


class PartitionKeeper(Keeper[int]):
    """Keeps this node's fair share of the partitions: of P partitions and n nodes P // n, and one more on the first P % n
    nodes by name. Who has too many hands over in good order, who has too few takes what is free."""

    def __init__(
        self,
        partitions: Partitions,
        leases: Leases,
        *,
        owner: str,
        work: Callable[[Held[int]], Awaitable[None]],
        ttl_s: float = TTL_S,
        renew_s: float = RENEW_S,
        elapsed_s: Callable[[], float] = elapsed_s,
    ) -> None:
        super().__init__(
            partitions, owner=owner, work=work, ttl_s=ttl_s, renew_s=renew_s, elapsed_s=elapsed_s
        )
        self._leases = leases
        self._node = f"node/recorder/{owner}"
        self._node_epoch: int | None = None
        self._steps = 0

    def _nodes(self) -> Sequence[str]:
        if self._stopping.is_set():
            # The others are to take over what is given up now, not after this node's time is over.
            self._leave()
        else:
            self._node_epoch = self._leases.renew(self.owner, ttl_us=self._ttl_us).get(self._node)
            if self._node_epoch is None:
                self._node_epoch = self._leases.acquire(self._node, self.owner, ttl_us=self._ttl_us)
                self._leases.forget("node/", older_than_us=_NODE_FORGOTTEN_US)
        prefix = "node/recorder/"
        return sorted(
            name.removeprefix(prefix)
            for name, holder in self._leases.holders().items()
            if name.startswith(prefix) and not holder.is_free
        )

    def _leave(self) -> None:
        if self._node_epoch is not None:
            self._leases.release(self._node, self._node_epoch)
            self._node_epoch = None

    def _share(
        self, kept: Sequence[int], free: Sequence[int], holders: Mapping[int, Holder], nodes: Sequence[str]
    ) -> tuple[Sequence[int], Sequence[int]]:
        if self.owner not in nodes:
            return (), ()
        share, left_over = divmod(len(holders), len(nodes))
        share += nodes.index(self.owner) < left_over
        if len(kept) > share:
            return kept[share:], ()
        self._steps += 1
        if self._steps <= _SETTLE_STEPS:
            return (), ()
        # Those whose work is ending are not free yet, but will be taken by others: they do not count.
        return (), free[: share - len(kept)]


class JobKeeper(Keeper[str]):
    """Jobs that run once, wherever they run: each on whichever node got its lease first, until that goes."""

    def __init__(
        self,
        leases: Leases,
        jobs: Mapping[str, Callable[[Held[str]], Awaitable[None]]],
        *,
        owner: str,
        ttl_s: float = TTL_S,
        renew_s: float = RENEW_S,
        elapsed_s: Callable[[], float] = elapsed_s,
    ) -> None:
        """`jobs`: what runs, by the name of its lease. Names are the same on all nodes."""
        super().__init__(
            leases,
            # Not the owner of partitions: each keeper renews everything that its owner has.
            owner=f"{owner}/jobs",
            work=lambda held: jobs[held.key](held),
            ttl_s=ttl_s,
            renew_s=renew_s,
            elapsed_s=elapsed_s,
        )
        self._jobs = jobs

    def _share(
        self, kept: Sequence[str], free: Sequence[str], holders: Mapping[str, Holder], nodes: Sequence[str]
    ) -> tuple[Sequence[str], Sequence[str]]:
        now_s = self._elapsed_s()
        return (), [
            name
            for name in self._jobs
            if name in free
            or (name not in holders and now_s >= self._refused_until_s.get(name, float("-inf")))
        ]
