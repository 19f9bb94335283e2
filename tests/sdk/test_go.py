"""The Go client: its own tests, its form, and what vet says, without a network."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.sdk.conformance.languages import GO_OFFLINE, SDK, go_program

pytestmark = pytest.mark.slow


def _said(*command: str) -> str:
    ended = subprocess.run(
        command,
        cwd=SDK / "go",
        env={**os.environ, **GO_OFFLINE},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    return ended.stdout


def test_the_go_client() -> None:
    go = go_program()
    _said(go, "test", "-vet=all", "./...")
    assert not _said(str(Path(go).with_name("gofmt")), "-l", "."), "gofmt -w is needed."
    assert "require" not in (SDK / "go" / "go.mod").read_text(), "The standard library alone."
