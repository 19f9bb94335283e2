"""One engine for the tests of a module, emptied for each; a catalog made once and copied."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tallystick.catalog.relational import RelationalCatalog
from tallystick.flows import derive, record, rollup
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection
from tallystick.store.engine import engine_of
from tallystick.store.interface import FACTS

pytest.register_assert_rewrite("tests.flows.rig")

from tests.flows.rig import NOW_US, Rig  # noqa: E402 -- rewritten first

Make = Callable[[], Rig]


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"chdb:///{tmp_path_factory.mktemp('store')}"
    store = ClickHouseStore(url)
    store.migrate()
    yield url
    store.close()


@pytest.fixture(scope="module")
def side_door(engine_url: str) -> Iterator[Connection]:
    """Statements that bypass the store."""
    connection = Connection(engine_of(engine_url), query_time_s_max=10, query_memory_bytes_max=10**9)
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is broken here on purpose is no news, and printing a traceback takes half a second."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def catalog_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    catalog = RelationalCatalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.ensure_admin_key("rig-admin-key", now_us=NOW_US)
    catalog.close()
    return path


@pytest.fixture
def make_rig(
    engine_url: str,
    side_door: Connection,
    catalog_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """A new installation each time it is called, with an empty store."""
    monkeypatch.setattr(record, "_RETRY_S", (0.002, 0.02))
    monkeypatch.setattr(record, "_IDLE_S", 0.01)
    monkeypatch.setattr(record, "_SHARED_IDLE_S", 0.01)
    monkeypatch.setattr(derive, "_IDLE_S", 0.01)
    # These tests look at where readings come from; roll-ups, which have tests of their own, would answer in their place.
    monkeypatch.setattr(rollup, "AGGREGATIONS", frozenset())

    def make() -> Rig:
        # The fences too: epochs begin anew with the catalog.
        for name in (*FACTS, "readings", "identities", "fences", "token_salts"):
            side_door.command(f"TRUNCATE TABLE IF EXISTS {name} SYNC")
        directory = tmp_path_factory.mktemp("rig")
        shutil.copy(catalog_file, directory / "catalog.sqlite")
        return Rig(directory, engine_url)

    return make


@pytest.fixture
def play(make_rig: Make) -> Callable[[Callable[[Rig], Awaitable[None]]], None]:
    """Run a coroutine function over a started rig, and stop the rig whatever happens."""

    def run(scene: Callable[[Rig], Awaitable[None]]) -> None:
        async def whole() -> None:
            rig = make_rig()
            await rig.start()
            try:
                await scene(rig)
            finally:
                await rig.stop()

        asyncio.run(whole())

    return run
