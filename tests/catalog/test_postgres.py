"""The contract on PostgreSQL: a private server on loopback in a directory of its own. A missing one is a failure."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine
from tests.patience import patience

from tallystick.catalog.cached import CachedCatalog
from tallystick.catalog.interface import Catalog
from tallystick.catalog.relational import RelationalCatalog
from tallystick.errors import Unavailable

from .access_contract import AccessContract
from .alerts_contract import AlertsContract
from .backfills_contract import BackfillsContract
from .billing_contract import BillingContract
from .contract import ANN, NOW_US, CatalogContract, T, definition, new
from .counters_contract import CountersContract
from .credits_contract import CreditsContract
from .deliveries_contract import DeliveriesContract
from .exports_contract import ExportsContract
from .migrations_contract import MigrationsContract
from .postgres_databases import MigratedDatabases, execute
from .postgres_server import PostgresServer
from .reports_contract import ReportsContract
from .test_migrations import differences
from .tokens_contract import TokensContract

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Beginning of a URL, ending before the database's name."""
    running = PostgresServer()
    try:
        running.start()
        yield running.address
    finally:
        running.remove()


@pytest.fixture(scope="session")
def databases(server: str) -> MigratedDatabases:
    return MigratedDatabases(server)


@pytest.fixture
def database(databases: MigratedDatabases) -> Iterator[str]:
    with databases.one() as address:
        yield address


@pytest.fixture
def catalog(database: str) -> Iterator[Catalog]:
    opened = CachedCatalog(f"postgresql+psycopg://{database}")
    yield opened
    opened.close()


@pytest.fixture
def other(database: str) -> Iterator[Catalog]:
    opened = RelationalCatalog(f"postgresql+psycopg://{database}")
    yield opened
    opened.close()


@pytest.fixture
def empty(server: str) -> Iterator[tuple[Catalog, Catalog]]:
    execute(server, "CREATE DATABASE empty")
    both = RelationalCatalog(f"postgresql://{server}empty"), RelationalCatalog(f"postgresql://{server}empty")
    yield both
    for opened in both:
        opened.close()
    execute(server, "DROP DATABASE empty WITH (FORCE)")


@pytest.fixture
def new_url(server: str) -> Iterator[Callable[[str], str]]:
    made: list[str] = []

    def new_url(name: str) -> str:
        execute(server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"new_{name}")))
        made.append(name)
        return f"postgresql+psycopg://{server}new_{name}"

    yield new_url
    for name in made:
        execute(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(f"new_{name}")))


@pytest.fixture
def side_door(database: str) -> Callable[[str], list[Any]]:
    def run(statement: str) -> list[Any]:
        with psycopg.connect(f"postgresql://{database}") as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    return run


class TestPostgres(
    MigrationsContract,
    CatalogContract,
    BackfillsContract,
    BillingContract,
    AccessContract,
    TokensContract,
    AlertsContract,
    CountersContract,
    ReportsContract,
    CreditsContract,
    DeliveriesContract,
    ExportsContract,
):
    steps_apart = 8

    def test_models_and_migrations_agree(self, database: str, catalog: Catalog) -> None:
        engine = create_engine(f"postgresql+psycopg://{database}")
        assert differences(engine) == []
        engine.dispose()

    def test_tables_just_filled_answer_at_once(self, new_url: Callable[[str], str]) -> None:
        """Nobody has analysed the table yet; as a plain IN this took four minutes."""
        catalog = CachedCatalog(new_url("filled"))
        catalog.migrate()
        subjects = [f"s{n}" for n in range(100_000)]
        catalog.create_unknown(T, subjects, now_us=NOW_US)
        begin_s = time.monotonic()
        assert len(catalog.resolve_subjects(T, subjects)) == len(subjects)
        assert time.monotonic() - begin_s < 30 * patience()
        catalog.close()

    def test_lists_are_ordered_by_code_point(self, catalog: Catalog) -> None:
        for key in ("b", "B", "a", "_".join("ab"), "a.b", "a-b"):
            catalog.create_meter(T, definition(key), actor=ANN, now_us=NOW_US)
        keys = [meter.key for meter in catalog.meters(T).items]
        assert keys == sorted(keys)

    def test_cut_connections_come_back(self, catalog: Catalog, side_door: Callable[[str], list[Any]]) -> None:
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        side_door(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert catalog.customer(T, "acme").key == "acme"

    def test_no_server_is_unavailable(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        catalog = RelationalCatalog(f"postgresql://nobody@127.0.0.1:{port}/none")
        with pytest.raises(Unavailable) as error:
            catalog.ping()
        assert error.value.retry_after_s == 2
        assert str(port) not in error.value.detail
        catalog.close()
