"""Three rings by cost: `make unit` runs what needs neither the engine nor a process, `-m "not slow"` adds what needs the
engine, and `make test` everything."""

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that does other things beside.
settings.register_profile("tallystick", deadline=None)
settings.load_profile("tallystick")

_ENGINE_ROOMS = ("api/billing", "api/questions", "bench", "cli", "faults", "flows", "store", "traces")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rooms = tuple(_HERE / room for room in _ENGINE_ROOMS)
    for item in items:
        if any(item.path.is_relative_to(room) for room in rooms):
            item.add_marker(pytest.mark.engine)
