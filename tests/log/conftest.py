"""What all tests of the log share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.log.contract", "tests.log.events")

MEMORY = Path("/dev/shm")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def fast_directory() -> Path | None:
    """A file system in memory, where there is one: thousands of syncs of a shared disk would prove nothing here."""
    return MEMORY if os.access(MEMORY, os.W_OK) else None


@pytest.fixture
def tmp_path(
    request: pytest.FixtureRequest, fast_directory: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """In memory for the quick tests, on the disk for the slow ones."""
    if fast_directory is None or request.node.get_closest_marker("slow"):
        yield tmp_path_factory.mktemp("log")
        return
    with tempfile.TemporaryDirectory(prefix="tallystick-test-", dir=fast_directory) as directory:
        yield Path(directory)
