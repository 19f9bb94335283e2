"""A whole system in process, made to be broken: real log, index, store and catalog, a clock that is set by hand.

The store's tables are shared by the tests of a module (chDB opens one directory a process) and emptied for each test;
everything else lies in the test's own directory.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tallystick.catalog.interface import SYSTEM
from tallystick.clock import ManualClock
from tallystick.config import Settings
from tallystick.errors import Unavailable
from tallystick.flows.recording import Outcome
from tallystick.flows.usage import UsageAnswer, UsageRequest, usage
from tallystick.metering.decode import Limits, decode
from tallystick.metering.definition import parse_meter
from tallystick.metering.evaluate import OracleEvent, evaluate, oracle_events
from tallystick.metering.meter import Meter
from tallystick.metering.position import Positions, Vector
from tallystick.metering.query import UsageQuery
from tallystick.store.interface import Store
from tallystick.wiring import Running, start

NOW_US = 1_790_000_000_000_000
DAY_US = 86_400_000_000
LIMITS = Limits(events_max=10_000, event_bytes_max=2**18, depth_max=32, future_tolerance_us=3_600_000_000)
WAIT_S = 120
"""For what is to come about: long, because on a busy machine it comes late, and nobody waits where it has come."""
PARTITIONS = int(os.environ.get("TALLYSTICK_TEST_PARTITIONS", "1"))
"""More than one: recorders as in a cluster, all of them in this process."""


def of_one(reason: str) -> pytest.MarkDecorator:
    """A test of an installation with one partition: why the same cannot be asked of several."""
    return pytest.mark.skipif(PARTITIONS > 1, reason=f"One partition: {reason}")


Event = dict[str, Any]


def event(number: int | str, **changes: Any) -> Event:
    made: Event = {
        "id": str(number),
        "source": "/s",
        "type": "call",
        "subject": "acme",
        "time": "2026-09-21T14:00:00Z",
        "data": {"n": 1},
    }
    return made | changes


class Failing:
    """A store of which chosen calls are refused: `refuse` names them, "*" all; cleared by the test."""

    def __init__(self, store: Store, whole: "Failing | None" = None) -> None:
        self._store = store
        self._whole = whole or self
        self.refuse: set[str] = set()
        self.refused = 0

    def _bound(self, store: Store) -> "Failing":
        """The store of one partition, which refuses what the whole one does."""
        return Failing(store, whole=self)

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._store, name)

        if name == "partition":
            return lambda *given, **named: self._bound(target(*given, **named))

        def call(*positional: Any, **named: Any) -> Any:
            if self._whole.refuse & {name, "*"} and name != "close":
                self._whole.refused += 1
                raise Unavailable("The store is not there (test).", retry_after_s=1)
            return target(*positional, **named)

        return call


@dataclass
class Rig:
    """`start` and `stop` as often as wanted, over the same data."""

    directory: Path
    store_url: str
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_US))
    on_step: Callable[[str], None] = lambda step: None
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    running: Running | None = None
    failing: Failing | None = None

    async def start(self) -> None:
        self.running = await start(
            Settings(
                data_dir=str(self.directory),
                store_url=self.store_url,
                admin_key="rig-admin-key",
                **({"partitions": PARTITIONS, "wait_s_max": WAIT_S} | self.settings),
            ),
            clock=self.clock,
            wrap_store=self._wrap,
            on_step=lambda step: self.on_step(step),
            lease_s=0.1,
        )

    def _wrap(self, store: Store) -> Store:
        refuse = self.failing.refuse if self.failing else set[str]()
        self.failing = Failing(store)
        self.failing.refuse = refuse
        return self.failing  # pyright: ignore[reportReturnType]

    async def stop(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            await running.stop()

    async def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        await self.stop()
        meanwhile()
        await self.start()

    @property
    def system(self) -> Any:
        assert self.running is not None
        return self.running.system

    @property
    def recorder(self) -> Any:
        return self.system.recorder

    async def append(self, *events: Event, tenant: str = "default") -> Positions:
        """The position of each."""
        decoded = decode(
            json.dumps(events).encode(),
            content_type="application/json",
            ce_headers={},
            tenant=tenant,
            received_at_us=self.clock.now_us(),
            limits=LIMITS,
        )
        assert decoded.rejected == []
        return await self.system.log.append(decoded.events)

    async def record(self, *events: Event, tenant: str = "default") -> Outcome:
        """Append, wait, and say what became of them, by place within the call, from 0."""
        outcome = await self.recorder.outcome(await self.append(*events, tenant=tenant), WAIT_S)
        assert outcome is not None, self.recorder.fault
        return outcome

    @property
    def end(self) -> Vector:
        """Everything that is in the log."""
        end = self.system.log.end
        return end if isinstance(end, tuple) else (end,)

    async def settled(self) -> None:
        """Wait until everything in the log is recorded."""
        assert await self.recorder.wait_for(self.end, WAIT_S), self.recorder.fault

    def meter(self, tenant: str = "default", **members: Any) -> Meter:
        whole = {"key": "m", "event_type": "call", "aggregation": "sum", "value": "$.n"} | members
        return self.system.catalog.create_meter(
            tenant, parse_meter(whole), actor=SYSTEM, now_us=self.clock.now_us()
        )

    async def usage(self, meter: str = "m", tenant: str = "default", **changes: Any) -> UsageAnswer:
        request = UsageRequest(
            tenant=tenant, meter=meter, from_us=NOW_US - 400 * DAY_US, to_us=NOW_US + DAY_US, **changes
        )
        return await usage(self.system, request)

    async def total(self, meter: str = "m", tenant: str = "default") -> Decimal | None:
        rows = (await self.usage(meter, tenant)).rows
        return rows[0].value if rows else None

    async def served_from(self, wanted: str, meter: str = "m") -> UsageAnswer:
        """Ask until the answer comes from there."""

        async def ask() -> bool:
            nonlocal answer
            answer = await self.usage(meter, group_by=("customer",))
            return answer.served_from == wanted

        answer = await self.usage(meter, group_by=("customer",))
        await eventually(ask, f"usage served from {wanted}")
        return answer

    def stored(self, tenant: str = "default", kind: str = "call") -> list[OracleEvent]:
        """The recorded events as the store has them, by position."""
        found = [
            one
            for block in self.system.store.events_of(tenant, [kind])
            for one in oracle_events(pa.Table.from_batches([block]))
        ]
        return sorted(found, key=lambda one: one.position)

    def files(self, name: str) -> list[Path]:
        """`log` → log.sqlite and what belongs to it."""
        return sorted(self.directory.glob(f"{name}*"))

    def delete(self, name: str) -> None:
        found = self.files(name)
        assert found
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def expected(meter: Meter, events: Sequence[OracleEvent], **changes: Any) -> list[tuple[Any, ...]]:
    """What the oracle says to Rig.usage."""
    from_us, to_us = NOW_US - 400 * DAY_US, NOW_US + DAY_US
    query = UsageQuery(meter=meter, from_us=from_us, to_us=to_us, edges_us=(from_us, to_us), **changes)
    return [(row.group, row.value) for row in evaluate(query, events)]


async def eventually(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again and again, for a bounded time."""
    async with asyncio.timeout(WAIT_S):
        while not await holds():
            await asyncio.sleep(0.01)
    assert await holds(), what
