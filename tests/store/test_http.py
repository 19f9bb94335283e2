"""The contract over HTTP: a front over chDB in a process of its own."""

import os
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.clickhouse_front import Front
from tests.store.contract import StoreContract
from tests.store.partition_contract import PartitionContract
from tests.store.questions_contract import QuestionsContract
from tests.store.rollups_contract import RollupsContract
from tests.store.versions_contract import VersionsContract

from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection
from tallystick.store.engine import engine_of
from tallystick.store.interface import FACTS, Store

SideDoor = Callable[[str], None]
SECRET = "a word: with @ and %"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("TALLYSTICK_TEST_CLICKHOUSE_URL")
    if given:
        yield given
        return
    front = Front(tmp_path_factory.mktemp("front"), user="tally", password=SECRET).start()
    yield front.url()
    front.stop()


@pytest.fixture(scope="module")
def shared(url: str) -> Iterator[ClickHouseStore]:
    store = ClickHouseStore(url)
    yield store
    store.close()


@pytest.fixture(scope="module")
def door(url: str, shared: ClickHouseStore) -> Iterator[Connection]:
    connection = Connection(engine_of(url), query_time_s_max=10, query_memory_bytes_max=10**9)
    yield connection
    connection.close()


@pytest.fixture
def side_door(door: Connection) -> SideDoor:
    """Statements that bypass the store."""
    return door.command


@pytest.fixture
def store(shared: ClickHouseStore, side_door: SideDoor) -> Store:
    shared.migrate()
    for name in (*FACTS, "readings", "rollups", "fences", "token_salts"):
        side_door(f"TRUNCATE TABLE {name} SYNC")
    return shared


class TestHttp(StoreContract):
    pass


class TestHttpQuestions(QuestionsContract):
    pass


class TestHttpVersions(VersionsContract):
    pass


class TestHttpRollups(RollupsContract):
    pass


class TestHttpPartitions(PartitionContract):
    pass
