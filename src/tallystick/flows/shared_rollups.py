"""Roll-ups in a cluster: kept up by one process, whichever has the lease, and used by questions everywhere."""

import asyncio
from collections.abc import Callable, Mapping

from tallystick.flows.lease import Held
from tallystick.flows.rollup import RollupStatus
from tallystick.flows.rollup_reader import RollupReader
from tallystick.flows.rollup_views import RollupViews
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.store.interface import RollupView


class SharedRollups:
    """`work` is the job (flows/lease.JobKeeper); `usage` and `status` as of RollupViews."""

    def __init__(self, make: Callable[[Held[str]], RollupViews], reader: RollupReader) -> None:
        """`reader`: how questions are answered where another process keeps them up."""
        self._make = make
        self._reader = reader
        self._keeper: RollupViews | None = None

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
        return (self._reader if keeper is None else keeper).usage(query, rows_max=rows_max)

    @property
    def status(self) -> Mapping[RollupView, RollupStatus]:
        keeper = self._keeper
        return {} if keeper is None else keeper.status
