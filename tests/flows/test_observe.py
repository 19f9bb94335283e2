"""Log lines: no secrets in them, and no failure of theirs is anybody else's."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tallystick import observe


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    config, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**config)
    root.handlers[:] = handlers
    root.setLevel(level)


def _fail(authorization: str) -> None:
    headers = {"authorization": authorization}
    raise RuntimeError(f"cannot ({len(headers)} header)")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_exception_is_logged_without_the_values_around_it(form: str) -> None:
    stream = io.StringIO()
    observe.configure(level="info", form=form, stream=stream)
    try:
        _fail("Bearer very-secret-key")
    except RuntimeError:
        observe.logger("tests").exception("failed", token="another-secret")
        logging.getLogger("library").exception("failed too")
    said = stream.getvalue()
    assert "cannot (1 header)" in said
    assert "test_observe" in said
    assert "secret" not in said.replace('very-secret-key")', "")
    if form == "json":
        assert all(json.loads(line) for line in said.splitlines())


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_stream_that_cannot_be_written_stops_nobody() -> None:
    observe.configure(level="info", form="json", stream=_Full())
    observe.logger("tests").warning("nobody reads this")
    logging.getLogger("library").warning("nor this")
