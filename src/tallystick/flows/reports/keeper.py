"""Sends reports when they are due. Whatever fails here is logged and tried again; nobody else notices.

Who was not there when reports were due sends the newest of each and counts those missed: its range ends at the due moment, so
that it says what it would have said in time, and a week of mails at once tells nobody more.
"""

import asyncio
from collections.abc import Callable

import structlog

from tallystick.errors import TallystickError
from tallystick.flows.lease import Held
from tallystick.flows.reports.definitions import reports_of
from tallystick.flows.reports.run import send_due
from tallystick.flows.system import System

LOOK_S = 10.0
"""How often is looked for what is due."""
AGAIN_US = 60 * 1_000_000
"""How long after the store did not answer a report is tried again."""

_AT_ONCE = 1000

_logger = structlog.get_logger("reports")


class ReportKeeper:
    """`run` is its life."""

    def __init__(self, system: System, *, look_s: float = LOOK_S) -> None:
        self._system = system
        self._look_s = look_s
        self._stopping = asyncio.Event()
        self._again_us: dict[str, int] = {}

    async def run(self, check: Callable[[], None] = lambda: None) -> None:
        """Look until `stop`. `check` is asked before each write: what it raises ends that run."""
        while not self._stopping.is_set():
            try:
                await self.look(check)
            except Exception as error:
                _logger.warning("reports_not_looked_for", error=repr(error))
            try:
                await asyncio.wait_for(self._stopping.wait(), self._look_s)
            except TimeoutError:
                continue

    async def look(self, check: Callable[[], None] = lambda: None) -> int:
        """Send what is due now; how many were written down."""
        catalog, now_us = reports_of(self._system), self._system.clock.now_us()
        sent = 0
        due = await asyncio.to_thread(lambda: catalog.due_reports(now_us, limit=_AT_ONCE))
        self._again_us = {one.id: at for one in due if (at := self._again_us.get(one.id)) is not None}
        for report in due:
            if self._stopping.is_set():
                break
            if self._again_us.get(report.id, 0) > now_us:
                continue
            try:
                sent += await send_due(self._system, report, check=check) is not None
            except TallystickError as error:
                self._again_us[report.id] = now_us + AGAIN_US
                _logger.warning("report_not_sent", tenant=report.tenant, report=report.key, error=repr(error))
        return sent

    async def stop(self) -> None:
        self._stopping.set()

    async def work(self, held: Held[str]) -> None:
        """In a cluster: while this process has the job."""
        self._stopping = asyncio.Event()
        running = asyncio.create_task(self.run(held.check))
        try:
            await held.leaving.wait()
        finally:
            await self.stop()
            await running
