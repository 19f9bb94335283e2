"""Vendors' own clients, each set in an environment of its own, and running them.

Made once for each list of versions and kept in `.cache/clients` of the checkout. A client that cannot be installed fails the
test: what is not shown is not known.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CLIENTS = Path(__file__).parent / "clients"
CACHE = Path(__file__).parents[3] / ".cache" / "clients"
INSTALL_S_MAX = 600
RUN_S_MAX = 180


def python(requirements: str) -> Path:
    """An interpreter that has what `clients/<requirements>.txt` lists."""
    listed = CLIENTS / f"{requirements}.txt"

    def make(place: Path) -> None:
        # By the pip that is here, and compiling nothing: most of what comes along is never loaded.
        _run([sys.executable, "-m", "venv", "--without-pip", str(place)], INSTALL_S_MAX)
        pip = [sys.executable, "-m", "pip", "--python", str(place), "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", "--no-compile", "-r", str(listed)], INSTALL_S_MAX)

    return _kept(requirements, listed.read_bytes(), make) / "bin/python"


def node() -> Path:
    """A directory with the JavaScript clients and the scripts beside them."""
    source = CLIENTS / "node"
    content = b"".join(path.read_bytes() for path in sorted(source.iterdir()) if path.is_file())

    def make(place: Path) -> None:
        place.mkdir(parents=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copy(path, place)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], INSTALL_S_MAX, directory=place)

    return _kept("node", content, make)


def _kept(name: str, content: bytes, make: Any) -> Path:
    place = CACHE / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    done = place / ".done"
    CACHE.mkdir(parents=True, exist_ok=True)
    # Two files of tests may want the same at once, each on a worker of its own.
    with (CACHE / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            make(place)
            done.touch()
    return place


def answer_of(command: list[str | Path], *arguments: str, directory: Path | None = None) -> Any:
    """The JSON in the last line that a client printed."""
    printed = _run([*map(str, command), *arguments], RUN_S_MAX, directory=directory)
    return json.loads(printed.strip().splitlines()[-1])


def _run(command: list[str], seconds_max: int, *, directory: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds_max,
        check=False,
        cwd=directory,
        env=environment,
    )
    assert done.returncode == 0, f"{command[:3]}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
