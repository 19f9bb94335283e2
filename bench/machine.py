"""What the figures were measured on: processors, memory, how long a synced write takes, and versions."""

import os
import platform
import shutil
import sqlite3
import subprocess
import time
from importlib import metadata
from pathlib import Path

import psutil

from bench.report import Findings, Table, ms, percentile

LIBRARIES = (
    "chdb",
    "clickhouse-connect",
    "pyarrow",
    "numpy",
    "msgspec",
    "litestar",
    "uvicorn",
    "uvloop",
    "psycopg",
)
_SYNCS = 200


def describe(directory: Path, findings: Findings, settings: list[tuple[str, str]]) -> None:
    """Add the table of the machine, and of this run's sizes."""
    syncs = sync_latencies_s(directory)
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    free = shutil.disk_usage(directory).free
    table = Table(
        "Machine and run",
        "A synced write is 4 KiB appended to a file in the benchmark's directory and fsync'ed: the least any durable "
        "acknowledgement can cost here. The load average is from before the run: other work distorts every figure.",
        ("what", "value"),
        [
            ("processor", f"{cores} × {_processor()}"),
            ("memory", f"{psutil.virtual_memory().total / 1e9:.1f} GB"),
            ("disk free", f"{free / 1e9:.0f} GB"),
            (f"synced write, p50 / p99 of {len(syncs)}", f"{ms(percentile(syncs, 0.5))} / {ms(percentile(syncs, 0.99))} ms"),
            ("load average before", f"{load:.2f}" + (" (the machine is busy)" if load > 0.25 * cores else "")),
            ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
            ("Tallystick", f"{metadata.version('tallystick')}, {_commit()}"),
            ("libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)),
            ("SQLite", sqlite3.sqlite_version),
            *settings,
        ],
    )  # fmt: skip
    findings.tables.append(table)


def sync_latencies_s(directory: Path, *, writes: int = _SYNCS, seconds_max: float = 5.0) -> list[float]:
    """How long each of some synced 4 KiB appends takes, in seconds."""
    path = directory / "sync-probe"
    page = os.urandom(4096)
    took: list[float] = []
    until = time.perf_counter() + seconds_max
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(writes):
                started = time.perf_counter()
                file.write(page)
                os.fsync(file.fileno())
                took.append(time.perf_counter() - started)
                if time.perf_counter() > until:
                    break
    finally:
        path.unlink(missing_ok=True)
    return took


def forget_cached(directory: Path) -> None:
    """Drop the files under a directory from the page cache, as far as the system follows the advice."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def bytes_under(directory: Path) -> int:
    """What the files under a directory take on disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "bench"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "commit unknown"
    return f"commit {commit}{' with uncommitted changes' if changed else ''}"
