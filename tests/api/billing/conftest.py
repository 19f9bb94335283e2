"""One system for a module (chDB opens one directory a process); each test has a tenant of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.questions.live import Live, Tenant, opened


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory: Path = tmp_path_factory.mktemp("billing")
    with opened(directory, billing_sweep_s=0) as live:
        yield live


@pytest.fixture
def tenant(live: Live) -> Tenant:
    return live.tenant()
