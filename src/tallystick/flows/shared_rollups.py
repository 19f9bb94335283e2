"""Roll-ups in a cluster: kept up by one process, whichever has the lease, and used by questions there. Elsewhere questions
are answered from readings, which gives the same figures."""

import asyncio
from collections.abc import Callable

from tallystick.flows.lease import Held
from tallystick.flows.rollup import RollupKeeper, RollupStatus
from tallystick.metering.query import UsageQuery, UsageRow

_NONE = RollupStatus(readings=0, meters=0, by_day=(), not_kept=(), upto_us=0, pending=0, fault=None)


class SharedRollups:
    """`work` is the job (flows/lease.JobKeeper); `usage` and `status` as of RollupKeeper."""

    def __init__(self, make: Callable[[Held[str]], RollupKeeper]) -> None:
        self._make = make
        self._keeper: RollupKeeper | None = None

    async def work(self, held: Held[str]) -> None:
        """Keep them up until `held.leaving`."""
        keeper = await asyncio.to_thread(self._make, held)
        self._keeper = keeper
        running = asyncio.create_task(keeper.run())
        try:
            await held.leaving.wait()
        finally:
            self._keeper = None
            await keeper.stop()
            await running
            keeper.close()

    def usage(self, query: UsageQuery, *, rows_max: int) -> list[UsageRow] | None:
        keeper = self._keeper
        return None if keeper is None else keeper.usage(query, rows_max=rows_max)

    @property
    def status(self) -> RollupStatus:
        keeper = self._keeper
        return _NONE if keeper is None else keeper.status
