"""Runs sources: each that is neither paused nor archived on one process, under a lease, and again when it fails.

What happens to one touches no other: each has a task of its own, its faults are its state, and it is begun again after a
while from the progress it has saved.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic

import structlog

from tallystick.catalog.leases import Holder, LeaseLostError, Leases
from tallystick.catalog.sourcing import KeptSource, StateChange
from tallystick.errors import Invalid, TallystickError
from tallystick.flows.known_subjects import KnownSubjects
from tallystick.flows.lease import RENEW_S, TTL_S, Held, Keeper
from tallystick.flows.sources.allowed import check_allowed, check_tenant, secret_of
from tallystick.flows.sources.feed import SourceFeed, catalog_of
from tallystick.flows.sources.state import SourceFigures
from tallystick.flows.system import System
from tallystick.sources.interface import Factory, Runner, SourceFaultError, SourceStoppedError
from tallystick.sources.kinds import resolved
from tallystick.sources.source import Source, read_source

PAUSE_S_MAX = 60.0
STEADY_S = 60.0
"""Who ran for so long begins again at once."""
STOP_S_MAX = 10.0
TELL_S = 1.0
_PREFIX = "source/"

_logger = structlog.get_logger("sources")


def name_of(kept: KeptSource) -> str:
    """Of its lease."""
    return f"{_PREFIX}{kept.number}"


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(PAUSE_S_MAX, 2.0 ** min(failures, 10)) * (0.5 + random.random() / 2)  # noqa: S311 -- jitter


async def _until_leaving(held: Held[str]) -> None:
    await held.leaving.wait()


class SourceKeeper(Keeper[str]):
    """`factories` by kind. `run` is its life."""

    def __init__(
        self,
        system: System,
        leases: Leases,
        factories: Mapping[str, Factory],
        *,
        owner: str,
        environment: Mapping[str, str],
        ttl_s: float = TTL_S,
        renew_s: float = RENEW_S,
        pause_s: Callable[[int], float] = pause_s,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        super().__init__(leases, owner=f"{owner}/sources", work=self._work, ttl_s=ttl_s, renew_s=renew_s)
        self._system = system
        self._catalog = catalog_of(system)
        self._factories = factories
        self._environment = environment
        self._pause_s = pause_s
        self._on_step = on_step
        self._wanted: dict[str, KeptSource] = {}
        self._known = KnownSubjects(system.catalog) if system.settings.unknown_subject == "reject" else None
        self._figures: SourceFigures = system.sources
        self._is_new = True

    async def step(self) -> None:
        """A round: see to what there is to run, then to the leases."""
        if self._system.settings.sources != "off":
            listed = await asyncio.to_thread(self._catalog.sources_to_run)
            self._wanted = {name_of(kept): kept for kept in listed}
        for name, held in self._held.items():
            now = self._wanted.get(name)
            if now is None or now.version != self._figures.version_of(name):
                held.leaving.set()
        if self._wanted or self._held or self._tasks:
            await super().step()

    def _share(
        self, kept: Sequence[str], free: Sequence[str], holders: Mapping[str, Holder], nodes: Sequence[str]
    ) -> tuple[Sequence[str], Sequence[str]]:
        now_s = self._elapsed_s()
        # No more than so many a round, so that several processes that start share them.
        able = [
            name
            for name in self._wanted
            if name not in self._held
            and (name in free or name not in holders)
            and now_s >= self._refused_until_s.get(name, float("-inf"))
        ]
        return (), able[: max(1, len(self._wanted) // 4)]

    # -- one source -------------------------------------------------------------------------------------------------
    async def _work(self, held: Held[str]) -> None:
        kept = self._wanted.get(held.key)
        if kept is None:
            return
        self._figures.begin(held.key, kept)
        failures = 0
        last_error: str | None = None
        try:
            while not held.leaving.is_set():
                began = monotonic()
                fault = await self._run_once(kept, held, last_error)
                if held.leaving.is_set():
                    break
                failures = 0 if monotonic() - began > STEADY_S else failures + 1
                last_error = fault or "It ended by itself."
                await self._tell(kept, held, StateChange("failed", last_error, None, last_error))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(held.leaving.wait(), self._pause_s(failures))
            if not held.is_lost:
                await self._tell(kept, held, StateChange("stopped", None, None))
        finally:
            self._figures.end(held.key)

    async def _run_once(self, kept: KeptSource, held: Held[str], last_error: str | None) -> str | None:
        """Until it ends or is to end. Why it failed; None where nothing is wrong."""
        feed: SourceFeed | None = None
        runner: Runner | None = None
        tasks: list[asyncio.Task[None]] = []
        try:
            source = self._resolved(kept)
            feed = SourceFeed(self._system, kept, source, held, known=self._known, on_step=self._on_step)
            runner = self._factories[source.kind](source, feed)
            running = asyncio.create_task(runner.run(), name=held.key)
            telling = asyncio.create_task(self._keep_telling(kept, held, feed))
            leaving = asyncio.create_task(_until_leaving(held))
            tasks = [running, telling, leaving]
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                runner.stop()
                await asyncio.wait((running,), timeout=STOP_S_MAX)
                running.cancel()
            await running
        except (SourceStoppedError, asyncio.CancelledError):
            if not held.leaving.is_set():
                raise
            return None
        except LeaseLostError:
            raise
        except SourceFaultError as error:
            return f"{error.code}: {error.detail}"
        except TallystickError as error:
            return f"{error.code}: {error.detail}"
        except Exception as error:
            # Its words may hold secrets of the settings: the log has its kind and its place, users have the kind.
            _logger.exception("source_failed", source=kept.key, tenant=kept.tenant, kind=kept.content["kind"])
            return f"internal: {type(error).__name__}; the server's log has more."
        else:
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _resolved(self, kept: KeptSource) -> Source:
        """With its secrets. Raises SourceFaultError."""
        settings, tenant = self._system.settings, kept.tenant
        check_tenant(settings, tenant)
        try:
            source = read_source({**kept.content, "paused": kept.paused})
            check_allowed(settings, tenant, source)
        except Invalid as error:
            raise SourceFaultError(error.detail, code="source_invalid") from error

        def variable(name: str) -> str:
            return secret_of(self._environment, tenant, name)

        return replace(source, settings=resolved(source.description, source.settings, variable))

    async def _keep_telling(self, kept: KeptSource, held: Held[str], feed: SourceFeed) -> None:
        """Say how it stands whenever that has changed."""
        told: StateChange | None = None
        while True:
            status = "running" if feed.waiting is None else "waiting"
            now = StateChange(status, feed.waiting, feed.lag)
            self._figures.observe(held.key, taken=feed.took, lag=feed.lag, status=status)
            if now != told:
                with contextlib.suppress(TallystickError):
                    await self._tell(kept, held, now)
                    told = now
            await asyncio.sleep(TELL_S)

    async def _tell(self, kept: KeptSource, held: Held[str], change: StateChange) -> None:
        self._figures.observe(held.key, status=change.status)
        try:
            await asyncio.to_thread(
                self._catalog.set_source_state,
                kept.number,
                (held.key, held.epoch),
                change,
                now_us=self._system.clock.now_us(),
            )
        except TallystickError as error:
            _logger.warning("source_state_not_written", source=kept.key, error=repr(error))
