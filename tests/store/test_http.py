"""The contract over HTTP: on a front over chDB in a process of its own, which takes what a cluster would be told; or on a
real server or cluster, named by TALLYSTICK_TEST_CLICKHOUSE_URL (`make test-clickhouse`)."""

import contextlib
import os
import urllib.parse
import uuid
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.clickhouse_front import Front, configuration
from tests.store.contract import StoreContract
from tests.store.partition_contract import PartitionContract
from tests.store.questions_contract import QuestionsContract
from tests.store.rollups_contract import RollupsContract
from tests.store.versions_contract import VersionsContract

from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection
from tallystick.store.engine import engine_of
from tallystick.store.interface import FACTS, RollupView, Store

SideDoor = Callable[[str], None]
SECRET = "a word: with @ and %"


@contextlib.contextmanager
def _database_of_its_own(url: str) -> Iterator[str]:
    """On a real server or cluster nothing but this database is touched."""
    engine = engine_of(url)
    connection = Connection(engine, query_time_s_max=60, query_memory_bytes_max=10**9)
    name = f"tallystick_test_{uuid.uuid4().hex[:12]}"
    on = f" ON CLUSTER '{engine.cluster}'" if engine.cluster else ""
    connection.command(f"CREATE DATABASE {name}{on}")
    try:
        yield urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(path=f"/{name}"))
    finally:
        connection.command(f"DROP DATABASE {name}{on} SYNC")
        connection.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one shard: all that one server does, and its tables behind `Distributed`."""
    given = os.environ.get("TALLYSTICK_TEST_CLICKHOUSE_URL")
    if given:
        with _database_of_its_own(given) as found:
            yield found
        return
    directory = tmp_path_factory.mktemp("front")
    front = Front(
        directory / "engine",
        config=configuration(directory / "config.xml"),
        user="tally",
        password=SECRET,
        cluster=True,
    ).start()
    yield front.url()
    front.stop()


@pytest.fixture(scope="module")
def shared(url: str) -> Iterator[ClickHouseStore]:
    store = ClickHouseStore(url, left_over_after_s=0)
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
    for name in (
        *FACTS,
        "readings",
        "identities",
        *(view.value for view in RollupView),
        "fences",
        "token_salts",
    ):
        side_door(f"TRUNCATE TABLE {name} SYNC")
    return shared


class TestHttp(StoreContract):
    pass


class TestHttpQuestions(QuestionsContract):
    @pytest.fixture
    def examples(self) -> int:
        """As many as take a few seconds: the embedded engine, which is the same, is asked hundreds."""
        return 3


class TestHttpVersions(VersionsContract):
    @pytest.fixture
    def examples(self) -> int:
        return 3


class TestHttpRollups(RollupsContract):
    @pytest.fixture
    def examples(self) -> int:
        return 8


class TestHttpPartitions(PartitionContract):
    pass
