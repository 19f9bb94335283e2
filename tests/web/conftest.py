"""A real server, the built pages, and Debian's Chromium. One server and one browser for all tests of a module."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.faults.server import KEY, Server
from tests.web.desk import Desk, Office

ROOT = Path(__file__).parents[2]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def built() -> None:
    """The pages, built where they are not (`make web`)."""
    subprocess.run([ROOT / "tools" / "build-web"], check=True, cwd=ROOT)


@pytest.fixture(scope="module")
def server(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("web") / "data", webhook_allow_private="true")
    made.start()
    yield made
    made.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    assert program is not None, "There is no Chromium: tools/system-packages installs it."
    # Ended with the module: while Playwright runs, its loop would stand in the way of other tests' own.
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        made = playwright.chromium.launch(executable_path=program, args=arguments)
        yield made
        made.close()


@pytest.fixture(scope="module")
def office(server: Server) -> Office:
    """Makes tenants on the server, and keeps the log of all that pages asked it for."""
    return Office(server.url, KEY)


@pytest.fixture
def desk(office: Office, browser: Browser, pictures: Path) -> Iterator[Desk]:
    """Somebody signed in, in a tenant of their own, with nothing in it."""
    made = Desk(office, browser, office.tenant(), pictures)
    yield made
    made.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go; TALLYSTICK_TEST_PICTURES names a directory to look at them."""
    named = os.environ.get("TALLYSTICK_TEST_PICTURES")
    directory = Path(named) if named else tmp_path_factory.mktemp("pictures")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checks, as a script."""
    return (ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def contract(server: Server) -> dict[str, Any]:
    return json.loads(httpx.get(f"{server.url}/openapi.json", timeout=30).text)
