"""Leases, partitions and barriers on SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.catalog.coordination import Coordination

from .leases_contract import CoordinationContract
from .test_sqlite import file, migrated_file, side_door  # noqa: F401


@pytest.fixture
def coordination(file: Path) -> Iterator[Coordination]:  # noqa: F811
    opened = Coordination(f"sqlite:///{file}")
    yield opened
    opened.close()


@pytest.fixture
def another(file: Path) -> Iterator[Coordination]:  # noqa: F811
    opened = Coordination(f"sqlite:///{file}")
    yield opened
    opened.close()


class TestSqliteCoordination(CoordinationContract):
    pass
