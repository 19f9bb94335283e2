"""Events whose subject belonged to nobody: they begin to count once it belongs to somebody.

An event in quarantine is a recorded fact with no customer. When its subject gets one, a `release` goes into the log, which
names the customer; the recorder carries it out (flows/actions.py), and from that moment on the event counts. Releasing
twice does nothing, so it does not matter who asks, how often, or whether somebody else has asked already.
"""

import asyncio
from collections import defaultdict
from typing import Protocol

import msgspec
import structlog

from tallystick.catalog.interface import Catalog
from tallystick.clock import Clock
from tallystick.errors import TallystickError
from tallystick.flows.actions import RELEASE, ReleaseNote
from tallystick.flows.bare import bare_rows
from tallystick.flows.record import Recorder
from tallystick.log.interface import Log
from tallystick.metering.position import Vector, united, vector_of
from tallystick.store.interface import Store

SUBJECTS_MAX = 10_000
"""Subjects that one look takes up, those with most events first."""
SUBJECTS_PER_ACTION_MAX = 1_000
LOOK_S = 1.0
SETTLE_S_MAX = 10.0

_logger = structlog.get_logger("quarantine")


class Releasing(Protocol):
    """What those who give subjects away need."""

    async def settle(self) -> None:
        """Release what may be released now, and wait until it counts. What cannot be done now is done later."""
        ...


class QuarantineKeeper:
    """Looks, when subjects have changed hands or events have come into quarantine, what is to be released."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        recorder: Recorder,
        log: Log,
        clock: Clock,
        author: str = "system",
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._recorder = recorder
        self._log = log
        self._clock = clock
        self._author = author
        self._seen_left_out = -1
        self._seen_revision = -1
        self._waiting = True
        """Whether there were events in quarantine at the last look: so it is assumed at first."""
        self._looking = asyncio.Lock()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Look again and again, until `stop`."""
        while not self._stopping.is_set():
            try:
                if await self._recorder.wait_until_migrated(LOOK_S):
                    await self.release()
            except TallystickError as error:
                _logger.warning("release_put_off", error=error.detail)
            try:
                await asyncio.wait_for(self._stopping.wait(), LOOK_S)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        self._stopping.set()

    async def settle(self) -> None:
        """Release what may be released now, and wait until it counts: for whoever has just given subjects away. What
        cannot be done now is done later."""
        if not self._waiting and self._recorder.left_out == self._seen_left_out:
            return
        try:
            async with asyncio.timeout(SETTLE_S_MAX):
                last = await self.release()
                await self._recorder.wait_for(last, SETTLE_S_MAX)
        except (TallystickError, TimeoutError) as error:
            _logger.warning("release_put_off", error=repr(error))

    async def release(self) -> Vector:
        """Put releases into the log for subjects in quarantine that belong to somebody. Answers how far the log then is
        with them; empty for none."""
        async with self._looking:
            # Before anything is read: what changes meanwhile is seen by the next look.
            left_out = self._recorder.left_out
            if not self._waiting and left_out == self._seen_left_out:
                return ()
            revision = await asyncio.to_thread(self._catalog.revision, "subjects")
            if (left_out, revision) == (self._seen_left_out, self._seen_revision):
                return ()
            as_of_us = self._recorder.recorded_at_us
            found = await asyncio.to_thread(self._store.quarantined, as_of_us=as_of_us, limit=SUBJECTS_MAX)
            by_tenant: dict[str, list[str]] = defaultdict(list)
            for one in found:
                by_tenant[one.tenant].append(one.subject)
            last: Vector = ()
            for tenant, subjects in by_tenant.items():
                owners = await asyncio.to_thread(self._catalog.resolve_subjects, tenant, subjects)
                last = united(last, await self._append(tenant, owners))
            self._waiting = bool(found)
            # After a release there may be more behind those that one look takes up.
            again = bool(last) and len(found) >= SUBJECTS_MAX
            self._seen_left_out, self._seen_revision = left_out, -1 if again else revision
            return last

    async def _append(self, tenant: str, owners: dict[str, str]) -> Vector:
        by_customer: dict[str, list[str]] = defaultdict(list)
        for subject, customer in owners.items():
            by_customer[customer].append(subject)
        last: Vector = ()
        for customer, subjects in by_customer.items():
            note = msgspec.json.encode(ReleaseNote(customer=customer, author=self._author))
            for start in range(0, len(subjects), SUBJECTS_PER_ACTION_MAX):
                some = subjects[start : start + SUBJECTS_PER_ACTION_MAX]
                rows = bare_rows(
                    tenant,
                    ["tallystick:release"] * len(some),
                    some,
                    self._clock.now_us(),
                    action=RELEASE,
                    note=note,
                    subjects=some,
                )
                last = united(last, vector_of(await self._log.append(rows)))
                _logger.info("released", tenant=tenant, customer=customer, subjects=len(some))
        return last
