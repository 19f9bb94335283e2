"""Leases, partitions and barriers on PostgreSQL."""

from collections.abc import Iterator

import pytest

from tallystick.catalog.coordination import Coordination

from .leases_contract import CoordinationContract
from .test_postgres import database, server, side_door, template  # noqa: F401

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
    pass
