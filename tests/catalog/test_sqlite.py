"""The contract on SQLite, and what is particular to it."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tallystick.catalog.cached import CachedCatalog
from tallystick.catalog.interface import Catalog
from tallystick.catalog.relational import RelationalCatalog
from tallystick.errors import Invalid, StorageFull, Unavailable

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
from .reports_contract import ReportsContract
from .tokens_contract import TokensContract


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "migrated.db"
    catalog = RelationalCatalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.close()
    return path


@pytest.fixture
def file(migrated_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "catalog.db"
    shutil.copy(migrated_file, path)
    return path


@pytest.fixture
def catalog(file: Path) -> Iterator[Catalog]:
    opened = CachedCatalog(f"sqlite:///{file}")
    yield opened
    opened.close()


@pytest.fixture
def other(file: Path) -> Iterator[Catalog]:
    opened = RelationalCatalog(f"sqlite:///{file}")
    yield opened
    opened.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[tuple[Catalog, Catalog]]:
    url = f"sqlite:///{tmp_path}/new/100%/empty.db"
    both = RelationalCatalog(url), RelationalCatalog(url)
    yield both
    for opened in both:
        opened.close()


@pytest.fixture
def new_url(tmp_path: Path) -> Callable[[str], str]:
    return lambda name: f"sqlite:///{tmp_path}/{name}.db"


@pytest.fixture
def side_door(file: Path) -> Callable[[str], list[Any]]:
    def run(statement: str) -> list[Any]:
        with closing(sqlite3.connect(file)) as connection:
            rows = connection.execute(statement).fetchall()
            connection.commit()
            return rows

    return run


class TestSqlite(
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
    def test_the_file_is_in_wal_and_references_hold(
        self, catalog: Catalog, side_door: Callable[[str], list[Any]]
    ) -> None:
        catalog.create_customer(T, "acme", new(subjects=["a"]), actor=ANN, now_us=NOW_US)
        assert side_door("PRAGMA journal_mode") == [("wal",)]
        assert side_door("PRAGMA foreign_key_check") == []
        with pytest.raises(Exception, match="FOREIGN KEY"):
            catalog.create_customer("no such tenant", "x", new(), actor=ANN, now_us=NOW_US)

    def test_a_locked_file_is_unavailable(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tallystick.catalog.database._BUSY_TIMEOUT_MS", 10)
        catalog = RelationalCatalog(f"sqlite:///{file}")
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable) as error:
                catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
            assert error.value.retry_after_s == 2
            assert "BEGIN" not in error.value.detail
            assert catalog.meters(T).items == ()
            writer.execute("ROLLBACK")
        assert catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US).version == 1
        catalog.close()

    def test_a_file_that_is_no_database_is_unavailable(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        path.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
        catalog = RelationalCatalog(f"sqlite:///{path}")
        with pytest.raises(Unavailable):
            catalog.migrate()
        catalog.close()

    def test_a_full_disk_is_said_and_changes_nothing(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sqlalchemy import event

        engine = catalog._database._engine  # type: ignore[attr-defined]
        with catalog._database.reading() as connection:  # type: ignore[attr-defined]
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

        def no_more_pages(connection: Any) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")

        event.listen(engine, "begin", no_more_pages)
        with pytest.raises(StorageFull):
            catalog.create_unknown(T, [f"s{n}" for n in range(2_000)], now_us=NOW_US)
        assert catalog.subject_map(T) == {}

    @pytest.mark.parametrize(
        "url", ["", "nonsense", "mysql://x/y", "sqlite+nope:///x", "postgresql+nope://x/y"]
    )
    def test_an_unusable_url_is_refused(self, url: str) -> None:
        with pytest.raises(Invalid) as error:
            RelationalCatalog(url)
        assert error.value.code == "invalid_setting"

    def test_ids_are_never_used_again(self, catalog: Catalog, side_door: Callable[[str], list[Any]]) -> None:
        first = catalog.create_meter(T, definition("a"), actor=ANN, now_us=NOW_US)
        side_door("DELETE FROM meter_versions")
        side_door("DELETE FROM meters")
        assert catalog.create_meter(T, definition("b"), actor=ANN, now_us=NOW_US).id > first.id
