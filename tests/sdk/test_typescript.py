"""The TypeScript client: its own tests, against a real server."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.server import KEY, Server

SDK = Path(__file__).parents[2] / "sdk" / "typescript"

pytestmark = [pytest.mark.slow, pytest.mark.engine]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("sdk") / "data")
    made.start()
    yield made
    made.end()


def test_the_typescript_client(server: Server) -> None:
    npm = shutil.which("npm")
    assert npm is not None, "There is no Node: tools/system-packages says what to install."
    subprocess.run([SDK.parents[1] / "tools" / "build-web"], check=True)
    environment = {**os.environ, "TALLYSTICK_URL": server.url, "TALLYSTICK_KEY": KEY}
    run = subprocess.run(
        [npm, "test", "--silent"],
        cwd=SDK,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
