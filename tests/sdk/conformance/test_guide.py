"""The programs of docs/howto/sdks.md, as they stand there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.server import KEY, Server
from tests.sdk.conformance.conftest import settle
from tests.sdk.conformance.languages import GO_OFFLINE, LANGUAGES, SDK, Language

GUIDE = SDK.parent / "docs" / "howto" / "sdks.md"
FENCES = {"python": "python", "typescript": "ts", "go": "go", "java": "java"}

pytestmark = [pytest.mark.slow, pytest.mark.engine]


def _command(language: str, built: list[str], text: str, directory: Path) -> list[str]:
    """Put the program where its language wants it; how it is run there."""
    if language == "python":
        return [sys.executable, "-c", text]
    if language == "java":
        (directory / "Guide.java").write_text(text)
        return [*built[:-1], str(directory / "Guide.java")]
    if language == "go":
        module = "github.com/tallystick/tallystick/sdk/go"
        (directory / "main.go").write_text(text)
        (directory / "go.mod").write_text(
            f"module guide\n\ngo 1.22\n\nrequire {module} v0.0.0\n\nreplace {module} => {SDK / 'go'}\n"
        )
        return ["go", "run", "."]
    package = directory / "node_modules" / "tallystick"
    package.parent.mkdir()
    package.symlink_to(Path(built[-1]).parents[1])
    (directory / "guide.mjs").write_text(
        text.replace('"tallystick"', '"./node_modules/tallystick/src/index.js"').replace(
            '"tallystick/node"', '"./node_modules/tallystick/src/node/index.js"'
        )
    )
    return [built[0], str(directory / "guide.mjs")]


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_the_guide(
    language: Language, commands: dict[str, list[str] | AssertionError], server: Server, tmp_path: Path
) -> None:
    built = commands[language.name]
    if isinstance(built, AssertionError):
        raise built
    if server.request("GET", "/v1/meters/tokens").status_code == 404:
        definition = {"event_type": "llm.completion", "aggregation": "sum", "value": "$.tokens"}
        server.meter("tokens", **definition, dimensions={"model": "$.model"})
    customer = f"guide-{language.name}"
    assert server.request("POST", "/v1/customers", json={"key": customer}).status_code == 201
    found = re.search(rf"^```{FENCES[language.name]}\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    text = found[1].replace("acme", customer).replace("/var/lib/app/usage", str(tmp_path / "spool"))
    ended = subprocess.run(
        _command(language.name, built, text, tmp_path),
        cwd=tmp_path,
        env={
            **os.environ,
            **GO_OFFLINE,
            **language.environment,
            "TALLYSTICK_URL": server.url,
            "TALLYSTICK_KEY": KEY,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    settle(server)
    items = server.get("/v1/events", params={"subject": customer})["items"]
    assert [item["data"] for item in items] == [{"tokens": 812, "model": "atlas"}], json.dumps(items)
