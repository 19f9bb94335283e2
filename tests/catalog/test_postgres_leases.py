"""Leases, partitions and barriers on PostgreSQL."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from tests.flows.lease_worker import frozen_wakes_and_loses

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
