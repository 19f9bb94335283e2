"""What all tests of the log share."""

import pytest

pytest.register_assert_rewrite("tests.log.contract", "tests.log.events")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
