"""Libraries of kinds of sources are loaded with the first source, and one that is absent is said in words."""

import subprocess
import sys

import pytest

from tallystick.config import Settings
from tallystick.sources.interface import SourceFaultError
from tallystick.sources.source import read_source
from tallystick.wiring import source_factories

LATE = ("confluent_kafka", "aio_pika", "psycopg", "nats", "obstore", "alembic", "cel")
"""What most servers never need, or need once."""


def test_a_library_that_is_absent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tallystick.sources.kafka", None)
    settings = {"brokers": "127.0.0.1:9092", "topics": ["usage"], "group": "billing"}
    source = read_source({"key": "orders", "kind": "kafka", "settings": settings})
    with pytest.raises(SourceFaultError, match="kind kafka need a library") as caught:
        source_factories(Settings())["kafka"](source, None)  # pyright: ignore[reportArgumentType]
    assert caught.value.code == "source_kind_missing"


def test_a_server_starts_without_them() -> None:
    asked = (
        "import sys; import tallystick.api.app, tallystick.wiring; "
        f"print(*[name for name in {LATE!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == ""
