"""The Java client: its own tests, with Maven. What it needs is fetched once, into `.cache/maven`."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_the_java_client() -> None:
    maven = shutil.which("mvn")
    assert maven is not None, "There is no Maven: tools/system-packages says what to install."
    repository = f"-Dmaven.repo.local={ROOT / '.cache' / 'maven'}"
    run = subprocess.run(
        [maven, "-B", "-q", "-ntp", repository, "test"],
        cwd=ROOT / "sdk" / "java",
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
