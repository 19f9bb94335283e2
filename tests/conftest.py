"""Three rings by cost: `make unit` runs what needs neither the engine nor a process, `-m "not slow"` adds what needs the
engine, and `make test` everything."""

import gc
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that does other things beside.
settings.register_profile("tallystick", deadline=None)
settings.load_profile("tallystick")
# Looking for cycles 700 containers apart took a quarter of the processor time of what runs in this process.
gc.set_threshold(50_000, 10, 10)

_ENGINE_ROOMS = (
    "api/billing",
    "api/compat",
    "api/questions",
    "bench",
    "cli",
    "faults",
    "flows",
    "store",
    "traces",
)
_HERE = Path(__file__).parent
_LONG = (
    "cli/test_commands.py",
    "flows/test_cluster.py",
    "store/test_chdb.py",
    "faults/",
    "store/",
    "sources/",
    "catalog/test_postgres.py",
    "catalog/test_outage.py",
    "log/test_jetstream.py",
    "flows/test_record.py",
    "flows/test_model.py",
    "web/",
    "bench/",
    "traces/",
    "sdk/",
    "cluster/",
    "cli/",
    "api/billing/",
    "flows/",
)
"""What takes longest, by measure, first. It is dealt out to workers by the file: a long one that comes last leaves all others
idle, and those with few tests, which are the long ones, came last."""
_OUT_OF_TIME = ["TimeoutError", "ReadTimeout", "ConnectTimeout", "PoolTimeout", "TimeoutExpired"]
"""Tests of whole processes wait for a bounded time. On a machine that stands still for a while one may run out of it
without saying anything about the program: it gets a second try, as the summary then tells. A wrong count gets none."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_place)
    rooms = tuple(_HERE / room for room in _ENGINE_ROOMS)
    for item in items:
        if any(item.path.is_relative_to(room) for room in rooms):
            item.add_marker(pytest.mark.engine)
        if item.get_closest_marker("engine") or item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=_OUT_OF_TIME))


def pytest_collection_finish() -> None:
    # Modules and tests stay to the end: nobody looks for cycles among them.
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries that find their own objects still there at the end say so, after the summary


def _place(item: pytest.Item) -> int:
    path = item.path.relative_to(_HERE).as_posix()
    return next((place for place, long in enumerate(_LONG) if path.startswith(long)), len(_LONG))
