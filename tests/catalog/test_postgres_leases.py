"""Leases, partitions and barriers on PostgreSQL."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from tests.flows.lease_worker import frozen_wakes_and_loses
from tests.patience import patience

from tallystick.catalog.coordination import Coordination
from tallystick.errors import Unavailable

from .leases_contract import CoordinationContract
from .test_postgres import database, databases, server, side_door  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture
def coordination(database: str) -> Iterator[Coordination]:  # noqa: F811
    opened = Coordination(f"postgresql://{database}")
    yield opened
    opened.close()


@pytest.fixture
def another(database: str) -> Iterator[Coordination]:  # noqa: F811
    opened = Coordination(f"postgresql://{database}")
    yield opened
    opened.close()


class TestPostgresCoordination(CoordinationContract):
    def test_a_process_frozen_in_a_transaction_does_not_keep_others_out(
        self,
        coordination: Coordination,
        another: Coordination,
        side_door: Callable[[str], list[Any]],  # noqa: F811
    ) -> None:
        """The server ends a transaction that says nothing for two seconds, and with it its locks."""
        coordination.partitions.prepare(1)
        old = coordination.partitions.acquire(0, "a", ttl_us=0)
        assert old is not None
        frozen = coordination.partitions._database.writing()
        connection = frozen.__enter__()
        connection.execute(text(f"UPDATE partitions SET recorded = 9 WHERE epoch = {old}"))
        began_s, new = time.monotonic(), None
        while new is None and time.monotonic() - began_s < 10:
            with contextlib.suppress(Unavailable):
                new = another.partitions.acquire(0, "b", ttl_us=60_000_000)
        assert new == old + 1
        with pytest.raises(DatabaseError):
            connection.commit()
        with contextlib.suppress(DatabaseError, Unavailable):
            frozen.__exit__(None, None, None)
        assert another.partitions.rows()[0].recorded == 0

    def test_a_frozen_process_that_wakes_changes_nothing(
        self,
        database: str,  # noqa: F811
        tmp_path: Path,
    ) -> None:
        frozen_wakes_and_loses(f"postgresql://{database}", tmp_path)

    def test_what_one_tells_the_others_hear_at_once_and_not_itself(
        self, coordination: Coordination, another: Coordination
    ) -> None:
        heard, of_its_own = threading.Event(), threading.Event()
        another.news.start(heard.set)
        coordination.news.start(of_its_own.set)
        for one in (coordination, another):
            _until(lambda one=one: one.news.is_listening)
        time.sleep(0.1)  # what the beginnings tell each other
        heard.clear()
        of_its_own.clear()
        began_s = time.monotonic()
        coordination.news.tell()
        assert heard.wait(30)
        assert time.monotonic() - began_s < patience()
        assert not of_its_own.wait(0.1)

    def test_news_is_heard_again_after_the_connection_is_gone(
        self,
        coordination: Coordination,
        another: Coordination,
        side_door: Callable[[str], list[Any]],  # noqa: F811
    ) -> None:
        heard = threading.Event()
        another.news.start(heard.set)
        _until(lambda: another.news.is_listening)
        side_door(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN tallystick_progress%' "
            "AND datname = current_database()"
        )
        _until(lambda: not another.news.is_listening)
        _until(lambda: another.news.is_listening)
        heard.clear()
        coordination.news.tell()
        assert heard.wait(30)


def _until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.01)
