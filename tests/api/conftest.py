"""A system in process: real log and catalog in `tmp_path`; a recorder and a store small enough to read here."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tallystick.api.app import create_app
from tallystick.catalog.interface import SYSTEM
from tallystick.catalog.relational import RelationalCatalog
from tallystick.clock import ManualClock
from tallystick.config import Settings
from tallystick.flows.record import Lag, Outcome, Totals
from tallystick.flows.system import System
from tallystick.log.sqlite import SqliteLog
from tallystick.metering.position import Positions
from tallystick.metrics import Metrics

NOW_US = 1_790_000_000_000_000
ADMIN_KEY = "admin-secret-of-the-tests"


class SmallRecorder:
    """Decides as the real one does (identity, then content), from the same log, when somebody asks."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.position = 0
        self.recorded_at_us = 0
        self.recovered = True
        self.fault: str | None = None
        self.stuck = False
        self._seen: dict[bytes, int] = {}
        self._status: dict[int, str] = {}

    @property
    def totals(self) -> Totals:
        found = list(self._status.values())
        return Totals(found.count("recorded"), found.count("duplicate"), found.count("conflict"))

    def unbuilt(self) -> frozenset[int]:
        return frozenset()

    def lag(self) -> Lag:
        return Lag(self._log.behind(self.position), 0.0 if self._log.end == self.position else 60.0)

    async def outcome(self, positions: Positions, timeout_s: float) -> Outcome | None:
        if self.stuck:
            return None
        for block in await self._log.read(self.position, events_max=1_000_000):
            identities = block.events.column("identity").to_pylist()
            contents = block.events.column("content").to_pylist()
            for row, (identity, content) in enumerate(zip(identities, contents, strict=True)):
                known = self._seen.setdefault(identity, content)
                new = len(self._seen) > len([s for s in self._status.values() if s == "recorded"])
                status = "recorded" if new else "duplicate" if known == content else "conflict"
                self._status[block.first + row] = status
            self.position = block.last
        found = [self._status[at] for at in positions.tolist()]
        return Outcome(
            [row for row, status in enumerate(found) if status == "duplicate"],
            [row for row, status in enumerate(found) if status == "conflict"],
        )


@dataclass
class Running:
    """A system, its application and a client that has the admin's key."""

    system: System
    app: Any
    client: httpx.AsyncClient
    clock: ManualClock
    recorder: SmallRecorder

    def key(self, *scopes: str, tenant: str = "default") -> str:
        made = self.system.catalog.create_api_key(
            tenant,
            name="test",
            scopes=scopes,
            expires_at_us=None,
            actor=SYSTEM,
            now_us=self.clock.now_us(),
        )
        return made.secret

    async def events(self, body: Any = None, **options: Any) -> httpx.Response:
        """`POST /v1/events` with a JSON body."""
        return await self.client.post("/v1/events", json=body, **options)


Start = Callable[..., contextlib.AbstractAsyncContextManager[Running]]


@pytest.fixture(scope="session")
def catalog_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with its tables and the admin's key, made once and copied."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    catalog = RelationalCatalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.ensure_admin_key(ADMIN_KEY, now_us=NOW_US)
    catalog.close()
    return path


@pytest.fixture
def start(tmp_path: Path, catalog_file: Path) -> Start:
    """`async with start(body_bytes_max=100) as running:` — settings by name."""

    @contextlib.asynccontextmanager
    async def running(routes: Any = (), **settings: Any) -> AsyncIterator[Running]:
        clock = ManualClock(NOW_US)
        log = SqliteLog.open(
            tmp_path / "log.sqlite", waiting_events_max=200_000, unrecorded_events_max=10_000_000
        )
        shutil.copy(catalog_file, tmp_path / "catalog.sqlite")
        catalog = RelationalCatalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
        recorder = SmallRecorder(log)
        store: Any = SimpleNamespace(ping=lambda: None)
        with ThreadPoolExecutor(2) as questions:
            system = System(
                settings=Settings(**settings),
                clock=clock,
                log=log,
                store=store,
                catalog=catalog,
                recorder=recorder,  # type: ignore[arg-type]
                rollups=SimpleNamespace(status={}),  # type: ignore[arg-type]
                metrics=Metrics(),
                questions=questions,
            )
            app: Any = create_app(system, routes=routes)
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
            headers = {"authorization": f"Bearer {ADMIN_KEY}"}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://test", headers=headers
            ) as client:
                try:
                    yield Running(system, app, client, clock, recorder)
                finally:
                    await log.close()
                    await asyncio.to_thread(catalog.close)

    return running
