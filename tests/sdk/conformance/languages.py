"""The SDKs that take part: how the driver of each is built, once, and run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
SDK = ROOT / "sdk"
BUILD_S_MAX = 300
# The module needs nothing: whatever would be fetched is a mistake.
GO_OFFLINE = {
    "GOPROXY": "off",
    "GOFLAGS": "-mod=mod -buildvcs=false",
    "GOTOOLCHAIN": "local",
    "CGO_ENABLED": "0",
}


@dataclass(frozen=True, slots=True)
class Language:
    """`build` is given a directory of its own and answers the command."""

    name: str
    build: Callable[[Path], list[str]]
    environment: dict[str, str] = field(default_factory=dict[str, str])


def program(name: str, remedy: str) -> str:
    """The path of a program the driver needs. Fails with what to do where it is absent."""
    found = shutil.which(name)
    assert found is not None, f"There is no {name} on this machine. {remedy}"
    return found


def run(command: list[str], directory: Path, **environment: str) -> None:
    """Build something; what it said when it fails."""
    ended = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_S_MAX,
    )
    assert ended.returncode == 0, f"{' '.join(command)}:\n{ended.stdout[-4000:]}{ended.stderr[-4000:]}"


def _python(_directory: Path) -> list[str]:
    return [sys.executable, str(SDK / "python" / "conformance" / "driver.py")]


def _java(directory: Path) -> list[str]:
    """Only what has no dependency: the servlet filter is left out. The answer runs the driver."""
    remedy = "tools/system-packages installs it."
    javac, virtual_machine = program("javac", remedy), program("java", remedy)
    sources = sorted(map(str, (SDK / "java" / "src" / "main" / "java" / "io" / "tallystick").glob("*.java")))
    driver = str(SDK / "java" / "conformance" / "Driver.java")
    run([javac, "--release", "17", "-Xlint:all", "-Werror", "-d", str(directory), *sources, driver], ROOT)
    return [virtual_machine, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", str(directory), "Driver"]


def _typescript(directory: Path) -> list[str]:
    node = program("node", "Install Node 20 or newer.")
    run([str(ROOT / "tools" / "build-web")], ROOT)  # writes the contract's types, and installs the compiler
    package = SDK / "typescript"
    tsc = package / "node_modules" / "typescript" / "bin" / "tsc"
    run([node, str(tsc), "-p", "tsconfig.test.json", "--outDir", str(directory)], package)
    (directory / "package.json").write_text('{"type": "module"}')
    return [node, str(directory / "conformance" / "driver.js")]


def go_program() -> str:
    """The Go tool. Fails with what to do where it is absent, or older than the module's language."""
    remedy = (
        "Install Go 1.22 or newer (tools/system-packages installs golang, which some systems have too old)."
    )
    go = program("go", remedy)
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"go1\.(\d+)", said)
    assert found is None or int(found[1]) >= 22, f"{said.strip()} is too old. {remedy}"
    return go


def _go(directory: Path) -> list[str]:
    go = go_program()
    run([go, "build", "-o", str(directory / "driver"), "./internal/conformance"], SDK / "go", **GO_OFFLINE)
    return [str(directory / "driver")]


LANGUAGES = [
    Language("java", _java),
    Language("python", _python, {"PYTHONPATH": str(SDK / "python" / "src")}),
    Language("typescript", _typescript),
    Language("go", _go),
]
