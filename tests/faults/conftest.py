"""Real server processes on the loopback interface; `-s` shows the account of each round."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.faults.account")

from tests.faults.server import Server  # noqa: E402 -- rewritten first


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(directory: Path = tmp_path / "data", **settings: Any) -> Server:
        made.append(Server(directory, **settings))
        return made[-1]

    yield make
    for server in made:
        server.end()


@pytest.fixture
def seed() -> int:
    """Of all random choices; TALLYSTICK_FAULT_SEED repeats a run."""
    chosen = int(os.environ.get("TALLYSTICK_FAULT_SEED") or random.SystemRandom().randrange(1, 2**24))
    print(f"TALLYSTICK_FAULT_SEED={chosen}")
    return chosen
