"""The deployment files can be read, and name settings and roles that there are."""

import dataclasses
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tallystick.config import Settings
from tallystick.wiring import ROLES

DEPLOY = Path(__file__).parents[2] / "deploy"
SETTINGS = {f"TALLYSTICK_{one.name.upper()}" for one in dataclasses.fields(Settings)}


def _names(document: Any) -> set[str]:
    if isinstance(document, dict):
        found = {name for name in document if isinstance(name, str) and name.startswith("TALLYSTICK_")}
        return found.union(*(_names(one) for one in document.values())) if document else found
    if isinstance(document, list):
        return set[str]().union(*(_names(one) for one in document))
    return set()


def _roles(document: Any) -> set[str]:
    if isinstance(document, dict):
        return set[str]().union(*(_roles(one) for one in document.values()))
    if isinstance(document, list):
        own = {document[2]} if document[:2] == ["serve", "--role"] else set[str]()
        return own.union(*(_roles(one) for one in document))
    return set()


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.name)
def test_yaml(path: Path) -> None:
    documents = [one for one in yaml.safe_load_all(path.read_text()) if one is not None]
    assert documents
    assert _names(documents) <= SETTINGS
    if path.name != "secret.example.yaml":
        assert _roles(documents) == ROLES
    if path.parent.name == "kubernetes":
        assert all({"apiVersion", "kind", "metadata"} <= one.keys() for one in documents)


def test_volumes_of_compose_are_declared() -> None:
    document = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    used = {
        volume.partition(":")[0]
        for service in document["services"].values()
        for volume in service.get("volumes", ())
    }
    assert used == document["volumes"].keys()
    for service in document["services"].values():
        assert set(service.get("depends_on", ())) <= document["services"].keys()


def test_the_unit_is_one(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / "tallystick@.service").read_text()
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here.")
    # Of this machine, what there is: the program and the user.
    unit = tmp_path / "tallystick@api.service"
    unit.write_text(
        text.replace("/usr/local/bin/tallystick", "/bin/true").replace("=tallystick\n", "=root\n")
    )
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stderr
    assert "tallystick@api.service" not in checked.stderr, checked.stderr
