"""The Go client: its own tests, its form, and what vet says, without a network."""

import os
import subprocess

import pytest
from tests.sdk.conformance.languages import GO_OFFLINE, SDK, program

pytestmark = pytest.mark.slow

REMEDY = "tools/system-packages installs golang where it can; Go 1.22 or newer is needed."


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
    go = program("go", REMEDY)
    _said(go, "test", "-vet=all", "./...")
    assert not _said(program("gofmt", REMEDY), "-l", "."), "gofmt -w is needed."
    assert "require" not in (SDK / "go" / "go.mod").read_text(), "The standard library alone."
