from collections.abc import Iterator

import pytest
from tests.api.questions.live import Live, Tenant, opened
from tests.api.questions.world import World, entered


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One a module: the engine opens one directory a process, and the tests of other rooms need theirs."""
    with opened(tmp_path_factory.mktemp("live")) as made:
        yield made


@pytest.fixture
def tenant(live: Live) -> Tenant:
    """A client that administers an empty tenant."""
    return live.tenant()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Instead of `live`, never beside it."""
    yield from entered(tmp_path_factory.mktemp("world"))
